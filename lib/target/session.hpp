#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "chimney/chimney.hpp"
#include "queue/queue_memory.hpp"
#include "queue/region_memory.hpp"
#include "queue/regions.hpp"
#include "queue/session_protocol.hpp"
#include "queue/session_socket.hpp"
#include "queue/target_queue.hpp"
#include "target/dma.hpp"
#include "target/drain.hpp"
#include "target/messages.hpp"
#include "target/options.hpp"
#include "target/steering.hpp"

namespace flue::target {

/// WorkerMail keeps messages for workers until their rings have room.
class WorkerMail {
  public:
    explicit WorkerMail(std::span<const Lanes> lanes) : lanes_(lanes), waiting_(lanes.size()) {}

    void post(uint32_t worker, const ControlMessage& message);
    /// flush moves on what fits.
    void flush();

    /// Messages that are still to be answered, in the ring or before it.
    [[nodiscard]] uint64_t unanswered() const { return unanswered_; }

    /// take returns up to out.size() answers of one worker.
    [[nodiscard]] uint32_t take(uint32_t worker, std::span<ControlMessage> out);

    [[nodiscard]] uint32_t worker_count() const { return static_cast<uint32_t>(lanes_.size()); }

  private:
    std::span<const Lanes> lanes_;
    std::vector<std::deque<ControlMessage>> waiting_;
    uint64_t unanswered_ = 0;
};

/// Refusals counts what hosts asked for in vain, by enum SessionStatus.
struct Refusals {
    std::array<Relaxed<uint64_t>, 16> by_status;
    Relaxed<uint64_t> mistakes;  ///< sessions that ended by a mistake of their host

    void count(queue::SessionStatus status) {
        by_status[static_cast<size_t>(status) % by_status.size()].add(1);
    }
};

/// Session is one host: its socket, queues and regions.
///
///   connected --goodbye, end of the socket or a mistake--> ending --all workers let go--> finished
///
/// With the policy hold, the end of the socket leaves all as it is for a while (session_hold.cpp):
///
///   connected --end of the socket--> held --reattach--> connected
///                                     +--time is up--> ending
///
/// A request whose reply must wait for the workers holds the next ones up: replies come in order.
/// Thread: the control thread.
class Session {
  public:
    using Clock = std::chrono::steady_clock;

    struct Parts {
        uint32_t id            = 0;
        const Options* options = nullptr;
        const DmaMapper* dma   = nullptr;
        WorkerMail* mail       = nullptr;
        std::span<const int> worker_nodes;
        queue::PeerCredentials peer;
        const Steering* steering = nullptr;
        std::optional<uint64_t> network;  ///< where sockets that prove something come from
        bool only_reattach =
            false;  ///< no room for another session: it may only take up a held one
        Refusals* refusals = nullptr;  ///< of all sessions together; null: nobody asks
    };

    Session(const Parts& parts, UniqueFd socket);
    ~Session();
    Session(const Session&)            = delete;
    Session& operator=(const Session&) = delete;

    /// serve takes and answers the messages that have arrived.
    void serve();
    /// on_answer takes a worker's answer to a message with this session's tag.
    void on_answer(const ControlMessage& answer);
    /// check goes on with what waits for reference counts.
    void check();
    /// hang_up tells that the host has closed its end; what it sent before is still served.
    void hang_up();

    /// on_time does what is due: a hold that is over, a refusal that was put off.
    void on_time(Clock::time_point now);

    /// When on_time is due next.
    [[nodiscard]] std::optional<Clock::time_point> deadline() const { return deadline_; }

    /// A guest has asked to take up another session and was not answered yet.
    [[nodiscard]] bool is_guest() const { return state_ == State::guest && !deadline_; }

    [[nodiscard]] bool is_held() const { return state_ == State::held; }

    /// knows says whether the guest has shown this session's token.  Cost: the same for every
    /// token.
    [[nodiscard]] bool knows(const Session& guest) const;
    /// let_in gives the guest's socket to this session, if nobody has it.  Pre: knows(guest).
    void let_in(Session& guest);
    /// turn_away refuses a guest whose token is nobody's, but not at once.
    void turn_away();

    [[nodiscard]] bool finished() const {
        return state_ == State::ending && queues_.empty() && withdrawals_unanswered_ == 0;
    }

    /// A reply waits for the workers: `check` must look again, `serve` takes nothing until then.
    [[nodiscard]] bool waiting() const { return wait_.has_value(); }

    /// Messages are of interest now.
    [[nodiscard]] bool listening() const {
        return (state_ == State::fresh || state_ == State::open) && !wait_;
    }

    [[nodiscard]] uint32_t id() const { return parts_.id; }

    [[nodiscard]] int socket() const { return socket_.get(); }

    /// drain is the request that this session turned out to be, its socket included: for its taker.
    [[nodiscard]] std::optional<DrainRequest>& drain() { return drain_; }

    [[nodiscard]] uint32_t queue_count() const { return static_cast<uint32_t>(queues_.size()); }

