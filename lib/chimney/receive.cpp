#include <algorithm>
#include <bit>

#include "chimney/impl.hpp"

namespace flue::chimney {

void Chimney::Impl::receive(Instant now, ConnIndex index, const flue_wr& wr) {
    Connection& connection = connections[index];
    if (connection.state == OffloadState::held) {
        return complete(index, wr.wr_id, wr.opcode, FLUE_INVALID_STATE, 0);
    }
    flue_status status = FLUE_SUCCESS;
    queue::Regions::Range range;
    if ((connection.flags & flag_reset) != 0) {
        status = FLUE_REQUEST_ABORTED;
    } else if (connection.state == OffloadState::uploading) {
        status = FLUE_UPLOAD_IN_PROGRESS;  // R98
    } else if ((connection.flags & flag_peer_fin_told) != 0) {
        status = FLUE_INVALID_STATE;  // R58
    } else if (wr.sge_count > 1) {
        status = FLUE_BAD_REQUEST;
    } else if (wr.sge_count == 1 && wr.sge[0].length > 0) {
        const auto resolved = queues[connection.queue].queue->regions().resolve(wr.sge[0]);
        status              = resolved ? FLUE_SUCCESS : FLUE_BAD_REGION;
        range               = resolved.value_or(queue::Regions::Range{});
    }
    const RequestIndex request =
        append_request(connection.receives_front, connection.receives_back, wr);
    requests[request].status = static_cast<uint8_t>(status);
    requests[request].data   = range.data;
    if (range.data != nullptr) {
        acquire(connection.queue, wr.sge[0].mr);
    }
    connection.flags &= static_cast<uint16_t>(~flag_data_told);
    if (advisor.is_on() && wr.sge_count == 1 && status == FLUE_SUCCESS) [[unlikely]] {
        advise(index, advisor.requested(index, wr.sge[0].length));
    }
    settle(now, index);
}

bool Chimney::Impl::fill(Instant now, ConnIndex index, Request& request) {
    const uint32_t wanted = request.wr.sge_count == 0 ? 0 : request.wr.sge[0].length;
    while (request.filled < wanted) {
        const tcp::ByteRef chunk = engine.front_chunk(index);
        if (chunk.length == 0) {
            return false;
        }
        const uint32_t bytes = std::min(chunk.length, wanted - request.filled);
        environment.copy_payload({.region = chunk.region, .offset = chunk.offset, .length = bytes},
                                 {request.data + request.filled, bytes});
        engine.consume(now, index, bytes);
        request.filled += bytes;
    }
    return true;
}

void Chimney::Impl::deliver(Instant now, ConnIndex index) {
    const Connection& connection = connections[index];
    bool placed                  = false;
    while (connection.receives_front != no_request) {
        Request& request = requests[connection.receives_front];
        if (request.status != FLUE_SUCCESS) {
            finish_receive(now, index, static_cast<flue_status>(request.status));
            continue;
        }
        const uint32_t before = request.filled;
        const bool is_full    = fill(now, index, request);
        placed |= request.filled != before;
        if (!is_full) {
            break;
        }
        finish_receive(now, index, FLUE_SUCCESS);
    }
    after_delivery(now, index, placed);
}

void Chimney::Impl::after_delivery(Instant now, ConnIndex index, bool placed) {
    Connection& connection = connections[index];
    if (engine.readable(index) > 0) {  // R53: nobody has asked for it: say so once
        if ((connection.flags & flag_data_told) == 0) {
            connection.flags |= flag_data_told;
            raise(index, event_data_available);
            if (advisor.is_on()) [[unlikely]] {
                advise(index, advisor.delivered(index, false));
            }
        }
        return;
    }
    if (connection.receives_front != no_request) {
        const Request& request = requests[connection.receives_front];
        const bool is_push     = (request.wr.flags & FLUE_WR_NO_PUSH) == 0 && request.filled > 0;
        if (is_push && (connection.flags & flag_pushed) != 0) {
            finish_receive(now, index, FLUE_SUCCESS);  // R50
        } else if (is_push && placed) {
            connection.push_deadline_ms =
                std::max(ms_of(now) + options.push_timeout_us / 1000, 1u);  // R51
            arm_timer(now, index);
        }
    }
    connection.flags &= static_cast<uint16_t>(~flag_pushed);
    if (engine.peer_fin_received(index) && (connection.flags & flag_peer_fin_told) == 0) {
        finish_receives(now, index, FLUE_SUCCESS);
        connection.flags |= flag_peer_fin_told;
        raise(index, event_peer_fin);  // R81
    }
}

void Chimney::Impl::finish_receive(Instant now, ConnIndex index, flue_status status) {
    Connection& connection = connections[index];
    const Request request  = requests[connection.receives_front];
    pop_request(connection.receives_front, connection.receives_back);
    if (request.data != nullptr) {
        release_region(connection.queue, request.wr.sge[0].mr);
    }
    if (connection.push_deadline_ms != 0) {
        connection.push_deadline_ms = 0;
        arm_timer(now, index);
    }
    complete(index, request.wr.wr_id, request.wr.opcode, status, request.filled);
}

void Chimney::Impl::finish_receives(Instant now, ConnIndex index, flue_status status) {
    while (connections[index].receives_front != no_request) {
        const auto own =
            static_cast<flue_status>(requests[connections[index].receives_front].status);
        finish_receive(now, index, own == FLUE_SUCCESS ? status : own);
    }
}

void Chimney::Impl::raise(ConnIndex index, uint8_t event) {
    Connection& connection = connections[index];
    QueueSlot& slot        = queues[connection.queue];
    connection.events |= event;
    if ((connection.flags & flag_on_event_list) != 0 || slot.lost) {
        return;
    }
    connection.flags |= flag_on_event_list;
    connection.next_event = tcp::no_conn;
    if (slot.events_front == tcp::no_conn) {
        slot.events_front = index;
    } else {
        connections[slot.events_back].next_event = index;
    }
    slot.events_back = index;
}

void Chimney::Impl::post_events(Instant now, QueueIndex slot_index) {
    QueueSlot& slot = queues[slot_index];
    if (!post_queue_events(slot_index)) {
        return;
    }
    while (slot.events_front != tcp::no_conn && post_events_of(slot.events_front)) {
        const ConnIndex index = slot.events_front;
        slot.events_front     = connections[index].next_event;
        connections[index].flags &= static_cast<uint16_t>(~flag_on_event_list);
        if ((connections[index].flags & flag_terminating) != 0) {
            settle(now, index);  // R102: TERMINATE has waited for this
        }
    }
}

bool Chimney::Impl::post_events_of(ConnIndex index) {
    struct Kind {
        EventBit bit;
        flue_event event;
    };

    static constexpr Kind kinds[] = {{event_data_available, FLUE_EVENT_DATA_AVAILABLE},
                                     {event_peer_fin, FLUE_EVENT_DISCONNECT},
                                     {event_abort, FLUE_EVENT_ABORT},
                                     {event_drain_deadline, FLUE_EVENT_DRAIN_DEADLINE},
                                     {event_send_backlog, FLUE_EVENT_SEND_BACKLOG},
                                     {event_upload, FLUE_EVENT_UPLOAD_REQUEST}};
    Connection& connection        = connections[index];
    for (const auto& [bit, event] : kinds) {
        if ((connection.events & bit) == 0) {
            continue;
        }
        uint32_t bytes = bit == event_data_available ? engine.readable(index) : 0;
        bytes          = bit == event_send_backlog ? std::bit_ceil(connection.backlog_told) : bytes;
        bytes          = bit == event_drain_deadline ? engine.send_backlog(index) : bytes;
        if (bit == event_data_available && bytes == 0) {
            connection.events &= static_cast<uint8_t>(~bit);  // a RECV came first and took it
            continue;
        }
        const flue_wc wc{.wr_id       = 0,
                         .conn        = handle_of(index),
                         .host_handle = connection.host_handle,
                         .bytes       = bytes,
                         .opcode      = static_cast<uint8_t>(event),
                         .status      = FLUE_SUCCESS,
                         .info = bit == event_upload ? connection.upload_reason : uint16_t{0}};
        if (!queues[connection.queue].queue->post_event(wc)) {
            return false;
        }
        connection.events &= static_cast<uint8_t>(~bit);
    }
    return true;
}

}  // namespace flue::chimney
