#include <algorithm>

#include "base/assert.hpp"
#include "queue/shm_layout.hpp"
#include "target/worker.hpp"

namespace flue::target {

namespace {

/// How long the requests of a lost host wait for a free item, which its own sends give back too.
constexpr uint64_t patience_us = 60'000'000;

}  // namespace

uint32_t Worker::take_messages() {
    builder_.collect();
    answer_losses();
    answer_snapshots();
    take_too_big();
    std::array<ControlMessage, 8> messages;
    const uint32_t room                  = std::min<uint32_t>(answer_room(), messages.size());
    queue::Ring<ControlMessage> requests = parts_.lanes[parts_.index].requests;
    const uint32_t count                 = requests.dequeue(std::span{messages}.first(room));
    for (const ControlMessage& message : std::span{messages}.first(count)) {
        carry_out(message);
    }
    return count;
}

void Worker::carry_out(const ControlMessage& message) {
    switch (message.kind) {
        using enum ControlMessage::Kind;
        case attach:
            FLUE_ASSERT(queues_.size() < queues_.capacity());
            chimney_->attach(*message.queue);
            queues_.push_back(message.queue);
            return;
        case lose:
            FLUE_ASSERT(losses_.size() < losses_.capacity());
            message.queue->abandon();
            std::erase(queues_, message.queue);
            losses_.push_back({message, queue::ring_entries_max / burst_max, now_ + patience_us});
            return;
        case reattach:
            chimney_->reattach(*message.queue);
            return;
        case fence:
            answer(message);
            return;
        case grant: {
            ControlMessage reply = message;
            reply.status         = chimney_->grant(now_, *message.share, message.key);
            answer(reply);
            return;
        }
        case withdraw:
            chimney_->withdraw(*message.share, message.key);
            answer(message);
            return;
        case withdraw_all:
            FLUE_ASSERT(losses_.size() < losses_.capacity());
            losses_.push_back({message, 0, now_});
            return;
    }
}

uint32_t Worker::answer_room() const {
    return parts_.lanes[parts_.index].replies.free_count();
}

void Worker::answer(const ControlMessage& message) {
    queue::Ring<ControlMessage> replies = parts_.lanes[parts_.index].replies;
    const uint32_t sent                 = replies.enqueue({&message, 1});
    FLUE_ASSERT(sent == 1);
}

bool Worker::took_all(Loss& loss) {
    queue::TargetQueue& queue = *loss.message.queue;
    // Bounded, because a process that shares the ring with the one that is gone may go on posting.
    if (chimney_->poll(now_, queue) > 0) {
        --loss.polls_left;
        loss.give_up = now_ + patience_us;
    }
    // Requests that wait find all items in use; others give theirs back, but not at any given time.
    return loss.polls_left == 0 || queue.waiting() == 0 || now_ >= loss.give_up;
}

bool Worker::finish(Loss& loss) {
    if (loss.message.kind == ControlMessage::Kind::withdraw_all) {
        if (answer_room() == 0 || !chimney_->withdraw_some(*loss.message.share)) {
            return false;
        }
        answer(loss.message);
        return true;
    }
    queue::TargetQueue& queue = *loss.message.queue;
    if (loss.polls_left > 0) {
        if (!took_all(loss)) {
            return false;
        }
        loss.polls_left = 0;
        chimney_->lose(now_, queue, loss.message.policy);
    }
    if (answer_room() == 0 || !chimney_->detachable(queue)) {
        return false;
    }
    chimney_->detach(queue);
    answer(loss.message);
    return true;
}

void Worker::answer_losses() {
    std::erase_if(losses_, [this](Loss& loss) { return finish(loss); });
}

void Worker::answer_snapshots() {
    std::array<WorkerSnapshot*, 4> asked{};
    queue::Ring<WorkerSnapshot*> snapshots = parts_.lanes[parts_.index].snapshots;
    const uint32_t count                   = snapshots.dequeue(asked);
    for (WorkerSnapshot* snapshot : std::span{asked}.first(count)) {
        obey(snapshot->order);
        fill(*snapshot);
        snapshot->done.store(true, std::memory_order_release);  // S1
    }
}

void Worker::obey(Order order) {
    switch (order) {
        using enum Order;
        case none:
            return;
        case pause:
            return chimney_->set_intake(chimney::Intake::paused);
        case upload_all:
            return chimney_->set_intake(chimney::Intake::uploading_all);
        case resume:
            return chimney_->set_intake(chimney::Intake::open);
        case clear_tcp_stats:
            return this->clear_tcp_stats();
    }
}

void Worker::fill(WorkerSnapshot& snapshot) const {
    snapshot.now        = now_;
    snapshot.worker     = counters_;
    snapshot.exceptions = {};
    snapshot.tx         = {};
    for (const Side& side : sides_) {
        const ExceptionPath::Counters& exceptions = side.exceptions.counters();
        snapshot.exceptions.to_kernel += exceptions.to_kernel;
        snapshot.exceptions.to_kernel_dropped += exceptions.to_kernel_dropped;
        snapshot.exceptions.from_kernel += exceptions.from_kernel;
        snapshot.exceptions.from_kernel_dropped += exceptions.from_kernel_dropped;
        snapshot.tx.frames += side.tx.counters().frames;
        snapshot.tx.full += side.tx.counters().full;
        snapshot.tx.stalls += side.tx.counters().stalls;
    }
    snapshot.frames  = builder_.counters();
    snapshot.chimney = chimney_->counters();
    snapshot.engine  = chimney_->engine().counters();
    snapshot.usage   = chimney_->usage();
    copy_tcp_stats(snapshot);
    snapshot.intake         = chimney_->intake();
    snapshot.flows          = flows_.count();
    snapshot.queues         = static_cast<uint32_t>(queues_.size());
    snapshot.held_packets   = held_.total();
    snapshot.nic_references = builder_.outstanding();
    snapshot.list_count     = chimney_->list(snapshot.list_from, snapshot.list);
}

}  // namespace flue::target
