#include "chimney/chimney.hpp"

#include <algorithm>
#include <array>

#include "chimney/impl.hpp"

namespace flue::chimney {

namespace {

constexpr uint32_t burst_max         = 32;
constexpr uint32_t blocks_per_turn   = FLUE_TREE_BLOCKS_MAX;
constexpr uint32_t notice_rounds_max = 16;  ///< times burst_max connections settled in one advance
constexpr uint32_t refused_payloads_max = 1024;
constexpr uint32_t generation_bits      = 32;
constexpr uint32_t worker_shift         = index_bits + generation_bits;

uint32_t generation_of(flue_conn handle) {
    return static_cast<uint32_t>(handle >> index_bits);
}

/// A request takes at most FLUE_SGE_MAX send items and one request record.
uint32_t requests_max(const Options& options) {
    return std::min(options.tcp.limits.send_items / FLUE_SGE_MAX, options.receive_items);
}

/// is_refusal: the request was not carried out; what was, and then ended early, is none.
bool is_refusal(uint8_t status) {
    return status != FLUE_SUCCESS && status != FLUE_PARTIAL_SUCCESS &&
           status != FLUE_REQUEST_ABORTED && status != FLUE_UPLOAD_IN_PROGRESS;
}

bool is_well_formed(const flue_wr& wr) {
    constexpr uint8_t known_flags = FLUE_WR_ABORT | FLUE_WR_NO_PUSH | FLUE_WR_KEEP_HELD |
                                    FLUE_WR_DEADLINE_ABORT | FLUE_WR_KEEP_TIME_WAIT |
                                    FLUE_WR_REPLAY_FIN | FLUE_WR_DISCARD;
    return wr.sge_count <= FLUE_SGE_MAX && (wr.flags & ~known_flags) == 0 && wr.object <= FLUE_TREE;
}

/// Deadlines in ms modulo 2^32; 0 = none.
uint32_t earlier_of(uint32_t a, uint32_t b) {
    if (a == 0 || b == 0) {
        return a + b;
    }
    return static_cast<int32_t>(a - b) < 0 ? a : b;
}

}  // namespace

Chimney::Impl::Impl(const Options& options_in, Environment& environment_in)
    : options(options_in),
      environment(environment_in),
      engine(options_in.tcp),
      connections(options_in.tcp.limits.connections),
      flows(options_in.tcp.limits.connections),
      granted_to(options_in.tcp.limits.connections),
      sends(options_in.tcp.limits.send_items),
      requests(options_in.receive_items),
      nodes(options_in.paths + options_in.neighbors),
      path_links(options_in.tcp.limits.connections),
      time_waits(options_in.time_wait_max, options_in.time_wait_us),
      advisor(options_in.advice, options_in.tcp.limits.connections),
      connection_pool(options_in.tcp.limits.connections, options_in.sessions),
      request_pool(requests_max(options_in), options_in.sessions),
      path_pool(options_in.paths, options_in.sessions),
      neighbor_pool(options_in.neighbors, options_in.sessions) {
    FLUE_ASSERT(nodes.capacity() > 0);
    FLUE_ASSERT(connections.capacity() + uint64_t{nodes.capacity()} < connections_max);
    for (uint32_t i = 0; i < connections.capacity(); ++i) {
        connections[i].generation = 1;
    }
    revisit.reserve(2 * size_t{connections.capacity()});
    refused_payloads.reserve(refused_payloads_max);
}

flue_conn Chimney::Impl::handle_of(ConnIndex index) const {
    return (uint64_t{options.worker} << worker_shift) |
           (uint64_t{connections[index].generation} << index_bits) | index;
}

ConnIndex Chimney::Impl::find(QueueIndex slot, flue_conn handle) const {
    const ConnIndex index = index_of(handle);
    if ((handle >> worker_shift) != options.worker || index >= connections.capacity()) {
        return tcp::no_conn;
    }
    const Connection& connection = connections[index];
    const bool is_live = connection.state != OffloadState::free && connection.queue == slot &&
                         connection.generation == generation_of(handle);
    return is_live ? index : tcp::no_conn;
}

bool Chimney::Impl::has_turn(QueueSlot& slot) {
    slot.blocks_walked -= std::min(slot.blocks_walked, blocks_per_turn);
    return slot.blocks_walked == 0;
}

void Chimney::Impl::carry_out(Instant now, QueueIndex slot, const flue_wr& wr) {
    if (!is_well_formed(wr)) {
        return answer(slot, wr, FLUE_BAD_REQUEST);
    }
    return is_held_up(slot, wr) ? hold_up(slot, wr) : dispatch(now, slot, wr);
}

void Chimney::Impl::dispatch(Instant now, QueueIndex slot, const flue_wr& wr) {
    if (wr.object != FLUE_CONNECTION) {
        return carry_out_on_object(now, slot, wr);
    }
    if (wr.opcode == FLUE_OP_HOLD) {
        return hold(now, slot, wr);
    }
    if (wr.opcode == FLUE_OP_OFFLOAD) {
        return offload(now, slot, wr);
    }
    const ConnIndex index = find(slot, wr.conn);
    if (index == tcp::no_conn) {
        return answer(slot, wr, FLUE_BAD_CONNECTION);
    }
    carry_out_on_connection(now, slot, index, wr);
}

void Chimney::Impl::carry_out_on_connection(Instant now,
                                            QueueIndex slot,
                                            ConnIndex index,
                                            const flue_wr& wr) {
    switch (wr.opcode) {
        case FLUE_OP_SEND:
            return send(now, index, wr);
        case FLUE_OP_RECV:
            return receive(now, index, wr);
        case FLUE_OP_DISCONNECT:
            return (wr.flags & FLUE_WR_ABORT) != 0 ? abort(now, index, wr)
                                                   : disconnect(now, index, wr);
        case FLUE_OP_TERMINATE:
            return terminate(now, index, wr);
        case FLUE_OP_RELEASE:
            return release(now, index, wr);
        case FLUE_OP_QUERY:
            return query(now, index, wr);
        case FLUE_OP_UPDATE:
            return update(now, index, wr);
        case FLUE_OP_INVALIDATE:
            return invalidate(now, index, wr);
        case FLUE_OP_FORWARD:
            return forward(now, index, wr);
        default:
            return answer(slot, wr, FLUE_BAD_OPCODE);
    }
}

void Chimney::Impl::post(QueueSlot& slot, const flue_wc& wc) {
    if (is_refusal(wc.status)) {
        ++counters.refused_requests;
        ++counters.refusals[wc.status % counters.refusals.size()];
        slot.queue->share().count_refusal(wc.status);
    }
    slot.queue->complete(wc);
}

void Chimney::Impl::complete(
    ConnIndex index, uint64_t wr_id, uint8_t opcode, flue_status status, uint32_t bytes) {
    const Connection& connection = connections[index];
    QueueSlot& slot              = queues[connection.queue];
    if (slot.lost) {
        return;
    }
    post(slot,
         {.wr_id       = wr_id,
          .conn        = handle_of(index),
          .host_handle = connection.host_handle,
          .bytes       = bytes,
          .opcode      = opcode,
          .status      = static_cast<uint8_t>(status),
          .info        = 0});
}

void Chimney::Impl::answer(
    QueueIndex slot, const flue_wr& wr, flue_status status, uint32_t bytes, uint16_t info) {
    post(queues[slot],
         {.wr_id       = wr.wr_id,
          .conn        = wr.conn,
          .host_handle = wr.host_handle,
          .bytes       = bytes,
          .opcode      = wr.opcode,
          .status      = static_cast<uint8_t>(status),
          .info        = info});
}

void Chimney::Impl::settle(Instant now, ConnIndex index) {
    Connection& connection = connections[index];
    if (connection.state == OffloadState::orphaned) {
        return settle_orphan(now, index);
    }
    if ((connection.flags & (flag_terminating | flag_stopped)) == flag_terminating) {
        if (engine.ack_owed(index)) {
            return settle_later(index);  // R103: the ACK leaves with the next transmit
        }
        engine.stop(index);
        connection.flags |= flag_stopped;
    }
    deliver(now, index);
    finish_sends(now, index);
    if ((connection.flags & flag_reset) != 0) {
        finish_receives(now, index, FLUE_REQUEST_ABORTED);  // R85
    } else if (connection.gives_back) {
        finish_receives(now, index, FLUE_UPLOAD_IN_PROGRESS);
    }
    update_offload_state(index);
    finish_waiting(now, index);
}

void Chimney::Impl::settle_later(ConnIndex index) {
    Connection& connection = connections[index];
    if ((connection.flags & flag_on_revisit) == 0) {
        connection.flags |= flag_on_revisit;
        revisit.push_back(index);
    }
}

void Chimney::Impl::settle_postponed(Instant now) {
    const size_t count = revisit.size();
    for (size_t i = 0; i < count; ++i) {
        Connection& connection = connections[revisit[i]];
        connection.flags &= static_cast<uint16_t>(~flag_on_revisit);
        if (connection.state != OffloadState::free && connection.state != OffloadState::held) {
            settle(now, revisit[i]);  // may postpone again, behind `count`
        }
    }
    revisit.erase(revisit.begin(), revisit.begin() + static_cast<ptrdiff_t>(count));
}

void Chimney::Impl::on_notice(Instant now, const tcp::Engine::Notified& notified) {
    const ConnIndex index  = notified.conn;
    Connection& connection = connections[index];
    if (connection.state == OffloadState::free || connection.state == OffloadState::held) {
        return;
    }
    if ((notified.notices & tcp::notice_pushed) != 0) {
        connection.flags |= flag_pushed;
    }
    if ((notified.notices & tcp::notice_rst_sent) != 0) {
        connection.flags |= flag_rst_sent;
    }
    if ((notified.notices & tcp::notice_reset) != 0) {
        note_reset(index);
    }
    if ((notified.notices & tcp::notice_upload) != 0) {
        connection.upload_reason = static_cast<uint16_t>(engine.upload_reason(index));
        raise(index, event_upload);
    }
    if ((notified.notices & tcp::notice_acked) != 0) {
        watch_backlog(index);
    }
    const bool is_expected =
        (notified.notices & tcp::notice_received) != 0 && connection.receives_front != no_request;
    if (is_expected && advisor.is_on()) [[unlikely]] {
        advise(index, advisor.delivered(index, true));
    }
    settle(now, index);
}

void Chimney::Impl::note_reset(ConnIndex index) {
    if ((connections[index].flags & flag_reset) == 0) {
        connections[index].flags |= flag_reset | flag_rst_sent;  // no RST of ours is due
        raise(index, event_abort);                               // R84
    }
}

void Chimney::Impl::advance(Instant now) {
    settle_postponed(now);
    std::array<tcp::Engine::Notified, burst_max> notified;
    for (uint32_t round = 0; round < notice_rounds_max; ++round) {
        const uint32_t count = engine.take_notified(notified);
        for (uint32_t i = 0; i < count; ++i) {
            on_notice(now, notified[i]);
        }
        if (count < burst_max) {
            break;
        }
    }
    run_sweeps(now);
    post_reachability_events();
    for (QueueIndex slot = 0; slot < queues.size(); ++slot) {
        if (queues[slot].queue == nullptr) {
            continue;
        }
        if (queues[slot].lost) {
            make_orphans(now, slot);
            free_nodes_of(slot);
        } else {
            tell_reattached(slot);
            serve_initiates(now, slot);
            post_events(now, slot);
            queues[slot].queue->flush();
        }
    }
    expire_time_waits(now);
}

void Chimney::Impl::arm_timer(Instant now, ConnIndex index) {
    Connection& connection = connections[index];
    const uint32_t push    = connection.push_deadline_ms;
    const uint32_t drain   = connection.drain_deadline_ms;
    const uint32_t idle    = advisor.is_on() ? advisor.idle_due_ms(index) : 0;
    const uint32_t due     = earlier_of(earlier_of(push, drain), idle);
    if (due == connection.timer_due_ms) {
        return;
    }
    cancel_timer(index);
    if (due != 0) {
        connection.timer_due_ms = due;
        timers.add(*this, ms_of(now), index);
    }
}

void Chimney::Impl::cancel_timer(ConnIndex index) {
    if (connections[index].timer_due_ms != 0) {
        timers.remove(*this, index);
        connections[index].timer_due_ms = 0;
    }
}

void Chimney::Impl::on_timer(Instant now, ConnIndex index) {
    Connection& connection = connections[index];
    if (connection.queue == no_queue) {
        return withdraw(index);  // nobody used the grant
    }
    const auto is_due = [&](uint32_t deadline_ms) {
        return deadline_ms != 0 && static_cast<int32_t>(ms_of(now) - deadline_ms) >= 0;
    };
    if (is_due(connection.push_deadline_ms)) {
        connection.push_deadline_ms = 0;
        finish_receive(now, index, FLUE_SUCCESS);  // R50
    }
    if (is_due(connection.drain_deadline_ms)) {
        connection.drain_deadline_ms = 0;
        drain_deadline_passed(now, index);
    }
    if (advisor.is_on() && is_due(advisor.idle_due_ms(index))) {
        look_whether_idle(now, index);
    }
    arm_timer(now, index);
}

// ---------------------------------------------------------------- lists, regions

RequestIndex Chimney::Impl::append_request(RequestIndex& front,
                                           RequestIndex& back,
                                           const flue_wr& wr) {
    const RequestIndex index = requests.take();
    requests[index]          = {};
    requests[index].wr       = wr;
    if (front == no_request) {
        front = index;
    } else {
        requests[back].next = index;
    }
    back = index;
    return index;
}

void Chimney::Impl::pop_request(RequestIndex& front, RequestIndex& back) {
    const RequestIndex index = front;
    front                    = requests[index].next;
    back                     = front == no_request ? no_request : back;
    requests.give(index);
}

void Chimney::Impl::acquire(QueueIndex slot, uint32_t region_key) {
    queues[slot].queue->regions().acquire(region_key, options.worker);
    ++queues[slot].region_references;
}

void Chimney::Impl::release_region(QueueIndex slot, uint32_t region_key) {
    FLUE_ASSERT(queues[slot].region_references > 0);
    queues[slot].queue->regions().release(region_key, options.worker);
    --queues[slot].region_references;
}

// ---------------------------------------------------------------- public calls

Chimney::Chimney(const Options& options, Environment& environment)
    : impl_(std::make_unique<Impl>(options, environment)) {
}

Chimney::~Chimney() = default;

void Chimney::attach(queue::TargetQueue& queue) {
    std::vector<QueueSlot>& queues = impl_->queues;
    const auto unused =
        std::ranges::find_if(queues, [](const QueueSlot& slot) { return slot.queue == nullptr; });
    const auto index = unused - queues.begin();
    if (unused == queues.end()) {
        FLUE_ASSERT(queues.size() < no_queue);
        queues.emplace_back();
    }
    queues[static_cast<size_t>(index)] = {.queue = &queue};
    if (impl_->intake != Intake::open) {
        queues[static_cast<size_t>(index)].events = event_of(impl_->intake);
    }
    queue.owner_index = static_cast<uint32_t>(index);
}

uint32_t Chimney::poll(Instant now, queue::TargetQueue& queue) {
    const auto slot = static_cast<QueueIndex>(queue.owner_index);
    if (impl_->queues[slot].lost || !impl_->has_turn(impl_->queues[slot])) {
        return 0;
    }
    queue::SessionShare& share = queue.share();
    impl_->settle_requests(impl_->queues[slot]);
    // A request needs at most two send items (or the FIN of an OFFLOAD) and one request record.
    const uint32_t room = std::min({burst_max,
                                    impl_->engine.free_items() / FLUE_SGE_MAX,
                                    impl_->requests.free_count(),
                                    impl_->request_pool.room(share.requests)});
    if (room == 0) [[unlikely]] {
        impl_->relieve(now, impl_->queues[slot]);
        const uint32_t left = queue.waiting() > 0 ? 1 : 0;
        share.waits.add(left);
        impl_->counters.waits += left;
        return 0;
    }
    std::array<flue_wr, burst_max> batch;
    const uint32_t count = queue.take(std::span(batch).first(room));
    impl_->carry_out(now, slot, std::span(batch).first(count));
    impl_->settle_requests(impl_->queues[slot]);
    return count;
}

void Chimney::lose(Instant /*now*/, queue::TargetQueue& queue, HostLoss policy) {
    QueueSlot& slot  = impl_->queues[queue.owner_index];
    slot.lost        = true;
    slot.policy      = policy;
    slot.next_orphan = slot.connections;
    while (slot.initiates_front != no_request) {
        impl_->pop_initiate(static_cast<QueueIndex>(queue.owner_index));
    }
}

bool Chimney::detachable(const queue::TargetQueue& queue) const {
    const QueueSlot& slot = impl_->queues[queue.owner_index];
    return slot.connections == tcp::no_conn && slot.region_references == 0 &&
           slot.paths == no_index && slot.neighbors == no_index;
}

void Chimney::detach(queue::TargetQueue& queue) {
    FLUE_ASSERT(detachable(queue));
    // Requests of a lost queue have no completion: they count until nothing of it is left.
    impl_->request_pool.give(queue.share().requests,
                             impl_->queues[queue.owner_index].requests_counted);
    impl_->queues[queue.owner_index] = {};
}

Chimney::Disposition Chimney::on_segment(Instant now,
                                         ConnIndex index,
                                         const tcp::Segment& segment,
                                         wire::TcpFields& reply) {
    Impl& impl = *impl_;
    if (index >= impl.connections.capacity()) {
        const uint32_t record = index - impl.connections.capacity();
        switch (impl.time_waits.on_segment(now, record, segment.tcp, reply)) {
            case TimeWaitTable::Action::drop:
            case TimeWaitTable::Action::acknowledge:
                return Disposition::dropped;
            case TimeWaitTable::Action::reuse:
                impl.end_time_wait(record);
                return Disposition::exception;
        }
    }
    const Connection& connection = impl.connections[index];
    if (connection.state == OffloadState::held) {
        return connection.discards ? Disposition::dropped : Disposition::hold;
    }
    if ((connection.flags & flag_terminating) != 0) {
        return (connection.flags & flag_keep_held) != 0 ? Disposition::hold
                                                        : Disposition::exception;  // R104
    }
    const tcp::Engine::Outcome outcome = impl.process(now, index, segment);
    if (impl.advisor.is_on()) [[unlikely]] {
        impl.advise(index, impl.advisor.received(now, index, outcome.out_of_order));
    }
    if (outcome.payload_kept) {
        return Disposition::consumed;
    }
    const bool is_urgent =
        outcome.drop == tcp::Drop::urgent ||
        (outcome.drop == tcp::Drop::connection_stopped &&
         impl.engine.upload_reason(index) == tcp::UploadReason::received_urgent_data);
    return is_urgent ? Disposition::hold : Disposition::dropped;  // R97
}

void Chimney::advance(Instant now) {
    impl_->advance(now);
}

void Chimney::on_time(Instant now) {
    impl_->engine.on_time(now);
    impl_->timers.advance(*impl_, ms_of(now), [&](ConnIndex index) {
        impl_->connections[index].timer_due_ms = 0;
        impl_->on_timer(now, index);
    });
}

uint32_t Chimney::transmit(Instant now, std::span<tcp::TxSegment> out) {
    const uint32_t count = impl_->engine.transmit(now, out);
    if (impl_->options.nce_stale_ms != 0) {
        impl_->ask_for_news(now, out.first(count));
    }
    if (impl_->advisor.is_on()) [[unlikely]] {
        impl_->advise_sent(now, out.first(count));
    }
    return count;
}

uint32_t Chimney::take_released(std::span<tcp::ByteRef> out) {
    uint32_t count = 0;
    while (count < out.size() && !impl_->refused_payloads.empty()) {
        out[count++] = impl_->refused_payloads.back();
        impl_->refused_payloads.pop_back();
    }
    return count + impl_->engine.take_released(out.subspan(count));
}

const wire::FlowHeader& Chimney::flow(ConnIndex index) const {
    return impl_->flows[index];
}

Chimney::SliceBytes Chimney::slice_bytes(const tcp::SendSlice& slice) const {
    const tcp::ByteRef& ref = impl_->engine.item_ref(slice.item);
    const auto* base        = reinterpret_cast<const std::byte*>(ref.region);
    return {.data       = base + ref.offset + slice.offset,
            .dma_mapped = impl_->sends[slice.item].dma_mapped};
}

void Chimney::hold_item(ItemIndex item) {
    ++impl_->sends[item].nic_references;
    ++impl_->nic_references;
}

void Chimney::drop_item(ItemIndex item) {
    SendWork& work = impl_->sends[item];
    FLUE_ASSERT(work.nic_references > 0);
    --work.nic_references;
    --impl_->nic_references;
    if (work.nic_references == 0) {
        impl_->engine.notify(work.conn, tcp::notice_acked);
    }
}

tcp::Engine& Chimney::engine() {
    return impl_->engine;
}

const Chimney::Counters& Chimney::counters() const {
    return impl_->counters;
}

uint32_t Chimney::list(ConnIndex from, std::span<ConnectionInfo> out) const {
    uint32_t count = 0;
    for (ConnIndex index = from; index < impl_->connections.capacity() && count < out.size();
         ++index) {
        const Connection& connection = impl_->connections[index];
        if (connection.state == OffloadState::free) {
            continue;
        }
        ConnectionInfo& info = out[count++];
        info                 = {.index      = index,
                                .handle     = impl_->handle_of(index),
                                .state      = connection.state,
                                .session_id = impl_->share_of(index).session_id,
                                .since      = connection.since,
                                .key        = impl_->flows[index].key,
                                .tcp        = {}};
        if (connection.state != OffloadState::held) {
            info.tcp = impl_->engine.info(index);
        }
    }
    return count;
}

Chimney::Usage Chimney::usage() const {
    return {.tcp            = impl_->engine.usage(),
            .held           = impl_->held_count,
            .receive_items  = impl_->requests.used_count() - impl_->initiate_count,
            .initiates      = impl_->initiate_count,
            .time_waits     = impl_->time_waits.used_count(),
            .nic_references = impl_->nic_references,
            .paths          = impl_->path_pool.used(),
            .neighbors      = impl_->neighbor_pool.used()};
}

}  // namespace flue::chimney
