#pragma once

#include <cerrno>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/unique_fd.hpp"
#include "flue/flue.h"
#include "host/claims.hpp"
#include "host/session.hpp"
#include "queue/host_rings.hpp"

namespace flue::host {

/// worker_of returns the worker in a connection's handle.
constexpr uint32_t worker_of(flue_conn conn) {
    return static_cast<uint32_t>(conn >> 56);
}

/// HostQueue is the host's end of a host queue: it routes requests to the workers' rings and
/// gathers completions. The calls are those of flue.h.  Thread: one at a time.
class HostQueue {
  public:
    /// create asks the target for a queue.  Null: errno and error text are set.
    static std::unique_ptr<HostQueue> create(std::shared_ptr<Session> session,
                                             const flue_hq_options& options);
    /// recover takes up the queue of a held session that follows `last_id`, which becomes its own.
    /// Null: errno and error text are set; ENOENT: there are no more.
    static std::unique_ptr<HostQueue> recover(std::shared_ptr<Session> session, uint32_t& last_id);
    ~HostQueue();
    HostQueue(const HostQueue&)            = delete;
    HostQueue& operator=(const HostQueue&) = delete;

    [[nodiscard]] uint32_t post(std::span<const flue_wr> requests);
    [[nodiscard]] uint32_t poll(std::span<flue_wc> out);
    [[nodiscard]] int arm();
    [[nodiscard]] uint32_t wait(std::span<flue_wc> out, int timeout_ms);

    [[nodiscard]] int fd() const { return wake_.get(); }

    /// wait_for waits for the first completion for which wanted(const flue_wc&) is true and returns
    /// it.  What else arrives is kept, in order, for later polls.  `timeout_ms`: -1 for ever.
    /// A signal does not end it.
    /// Nothing: errno is ETIMEDOUT or ECONNRESET.
    template <typename Wanted>
    std::optional<flue_wc> wait_for(Wanted&& wanted, int timeout_ms);

    /// execute posts one request and waits for its completion, as wait_for does; the wr_id is
    /// replaced by one of our own, so that it can not be mixed up with the caller's.  After a
    /// time-out the completion is swallowed when it comes.
    std::optional<flue_wc> execute(flue_wr request, int timeout_ms);

    [[nodiscard]] Session& session() { return *session_; }

  private:
    static std::unique_ptr<HostQueue> from_reply(const char* what,
                                                 std::shared_ptr<Session> session,
                                                 queue::Received& reply);
    HostQueue(std::shared_ptr<Session> session,
              uint32_t queue_id,
              queue::QueueRings rings,
              UniqueFd wake);

    /// Where a request goes: its connection's worker, or the next in turn when that is not known.
    [[nodiscard]] uint32_t route(const flue_wr& request);
    [[nodiscard]] bool post_claim(const flue_wr& request);
    [[nodiscard]] uint32_t post_run(std::span<const flue_wr> requests);
    void post_rerouted();

    /// gather fills `out` from the rings only.
    [[nodiscard]] uint32_t gather(std::span<flue_wc> out);
    /// keep removes from wc[0, count) what is not for the caller and returns how many are left.
    [[nodiscard]] uint32_t keep(flue_wc* wc, uint32_t count);
    [[nodiscard]] bool is_abandoned(const flue_wc& wc);
    /// wait_rings gathers, and sleeps until there is something.  0: errno is ETIMEDOUT, ECONNRESET
    /// or EINTR.
    [[nodiscard]] uint32_t wait_rings(std::span<flue_wc> out, int64_t deadline_ms);
    /// arm_rings is arm without a look at what is kept from earlier.
    [[nodiscard]] int arm_rings();

    /// explain_idle sets errno after a call that did nothing, and now and then looks whether the
    /// target is there.
    void explain_idle();
    /// drain_wake empties the wake socket and notices when the target is gone.
    void drain_wake();

    std::shared_ptr<Session> session_;
    uint32_t queue_id_;
    queue::QueueRings memory_;
    queue::HostRings rings_;  ///< in memory_
    UniqueFd wake_;
    Claims claims_;
    std::deque<flue_wc> stash_;        ///< completions that arrived while wait_for wanted another
    std::vector<uint64_t> abandoned_;  ///< wr_ids of execute calls that timed out
    uint64_t next_own_id_;
    uint32_t next_poll_  = 0;  ///< worker to poll first
    uint32_t next_claim_ = 0;  ///< worker to guess
    uint32_t idle_calls_ = 0;
    bool lost_           = false;
};

int64_t now_ms();
constexpr int64_t no_deadline = INT64_MAX;

inline int64_t deadline_after(int timeout_ms) {
    return timeout_ms < 0 ? no_deadline : now_ms() + timeout_ms;
}

template <typename Wanted>
std::optional<flue_wc> HostQueue::wait_for(Wanted&& wanted, int timeout_ms) {
    for (auto wc = stash_.begin(); wc != stash_.end(); ++wc) {
        if (wanted(std::as_const(*wc))) {
            const flue_wc found = *wc;
            stash_.erase(wc);
            return found;
        }
    }
    const int64_t deadline_ms = deadline_after(timeout_ms);
    flue_wc batch[32];
    while (true) {
        const uint32_t count = wait_rings(batch, deadline_ms);
        if (count == 0 && errno != EINTR) {
            return std::nullopt;
        }
        std::optional<flue_wc> found;
        for (const flue_wc& wc : std::span(batch, count)) {
            if (!found && wanted(wc)) {
                found = wc;
            } else {
                stash_.push_back(wc);
            }
        }
        if (found) {
            return found;
        }
    }
}

}  // namespace flue::host

struct flue_hq {
    std::unique_ptr<flue::host::HostQueue> queue;
};
