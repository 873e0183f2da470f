#include "chimney/impl.hpp"

namespace flue::chimney {

namespace {

constexpr uint32_t reattached_per_advance = 64;

}  // namespace

void Chimney::Impl::tell_reattached(QueueIndex slot_index) {
    QueueSlot& slot = queues[slot_index];
    for (uint32_t i = 0; i < reattached_per_advance && slot.next_reattached != tcp::no_conn; ++i) {
        const ConnIndex index = slot.next_reattached;
        if (!tell_reattached_to(index)) {
            return;
        }
        slot.next_reattached = connections[index].next;
    }
}

bool Chimney::Impl::tell_reattached_to(ConnIndex index) {
    const Connection& connection = connections[index];
    const bool is_held           = connection.state == OffloadState::held;
    const auto tcp_state         = is_held ? tcp::State::closed : engine.state(index);
    const flue_wc wc{.wr_id       = 0,
                     .conn        = handle_of(index),
                     .host_handle = connection.host_handle,
                     .bytes       = 0,
                     .opcode      = FLUE_EVENT_REATTACHED,
                     .status      = FLUE_SUCCESS,
                     .info        = static_cast<uint16_t>(tcp_state)};
    // Not a bit on the connection: one that is held may leave while the event waits for room.
    if (!queues[connection.queue].queue->post_event(wc)) {
        return false;
    }
    // The host before may have taken these with it.  A pending one is posted once all the same.
    const uint16_t told = connection.flags;
    if ((told & flag_data_told) != 0) {
        raise(index, event_data_available);
    }
    if ((told & flag_peer_fin_told) != 0) {
        raise(index, event_peer_fin);
    }
    if (connection.upload_reason != 0) {
        raise(index, event_upload);
    }
    return true;
}

// ---------------------------------------------------------------- public call

void Chimney::reattach(queue::TargetQueue& queue) {
    QueueSlot& slot      = impl_->queues[queue.owner_index];
    slot.next_reattached = slot.connections;
    if (impl_->intake != Intake::open) {
        slot.events = event_of(impl_->intake);  // the host before may have taken it with it
    }
}

}  // namespace flue::chimney
