#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <pthread.h>

#include "base/unique_fd.hpp"
#include "drain_checks.hpp"
#include "drain_counters.hpp"
#include "drain_memory.hpp"
#include "drains.hpp"
#include "flue/flue.h"
#include "target/drain.hpp"
#include "target/options.hpp"

namespace flue {

/// DrainService takes connected sockets over from processes that want nothing more to do with them,
/// and drains and closes them.  It is a host like any other that happens to live in the target's
/// process.
///
///   control thread: take --inbox--> its own thread: check, hand over, reply, then Drains
///
/// A socket that is refused stays with its owner; what this process has of it is closed.
class DrainService final : public target::DrainTaker {
  public:
    explicit DrainService(const target::Options& options);
    /// Pre: the target has gone, or was not started.
    ~DrainService() override;
    DrainService(const DrainService&)            = delete;
    DrainService& operator=(const DrainService&) = delete;

    /// start opens a session with the target of this process, and starts the thread.  False: it is
    /// logged why, and every drain will be refused.  Pre: the target's control thread runs.
    [[nodiscard]] bool start();

    void take(target::DrainRequest&& request) override;
    void finish() override;
    [[nodiscard]] bool finished() const override;

    [[nodiscard]] const DrainCounters& counters() const { return counters_; }

    /// How many have been asked for and are not over.
    [[nodiscard]] uint32_t under_way() const;

  private:
    struct Job {
        target::DrainRequest request;
        int64_t asked_ms = 0;
        int64_t retry_ms = 0;  ///< when to check again; 0 = now
    };

    struct CloseSession {
        void operator()(flue_context* session) const { flue_close(session); }
    };

    struct DestroyRegion {
        void operator()(flue_mr* region) const { flue_mr_destroy(region); }
    };

    struct DestroyQueue {
        void operator()(flue_hq* queue) const { flue_hq_destroy(queue); }
    };

    [[nodiscard]] bool open_session();
    static void* run_thread(void* self);
    void run();
    void take_completions();
    [[nodiscard]] bool hand_over_some();
    [[nodiscard]] bool hand_over(Job& job);
    [[nodiscard]] std::optional<DrainRefusal> offload(Job& job);
    [[nodiscard]] int offload_into(Job& job, DrainMemory::Piece& memory, uint64_t& bytes_needed);
    void begin(const Job& job,
               uint64_t handle,
               const DrainMemory::Piece& memory,
               const flue_socket_offload_result& result);
    void refuse(Job& job, const DrainRefusal& refusal);
    void post_outbox();
    void collect_ended();
    void come_to_an_end();
    void lose_target();
    void sleep();
    void close_account(uint32_t uid);

    const target::Options& options_;
    DrainCounters counters_;
    DrainChecks checks_;

    mutable std::mutex mutex_;  ///< guards the next four
    std::deque<Job> inbox_;
    std::map<uint32_t, uint32_t> accounts_;  ///< uid to drains asked for and not over
    uint32_t under_way_ = 0;
    bool closed_        = true;  ///< no more are taken

    std::atomic<bool> finish_{false};
    std::atomic<bool> finished_{false};
    UniqueFd wake_;
    pthread_t thread_{};
    bool started_ = false;

    // The thread's own.
    std::unique_ptr<flue_context, CloseSession> session_;
    std::unique_ptr<flue_hq, DestroyQueue> queue_;
    std::unique_ptr<flue_mr, DestroyRegion> scratch_;
    std::unique_ptr<DrainMemory> memory_;
    std::optional<Drains> drains_;
    std::deque<Job> waiting_;  ///< for the next hop's address
    int64_t abort_ms_ = 0;     ///< when what is left is reset; 0 = not ending
    bool lost_        = false;
    bool paused_      = false;
};

/// register_drain_telemetry makes the command /flue/drains of a service, until it is called with
/// null.
void register_drain_telemetry(const DrainService* service);

}  // namespace flue
