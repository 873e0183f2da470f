#include <algorithm>
#include <cstring>

#include "chimney/impl.hpp"

// UPDATE, INVALIDATE and QUERY of paths and neighbors.  What changes goes to the dependents in a
// sweep, some of them a turn; the request completes when all have it.  A neighbor's sweep starts
// one of each of its paths; a path's brings its connections up to date with both, so that it may be
// started again at any time.

namespace flue::chimney {

namespace {

constexpr uint32_t dependents_per_advance = 64;

template <typename State>
Result<State, flue_status> read_state(const queue::Regions& regions, const flue_sge& sge) {
    if (sge.length < sizeof(State)) {
        return FLUE_BAD_LENGTH;
    }
    const auto range = regions.resolve(sge);
    if (!range) {
        return FLUE_BAD_REGION;
    }
    State state;
    std::memcpy(&state, range->data, sizeof(state));
    return state;
}

flue_status check_shape(const flue_wr& wr, uint32_t sge_count) {
    return wr.sge_count == sge_count ? FLUE_SUCCESS : FLUE_BAD_REQUEST;
}

}  // namespace

// ---------------------------------------------------------------- requests

flue_status Chimney::Impl::update_node(Instant now, NodeIndex index, const flue_wr& wr) {
    const Node& node = nodes[index];
    if (const flue_status status = check_shape(wr, 1); status != FLUE_SUCCESS) {
        return status;
    }
    if (is_busy(index) || (node.flags & (node_invalid | node_terminating)) != 0) {
        return FLUE_INVALID_STATE;
    }
    const auto changed = node.object == FLUE_PATH ? update_path(index, wr.sge[0])
                                                  : update_neighbor(now, index, wr.sge[0]);
    if (!changed.ok()) {
        return changed.error();
    }
    if (changed.value()) {
        start_sweep(index, wr);
    } else {
        complete_node(index, wr.wr_id, wr.opcode, FLUE_SUCCESS, 0);
    }
    return FLUE_SUCCESS;
}

Result<bool, flue_status> Chimney::Impl::update_path(NodeIndex index, const flue_sge& sge) {
    Node& path       = nodes[index];
    const auto state = read_state<flue_path_state>(queues[path.queue].queue->regions(), sge);
    if (!state.ok()) {
        return state.error();
    }
    flue_path_state cached = state.value();  // constants stay what they are.  R28
    cached.family          = static_cast<uint8_t>(path.family);
    std::ranges::copy(path.local, cached.local_addr);
    std::ranges::copy(path.remote, cached.remote_addr);
    const auto fields = read_path(cached);
    if (!fields.ok()) {
        return fields.error();
    }
    NodeIndex neighbor = path.neighbor;
    if (fields.value().neighbor != 0) {
        neighbor = find_node(path.queue, fields.value().neighbor, FLUE_NEIGHBOR);
        if (neighbor == no_node) {
            return FLUE_BAD_CONNECTION;
        }
    }
    const bool moves = neighbor != path.neighbor;
    if (moves && !may_depend_on(neighbor)) {
        return FLUE_INVALID_STATE;
    }
    const flue_status link = check_link_through(neighbor, fields.value().path_mtu);
    if (link != FLUE_SUCCESS) {
        return link;
    }
    const bool changed = moves || path.path_mtu != fields.value().path_mtu;
    path.path_mtu      = fields.value().path_mtu;
    if (moves) {
        move_path(index, neighbor);
    }
    return changed;
}

void Chimney::Impl::move_path(NodeIndex path, NodeIndex to) {
    const NodeIndex from = nodes[path].neighbor;
    if (from != no_node) {
        leave_neighbor(path);
    }
    join_neighbor(path, to);
    if (from != no_node) {
        settle_node(from);
    }
}

Result<bool, flue_status> Chimney::Impl::update_neighbor(Instant now,
                                                         NodeIndex index,
                                                         const flue_sge& sge) {
    Node& neighbor = nodes[index];
    const auto state =
        read_state<flue_neighbor_state>(queues[neighbor.queue].queue->regions(), sge);
    if (!state.ok()) {
        return state.error();
    }
    flue_neighbor_state cached = state.value();
    cached.vlan_id             = neighbor.vlan_id;  // constants stay what they are.  R28
    const auto fields          = read_neighbor(cached);
    if (!fields.ok()) {
        return fields.error();
    }
    const bool changed     = neighbor.next_hop_mac != fields.value().next_hop_mac;
    neighbor.next_hop_mac  = fields.value().next_hop_mac;
    neighbor.host_heard_us = heard_at(now, fields.value().host_heard_ago_ms);
    if (!is_stale(now, neighbor)) {
        neighbor.clear(node_asked);
    }
    return changed;
}

flue_status Chimney::Impl::invalidate_node(NodeIndex index, const flue_wr& wr) {
    if (const flue_status status = check_shape(wr, 0); status != FLUE_SUCCESS) {
        return status;
    }
    if (is_busy(index)) {
        return FLUE_INVALID_STATE;
    }
    nodes[index].set(node_invalid);
    start_sweep(index, wr);
    return FLUE_SUCCESS;
}

void Chimney::Impl::query_node(Instant now, NodeIndex index, const flue_wr& wr) {
    const Node& node        = nodes[index];
    const bool is_path      = node.object == FLUE_PATH;
    const uint32_t bytes    = is_path ? sizeof(flue_path_state) : sizeof(flue_neighbor_state);
    const auto refuse_query = [&](flue_status status) {
        complete_node(index, wr.wr_id, wr.opcode, status, bytes);
    };
    if (wr.sge_count != 1 || wr.sge[0].length < bytes) {
        return refuse_query(FLUE_BAD_LENGTH);
    }
    const auto range = queues[node.queue].queue->regions().resolve(wr.sge[0]);
    if (!range) {
        return refuse_query(FLUE_BAD_REGION);
    }
    if (is_path) {
        flue_path_state state{};
        state.version  = FLUE_STATE_VERSION;
        state.size     = sizeof(state);
        state.family   = static_cast<uint8_t>(node.family);
        state.path_mtu = node.path_mtu;
        state.neighbor = node.neighbor == no_node ? 0 : handle_of_node(node.neighbor);
        std::ranges::copy(node.local, state.local_addr);
        std::ranges::copy(node.remote, state.remote_addr);
        std::memcpy(range->data, &state, sizeof(state));
    } else {
        flue_neighbor_state state{};
        state.version              = FLUE_STATE_VERSION;
        state.size                 = sizeof(state);
        state.vlan_id              = node.vlan_id;
        state.host_reachability_ms = heard_ago_ms(now, node.host_heard_us);
        state.nic_reachability_ms  = heard_ago_ms(now, node.target_heard_us);
        std::ranges::copy(node.source_mac, state.source_mac);
        std::ranges::copy(node.next_hop_mac, state.next_hop_mac);
        std::memcpy(range->data, &state, sizeof(state));
    }
    complete_node(index, wr.wr_id, wr.opcode, FLUE_SUCCESS, bytes);
}

/// is_busy: an UPDATE or INVALIDATE of it, or one of its neighbor that it is part of, is under way.
bool Chimney::Impl::is_busy(NodeIndex index) const {
    const Node& node = nodes[index];
    return node.is(node_sweeping) ||
           (node.neighbor != no_node && nodes[node.neighbor].is(node_sweeping));
}

flue_status Chimney::Impl::check_link_through(NodeIndex neighbor, uint16_t path_mtu) const {
    if (neighbor == no_node) {
        return check_link({}, 0, path_mtu);
    }
    return check_link(nodes[neighbor].source_mac, nodes[neighbor].vlan_id, path_mtu);
}

// ---------------------------------------------------------------- sweeps

void Chimney::Impl::start_sweep(NodeIndex index, const flue_wr& wr) {
    Node& node = nodes[index];
    FLUE_ASSERT(!node.is(node_sweeping));
    node.sweep_id     = wr.wr_id;
    node.sweep_opcode = wr.opcode;
    sweep_again(index);
}

/// sweep_again starts at the first dependent, whether a sweep is under way or not.
void Chimney::Impl::sweep_again(NodeIndex index) {
    Node& node  = nodes[index];
    node.cursor = node.dependents;
    node.set(node_sweeping);
    if (!decltype(sweeping)::listed(node)) {
        sweeping.push_back(&nodes[0], index);
    }
}

void Chimney::Impl::run_sweeps(Instant now) {
    uint32_t budget = dependents_per_advance;
    while (budget > 0 && !sweeping.empty()) {
        const NodeIndex index = sweeping.pop_front(&nodes[0]);
        budget                = nodes[index].object == FLUE_PATH ? sweep_path(now, index, budget)
                                                                 : sweep_neighbor(index, budget);
        if (nodes[index].cursor != no_index) {
            sweeping.push_back(&nodes[0], index);
        } else {
            end_sweep(index);
        }
        budget -= budget > 0 ? 1 : 0;
    }
}

uint32_t Chimney::Impl::sweep_path(Instant now, NodeIndex index, uint32_t budget) {
    Node& path = nodes[index];
    while (path.cursor != no_index && budget > 0) {
        const ConnIndex dependent = path.cursor;
        path.cursor               = path_links[dependent].siblings.next;
        refresh(now, dependent);
        --budget;
    }
    return budget;
}

uint32_t Chimney::Impl::sweep_neighbor(NodeIndex index, uint32_t budget) {
    Node& neighbor = nodes[index];
    while (neighbor.cursor != no_index && budget > 0) {
        const NodeIndex dependent = neighbor.cursor;
        Node& path                = nodes[dependent];
        neighbor.cursor           = path.siblings.next;
        if (neighbor.is(node_invalid)) {
            path.set(node_invalid);
        }
        path.set(node_reports);
        ++neighbor.awaited;
        sweep_again(dependent);
        --budget;
    }
    return budget;
}

/// end_sweep completes the request behind a sweep, unless parts of it are still under way.
void Chimney::Impl::end_sweep(NodeIndex index) {
    Node& node = nodes[index];
    if (node.awaited > 0) {
        return;
    }
    node.clear(node_sweeping);
    if (node.sweep_opcode != 0) {
        const uint8_t opcode = node.sweep_opcode;
        node.sweep_opcode    = 0;
        complete_node(index, node.sweep_id, opcode, FLUE_SUCCESS, 0);
    }
    if (node.is(node_reports)) {
        node.clear(node_reports);
        Node& neighbor = nodes[node.neighbor];
        FLUE_ASSERT(neighbor.awaited > 0);
        --neighbor.awaited;
        if (neighbor.cursor == no_index && neighbor.awaited == 0) {
            end_sweep(node.neighbor);
        }
    }
    settle_node(index);
}

/// take_from_path gives a flow what its path and neighbor have for it.
void Chimney::Impl::take_from_path(const Node& path, wire::FlowHeader& flow) const {
    flow.path_mtu = path.path_mtu;
    if (path.neighbor != no_node) {
        const Node& neighbor = nodes[path.neighbor];
        flow.source_mac      = neighbor.source_mac;
        flow.next_hop_mac    = neighbor.next_hop_mac;
        flow.vlan_id         = neighbor.vlan_id;
    }
}

void Chimney::Impl::refresh(Instant now, ConnIndex index) {
    const Node& path        = nodes[path_links[index].path];
    wire::FlowHeader& flow  = flows[index];
    const uint16_t mtu_then = flow.path_mtu;
    take_from_path(path, flow);
    if (flow.path_mtu != mtu_then) {
        tcp::Parameters parameters = engine.parameters(index);
        parameters.mss             = payload_mss(flow.key.family, flow.path_mtu, flow.remote_mss);
        engine.update(now, index, parameters, 0);
    }
    if (path.is(node_invalid)) {
        stop_sending(index);
    }
}

}  // namespace flue::chimney
