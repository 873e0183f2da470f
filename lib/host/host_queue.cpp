#include "host/host_queue.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/assert.hpp"
#include "host/error.hpp"

namespace flue::host {

using queue::Message;
using queue::MessageType;
using queue::QueueGeometry;

namespace {

/// Calls that did nothing between two looks at the target: a look is a system call.
constexpr uint32_t idle_calls_per_look = 4096;

/// Nobody wakes us when a submission ring has room again, so sleeps for that are short.
constexpr int full_ring_retry_ms = 1;

uint64_t random_number() {
    uint64_t number                       = 0;
    [[maybe_unused]] const ssize_t filled = ::getrandom(&number, sizeof(number), 0);
    return number;
}

void lose_target() {
    fail(ECONNRESET,
         "the target has gone: what it did not complete is lost; start it again, then open a new "
         "session");
}

int milliseconds_until(int64_t deadline_ms) {
    if (deadline_ms == no_deadline) {
        return -1;
    }
    return static_cast<int>(std::clamp<int64_t>(deadline_ms - now_ms(), 0, INT32_MAX));
}

}  // namespace

int64_t now_ms() {
    using std::chrono::milliseconds;
    return std::chrono::duration_cast<milliseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

std::unique_ptr<HostQueue> HostQueue::create(std::shared_ptr<Session> session,
                                             const flue_hq_options& options) {
    const QueueGeometry asked{session->worker_count(),
                              options.submission_entries != 0 ? options.submission_entries
                                                              : queue::submission_entries_default,
                              options.completion_entries != 0 ? options.completion_entries
                                                              : queue::completion_entries_default};
    if (!asked.valid()) {
        fail(EINVAL,
             "flue_hq_create: %u and %u entries: use powers of two in [%u, %u]",
             asked.submission_entries,
             asked.completion_entries,
             queue::ring_entries_min,
             queue::ring_entries_max);
        return nullptr;
    }
    Message message;
    message.type               = static_cast<uint16_t>(MessageType::create_queue);
    message.submission_entries = asked.submission_entries;
    message.completion_entries = asked.completion_entries;
    auto reply = session->request("flue_hq_create", message, {}, 2, reply_timeout_ms);
    return reply ? from_reply("flue_hq_create", std::move(session), *reply) : nullptr;
}

std::unique_ptr<HostQueue> HostQueue::recover(std::shared_ptr<Session> session, uint32_t& last_id) {
    Message message;
    message.type     = static_cast<uint16_t>(MessageType::recover_queue);
    message.queue_id = last_id;
    auto reply       = session->request("flue_hq_recover", message, {}, 2, reply_timeout_ms);
    if (!reply) {
        return nullptr;
    }
    last_id    = reply->message.queue_id;
    auto queue = from_reply("flue_hq_recover", std::move(session), *reply);
    if (queue != nullptr) {
        queue->rings_.repair();
    }
    return queue;
}

std::unique_ptr<HostQueue> HostQueue::from_reply(const char* what,
                                                 std::shared_ptr<Session> session,
                                                 queue::Received& reply) {
    const QueueGeometry made{session->worker_count(),
                             reply.message.submission_entries,
                             reply.message.completion_entries};
    auto rings = queue::map_queue_memory(reply.fds[0].get(), made, reply.message.bytes);
    if (!rings.ok()) {
        const SystemError error = rings.error();
        fail(error.code,
             "%s: cannot map the rings: %s: %s",
             what,
             error.call,
             std::strerror(error.code));
        return nullptr;
    }
    return std::unique_ptr<HostQueue>(new HostQueue(std::move(session),
                                                    reply.message.queue_id,
                                                    std::move(rings.value()),
                                                    std::move(reply.fds[1])));
}

HostQueue::HostQueue(std::shared_ptr<Session> session,
                     uint32_t queue_id,
                     queue::QueueRings memory,
                     UniqueFd wake)
    : session_(std::move(session)),
      queue_id_(queue_id),
      memory_(std::move(memory)),
      rings_(memory_),
      wake_(std::move(wake)),
      claims_(memory_.geometry().submission_entries * rings_.worker_count(), random_number()),
      next_own_id_(random_number()) {
}

HostQueue::~HostQueue() {
    if (!lost_) {
        Message message;
        message.type     = static_cast<uint16_t>(MessageType::destroy_queue);
        message.queue_id = queue_id_;
        // Should the target be gone, then so is its end of the queue.
        [[maybe_unused]] const auto reply =
            session_->request("flue_hq_destroy", message, {}, 0, reply_timeout_ms);
    }
}

uint32_t HostQueue::route(const flue_wr& request) {
    const auto workers      = rings_.worker_count();
    const bool names_worker = request.object == FLUE_TREE;  // also where that is FLUE_NO_CONN
    if (request.conn == FLUE_NO_CONN && Claims::is_claim(request.opcode) && !names_worker) {
        next_claim_ = next_claim_ + 1 < workers ? next_claim_ + 1 : 0;
        return next_claim_;
    }
    // A worker that does not exist has no connections: any other one will say so.
    const uint32_t worker = worker_of(request.conn);
    return worker < workers ? worker : 0;
}

uint32_t HostQueue::post(std::span<const flue_wr> requests) {
    if (lost_) {
        lose_target();
        return 0;
    }
    post_rerouted();
    uint32_t posted = 0;
    while (posted < requests.size()) {
        uint32_t taken = 0;
        if (Claims::is_claim(requests[posted].opcode)) {
            taken = post_claim(requests[posted]) ? 1 : 0;
        } else {
            taken = post_run(requests.subspan(posted));
        }
        if (taken == 0) {
            explain_idle();
            break;
        }
        posted += taken;
    }
    return posted;
}

bool HostQueue::post_claim(const flue_wr& request) {
    const auto tagged = claims_.add(request);
    if (!tagged) {
        return false;
    }
    if (rings_.submissions(route(request)).enqueue({&*tagged, 1}) == 0) {
        claims_.cancel(*tagged);
        return false;
    }
    return true;
}

uint32_t HostQueue::post_run(std::span<const flue_wr> requests) {
    const uint32_t worker = route(requests[0]);
    size_t length         = 1;
    while (length < requests.size() && !Claims::is_claim(requests[length].opcode) &&
           route(requests[length]) == worker) {
        ++length;
    }
    return rings_.submissions(worker).enqueue(requests.first(length));
}

void HostQueue::post_rerouted() {
    auto& waiting = claims_.rerouted;
    while (!waiting.empty() &&
           rings_.submissions(waiting.front().worker).enqueue({&waiting.front().wr, 1}) == 1) {
        waiting.pop_front();
    }
}

uint32_t HostQueue::poll(std::span<flue_wc> out) {
    uint32_t count = 0;
    while (!stash_.empty() && count < out.size()) {
        out[count++] = stash_.front();
        stash_.pop_front();
    }
    count += gather(out.subspan(count));
    if (count == 0) {
        explain_idle();
    } else {
        idle_calls_ = 0;
    }
    return count;
}

uint32_t HostQueue::gather(std::span<flue_wc> out) {
    const auto workers = rings_.worker_count();
    uint32_t count     = 0;
    for (uint32_t turn = 0; turn < workers && count < out.size(); ++turn) {
        const uint32_t worker = next_poll_;
        next_poll_            = next_poll_ + 1 < workers ? next_poll_ + 1 : 0;
        const uint32_t taken  = rings_.completions(worker).dequeue(out.subspan(count));
        count += keep(out.data() + count, taken);
    }
    post_rerouted();
    return count;
}

uint32_t HostQueue::keep(flue_wc* wc, uint32_t count) {
    const auto workers = rings_.worker_count();
    uint32_t kept      = 0;
    for (uint32_t i = 0; i < count; ++i) {
        if (Claims::is_claim(wc[i].opcode) &&
            claims_.answer(wc[i], workers) == Claims::Answer::reroute) {
            continue;
        }
        if (!abandoned_.empty() && is_abandoned(wc[i])) {
            continue;
        }
        wc[kept++] = wc[i];
    }
    return kept;
}

bool HostQueue::is_abandoned(const flue_wc& wc) {
    return std::erase(abandoned_, wc.wr_id) != 0;
}

int HostQueue::arm() {
    return stash_.empty() ? arm_rings() : 1;
}

int HostQueue::arm_rings() {
    drain_wake();
    if (lost_ && !rings_.has_completions()) {
        lose_target();
        return -1;
    }
    post_rerouted();
    // Nobody tells when there is room for a request that waits to be posted again.
    return claims_.rerouted.empty() && rings_.arm() ? 0 : 1;
}

uint32_t HostQueue::wait(std::span<flue_wc> out, int timeout_ms) {
    if (!stash_.empty()) {
        return poll(out);
    }
    return wait_rings(out, deadline_after(timeout_ms));
}

uint32_t HostQueue::wait_rings(std::span<flue_wc> out, int64_t deadline_ms) {
    FLUE_ASSERT(!out.empty());
    while (true) {
        if (const uint32_t count = gather(out); count > 0) {
            return count;
        }
        const int armed = arm_rings();
        if (armed < 0) {
            return 0;
        }
        int sleep_ms = milliseconds_until(deadline_ms);
        if (armed == 1) {
            if (claims_.rerouted.empty()) {
                continue;
            }
            sleep_ms = sleep_ms < 0 ? full_ring_retry_ms : std::min(sleep_ms, full_ring_retry_ms);
        }
        pollfd item{wake_.get(), POLLIN, 0};
        const int ready = ::poll(&item, 1, sleep_ms);
        if (ready < 0) {
            fail(errno, "flue_wait: %s", std::strerror(errno));
            return 0;
        }
        if (ready == 0 && deadline_ms != no_deadline && now_ms() >= deadline_ms) {
            rings_.disarm();
            errno = ETIMEDOUT;
            return gather(out);
        }
    }
}

std::optional<flue_wc> HostQueue::execute(flue_wr request, int timeout_ms) {
    const int64_t deadline_ms = deadline_after(timeout_ms);
    request.wr_id             = next_own_id_++;
    flue_wc early[32];
    while (post({&request, 1}) == 0) {
        if (errno == ECONNRESET) {
            return std::nullopt;
        }
        if (now_ms() >= deadline_ms) {
            errno = ETIMEDOUT;
            return std::nullopt;
        }
        // Completions that lie in a full ring keep the target from taking requests.
        const uint32_t count = wait_rings(early, now_ms() + full_ring_retry_ms);
        stash_.insert(stash_.end(), early, early + count);
    }
    const auto is_ours = [&](const flue_wc& wc) {
        return wc.wr_id == request.wr_id && wc.opcode == request.opcode;
    };
    auto done = wait_for(is_ours, timeout_ms < 0 ? -1 : milliseconds_until(deadline_ms));
    if (!done && errno == ETIMEDOUT) {
        abandoned_.push_back(request.wr_id);
    }
    return done;
}

void HostQueue::explain_idle() {
    if (++idle_calls_ >= idle_calls_per_look) {
        idle_calls_ = 0;
        drain_wake();
    }
    if (lost_) {
        lose_target();
    } else {
        errno = EAGAIN;
    }
}

void HostQueue::drain_wake() {
    char tokens[64];
    while (!lost_) {
        const ssize_t size = ::recv(wake_.get(), tokens, sizeof(tokens), MSG_DONTWAIT);
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0 && errno == EAGAIN) {
            return;
        }
        // The target holds the other end as long as it serves this queue.
        lost_ = size <= 0;
    }
}

}  // namespace flue::host

