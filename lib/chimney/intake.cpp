#include <algorithm>
#include <array>

#include "chimney/impl.hpp"

// Whether new connections are taken: PAUSE, UPLOAD_ALL, RESUME.  R27, R116, contract 2.10

namespace flue::chimney {

namespace {

constexpr uint32_t initiates_per_advance = 32;

/// The second half of a hand-over that has begun: its connection stands still until it is done.
bool ends_a_hold(const flue_wr& wr) {
    return wr.opcode == FLUE_OP_OFFLOAD && wr.object == FLUE_CONNECTION && wr.conn != FLUE_NO_CONN;
}

}  // namespace

void Chimney::Impl::set_intake(Intake to) {
    const bool back_to_pause = intake == Intake::uploading_all && to == Intake::paused;
    if (intake == to || back_to_pause) {
        return;
    }
    intake = to;
    for (QueueSlot& slot : queues) {
        slot.events = event_of(to);  // one that was not posted yet is out of date
    }
}

bool Chimney::Impl::is_held_up(QueueIndex slot, const flue_wr& wr) const {
    if (wr.opcode != FLUE_OP_HOLD && wr.opcode != FLUE_OP_OFFLOAD) {
        return false;
    }
    if (ends_a_hold(wr)) {
        return intake == Intake::uploading_all;
    }
    return intake != Intake::open || queues[slot].initiates_front != no_request;
}

void Chimney::Impl::hold_up(QueueIndex slot_index, const flue_wr& wr) {
    QueueSlot& slot = queues[slot_index];
    if (intake == Intake::uploading_all && slot.initiates_front == no_request) {
        return answer(slot_index, wr, FLUE_UPLOAD_IN_PROGRESS);
    }
    // Half of what a session is sure to have stays for its connections.
    uint32_t& of_session = slot.queue->share().initiates;
    if (of_session >= std::max(request_pool.guaranteed() / 2, 1u)) {
        return answer(slot_index, wr, FLUE_RESOURCES);
    }
    (void)append_request(slot.initiates_front, slot.initiates_back, wr);
    ++of_session;
    ++initiate_count;
}

void Chimney::Impl::serve_initiates(Instant now, QueueIndex slot_index) {
    for (uint32_t i = 0; i < initiates_per_advance; ++i) {
        const QueueSlot& slot = queues[slot_index];
        const bool no_items   = engine.free_items() < FLUE_SGE_MAX;
        if (slot.initiates_front == no_request || intake == Intake::paused || no_items) {
            return;
        }
        const flue_wr wr = requests[slot.initiates_front].wr;
        pop_initiate(slot_index);
        if (intake == Intake::open) {
            dispatch(now, slot_index, wr);
        } else {
            answer(slot_index, wr, FLUE_UPLOAD_IN_PROGRESS);
        }
    }
}

void Chimney::Impl::pop_initiate(QueueIndex slot_index) {
    QueueSlot& slot = queues[slot_index];
    FLUE_ASSERT(slot.queue->share().initiates > 0);
    pop_request(slot.initiates_front, slot.initiates_back);
    --slot.queue->share().initiates;
    --initiate_count;
}

bool Chimney::Impl::post_queue_events(QueueIndex slot_index) {
    struct Kind {
        QueueEventBit bit;
        flue_event event;
    };

    static constexpr std::array kinds{Kind{queue_event_pause, FLUE_EVENT_PAUSE},
                                      Kind{queue_event_upload_all, FLUE_EVENT_UPLOAD_ALL},
                                      Kind{queue_event_resume, FLUE_EVENT_RESUME}};
    QueueSlot& slot = queues[slot_index];
    for (const auto& [bit, event] : kinds) {
        if ((slot.events & bit) == 0) {
            continue;
        }
        if (!slot.queue->post_event({.wr_id       = 0,
                                     .conn        = FLUE_NO_CONN,
                                     .host_handle = 0,
                                     .bytes       = 0,
                                     .opcode      = static_cast<uint8_t>(event),
                                     .status      = FLUE_SUCCESS,
                                     .info        = static_cast<uint16_t>(options.worker)})) {
            return false;
        }
        slot.events &= static_cast<uint8_t>(~bit);
    }
    return true;
}

void Chimney::set_intake(Intake intake) {
    impl_->set_intake(intake);
}

Intake Chimney::intake() const {
    return impl_->intake;
}

void Chimney::Impl::carry_out(Instant now, QueueIndex slot, std::span<const flue_wr> burst) {
    for (const flue_wr& wr : burst) {
        prefetch(index_of(wr.conn));
    }
    for (const flue_wr& wr : burst) {
        carry_out(now, slot, wr);
    }
}

void Chimney::Impl::prefetch(ConnIndex index) const {
    if (index < connections.capacity()) {
        __builtin_prefetch(&connections[index]);
        engine.prefetch(index);
    }
}

void Chimney::prefetch(ConnIndex index) const {
    impl_->prefetch(index);
}

}  // namespace flue::chimney
