#pragma once

#include <cstdint>
#include <vector>

#include "queue/queue_memory.hpp"

namespace flue::queue {

/// HostRings is the host's end of all rings of one queue, with the sleeping protocol; TargetQueue
/// is the other end. Thread: one.
class HostRings {
  public:
    /// Pre: `rings` outlives this.
    explicit HostRings(const QueueRings& rings);

    [[nodiscard]] uint32_t worker_count() const { return static_cast<uint32_t>(ends_.size()); }

    /// Pre: worker < worker_count().
    [[nodiscard]] Ring<flue_wr>& submissions(uint32_t worker) { return ends_[worker].submissions; }

    [[nodiscard]] Ring<flue_wc>& completions(uint32_t worker) { return ends_[worker].completions; }

    /// has_completions looks at every completion ring.
    [[nodiscard]] bool has_completions() const;

    /// arm asks to be woken by the next completion.  False: there are completions already, and
    /// nothing is armed.
    [[nodiscard]] bool arm();
    void disarm();

    /// repair finishes with what the process that had this end before was doing when it was killed:
    /// a request that was not posted altogether is not posted, a completion that was not taken
    /// altogether is still there, and nobody sleeps.  Thread: before any other use.
    void repair();

  private:
    struct End {
        Ring<flue_wr> submissions;
        Ring<flue_wc> completions;
        uint32_t* armed;
    };

    void set_armed(uint32_t value);

    std::vector<End> ends_;  ///< [worker]
};

}  // namespace flue::queue
