#include <algorithm>
#include <array>

#include "chimney/impl.hpp"

namespace flue::chimney {

flue_status Chimney::Impl::may_send(ConnIndex index, uint8_t opcode) const {
    const Connection& connection = connections[index];
    if (connection.state == OffloadState::held) {
        return FLUE_INVALID_STATE;
    }
    if ((connection.flags & flag_reset) != 0) {
        return FLUE_REQUEST_ABORTED;  // R43
    }
    if (connection.state == OffloadState::uploading) {
        return FLUE_UPLOAD_IN_PROGRESS;  // R42, R98
    }
    if (intake == Intake::uploading_all) {
        return FLUE_UPLOAD_IN_PROGRESS;  // R116; a DISCONNECT may not overtake such a SEND
    }
    if ((connection.flags & flag_send_broken) != 0) {
        return FLUE_INVALID_STATE;
    }
    if ((connection.flags & flag_send_closed) != 0) {
        const bool is_open = opcode == FLUE_OP_SEND ? engine.missing_bytes(index) > 0
                                                    : (connection.flags & flag_fin_unclaimed) != 0;
        return is_open ? FLUE_SUCCESS : FLUE_INVALID_STATE;
    }
    return FLUE_SUCCESS;
}

flue_status Chimney::Impl::post_items(Instant now, ConnIndex index, const flue_wr& wr, bool fin) {
    const QueueIndex slot = connections[index].queue;
    std::array<queue::Regions::Range, FLUE_SGE_MAX> ranges{};
    for (uint32_t i = 0; i < wr.sge_count; ++i) {
        if (wr.sge[i].length > FLUE_SEND_BYTES_MAX) {
            return FLUE_BAD_LENGTH;
        }
        const auto range = queues[slot].queue->regions().resolve(wr.sge[i]);
        if (!range) {
            return FLUE_BAD_REGION;
        }
        ranges[i] = *range;
    }
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < wr.sge_count; ++i) {
        bytes += wr.sge[i].length;
    }
    if (bytes > engine.post_room(index)) {
        const bool is_closed = (connections[index].flags & flag_send_closed) != 0;
        return is_closed ? FLUE_INVALID_STATE : FLUE_RESOURCES;
    }
    if (fin && bytes < engine.missing_bytes(index)) {
        return FLUE_INVALID_STATE;  // the SENDs up to snd_max come first
    }
    const uint32_t item_count = wr.sge_count == 0 ? 1 : wr.sge_count;
    for (uint32_t i = 0; i < item_count; ++i) {
        const bool is_last    = i + 1 == item_count;
        const bool has_region = i < wr.sge_count;
        const tcp::ByteRef ref{.region = reinterpret_cast<uint64_t>(ranges[i].data),
                               .offset = 0,
                               .length = has_region ? wr.sge[i].length : 0};
        const ItemIndex item = engine.post_send(now, index, ref, fin && is_last);
        FLUE_ASSERT(item != tcp::no_item);
        sends[item] = {.wr_id      = wr.wr_id,
                       .region_key = has_region ? wr.sge[i].mr : 0,
                       .conn       = index,
                       .opcode     = wr.opcode,
                       .last       = is_last,
                       .dma_mapped = ranges[i].dma_mapped,
                       .has_region = has_region};
        if (has_region) {
            acquire(slot, wr.sge[i].mr);
        }
    }
    return FLUE_SUCCESS;
}

bool Chimney::Impl::post_own_fin(Instant now, ConnIndex index) {
    if (engine.free_items() == 0) {
        return false;
    }
    const ItemIndex item = engine.post_send(now, index, {}, true);
    FLUE_ASSERT(item != tcp::no_item);
    sends[item] = {.conn = index};
    connections[index].flags |= flag_send_closed;
    return true;
}

void Chimney::Impl::send(Instant now, ConnIndex index, const flue_wr& wr) {
    flue_status status = may_send(index, wr.opcode);
    if (status == FLUE_SUCCESS) {
        status = post_items(now, index, wr, false);
    }
    if (status != FLUE_SUCCESS) {
        return refuse(now, index, wr, status);
    }
    if (advisor.is_on()) [[unlikely]] {
        advise(index, advisor.requested(index, uint64_t{wr.sge[0].length} + wr.sge[1].length));
    }
}

void Chimney::Impl::disconnect(Instant now, ConnIndex index, const flue_wr& wr) {
    flue_status status = may_send(index, wr.opcode);
    if (status == FLUE_SUCCESS) {
        status = post_items(now, index, wr, true);
    }
    if (status != FLUE_SUCCESS) {
        return refuse(now, index, wr, status);
    }
    ++counters.graceful_disconnects;
    Connection& connection = connections[index];
    connection.flags &= static_cast<uint16_t>(~flag_fin_unclaimed);
    connection.flags |= flag_send_closed;
    if ((wr.flags & FLUE_WR_DEADLINE_ABORT) != 0) {
        connection.flags |= flag_deadline_abort;
    }
    if (wr.drain_ms != 0) {
        connection.drain_deadline_ms = std::max(ms_of(now) + wr.drain_ms, 1u);
        arm_timer(now, index);
    }
    update_offload_state(index);
}

