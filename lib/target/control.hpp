#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <span>
#include <sys/epoll.h>
#include <vector>

#include "base/unique_fd.hpp"
#include "queue/session_socket.hpp"
#include "target/dma.hpp"
#include "target/drain.hpp"
#include "target/messages.hpp"
#include "target/options.hpp"
#include "target/session.hpp"

namespace flue::target {

/// Control is the thread that hosts talk to: it accepts sessions, makes queues, maps regions, and
/// passes on to the workers what concerns them.  It also takes SIGINT and SIGTERM, which end the
/// target.
///
///   host --socket--> Session --ControlMessage--> worker (each) --answer--> Session --reply--> host
///
/// Thread: start and join are the main thread's; the rest runs on its own.
class Control {
  public:
    struct Parts {
        const Options* options = nullptr;
        std::span<const Lanes> lanes;
        std::span<const int> worker_nodes;  ///< NUMA node of each worker, -1 = any
        std::span<const Port> ports;
        const Steering* steering = nullptr;
        std::atomic<bool>* stop  = nullptr;  ///< set when a signal says so
        DrainTaker* drains       = nullptr;  ///< null: no connection is taken to be drained
    };

    explicit Control(const Parts& parts);
    ~Control();
    Control(const Control&)            = delete;
    Control& operator=(const Control&) = delete;

    /// start opens the socket and starts the thread.  False: it is logged why.
    /// Pre: SIGINT and SIGTERM are blocked in every thread.
    [[nodiscard]] bool start();
    /// join waits for the end of the thread, which follows `stop`.
    void join();

    struct Usage {
        uint32_t sessions     = 0;  ///< connected, or gone and not yet cleaned up after
        uint32_t queues       = 0;
        uint32_t regions      = 0;
        uint32_t held         = 0;  ///< sessions that wait for their next host
        uint64_t wrong_tokens = 0;  ///< shown since the start
    };

    /// Thread: any.
    [[nodiscard]] Usage usage() const;

    /// reports returns up to `count` sessions from id `from` on.  Thread: any but the control
    /// thread; waits for its turn to end.
    [[nodiscard]] std::vector<Session::Report> reports(uint32_t from, size_t count);

    /// Thread: any.
    [[nodiscard]] const Refusals& refusals() const { return refusals_; }

    [[nodiscard]] uint64_t sessions_refused() const { return sessions_refused_.get(); }

  private:
    void run();
    void serve(uint32_t events, void* source);
    void listen_or_wait();
    [[nodiscard]] int wait_ms() const;
    void accept_sessions();
    void accept_session(UniqueFd socket);

    /// Whether a process gets a session, perhaps only one that waits for it.
    struct Entry {
        queue::SessionStatus status = queue::SessionStatus::ok;
        bool only_reattach          = false;
    };

    [[nodiscard]] Entry may_enter(const queue::PeerCredentials& peer) const;
    void refuse(UniqueFd socket, queue::SessionStatus status);
    void turn(std::span<const epoll_event> events);
    void take_answers();
    void answer_guests();
    void end_finished();
    void offer(DrainRequest&& request);
    void begin_to_end();
    void publish_usage();

    Parts parts_;
    DmaMapper dma_;
    std::optional<uint64_t> network_;
    UniqueFd listener_;
    UniqueFd signals_;
    UniqueFd epoll_;
    WorkerMail mail_;
    std::mutex mutex_;  ///< sessions_: held during a turn of the control thread
    std::list<Session> sessions_;
    Refusals refusals_;
    Relaxed<uint64_t> sessions_refused_;
    uint32_t next_session_ = 1;
    bool ending_           = false;  ///< a signal came; drains are still under way
    std::atomic<uint32_t> session_count_{0};
    std::atomic<uint32_t> queue_count_{0};
    std::atomic<uint32_t> region_count_{0};
    std::atomic<uint32_t> held_count_{0};
    std::atomic<uint64_t> wrong_tokens_{0};
    pthread_t thread_{};
    bool running_ = false;
};

}  // namespace flue::target
