#include "drain_service.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_lcore.h>

#include "base/assert.hpp"
#include "target/log.hpp"

namespace flue {

using queue::SessionStatus;
using target::DrainRequest;

namespace {

constexpr size_t inbox_max             = 512;  ///< two descriptors each
constexpr uint32_t requests_of_a_drain = 5;    ///< outstanding at a time
constexpr uint32_t entries_max         = 1 << 16;
constexpr uint32_t scratch_bytes       = 64 * 1024;
constexpr uint64_t growth_bytes        = 16 * 1024;  ///< of the queues, until the socket is frozen
constexpr int hand_overs_per_turn      = 16;
constexpr int offload_attempts         = 3;
constexpr int64_t resolve_ms           = 1000;
constexpr int64_t resolve_poll_ms      = 10;
constexpr int64_t reset_ms             = 1000;  ///< for RSTs to leave at the end
constexpr int busy_poll_ms             = 1;

int64_t now_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

bool peer_has_finished(const flue_state& state) {
    switch (state.tcp_state) {
        case FLUE_TCP_CLOSE_WAIT:
        case FLUE_TCP_CLOSING:
        case FLUE_TCP_LAST_ACK:
        case FLUE_TCP_TIME_WAIT:
            return state.receive_backlog_bytes == 0;
        default:
            return false;
    }
}

}  // namespace

DrainService::DrainService(const target::Options& options)
    : options_(options),
      checks_(options.exception_taps),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
}

DrainService::~DrainService() {
    if (started_) {
        pthread_join(thread_, nullptr);
    }
    // The session first: with it nothing waits for a target any more.
    session_.reset();
}

bool DrainService::start() {
    if (!wake_.valid() || !open_session()) {
        FLUE_LOG(ERR, "no connections are drained: %s", flue_error_text());
        return false;
    }
    {
        const std::lock_guard lock{mutex_};
        closed_ = false;
    }
    // Not on a worker's CPU, if there is another one.
    started_ = rte_ctrl_thread_create(&thread_, "flue-drain", nullptr, run_thread, this) == 0;
    return started_;
}

bool DrainService::open_session() {
    const flue_open_options named{
        .name = "drain service", .on_loss = FLUE_LOSS_DRAIN, .hold_ms = 0};
    session_.reset(flue_open(options_.socket_path.c_str(), &named));
    if (session_ == nullptr) {
        return false;
    }
    const uint32_t wanted  = requests_of_a_drain * options_.drains.at_a_time + 1;
    const uint32_t entries = std::clamp(std::bit_ceil(wanted), uint32_t{64}, entries_max);
    const flue_hq_options rings{.submission_entries = std::min(entries, uint32_t{4096}),
                                .completion_entries = entries};
    queue_.reset(flue_hq_create(session_.get(), &rings));
    memory_ = std::make_unique<DrainMemory>(session_.get(), options_.drains.memory_bytes);
    scratch_.reset(
        flue_mr_create(session_.get(), size_t{scratch_bytes} * flue_worker_count(session_.get())));
    if (queue_ == nullptr || scratch_ == nullptr) {
        return false;
    }
    drains_.emplace(options_.drains.at_a_time,
                    Drains::Scratch{flue_mr_key(scratch_.get()), scratch_bytes},
                    counters_);
    return true;
}

// ---------------------------------------------------------------- the control thread's part

void DrainService::take(DrainRequest&& request) {
    SessionStatus refused = SessionStatus::ok;
    {
        const std::lock_guard lock{mutex_};
        const auto account  = accounts_.find(request.peer.uid);
        const uint32_t used = account == accounts_.end() ? 0 : account->second;
        if (closed_) {
            refused = SessionStatus::shutting_down;
        } else if (under_way_ >= options_.drains.at_a_time || inbox_.size() >= inbox_max ||
                   used >= options_.drains.per_user) {
            refused = SessionStatus::busy;
        } else {
            accounts_[request.peer.uid] = used + 1;
            ++under_way_;
            inbox_.push_back({std::move(request), now_ms(), 0});
        }
    }
    if (refused != SessionStatus::ok) {
        counters_.add(refused == SessionStatus::busy ? DrainCount::refused_busy
                                                     : DrainCount::refused_ending);
        return target::refuse_drain(std::move(request), refused);
    }
    (void)eventfd_write(wake_.get(), 1);
}

void DrainService::finish() {
    {
        const std::lock_guard lock{mutex_};
        closed_ = true;
    }
    finish_.store(true, std::memory_order_release);
    (void)eventfd_write(wake_.get(), 1);
}

bool DrainService::finished() const {
    return !started_ || finished_.load(std::memory_order_acquire);
}

uint32_t DrainService::under_way() const {
    const std::lock_guard lock{mutex_};
    return under_way_;
}

