#include <algorithm>

#include "chimney/impl.hpp"

// How much a host should keep posted: enough to fill what the peer and the network take in a round
// trip, twice.  Contract 2.10

namespace flue::chimney {

namespace {

constexpr uint32_t backlog_min = 64 * 1024;
constexpr uint32_t window_max  = 1u << 29;  ///< so that its double is not more than can be posted

}  // namespace

uint32_t Chimney::Impl::wanted_backlog(ConnIndex index) const {
    const uint32_t window = std::min(engine.usable_window(index), window_max);
    return std::max(2 * window, backlog_min);
}

/// The host is told a power of two, when the one that it knows is wrong by a factor of two.
void Chimney::Impl::watch_backlog(ConnIndex index) {
    Connection& connection = connections[index];
    const bool may_send    = connection.state == OffloadState::offloaded &&
                          (connection.flags & (flag_reset | flag_send_closed)) == 0;
    const uint32_t told   = connection.backlog_told;
    const uint32_t wanted = wanted_backlog(index);
    if (may_send && (wanted / 2 >= told || wanted <= told / 2)) {
        connection.backlog_told = wanted;
        raise(index, event_send_backlog);
    }
}

}  // namespace flue::chimney
