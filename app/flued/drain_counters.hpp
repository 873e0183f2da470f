#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace flue {

/// What is counted of drains.  After the acceptance one of the last six comes of each.
enum class DrainCount : uint8_t {
    accepted,
    bytes_handed_over,   ///< not acknowledged when the target took over
    bytes_thrown_away,   ///< received from the peer; nobody reads them
    late,                ///< the deadline passed, and draining went on as asked
    refused_busy,        ///< the limits, the user's or the target's
    refused_bad_socket,  ///< no TCP connection of the target's network
    refused_no_route,
    refused_unsupported,    ///< kernel TLS, urgent data, another thread at work on it
    refused_no_permission,  ///< the target may not use TCP_REPAIR
    refused_no_room,        ///< a limit of the target's session
    refused_ending,         ///< the target was about to end
    refused_other,
    completed,            ///< every byte and the FIN acknowledged
    aborted_by_deadline,  ///< as asked
    aborted_at_end,       ///< the target ended
    aborted_by_mistake,   ///< the target refused what it should not have
    reset_by_peer,
    given_up,  ///< the peer went silent, or did what ends an offload
};

constexpr std::array drain_count_names{
    "accepted",
    "bytes_handed_over",
    "bytes_thrown_away",
    "late",
    "refused_busy",
    "refused_bad_socket",
    "refused_no_route",
    "refused_unsupported",
    "refused_no_permission",
    "refused_no_room",
    "refused_ending",
    "refused_other",
    "completed",
    "aborted_by_deadline",
    "aborted_at_end",
    "aborted_by_mistake",
    "reset_by_peer",
    "given_up",
};

/// DrainCounters.  Thread: any; figures of one moment need not fit each other.
class DrainCounters {
  public:
    void add(DrainCount what, uint64_t count = 1) {
        counts_[static_cast<size_t>(what)].fetch_add(count, std::memory_order_relaxed);
    }

    [[nodiscard]] uint64_t get(DrainCount what) const {
        return counts_[static_cast<size_t>(what)].load(std::memory_order_relaxed);
    }

  private:
    std::array<std::atomic<uint64_t>, drain_count_names.size()> counts_{};
};

static_assert(drain_count_names.size() == static_cast<size_t>(DrainCount::given_up) + 1);

}  // namespace flue