// ---------------------------------------------------------------- the service's thread

void* DrainService::run_thread(void* self) {
    static_cast<DrainService*>(self)->run();
    return nullptr;
}

void DrainService::run() {
    while (!lost_ && !finished_.load(std::memory_order_relaxed)) {
        take_completions();
        drains_->on_time(now_ms());
        const bool more = hand_over_some();
        come_to_an_end();
        post_outbox();
        collect_ended();
        if (!more) {
            sleep();
        }
    }
    lose_target();
}

void DrainService::take_completions() {
    std::array<flue_wc, 64> completions;
    uint32_t count = 0;
    do {
        count = flue_poll(queue_.get(), completions.data(), completions.size());
        for (const flue_wc& wc : std::span{completions}.first(count)) {
            if (wc.opcode == FLUE_EVENT_PAUSE || wc.opcode == FLUE_EVENT_RESUME) {
                paused_ = wc.opcode == FLUE_EVENT_PAUSE;
            } else if (wc.opcode == FLUE_EVENT_UPLOAD_ALL) {
                drains_->abort_all();  // there is nowhere to upload to
            } else {
                drains_->on_completion(now_ms(), wc);
            }
        }
        post_outbox();
    } while (count == completions.size());
    lost_ = lost_ || (count == 0 && errno == ECONNRESET);
}

/// Returns whether more may be handed over at once.
bool DrainService::hand_over_some() {
    const int64_t now = now_ms();
    for (int i = 0; i < hand_overs_per_turn && !lost_ && !paused_; ++i) {
        Job job;
        if (!waiting_.empty() && waiting_.front().retry_ms <= now) {
            job = std::move(waiting_.front());
            waiting_.pop_front();
        } else {
            const std::lock_guard lock{mutex_};
            if (inbox_.empty()) {
                return false;
            }
            job = std::move(inbox_.front());
            inbox_.pop_front();
        }
        if (!hand_over(job)) {
            job.retry_ms = now + resolve_poll_ms;
            waiting_.push_back(std::move(job));
        }
    }
    return !lost_ && !paused_;
}

/// Returns false when the job is to be tried again.
bool DrainService::hand_over(Job& job) {
    const auto refusal = checks_.check(job.request.received.fds[0].get());
    if (refusal && refusal->error == EINPROGRESS) {
        if (now_ms() - job.asked_ms < resolve_ms) {
            return false;
        }
        refuse(job, refusal_of(EHOSTUNREACH));
    } else if (refusal) {
        refuse(job, *refusal);
    } else if (const auto failure = offload(job)) {
        refuse(job, *failure);
    }
    return true;
}

std::optional<DrainRefusal> DrainService::offload(Job& job) {
    uint64_t bytes = queued_bytes(job.request.received.fds[0].get());
    int error      = ENOBUFS;
    for (int i = 0; i < offload_attempts && error == ENOBUFS; ++i) {
        const auto memory = memory_->take(sizeof(flue_state) + bytes + growth_bytes, error);
        if (!memory && error == EAGAIN) {
            return DrainRefusal{SessionStatus::busy, 0, DrainCount::refused_busy};
        }
        if (!memory) {
            return refusal_of(error);
        }
        DrainMemory::Piece piece = *memory;
        error                    = offload_into(job, piece, bytes);
        if (error != 0) {
            memory_->give(piece);
        }
    }
    return error == 0 ? std::nullopt : std::optional(refusal_of(error));
}

int DrainService::offload_into(Job& job, DrainMemory::Piece& memory, uint64_t& bytes_needed) {
    UniqueFd& connection  = job.request.received.fds[0];
    const uint64_t handle = drains_->reserve();
    const flue_socket_offload_options lent{.host_handle    = handle,
                                           .mr             = memory.mr,
                                           .mr_offset      = memory.offset,
                                           .mr_bytes       = memory.bytes,
                                           .send_wr_id     = 0,
                                           .keep_time_wait = 1,
                                           .rcv_wnd_max    = 0};
    flue_socket_offload_result result{};
    if (flue_socket_offload(queue_.get(), connection.get(), &lent, &result) != 0) {
        const int error = errno;
        bytes_needed    = result.mr_bytes_used;
        lost_           = lost_ || error == ECONNRESET;
        if (result.conn != FLUE_NO_CONN) {
            (void)connection.release();  // the target took it, and went
        }
        drains_->cancel(handle);
        return error;
    }
    (void)connection.release();
    memory_->trim(memory, result.mr_bytes_used);
    begin(job, handle, memory, result);
    return 0;
}

