#include <algorithm>
#include <bit>
#include <cstring>

#include "chimney/impl.hpp"

namespace flue::chimney {

Result<flue_state, flue_status> Chimney::Impl::read_block(QueueIndex slot,
                                                          const flue_sge& sge) const {
    if (sge.length < sizeof(flue_state)) {
        return FLUE_BAD_LENGTH;
    }
    const auto range = queues[slot].queue->regions().resolve(sge);
    if (!range) {
        return FLUE_BAD_REGION;
    }
    flue_state block;
    std::memcpy(&block, range->data, sizeof(block));
    return block;
}

Result<ConnIndex, flue_status> Chimney::Impl::claim(
    Instant now, QueueIndex slot, const flue_wr& wr, const wire::FlowKey& key, uint16_t& owner) {
    queue::SessionShare& share = queues[slot].queue->share();
    if (const ConnIndex granted = find_grant(share, key); granted != tcp::no_conn) {
        redeem(now, granted, slot, wr.host_handle);
        return granted;
    }
    if (const flue_status status = may_hold_another(share); status != FLUE_SUCCESS) {
        return status;
    }
    const ConnIndex index                 = new_connection(now, slot, wr.host_handle);
    flows[index]                          = {.key = key};
    const Environment::ClaimResult result = claim_tuple(key, index);
    // Which worker to ask is no secret; whether the tuple is in use is told to who may claim it.
    const bool permitted = share.raw && options.claim_rules.allow(key);
    if (result.claim == Environment::Claim::ok && permitted) {
        return index;
    }
    if (result.claim == Environment::Claim::ok) {
        environment.unclaim(key);
    }
    free_connection(index);
    owner = result.owner;
    if (!permitted && result.claim != Environment::Claim::not_owner) {
        return FLUE_NOT_PERMITTED;
    }
    switch (result.claim) {
        case Environment::Claim::in_use:
            return FLUE_TUPLE_IN_USE;
        case Environment::Claim::not_owner:
            return FLUE_NOT_OWNER;
        case Environment::Claim::ok:
        case Environment::Claim::no_room:
            break;
    }
    return FLUE_TCP_ENTRIES;
}

/// A tuple that only a record of silence has is free.
Environment::ClaimResult Chimney::Impl::claim_tuple(const wire::FlowKey& key, ConnIndex index) {
    const Environment::ClaimResult result = environment.claim(key, index);
    const bool is_record                  = result.claim == Environment::Claim::in_use &&
                           result.holder != tcp::no_conn && result.holder >= connections.capacity();
    if (!is_record || !time_waits.is_silent(result.holder - connections.capacity())) {
        return result;
    }
    end_time_wait(result.holder - connections.capacity());
    return environment.claim(key, index);
}

/// What a held connection has kept is of no use to its next owner: it begins anew.
void Chimney::Impl::hold_again(QueueIndex slot, const flue_wr& wr) {
    const ConnIndex index = find(slot, wr.conn);
    if (index == tcp::no_conn) {
        return answer(slot, wr, FLUE_BAD_CONNECTION);
    }
    Connection& connection = connections[index];
    if (connection.state != OffloadState::held || wr.sge_count != 0) {
        return answer(slot, wr, wr.sge_count != 0 ? FLUE_BAD_REQUEST : FLUE_INVALID_STATE);
    }
    environment.drop_held(index);
    connection.discards = (wr.flags & FLUE_WR_DISCARD) != 0;
    complete(index, wr.wr_id, wr.opcode, FLUE_SUCCESS, 0);
}

void Chimney::Impl::hold(Instant now, QueueIndex slot, const flue_wr& wr) {
    if (wr.conn != FLUE_NO_CONN) {
        return hold_again(slot, wr);
    }
    if (wr.sge_count != 1 || (wr.flags & FLUE_WR_DISCARD) != 0) {
        return answer(slot, wr, FLUE_BAD_REQUEST);
    }
    const auto block = read_block(slot, wr.sge[0]);
    if (!block.ok()) {
        return answer(slot, wr, block.error(), sizeof(flue_state));
    }
    const auto key = read_flow_key(block.value());
    if (!key.ok()) {
        return answer(slot, wr, key.error());
    }
    uint16_t owner     = 0;
    const auto claimed = claim(now, slot, wr, key.value(), owner);
    if (!claimed.ok()) {
        return answer(slot, wr, claimed.error(), 0, owner);
    }
    ++counters.holds;
    complete(claimed.value(), wr.wr_id, wr.opcode, FLUE_SUCCESS, 0);
}

void Chimney::Impl::offload(Instant now, QueueIndex slot, const flue_wr& wr) {
    if (wr.sge_count == 0) {
        return answer(slot, wr, FLUE_BAD_REQUEST);
    }
    const auto raw = read_block(slot, wr.sge[0]);
    if (!raw.ok()) {
        return answer(slot, wr, raw.error(), sizeof(flue_state));
    }
    const auto block = read_state_block(raw.value(), options.rcv_wnd_limit);
    if (!block.ok()) {
        return answer(slot, wr, block.error());
    }
    const uint32_t backlog_bytes = wr.sge_count == 2 ? wr.sge[1].length : 0;
    if (backlog_bytes != block.value().receive_backlog_bytes) {
        return answer(slot, wr, FLUE_BAD_LENGTH, block.value().receive_backlog_bytes);
    }
    std::span<const std::byte> backlog;
    if (backlog_bytes > 0) {
        const auto range = queues[slot].queue->regions().resolve(wr.sge[1]);
        if (!range) {
            return answer(slot, wr, FLUE_BAD_REGION);
        }
        backlog = {range->data, backlog_bytes};
    }
    uint16_t owner   = 0;
    const auto taken = offload_one(now, slot, wr, block.value(), backlog, owner);
    if (!taken.ok()) {
        return answer(slot, wr, taken.error(), 0, owner);
    }
    complete(taken.value(), wr.wr_id, wr.opcode, FLUE_SUCCESS, 0);
    environment.replay_held(taken.value());  // R24: after the completion
}

Result<ConnIndex, flue_status> Chimney::Impl::offload_one(Instant now,
                                                          QueueIndex slot,
                                                          const flue_wr& wr,
                                                          const StateBlock& block,
                                                          std::span<const std::byte> backlog,
                                                          uint16_t& owner) {
    const wire::FlowHeader& flow = block.flow;
    const flue_status link       = check_link(flow.source_mac, flow.vlan_id, flow.path_mtu);
    if (link != FLUE_SUCCESS) {
        return link;
    }
    const bool is_fresh = wr.conn == FLUE_NO_CONN;
    ConnIndex index     = is_fresh ? tcp::no_conn : find(slot, wr.conn);
    if (is_fresh) {
        const auto claimed = claim(now, slot, wr, flow.key, owner);
        if (!claimed.ok()) {
            return claimed.error();
        }
        index = claimed.value();
    } else if (index == tcp::no_conn) {
        return FLUE_BAD_CONNECTION;
    }
    const flue_status status = take_over(now, index, block, backlog);
    if (status != FLUE_SUCCESS) {
        if (is_fresh) {
            withdraw(index);
        }
        return status;
    }
    if ((wr.flags & FLUE_WR_KEEP_TIME_WAIT) != 0) {
        connections[index].flags |= flag_keep_time_wait;
    }
    ++counters.offloads;
    return index;
}

flue_status Chimney::Impl::take_over(Instant now,
                                     ConnIndex index,
                                     const StateBlock& block,
                                     std::span<const std::byte> backlog) {
    Connection& connection = connections[index];
    if (connection.state != OffloadState::held) {
        return FLUE_INVALID_STATE;
    }
    if (flows[index].key != block.flow.key) {
        return FLUE_BAD_STATE;
    }
    tcp::Parameters parameters = block.parameters;
    parameters.group = figures_group(environment.port_of(index, block.flow), block.flow.key.family);
    switch (engine.adopt(now, index, parameters, block.delegated)) {
        case tcp::Engine::Refusal::none:
            break;
        case tcp::Engine::Refusal::state:
            return FLUE_INVALID_STATE;
        case tcp::Engine::Refusal::items:
            return FLUE_RESOURCES;
    }
    if (!store_backlog(index, backlog)) {
        engine.forget(index);
        return FLUE_TCP_RCV_BUFFER;  // R18
    }
    drop_requests(index);  // what an earlier TERMINATE had left for RELEASE
    flows[index]          = block.flow;
    connection.flags      = 0;
    connection.discards   = false;
    connection.gives_back = false;
    count_held(index, false);
    connection.state = OffloadState::offloaded;
    const auto state = block.delegated.state;
    using enum tcp::State;
    if (state == fin_wait_1 || state == fin_wait_2 || state == closing || state == last_ack) {
        connection.flags |= flag_send_closed;
    }
    if (fin_is_outstanding(state)) {
        connection.flags |= flag_fin_unclaimed;
    }
    if (block.delegated.rcv_wnd == 0) {
        engine.consume(now, index, 0);  // the giver's reader may have made room: the peer must know
    }
    if (engine.peer_fin_received(index) && backlog.empty()) {
        connection.flags |= flag_peer_fin_told;  // the giver has told it already
    }
    if (!backlog.empty()) {
        engine.notify(index, tcp::notice_received);
    }
    connection.backlog_told = wanted_backlog(index);  // the host knows the windows
    if (advisor.is_on()) {
        advisor.begin(now, index);
        arm_timer(now, index);
    }
    update_offload_state(index);
    return FLUE_SUCCESS;
}

bool Chimney::Impl::store_backlog(ConnIndex index, std::span<const std::byte> backlog) {
    while (!backlog.empty()) {
        const auto bytes =
            backlog.first(std::min<size_t>(backlog.size(), Environment::store_payload_bytes_max));
        const tcp::ByteRef ref = environment.store_payload(bytes);
        if (ref.region == 0) {
            return false;
        }
        if (!engine.add_readable(index, ref)) {
            refused_payloads.push_back(ref);
            return false;
        }
        backlog = backlog.subspan(bytes.size());
    }
    return true;
}

void Chimney::Impl::release(Instant now, ConnIndex index, const flue_wr& wr) {
    Connection& connection = connections[index];
    if (connection.state != OffloadState::held) {
        return complete(index, wr.wr_id, wr.opcode, FLUE_INVALID_STATE, 0);
    }
    if ((wr.flags & FLUE_WR_REPLAY_FIN) != 0) {
        if (connection.waiting_front == no_request) {
            return complete(
                index, wr.wr_id, wr.opcode, FLUE_INVALID_STATE, 0);  // nothing was terminated here
        }
        const Request& left = requests[connection.waiting_front];
        wire::TcpFields fin;
        fin.seq            = left.rcv_nxt - 1;
        fin.ack            = left.snd_nxt;
        fin.flags          = wire::tcp_fin | wire::tcp_ack;
        fin.window         = left.window;
        fin.has_timestamps = left.timestamps;
        fin.ts_val         = left.ts_recent;
        fin.ts_ecr         = left.ts_time;
        environment.show_host(flows[index], fin);
    }
    if ((wr.flags & FLUE_WR_DISCARD) != 0) {
        silence(now, index);
    } else {
        environment.unclaim(flows[index].key);
        environment.release_held(index);
    }
    complete(index, wr.wr_id, wr.opcode, FLUE_SUCCESS, 0);
    free_connection(index);
}

void Chimney::Impl::query(Instant now, ConnIndex index, const flue_wr& wr) {
    if (connections[index].state == OffloadState::held) {
        return complete(index, wr.wr_id, wr.opcode, FLUE_INVALID_STATE, 0);
    }
    if (wr.sge_count != 1 || wr.sge[0].length < sizeof(flue_state)) {
        return complete(index, wr.wr_id, wr.opcode, FLUE_BAD_LENGTH, sizeof(flue_state));
    }
    const auto range = queues[connections[index].queue].queue->regions().resolve(wr.sge[0]);
    if (!range) {
        return complete(index, wr.wr_id, wr.opcode, FLUE_BAD_REGION, 0);
    }
    flue_state block;
    tcp::Delegated state;
    engine.snapshot(now, index, state);
    write_constant_and_cached(flows[index], engine.parameters(index), block);
    write_delegated(state,
                    engine.send_backlog(index),
                    engine.readable(index),
                    block,
                    std::bit_ceil(wanted_backlog(index)));
    std::memcpy(range->data, &block, sizeof(block));
    complete(index, wr.wr_id, wr.opcode, FLUE_SUCCESS, sizeof(block));
}

}  // namespace flue::chimney
