#include <algorithm>

#include "tcp/impl.hpp"

// Pacing: a window is spread over the round trip instead of leaving in bursts.  The wheel ticks in
// milliseconds: each tick has its share.

namespace flue::tcp {

namespace {

constexpr uint32_t burst_segments = 2;

/// Twice the window a round trip while it grows fast, else a fifth more, so that pacing itself does
/// not keep it from growing; as Linux has it.
uint64_t share_of_tick(const Tcb& tcb) {
    const uint32_t srtt_us = std::max(tcb.srtt_us_x8 / 8, 1U);
    const uint32_t percent = tcb.cwnd < tcb.ssthresh / 2 ? 200 : 120;
    return uint64_t{tcb.cwnd} * percent / 100 * 1'000 / srtt_us;
}

}  // namespace

/// pace_room returns what may still leave in this tick.
uint32_t Engine::Impl::pace_room(Conn c) {
    const Tcb& tcb = c.tcb;
    if (!options.pacing || tcb.srtt_us_x8 == 0) {
        return UINT32_MAX;
    }
    TcbLoss& loss = c.know();
    if (loss.paced_tick != tick) {
        loss.paced_tick  = tick;
        loss.paced_bytes = 0;
    }
    const uint64_t share = std::max<uint64_t>(share_of_tick(tcb), burst_segments * tcb.smss());
    return static_cast<uint32_t>(share - std::min<uint64_t>(share, loss.paced_bytes));
}

void Engine::Impl::paced(Conn c, uint32_t bytes) {
    if (options.pacing && c.tcb.has(loss_known)) {
        c.loss.paced_bytes += bytes;
    }
}

}  // namespace flue::tcp