void DrainService::begin(const Job& job,
                         uint64_t handle,
                         const DrainMemory::Piece& memory,
                         const flue_socket_offload_result& result) {
    const queue::Message& message = job.request.received.message;
    target::reply_to_drain(job.request, SessionStatus::ok);
    flue_state state{};
    std::memcpy(&state, memory.data(), sizeof(state));
    uint64_t bytes         = 0;
    bool disconnect_posted = false;
    for (const flue_wr& wr : std::span{result.sends}.first(result.sends_posted)) {
        bytes += wr.sge_count > 0 ? wr.sge[0].length : 0;
        disconnect_posted = disconnect_posted || wr.opcode == FLUE_OP_DISCONNECT;
    }
    counters_.add(DrainCount::accepted);
    counters_.add(DrainCount::bytes_handed_over, bytes);
    drains_->start(handle,
                   {.uid         = job.request.peer.uid,
                    .deadline_ms = message.drain_ms == 0 ? 0 : job.asked_ms + message.drain_ms,
                    .abort_at_deadline = message.flags != 0},
                   {.conn              = result.conn,
                    .memory            = memory,
                    .peer_fin          = peer_has_finished(state),
                    .disconnect_posted = disconnect_posted});
}

void DrainService::refuse(Job& job, const DrainRefusal& refusal) {
    counters_.add(refusal.count);
    const uint32_t uid = job.request.peer.uid;
    target::refuse_drain(std::move(job.request), refusal.status, refusal.error);
    close_account(uid);
}

void DrainService::close_account(uint32_t uid) {
    const std::lock_guard lock{mutex_};
    const auto account = accounts_.find(uid);
    FLUE_ASSERT(account != accounts_.end() && account->second > 0);
    if (--account->second == 0) {
        accounts_.erase(account);
    }
    --under_way_;
}

void DrainService::post_outbox() {
    std::deque<flue_wr>& outbox = drains_->outbox();
    while (!outbox.empty() && flue_post(queue_.get(), &outbox.front(), 1) == 1) {
        outbox.pop_front();
    }
}

void DrainService::collect_ended() {
    for (const Drains::Ended& ended : drains_->take_ended()) {
        memory_->give(ended.memory);
        close_account(ended.uid);
    }
}

/// Once asked to finish: what has not been handed over is refused, what has gets a moment to drain,
/// then an RST, so that no peer waits for a target that is no more.
void DrainService::come_to_an_end() {
    if (!finish_.load(std::memory_order_acquire)) {
        return;
    }
    const int64_t now = now_ms();
    if (abort_ms_ == 0) {
        abort_ms_ = now + options_.drains.end_ms;
        const std::lock_guard lock{mutex_};
        std::ranges::move(inbox_, std::back_inserter(waiting_));
        inbox_.clear();
    }
    while (!waiting_.empty()) {
        refuse(waiting_.front(), {SessionStatus::shutting_down, 0, DrainCount::refused_ending});
        waiting_.pop_front();
    }
    if (now >= abort_ms_) {
        drains_->abort_all();
    }
    if (drains_->count() == 0 || now >= abort_ms_ + reset_ms) {
        finished_.store(true, std::memory_order_release);
    }
}

void DrainService::lose_target() {
    if (lost_) {
        FLUE_LOG(ERR, "the drain service has lost its session: %s", flue_error_text());
    }
    std::deque<Job> left = std::move(waiting_);
    {
        const std::lock_guard lock{mutex_};
        closed_ = true;
        std::ranges::move(inbox_, std::back_inserter(left));
        inbox_.clear();
    }
    for (Job& job : left) {
        refuse(job, {SessionStatus::shutting_down, 0, DrainCount::refused_ending});
    }
    finished_.store(true, std::memory_order_release);
}

void DrainService::sleep() {
    const int armed = flue_hq_arm(queue_.get());
    if (armed != 0) {
        lost_ = lost_ || armed < 0;
        return;
    }
    int64_t until = INT64_MAX;
    if (const auto deadline = drains_->next_deadline_ms()) {
        until = *deadline;
    }
    if (!waiting_.empty()) {
        until = std::min(until, waiting_.front().retry_ms);
    }
    const int64_t now = now_ms();
    if (!drains_->outbox().empty() || abort_ms_ != 0) {
        until = std::min(until, now + busy_poll_ms);
    }
    const int64_t left = std::clamp<int64_t>(until - now, 0, INT32_MAX);
    std::array<pollfd, 2> sources{
        pollfd{.fd = wake_.get(), .events = POLLIN, .revents = 0},
        pollfd{.fd = flue_hq_fd(queue_.get()), .events = POLLIN, .revents = 0}};
    (void)::poll(sources.data(), sources.size(), until == INT64_MAX ? -1 : static_cast<int>(left));
    eventfd_t ignored = 0;
    (void)eventfd_read(wake_.get(), &ignored);
}

}  // namespace flue
