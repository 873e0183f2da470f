#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "drain_counters.hpp"
#include "queue/session_protocol.hpp"

namespace flue {

/// DrainRefusal is what the sender is told, and what it is counted as.
struct DrainRefusal {
    queue::SessionStatus status = queue::SessionStatus::refused;
    int error                   = 0;
    DrainCount count            = DrainCount::refused_other;
};

/// refusal_of is the refusal for a hand-over that failed with this errno.
[[nodiscard]] DrainRefusal refusal_of(int error);

/// DrainChecks looks at sockets before anything is done to them.
class DrainChecks {
  public:
    /// `interfaces`: the target's, in the calling thread's network namespace; empty: it has none.
    explicit DrainChecks(std::vector<std::string> interfaces);

    /// check tells why a socket cannot be taken over, or nothing.  A refusal with EINPROGRESS is
    /// none yet: the next hop was asked for its address, so check again soon.  Never blocks.
    ///
    /// A socket of another network namespace is refused even where the target could take it: its
    /// addresses belong to another network.  So is one whose packets leave another way.
    [[nodiscard]] std::optional<DrainRefusal> check(int fd) const;

  private:
    [[nodiscard]] bool leaves_here(uint32_t interface) const;

    std::vector<std::string> interfaces_;
    uint64_t network_ = 0;  ///< SO_NETNS_COOKIE of the target's sockets; 0 = unknown
};

/// queued_bytes returns how many bytes a socket's queues hold: unread and unacknowledged.
[[nodiscard]] uint64_t queued_bytes(int fd);

}  // namespace flue