struct flue_hq* flue_hq_create(struct flue_context* context,
                               const struct flue_hq_options* options) {
    const flue_hq_options defaults{};
    auto queue =
        flue::host::HostQueue::create(context->session, options != nullptr ? *options : defaults);
    return queue != nullptr ? new (std::nothrow) flue_hq{std::move(queue)} : nullptr;
}

struct flue_hq* flue_hq_recover(struct flue_context* context) {
    auto queue = flue::host::HostQueue::recover(context->session, context->last_queue_id);
    return queue != nullptr ? new (std::nothrow) flue_hq{std::move(queue)} : nullptr;
}

void flue_hq_destroy(struct flue_hq* hq) {
    delete hq;
}

unsigned flue_post(struct flue_hq* hq, const struct flue_wr* wr, unsigned count) {
    return hq->queue->post({wr, count});
}

unsigned flue_poll(struct flue_hq* hq, struct flue_wc* wc, unsigned count) {
    return hq->queue->poll({wc, count});
}

int flue_hq_fd(const struct flue_hq* hq) {
    return hq->queue->fd();
}

int flue_hq_arm(struct flue_hq* hq) {
    return hq->queue->arm();
}

unsigned flue_wait(struct flue_hq* hq, struct flue_wc* wc, unsigned count, int timeout_ms) {
    if (count == 0) {
        flue::host::fail(EINVAL, "flue_wait: no room for a completion");
        return 0;
    }
    return hq->queue->wait({wc, count}, timeout_ms);
}