    [[nodiscard]] uint32_t region_count() const { return static_cast<uint32_t>(mapped_.size()); }

    [[nodiscard]] uid_t uid() const { return parts_.peer.uid; }

    /// A copy of its figures.
    struct Report {
        uint32_t id = 0;
        queue::PeerCredentials peer;
        std::string name;
        bool ending           = false;
        bool raw              = false;
        uint32_t queues       = 0;
        uint32_t regions      = 0;
        uint64_t region_bytes = 0;
        uint64_t connections  = 0;  ///< all workers together, as the following
        uint64_t held         = 0;
        uint64_t requests     = 0;
        uint64_t waits        = 0;
        std::array<uint64_t, 16> refused_messages{};  ///< by SessionStatus
        std::array<uint64_t, queue::SessionShare::statuses> refused_requests{};  ///< by flue_status
    };

    [[nodiscard]] Report report() const;

  private:
    static constexpr std::chrono::seconds hello_time{5};

    enum class State : uint8_t {
        fresh,
        guest,  ///< asks for another session
        open,
        held,  ///< its host is gone, the next one may come
        ending
    };

    struct HostQueue {
        queue::TargetQueueMemory memory;
        std::deque<queue::TargetQueue> ends;  ///< one a worker
        uint32_t losses_unanswered = 0;
        bool lost                  = false;
    };

    /// A connection that the host has proved to own, on its way to the worker.
    struct Claim {
        UniqueFd socket;
        wire::FlowKey key;
        uint32_t worker    = 0;
        flue_status status = FLUE_SUCCESS;  ///< the worker's
    };

    /// The request whose reply waits: for workers' answers, then perhaps for a region's references.
    struct Wait {
        queue::Message request;
        uint32_t number          = 0;  ///< in the tag of messages whose answers are waited for
        uint32_t answers_missing = 0;
        bool for_region          = false;
        std::optional<Claim> claim;
    };

    void serve(uint32_t messages);
    void dispatch(queue::Received& received);
    void hello(const queue::Message& request);
    void create_queue(const queue::Message& request);
    void destroy_queue(const queue::Message& request);
    void register_region(const queue::Message& request, UniqueFd memfd);
    void deregister_region(const queue::Message& request);
    void fence(const queue::Message& request, bool for_region);
    void send_queue(const queue::Message& request, uint32_t queue_id, HostQueue& queue);

    // session_claims.cpp
    void limit_shares();
    void claim(const queue::Message& request, UniqueFd socket);
    void finish_claim();
    void withdraw_grants();

    // session_hold.cpp
    /// start_hold makes the token for a session whose hello asks for the policy hold.
    [[nodiscard]] bool start_hold(const queue::Message& request);
    /// lose_host is called at the end of the socket.
    void lose_host(const char* why);
    void look_for_host();
    void knock(const queue::Message& request);
    void refuse(queue::SessionStatus status);
    void recover_queue(const queue::Message& request);
    void recover_region(const queue::Message& request);

    [[nodiscard]] bool may_be_held() const { return hold_ms_ > 0; }

    void welcome(queue::Message& answer) const;
    void reply(const queue::Message& request, queue::SessionStatus status);
    void send(const queue::Message& message, std::span<const int> fds = {});
    void lose(uint32_t queue_id, HostQueue& queue);
    void drop_region(uint32_t key);
    /// leave closes the socket and gives the session's connections over to its policy.
    void leave(const char* why);
    /// end does so for a mistake of the host.
    void end(const char* why);

    Parts parts_;
    UniqueFd socket_;
    State state_              = State::fresh;
    chimney::HostLoss policy_ = chimney::HostLoss::drain;
    std::string name_;
    queue::Regions regions_;
    std::map<uint32_t, HostQueue> queues_;            ///< by queue id
    std::map<uint32_t, queue::TargetRegion> mapped_;  ///< by region key
    uint64_t region_bytes_ = 0;
    uint32_t next_queue_   = 1;
    uint32_t next_wait_    = 1;
    uint32_t hold_ms_      = 0;  ///< 0 = nobody can take this session up
    queue::Token token_{};
    queue::Message knock_;  ///< what a guest asks
    /// Of the hello: a host that connects and says nothing takes a place that others may want. Then
    /// of a next host, or of the answer to a wrong token.
    std::optional<Clock::time_point> deadline_ = Clock::now() + hello_time;
    std::optional<Wait> wait_;
    std::deque<queue::SessionShare> shares_;  ///< one a worker
    uint32_t withdrawals_unanswered_ = 0;
    std::optional<DrainRequest> drain_;
    Refusals refusals_;
};

/// The tag of a message to workers: session (32 bits) | queue or wait (32 bits).
constexpr uint64_t message_tag(uint32_t session, uint32_t queue) {
    return uint64_t{session} << 32 | queue;
}

constexpr uint32_t session_of_tag(uint64_t tag) {
    return static_cast<uint32_t>(tag >> 32);
}

constexpr uint32_t queue_of_tag(uint64_t tag) {
    return static_cast<uint32_t>(tag);
}

}  // namespace flue::target
