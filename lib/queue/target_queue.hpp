#pragma once

#include <cstdint>
#include <span>

#include "flue/abi.h"
#include "queue/regions.hpp"
#include "queue/session_share.hpp"
#include "queue/typed_ring.hpp"

namespace flue::queue {

/// TargetQueue is one worker's end of one host queue: it takes work requests and posts completions.
///
/// Credits: a request is taken only if the completion ring has room for its completion, so
/// `complete` never fails; an event (nobody's request) is posted only into room that no request has
/// reserved.  Completions are collected and published once a burst by `flush`, which also wakes a
/// host that sleeps. The host may scribble over everything shared: wrong elements and lost
/// completions are then its own loss; every access stays inside the rings. Thread: one worker.
class TargetQueue {
  public:
    struct Parts {
        Ring<flue_wr> submissions;
        Ring<flue_wc> completions;
        uint32_t* armed     = nullptr;  ///< shared word: the host writes 1 before it sleeps
        int event_fd        = -1;       ///< our end of the wake socket, see session_protocol.hpp
        Regions* regions    = nullptr;
        uint32_t session_id = 0;
        SessionShare* share = nullptr;  ///< null: this queue is alone and without limits
    };

    explicit TargetQueue(const Parts& parts);

    /// take copies up to out.size() requests out of the ring and returns how many: no more than
    /// there is room for completions.  Each must be answered by exactly one `complete`.  A host
    /// that leaves completions lying, or that has as many requests outstanding as the completion
    /// ring has room, is not served until that changes.
    [[nodiscard]] uint32_t take(std::span<flue_wr> out);
    /// complete answers one taken request.
    void complete(const flue_wc& wc);
    /// post_event returns false when only reserved room is left; the caller keeps the event and
    /// tries again.
    [[nodiscard]] bool post_event(const flue_wc& wc);
    /// flush publishes what was collected.  Cost: one ring operation and one fence if there was
    /// anything, and one system call, which does not block, if the host sleeps.
    void flush();

    /// abandon tells that nobody will read completions any more: from now on they are dropped, and
    /// requests need no room for them.
    void abandon() { abandoned_ = true; }

    /// Requests that wait in the ring, as far as its indices can be believed.
    [[nodiscard]] uint32_t waiting() const { return parts_.submissions.count(); }

    [[nodiscard]] Regions& regions() { return *parts_.regions; }

    [[nodiscard]] uint32_t session_id() const { return parts_.session_id; }

    [[nodiscard]] SessionShare& share() {
        return parts_.share != nullptr ? *parts_.share : own_share_;
    }

    /// Requests taken and not completed.
    [[nodiscard]] uint32_t outstanding() const { return outstanding_; }

    struct Counters {
        uint64_t requests         = 0;
        uint64_t completions      = 0;
        uint64_t events           = 0;
        uint64_t wakeups          = 0;
        uint64_t completions_lost = 0;  ///< the host has corrupted the ring's indices
    };

    [[nodiscard]] const Counters& counters() const { return counters_; }

    /// The layer above's own number for this queue and head of its list of connections; not used
    /// here.
    uint32_t owner_index = 0;

  private:
    /// room returns how many more completions fit, those collected but not published counted as
    /// there.
    [[nodiscard]] uint32_t room() const;
    void collect(const flue_wc& wc);
    void wake();

    Parts parts_;
    SessionShare own_share_;
    uint32_t outstanding_ = 0;
    uint32_t collected_   = 0;
    bool abandoned_       = false;
    Counters counters_;
    flue_wc batch_[64];
};

}  // namespace flue::queue