void Chimney::Impl::drain_deadline_passed(Instant now, ConnIndex index) {
    Connection& connection = connections[index];
    const tcp::State state = engine.state(index);
    using enum tcp::State;
    if (state == fin_wait_2 || state == time_wait || state == closed) {
        return;  // it was met: the DISCONNECT only waits for a NIC to let its memory go
    }
    raise(index, event_drain_deadline);
    if ((connection.flags & flag_deadline_abort) != 0 && (connection.flags & flag_reset) == 0) {
        engine.abort(now, index);
        connection.flags |= flag_reset;
        settle(now, index);
    }
}

void Chimney::Impl::abort(Instant now, ConnIndex index, const flue_wr& wr) {
    Connection& connection = connections[index];
    if (connection.state == OffloadState::held) {
        return complete(index, wr.wr_id, wr.opcode, FLUE_INVALID_STATE, 0);
    }
    if (wr.sge_count != 0) {
        return refuse(now, index, wr, FLUE_BAD_REQUEST);
    }
    if (connection.state == OffloadState::uploading) {
        return refuse(now, index, wr, FLUE_UPLOAD_IN_PROGRESS);
    }
    ++counters.abortive_disconnects;
    if ((connection.flags & flag_reset) == 0) {
        engine.abort(now, index);
        connection.flags |= flag_reset;
    } else {
        connection.flags |=
            flag_rst_sent;  // after the peer's RST, or a second time: there is nobody to tell
    }
    append_request(connection.waiting_front, connection.waiting_back, wr);
    settle(now, index);
}

void Chimney::Impl::refuse(Instant now, ConnIndex index, const flue_wr& wr, flue_status status) {
    Connection& connection = connections[index];
    if (connection.state == OffloadState::held) {
        return complete(index, wr.wr_id, wr.opcode, status, 0);
    }
    if (wr.opcode == FLUE_OP_SEND) {
        connection.flags |= flag_send_broken;
    }
    const RequestIndex request =
        append_request(connection.waiting_front, connection.waiting_back, wr);
    requests[request].status = static_cast<uint8_t>(status);
    finish_waiting(now, index);
}

void Chimney::Impl::finish_sends(Instant now, ConnIndex index) {
    const Connection& connection = connections[index];
    const bool is_over =
        (connection.flags & (flag_reset | flag_stopped)) != 0 || connection.gives_back;
    const flue_status otherwise =
        (connection.flags & flag_reset) != 0 ? FLUE_REQUEST_ABORTED : FLUE_UPLOAD_IN_PROGRESS;
    for (ItemIndex item = engine.front_item(index); item != tcp::no_item;
         item           = engine.front_item(index)) {
        const bool is_acked = engine.fully_acked(index, item);
        if ((!is_acked && !is_over) || sends[item].nic_references != 0) {
            return;
        }
        finish_item(
            now, index, item, is_acked ? FLUE_SUCCESS : otherwise, engine.acked_bytes(index, item));
    }
}

void Chimney::Impl::finish_item(
    Instant now, ConnIndex index, ItemIndex item, flue_status status, uint32_t acked) {
    const SendWork work = sends[item];
    engine.pop_item(index, item);
    if (work.has_region) {
        release_region(connections[index].queue, work.region_key);
    }
    if (!work.last) {
        sends[engine.front_item(index)].bytes_before = work.bytes_before + acked;
        return;
    }
    if (work.opcode == FLUE_OP_DISCONNECT) {
        connections[index].drain_deadline_ms = 0;
        arm_timer(now, index);
    }
    if (work.opcode != 0) {
        complete(index, work.wr_id, work.opcode, status, work.bytes_before + acked);
    }
}

void Chimney::Impl::finish_waiting(Instant now, ConnIndex index) {
    Connection& connection = connections[index];
    while (connection.waiting_front != no_request && engine.front_item(index) == tcp::no_item) {
        const Request& request = requests[connection.waiting_front];
        const flue_wr& wr      = request.wr;
        if (wr.opcode == FLUE_OP_TERMINATE && request.status == FLUE_SUCCESS) {
            return finish_terminate(now, index);
        }
        const bool is_abort = wr.opcode == FLUE_OP_DISCONNECT && request.status == FLUE_SUCCESS;
        if (is_abort && (connection.flags & flag_rst_sent) == 0) {
            return;  // R77: SUCCESS says that the RST was sent
        }
        complete(index, wr.wr_id, wr.opcode, static_cast<flue_status>(request.status), 0);
        pop_request(connection.waiting_front, connection.waiting_back);
    }
}

void Chimney::Impl::update_offload_state(ConnIndex index) {
    Connection& connection = connections[index];
    if (connection.state == OffloadState::uploading || connection.state == OffloadState::orphaned) {
        return;
    }
    if ((connection.flags & flag_reset) != 0) {
        connection.state = OffloadState::aborted;
        return;
    }
    const bool stopped_by_itself = engine.upload_reason(index) != tcp::UploadReason::none;
    using enum tcp::State;
    switch (engine.state(index)) {
        case established:
        case close_wait:
            connection.state = (connection.flags & flag_send_closed) != 0 ? OffloadState::draining
                                                                          : OffloadState::offloaded;
            break;
        case fin_wait_1:
        case closing:
        case last_ack:
            connection.state = OffloadState::draining;
            break;
        case fin_wait_2:
        case time_wait:
        case closed:
            connection.state = OffloadState::half_closed;
            break;
    }
    if (stopped_by_itself && engine.state(index) != time_wait) {
        connection.state = OffloadState::uploading;
    }
}

}  // namespace flue::chimney
