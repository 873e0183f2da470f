#include "target/session.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>

#include "base/assert.hpp"
#include "flue/flue.h"
#include "target/log.hpp"

namespace flue::target {

using queue::Message;
using queue::MessageType;
using queue::SessionStatus;

// ---------------------------------------------------------------- WorkerMail

void WorkerMail::post(uint32_t worker, const ControlMessage& message) {
    waiting_[worker].push_back(message);
    // An attached queue is not confirmed: what follows it in the ring finds it attached.
    using enum ControlMessage::Kind;
    unanswered_ += message.kind == attach || message.kind == reattach ? 0 : 1;
}

void WorkerMail::flush() {
    for (size_t worker = 0; worker < lanes_.size(); ++worker) {
        queue::Ring<ControlMessage> requests = lanes_[worker].requests;
        std::deque<ControlMessage>& waiting  = waiting_[worker];
        while (!waiting.empty() && requests.enqueue({&waiting.front(), 1}) == 1) {
            waiting.pop_front();
        }
    }
}

uint32_t WorkerMail::take(uint32_t worker, std::span<ControlMessage> out) {
    queue::Ring<ControlMessage> replies = lanes_[worker].replies;
    const uint32_t count                = replies.dequeue(out);
    unanswered_ -= count;
    return count;
}

// ---------------------------------------------------------------- Session

namespace {

constexpr uint32_t messages_per_turn = 16;

}  // namespace

Session::Session(const Parts& parts, UniqueFd socket)
    : parts_(parts),
      socket_(std::move(socket)),
      regions_(parts.options->quotas.regions, parts.mail->worker_count()),
      shares_(parts.mail->worker_count()) {
    limit_shares();
}

Session::~Session() {
    for (auto& [key, region] : mapped_) {
        parts_.dma->unmap({region.mapping.data(), region.mapping.bytes()});
    }
}

void Session::serve() {
    // Not more at once: a host that sends faster than it is answered is not the only one.
    serve(messages_per_turn);
}

void Session::serve(uint32_t messages) {
    for (uint32_t i = 0; i < messages && listening(); ++i) {
        auto received = queue::receive_message(socket_.get());
        if (received.ok()) {
            dispatch(received.value());
        } else if (received.error() == queue::SocketError::again) {
            return;
        } else if (received.error() == queue::SocketError::closed) {
            lose_host(queue::to_string(received.error()));
        } else {
            end(queue::to_string(received.error()));
        }
    }
}

void Session::hang_up() {
    serve(UINT32_MAX);  // nothing is added any more
    if (wait_ || state_ == State::guest) {
        lose_host("its host is gone");
    }
}

void Session::dispatch(queue::Received& received) {
    const Message& request = received.message;
    const auto type        = static_cast<MessageType>(request.type);
    if (state_ == State::fresh && type == MessageType::drain) {
        drain_ = DrainRequest{std::move(received), std::move(socket_), parts_.peer};
        return leave("a drain");
    }
    const bool takes_fd = type == MessageType::register_region || type == MessageType::claim;
    const uint32_t fds  = takes_fd ? 1 : 0;
    if (received.fd_count != fds) {
        return end("a message with too many or too few descriptors");
    }
    const bool opens = type == MessageType::hello || type == MessageType::reattach;
    if ((state_ == State::fresh) != opens) {
        return end("hello is the first message, and comes once");
    }
    switch (type) {
        case MessageType::hello:
            return hello(request);
        case MessageType::create_queue:
            return create_queue(request);
        case MessageType::destroy_queue:
            return destroy_queue(request);
        case MessageType::register_region:
            return register_region(request, std::move(received.fds[0]));
        case MessageType::deregister_region:
            return deregister_region(request);
        case MessageType::goodbye:
            reply(request, SessionStatus::ok);
            return leave("goodbye");
        case MessageType::reattach:
            return knock(request);
        case MessageType::recover_queue:
            return recover_queue(request);
        case MessageType::recover_region:
            return recover_region(request);
        case MessageType::claim:
            return claim(request, std::move(received.fds[0]));
        case MessageType::drain:
            break;
    }
    end("an unknown message");
}

void Session::hello(const Message& request) {
    if (request.version != queue::session_protocol_version) {
        reply(request, SessionStatus::bad_version);
        return end("another version of the protocol; host and target must be of one release");
    }
    if (parts_.only_reattach) {
        reply(request, SessionStatus::quota);
        return leave("there is no room for it; raise --sessions");
    }
    if (request.host_loss > FLUE_LOSS_HOLD ||
        (request.host_loss == FLUE_LOSS_HOLD && !start_hold(request))) {
        reply(request, SessionStatus::bad_message);
        return end("an unknown host-loss policy");
    }
    policy_ =
        request.host_loss == FLUE_LOSS_ABORT ? chimney::HostLoss::abort : chimney::HostLoss::drain;
    name_.assign(request.name, strnlen(request.name, sizeof(request.name)));
    std::ranges::replace_if(
        name_, [](char c) { return c < ' ' || c > '~'; }, '?');
    deadline_.reset();
    state_         = State::open;
    Message answer = request;
    welcome(answer);
    send(answer);
    FLUE_LOG(INFO,
             "session %u: '%s', process %d, user %u",
             parts_.id,
             name_.c_str(),
             static_cast<int>(parts_.peer.pid),
             static_cast<unsigned>(parts_.peer.uid));
}

void Session::welcome(Message& answer) const {
    answer.status       = static_cast<uint16_t>(SessionStatus::ok);
    answer.worker_count = parts_.mail->worker_count();
    answer.session_id   = parts_.id;
    answer.flags   = shares_[0].raw ? 0 : static_cast<uint32_t>(queue::SessionFlag::must_claim);
    answer.token   = token_;
    answer.hold_ms = hold_ms_;
    // One region serves all workers: a node is best only where they share one.
    const bool one_node = std::ranges::all_of(
        parts_.worker_nodes, [&](int node) { return node == parts_.worker_nodes[0]; });
    answer.memory_node = one_node ? parts_.worker_nodes[0] : -1;
}

void Session::create_queue(const Message& request) {
    const Quotas& quotas = parts_.options->quotas;
    const uint32_t live  = static_cast<uint32_t>(
        std::ranges::count_if(queues_, [](const auto& entry) { return !entry.second.lost; }));
    const queue::QueueGeometry geometry{
        parts_.mail->worker_count(), request.submission_entries, request.completion_entries};
    if (!geometry.valid()) {
        return reply(request, SessionStatus::bad_message);
    }
    // Destroyed queues count until their connections have ended: each has memory, and a worker's
    // eye.
    if (live >= quotas.queues || queues_.size() >= 2 * size_t{quotas.queues} ||
        std::max(geometry.submission_entries, geometry.completion_entries) > quotas.ring_entries) {
        return reply(request, SessionStatus::quota);
    }
    auto memory = queue::TargetQueueMemory::create(geometry, parts_.worker_nodes);
    if (!memory.ok()) {
        FLUE_LOG(WARNING,
                 "session %u: no queue: %s: %s",
                 parts_.id,
                 memory.error().call,
                 std::strerror(memory.error().code));
        return reply(request, SessionStatus::no_memory);
    }
    const uint32_t id = next_queue_++;
    HostQueue& queue  = queues_.try_emplace(id).first->second;
    queue.memory      = std::move(memory.value());
    for (uint32_t worker = 0; worker < geometry.worker_count; ++worker) {
        queue::TargetQueue::Parts parts = queue.memory.parts(worker);
        parts.regions                   = &regions_;
        parts.session_id                = parts_.id;
        parts.share                     = &shares_[worker];
        queue::TargetQueue& end         = queue.ends.emplace_back(parts);
        parts_.mail->post(
            worker, {ControlMessage::Kind::attach, policy_, &end, message_tag(parts_.id, id)});
    }
    send_queue(request, id, queue);
}

void Session::send_queue(const Message& request, uint32_t queue_id, HostQueue& queue) {
    const queue::QueueGeometry& geometry = queue.memory.geometry();
    Message answer                       = request;
    answer.status                        = static_cast<uint16_t>(SessionStatus::ok);
    answer.queue_id                      = queue_id;
    answer.submission_entries            = geometry.submission_entries;
    answer.completion_entries            = geometry.completion_entries;
    answer.bytes                         = queue.memory.bytes();
    const std::array fds{queue.memory.memory_fd(), queue.memory.host_wake_fd()};
    send(answer, fds);
    queue.memory.close_host_wake();
}

void Session::destroy_queue(const Message& request) {
    const auto found = queues_.find(request.queue_id);
    if (found == queues_.end() || found->second.lost) {
        return reply(request, SessionStatus::bad_key);
    }
    lose(found->first, found->second);
    // The host may unmap its end when the workers post no more; ours stays until nothing refers to
    // it.
    fence(request, false);
}

void Session::register_region(const Message& request, UniqueFd memfd) {
    const Quotas& quotas = parts_.options->quotas;
    const uint32_t regions_max =
        may_be_held() ? std::min(quotas.regions, quotas.held_regions) : quotas.regions;
    if (mapped_.size() >= regions_max) {
        return reply(request, SessionStatus::quota);
    }
    const uint64_t bytes_left = quotas.region_bytes - region_bytes_;
    auto region = queue::TargetRegion::map(memfd.get(), request.bytes, bytes_left, may_be_held());
    if (!region.ok()) {
        queue::let_go(memfd.get());
        return reply(request, region.error());
    }
    if (may_be_held()) {
        if (region.value().page_bytes != queue::page_bytes) {
            // A memfd of huge pages takes no further writable mapping: see TargetRegion::map.
            return reply(request, SessionStatus::bad_descriptor);
        }
        region.value().memfd = std::move(memfd);
    }
    const std::span bytes{region.value().mapping.data(), region.value().mapping.bytes()};
    const bool dma_mapped = parts_.dma->map(bytes, region.value().page_bytes);
    const auto key        = regions_.add({bytes.data(), request.bytes, dma_mapped});
    if (!key) {
        parts_.dma->unmap(bytes);
        return reply(request, SessionStatus::quota);
    }
    region_bytes_ += bytes.size();
    mapped_.emplace(*key, std::move(region.value()));
    Message answer    = request;
    answer.status     = static_cast<uint16_t>(SessionStatus::ok);
    answer.region_key = *key;
    send(answer);
}

void Session::deregister_region(const Message& request) {
    if (!mapped_.contains(request.region_key) || !regions_.close(request.region_key)) {
        return reply(request, SessionStatus::bad_key);
    }
    // Past the fence no worker holds the key resolved without a reference.
    fence(request, true);
}

void Session::fence(const Message& request, bool for_region) {
    FLUE_ASSERT(!wait_);
    wait_.emplace(Wait{request, next_wait_++, parts_.mail->worker_count(), for_region, {}});
    for (uint32_t worker = 0; worker < parts_.mail->worker_count(); ++worker) {
        parts_.mail->post(
            worker,
            {ControlMessage::Kind::fence, policy_, nullptr, message_tag(parts_.id, wait_->number)});
    }
}

void Session::on_answer(const ControlMessage& answer) {
    switch (answer.kind) {
        using enum ControlMessage::Kind;
        case grant:
        case fence:
            // One that its host did not live to see may come late.
            if (wait_ && queue_of_tag(answer.tag) == wait_->number) {
                FLUE_ASSERT(wait_->answers_missing > 0);
                --wait_->answers_missing;
                if (wait_->claim) {
                    wait_->claim->status = answer.status;
                }
            }
            return check();
        case withdraw_all:
            --withdrawals_unanswered_;
            return;
        case withdraw:
        case attach:
        case reattach:
            return;
        case lose:
            break;
    }
    const auto found = queues_.find(queue_of_tag(answer.tag));
    FLUE_ASSERT(found != queues_.end());
    if (--found->second.losses_unanswered == 0) {
        queues_.erase(found);
    }
}

void Session::check() {
    if (!wait_ || wait_->answers_missing > 0) {
        return;
    }
    if (wait_->claim) {
        return finish_claim();
    }
    if (wait_->for_region) {
        for (uint32_t worker = 0; worker < parts_.mail->worker_count(); ++worker) {
            if (regions_.references(wait_->request.region_key, worker) > 0) {
                return;
            }
        }
        drop_region(wait_->request.region_key);
    }
    const Message request = wait_->request;
    wait_.reset();
    if (request.type == static_cast<uint16_t>(MessageType::recover_queue)) {
        send_queue(request, request.queue_id, queues_.at(request.queue_id));
    } else {
        reply(request, SessionStatus::ok);
    }
    serve();
}

void Session::drop_region(uint32_t key) {
    const auto found = mapped_.find(key);
    FLUE_ASSERT(found != mapped_.end());
    regions_.remove(key);
    region_bytes_ -= found->second.mapping.bytes();
    parts_.dma->unmap({found->second.mapping.data(), found->second.mapping.bytes()});
    mapped_.erase(found);
}

void Session::lose(uint32_t queue_id, HostQueue& queue) {
    queue.lost              = true;
    queue.losses_unanswered = parts_.mail->worker_count();
    for (uint32_t worker = 0; worker < parts_.mail->worker_count(); ++worker) {
        parts_.mail->post(worker,
                          {ControlMessage::Kind::lose,
                           policy_,
                           &queue.ends[worker],
                           message_tag(parts_.id, queue_id)});
    }
}

void Session::reply(const Message& request, SessionStatus status) {
    if (status != SessionStatus::ok) {
        refusals_.count(status);
        if (parts_.refusals != nullptr) {
            parts_.refusals->count(status);
        }
    }
    Message answer = request;
    answer.status  = static_cast<uint16_t>(status);
    send(answer);
}

void Session::send(const Message& message, std::span<const int> fds) {
    Message answer  = message;
    answer.version  = queue::session_protocol_version;
    const auto done = queue::send_message(socket_.get(), answer, fds);
    if (!done.ok() && done.error() == queue::SocketError::closed) {
        lose_host(queue::to_string(done.error()));
    } else if (!done.ok()) {
        end(queue::to_string(done.error()));
    }
}

void Session::end(const char* why) {
    if (state_ != State::ending && parts_.refusals != nullptr) {
        parts_.refusals->mistakes.add(1);
    }
    leave(why);
}

void Session::leave(const char* why) {
    if (state_ == State::ending) {
        return;
    }
    FLUE_LOG(INFO, "session %u ends: %s", parts_.id, why);
    if (state_ == State::open || state_ == State::held) {
        withdraw_grants();
    }
    state_ = State::ending;
    deadline_.reset();
    if (socket_.valid()) {
        queue::hang_up(socket_.get());
    }
    socket_.reset();
    wait_.reset();
    for (auto& [id, queue] : queues_) {
        if (!queue.lost) {
            lose(id, queue);
        }
    }
}

}  // namespace flue::target
