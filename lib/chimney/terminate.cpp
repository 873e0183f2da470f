#include <algorithm>
#include <cstring>

#include "chimney/impl.hpp"

namespace flue::chimney {

namespace {

constexpr uint32_t orphans_per_advance = 64;

}  // namespace

void Chimney::Impl::terminate(Instant now, ConnIndex index, const flue_wr& wr) {
    Connection& connection = connections[index];
    if (connection.state == OffloadState::held || (connection.flags & flag_terminating) != 0) {
        return refuse(now, index, wr, FLUE_INVALID_STATE);
    }
    if (wr.sge_count == 0 || wr.sge[0].length < sizeof(flue_state)) {
        return answer(connection.queue, wr, FLUE_BAD_LENGTH, sizeof(flue_state));
    }
    const queue::Regions& regions = queues[connection.queue].queue->regions();
    const auto block              = regions.resolve(wr.sge[0]);
    const auto backlog = wr.sge_count == 2 ? regions.resolve(wr.sge[1]) : queue::Regions::Range{};
    if (!block || !backlog) {
        return answer(connection.queue, wr, FLUE_BAD_REGION);
    }
    deliver(now, index);  // R108: posted requests first
    const uint32_t room = wr.sge_count == 2 ? wr.sge[1].length : 0;
    if (engine.readable(index) > room) {
        return answer(connection.queue, wr, FLUE_BAD_LENGTH, engine.readable(index));
    }
    const RequestIndex request =
        append_request(connection.waiting_front, connection.waiting_back, wr);
    requests[request].data    = block->data;
    requests[request].backlog = backlog->data;
    for (uint32_t i = 0; i < wr.sge_count; ++i) {
        acquire(connection.queue, wr.sge[i].mr);
    }
    connection.flags |=
        flag_terminating | ((wr.flags & FLUE_WR_KEEP_HELD) != 0 ? flag_keep_held : 0);
    connection.state = OffloadState::uploading;
    engine.flush_ack(index);
    settle(now, index);
}

void Chimney::Impl::finish_terminate(Instant now, ConnIndex index) {
    Connection& connection = connections[index];
    Request& request       = requests[connection.waiting_front];
    if ((connection.flags & flag_stopped) == 0 || (connection.flags & flag_on_event_list) != 0) {
        return;
    }
    finish_receives(now, index, FLUE_UPLOAD_IN_PROGRESS);  // R110
    while (request.next != no_request) {                   // posted after TERMINATE: R101
        const RequestIndex late = request.next;
        complete(
            index, requests[late].wr.wr_id, requests[late].wr.opcode, FLUE_UPLOAD_IN_PROGRESS, 0);
        request.next = requests[late].next;
        requests.give(late);
    }
    connection.waiting_back = connection.waiting_front;
    surrender(now, index, request);
}

void Chimney::Impl::surrender(Instant now, ConnIndex index, Request& request) {
    Connection& connection = connections[index];
    const flue_wr wr       = request.wr;
    tcp::Delegated state;
    engine.snapshot(now, index, state);
    const uint32_t send_backlog = engine.send_backlog(index);
    const uint32_t backlog      = give_backlog_back(now, index, request.backlog);
    flue_state block;
    std::memcpy(
        &block, request.data, sizeof(block));  // constant and cached fields are the host's.  R10
    write_delegated(state, send_backlog, backlog, block);
    std::memcpy(request.data, &block, sizeof(block));
    for (uint32_t i = 0; i < wr.sge_count; ++i) {
        release_region(connection.queue, wr.sge[i].mr);
    }
    ++counters.terminates;
    complete(index, wr.wr_id, wr.opcode, FLUE_SUCCESS, backlog);
    const bool keeps_time_wait = (connection.flags & flag_keep_time_wait) != 0;
    const bool has_record      = keeps_time_wait && state.state == tcp::State::time_wait;
    if ((connection.flags & flag_keep_held) == 0 || has_record || queues[connection.queue].lost) {
        return leave(now, index, keeps_time_wait);
    }
    const tcp::Parameters& parameters = engine.parameters(index);
    request.rcv_nxt                   = state.rcv_nxt;
    request.snd_nxt                   = state.snd_max;
    request.ts_recent                 = state.ts_recent;
    request.ts_time                   = state.ts_time;
    request.timestamps                = parameters.timestamps;
    request.window =
        static_cast<uint16_t>(std::min(state.snd_wnd >> parameters.snd_wind_shift, 65535u));
    engine.forget(index);
    cancel_timer(index);
    leave_path(index);
    connection.state      = OffloadState::held;
    connection.flags      = 0;
    connection.gives_back = false;
    count_held(index, true);
}

uint32_t Chimney::Impl::give_backlog_back(Instant now, ConnIndex index, std::byte* out) {
    uint32_t given = 0;
    for (tcp::ByteRef chunk = engine.front_chunk(index); chunk.length > 0;
         chunk              = engine.front_chunk(index)) {
        environment.copy_payload(chunk, {out + given, chunk.length});
        engine.consume(now, index, chunk.length);
        given += chunk.length;
    }
    return given;
}

void Chimney::Impl::drop_requests(ConnIndex index) {
    Connection& connection = connections[index];
    while (connection.receives_front != no_request) {
        const Request& request = requests[connection.receives_front];
        if (request.data != nullptr) {
            release_region(connection.queue, request.wr.sge[0].mr);
        }
        pop_request(connection.receives_front, connection.receives_back);
    }
    while (connection.waiting_front != no_request) {
        pop_request(connection.waiting_front, connection.waiting_back);
    }
}

void Chimney::Impl::make_orphans(Instant now, QueueIndex slot_index) {
    QueueSlot& slot = queues[slot_index];
    for (uint32_t i = 0; i < orphans_per_advance && slot.next_orphan != tcp::no_conn; ++i) {
        const ConnIndex index = slot.next_orphan;
        slot.next_orphan      = connections[index].next;
        make_orphan(now, index);
    }
}

void Chimney::Impl::make_orphan(Instant now, ConnIndex index) {
    Connection& connection = connections[index];
    connection.flags &= static_cast<uint16_t>(~flag_on_event_list);
    ++counters.orphans;
    if (connection.state == OffloadState::held) {
        if (connection.discards) {
            silence(now, index);
        } else {
            environment.unclaim(flows[index].key);
            environment.release_held(index);
        }
        return free_connection(index);
    }
    if ((connection.flags & flag_terminating) != 0) {
        return settle(now, index);  // the host has asked for its end already
    }
    drop_requests(index);
    connection.push_deadline_ms = 0;
    connection.state            = OffloadState::orphaned;
    arm_timer(now, index);
    if (queues[connection.queue].policy == HostLoss::abort &&
        (connection.flags & flag_reset) == 0) {
        engine.abort(now, index);
        connection.flags |= flag_reset;
    }
    settle_orphan(now, index);
}

void Chimney::Impl::settle_orphan(Instant now, ConnIndex index) {
    Connection& connection = connections[index];
    const tcp::State state = engine.state(index);
    const bool gave_up     = engine.upload_reason(index) != tcp::UploadReason::none;
    const bool is_over   = state == tcp::State::closed || state == tcp::State::time_wait || gave_up;
    const bool wants_fin = !is_over && (connection.flags & (flag_reset | flag_send_closed)) == 0;
    // Died between OFFLOAD and the SENDs for what the kernel had sent: only the peer can have those
    // bytes.
    const bool may_have_fin = engine.missing_bytes(index) == 0 || engine.forgo_missing(index);
    if (wants_fin && may_have_fin && !post_own_fin(now, index)) {
        return settle_later(index);
    }
    engine.consume(now, index, engine.readable(index));  // nobody is left to read it
    if (is_over) {
        connection.flags |= flag_stopped;  // what is not acknowledged never will be
    }
    finish_sends(now, index);
    const bool rst_is_due =
        (connection.flags & (flag_reset | flag_rst_sent)) == flag_reset && !gave_up;
    if (is_over && !rst_is_due && engine.front_item(index) == tcp::no_item) {
        leave(now, index, true);
    }
}

void Chimney::Impl::leave(Instant now, ConnIndex index, bool keep_time_wait) {
    const bool is_time_wait = engine.state(index) == tcp::State::time_wait;
    tcp::Delegated state;
    engine.snapshot(now, index, state);
    const bool timestamps = engine.parameters(index).timestamps;
    engine.forget(index);
    const wire::FlowKey& key = flows[index].key;
    std::optional<uint32_t> record;
    if (is_time_wait && keep_time_wait) {
        make_room_for_record();
        record = time_waits.add(now, key, state, timestamps);
    }
    if (record) {
        ++counters.time_waits;
        environment.rebind(key, connections.capacity() + *record);
    } else {
        environment.unclaim(key);
    }
    environment.release_held(index);  // R97: what came since the urgent data
    free_connection(index);
}

void Chimney::Impl::make_room_for_record() {
    if (const auto oldest = time_waits.full() ? time_waits.oldest() : std::nullopt) {
        end_time_wait(*oldest);
        ++counters.time_waits_cut_short;
    }
}

/// The connection lives elsewhere, and what is on its way here must not be answered with an RST.
void Chimney::Impl::silence(Instant now, ConnIndex index) {
    environment.drop_held(index);
    make_room_for_record();
    if (const auto record = time_waits.add_silent(now, flows[index].key)) {
        environment.rebind(flows[index].key, connections.capacity() + *record);
    } else {
        environment.unclaim(flows[index].key);
    }
}

void Chimney::Impl::end_time_wait(uint32_t record) {
    environment.unclaim(time_waits.key(record));
    time_waits.remove(record);
}

void Chimney::Impl::expire_time_waits(Instant now) {
    for (auto record = time_waits.expired(now); record; record = time_waits.expired(now)) {
        end_time_wait(*record);
    }
}

}  // namespace flue::chimney
