#include "chimney/nodes.hpp"

#include <algorithm>
#include <cstring>

#include "chimney/impl.hpp"

// Paths and neighbors as objects: taken and freed, and who hangs on whom.

namespace flue::chimney {

namespace {

constexpr uint32_t nodes_per_advance = 64;

bool has_padding_only(wire::Family family, const uint8_t (&address)[16]) {
    const auto is_zero = [](uint8_t byte) { return byte == 0; };
    return family == wire::Family::ipv6 || std::all_of(address + 4, address + 16, is_zero);
}

}  // namespace

Result<PathFields, flue_status> read_path(const flue_path_state& state) {
    const auto family      = static_cast<wire::Family>(state.family);
    const bool is_known    = family == wire::Family::ipv4 || family == wire::Family::ipv6;
    const bool is_readable = state.version == FLUE_STATE_VERSION && state.size == sizeof(state);
    if (!is_readable || !is_known || !has_padding_only(family, state.local_addr) ||
        !has_padding_only(family, state.remote_addr) || state.path_mtu < path_mtu_min(family)) {
        return FLUE_BAD_STATE;
    }
    PathFields fields{.family = family, .path_mtu = state.path_mtu, .neighbor = state.neighbor};
    std::ranges::copy(state.local_addr, fields.local.begin());
    std::ranges::copy(state.remote_addr, fields.remote.begin());
    return fields;
}

Result<NeighborFields, flue_status> read_neighbor(const flue_neighbor_state& state) {
    if (state.version != FLUE_STATE_VERSION || state.size != sizeof(state) ||
        state.vlan_id >= 4095) {
        return FLUE_BAD_STATE;
    }
    NeighborFields fields{.vlan_id             = state.vlan_id,
                          .host_heard_ago_ms   = state.host_reachability_ms,
                          .target_heard_ago_ms = state.nic_reachability_ms};
    std::ranges::copy(state.source_mac, fields.source_mac.begin());
    std::ranges::copy(state.next_hop_mac, fields.next_hop_mac.begin());
    return fields;
}

uint32_t heard_ago_ms(Instant now, int64_t heard_us) {
    if (heard_us == never_heard) {
        return UINT32_MAX;
    }
    const int64_t ago_ms = (static_cast<int64_t>(now.us) - heard_us) / 1000;
    return static_cast<uint32_t>(std::clamp<int64_t>(ago_ms, 0, UINT32_MAX));
}

int64_t heard_at(Instant now, uint32_t ago_ms) {
    return ago_ms == UINT32_MAX ? never_heard
                                : static_cast<int64_t>(now.us) - int64_t{ago_ms} * 1000;
}

// ---------------------------------------------------------------- taken and freed

flue_conn Chimney::Impl::handle_of_node(NodeIndex index) const {
    return FLUE_ON_WORKER(options.worker) | (uint64_t{nodes[index].generation} << index_bits) |
           (connections.capacity() + index);
}

NodeIndex Chimney::Impl::find_node(QueueIndex slot, flue_conn handle, uint8_t object) const {
    const auto number     = static_cast<uint32_t>(handle & ((1u << index_bits) - 1));
    const NodeIndex index = number - connections.capacity();
    if (number < connections.capacity() || index >= nodes.capacity()) {
        return no_node;
    }
    const Node& node  = nodes[index];
    const bool is_his = node.object == object && node.queue == slot;
    return is_his && handle_of_node(index) == handle ? index : no_node;
}

flue_status Chimney::Impl::may_have_another(QueueIndex slot, uint8_t object) const {
    const queue::SessionShare& share = queues[slot].queue->share();
    if (object == FLUE_PATH) {
        return path_pool.room(share.paths) > 0 ? FLUE_SUCCESS : FLUE_PATH_ENTRIES;
    }
    return neighbor_pool.room(share.neighbors) > 0 ? FLUE_SUCCESS : FLUE_NEIGHBOR_ENTRIES;
}

void Chimney::Impl::count_node(const Node& node, bool taken) {
    queue::SessionShare& share = queues[node.queue].queue->share();
    const bool is_path         = node.object == FLUE_PATH;
    SharedPool& pool           = is_path ? path_pool : neighbor_pool;
    SharedPool::Part& part     = is_path ? share.paths : share.neighbors;
    taken ? pool.take(part, 1) : pool.give(part, 1);
}

uint32_t& Chimney::Impl::list_of_node(const Node& node) {
    QueueSlot& slot = queues[node.queue];
    return node.object == FLUE_PATH ? slot.paths : slot.neighbors;
}

NodeIndex Chimney::Impl::new_node(QueueIndex slot, uint8_t object, uint64_t host_handle) {
    FLUE_ASSERT(may_have_another(slot, object) == FLUE_SUCCESS);
    const NodeIndex index = nodes.take();
    Node& node            = nodes[index];
    Node fresh;
    fresh.generation  = node.generation == UINT32_MAX ? 1 : node.generation + 1;
    fresh.next_asking = node.next_asking;  // the place on that list outlives the object
    fresh.host_handle = host_handle;
    fresh.queue       = slot;
    fresh.object      = object;
    node              = fresh;
    count_node(node, true);
    push_link(
        list_of_node(node), index, [&](uint32_t i) -> ListLink& { return nodes[i].of_queue; });
    return index;
}

void Chimney::Impl::free_node(NodeIndex index) {
    Node& node = nodes[index];
    FLUE_ASSERT(node.object != FLUE_CONNECTION);
    FLUE_ASSERT(node.dependents == no_index && !node.is(node_sweeping));
    const NodeIndex neighbor = node.neighbor;
    if (neighbor != no_node) {
        leave_neighbor(index);
    }
    remove_link(
        list_of_node(node), index, [&](uint32_t i) -> ListLink& { return nodes[i].of_queue; });
    count_node(node, false);
    node.object = FLUE_CONNECTION;
    node.flags  = 0;
    nodes.give(index);
    if (neighbor != no_node) {
        settle_node(neighbor);
    }
}

/// A lost host's paths and neighbors go when its connections are gone.
void Chimney::Impl::free_nodes_of(QueueIndex slot_index) {
    const QueueSlot& slot = queues[slot_index];
    if (slot.connections != tcp::no_conn) {
        return;
    }
    for (uint32_t i = 0; i < nodes_per_advance; ++i) {
        const NodeIndex next = slot.paths != no_node ? slot.paths : slot.neighbors;
        if (next == no_node || nodes[next].is(node_sweeping)) {
            return;
        }
        nodes[next].clear(node_terminating);  // nobody is left to be told
        free_node(next);
    }
}

// ---------------------------------------------------------------- who hangs on whom

bool Chimney::Impl::may_depend_on(NodeIndex index) const {
    return index == no_node || (nodes[index].flags & (node_terminating | node_invalid)) == 0;
}

void Chimney::Impl::join_neighbor(NodeIndex path, NodeIndex neighbor) {
    FLUE_ASSERT(nodes[neighbor].object == FLUE_NEIGHBOR);
    nodes[path].neighbor = neighbor;
    push_link(nodes[neighbor].dependents, path, [&](uint32_t i) -> ListLink& {
        return nodes[i].siblings;
    });
}

void Chimney::Impl::leave_neighbor(NodeIndex path) {
    Node& neighbor = nodes[nodes[path].neighbor];
    if (neighbor.cursor == path) {
        neighbor.cursor = nodes[path].siblings.next;
    }
    remove_link(
        neighbor.dependents, path, [&](uint32_t i) -> ListLink& { return nodes[i].siblings; });
    nodes[path].neighbor = no_node;
}

void Chimney::Impl::join_path(ConnIndex index, NodeIndex path) {
    FLUE_ASSERT(nodes[path].object == FLUE_PATH);
    FLUE_ASSERT(path_links[index].path == no_node);
    path_links[index].path = path;
    connections[index].flags |= flag_on_path;
    push_link(nodes[path].dependents, index, [&](uint32_t i) -> ListLink& {
        return path_links[i].siblings;
    });
}

void Chimney::Impl::leave_path(ConnIndex index) {
    const NodeIndex path = path_links[index].path;
    if (path == no_node) {
        return;
    }
    Node& node = nodes[path];
    if (node.cursor == index) {
        node.cursor = path_links[index].siblings.next;
    }
    remove_link(
        node.dependents, index, [&](uint32_t i) -> ListLink& { return path_links[i].siblings; });
    path_links[index].path = no_node;
    connections[index].flags &= static_cast<uint16_t>(~flag_on_path);
    settle_node(path);
}

// ---------------------------------------------------------------- requests

void Chimney::Impl::complete_node(
    NodeIndex index, uint64_t wr_id, uint8_t opcode, flue_status status, uint32_t bytes) {
    const Node& node = nodes[index];
    QueueSlot& slot  = queues[node.queue];
    if (slot.lost) {
        return;
    }
    post(slot,
         {.wr_id       = wr_id,
          .conn        = handle_of_node(index),
          .host_handle = node.host_handle,
          .bytes       = bytes,
          .opcode      = opcode,
          .status      = static_cast<uint8_t>(status),
          .info        = 0});
}

void Chimney::Impl::terminate_node(NodeIndex index, const flue_wr& wr) {
    Node& node = nodes[index];
    if (wr.sge_count != 0) {
        return complete_node(index, wr.wr_id, wr.opcode, FLUE_BAD_REQUEST, 0);
    }
    if (node.is(node_terminating)) {
        return complete_node(index, wr.wr_id, wr.opcode, FLUE_INVALID_STATE, 0);
    }
    node.set(node_terminating);
    node.terminate_id = wr.wr_id;
    settle_node(index);
}

/// Spec: R112, R113
void Chimney::Impl::settle_node(NodeIndex index) {
    const Node& node = nodes[index];
    if (node.is(node_terminating) && node.dependents == no_index && !node.is(node_sweeping)) {
        complete_node(index, node.terminate_id, FLUE_OP_TERMINATE, FLUE_SUCCESS, 0);
        free_node(index);
    }
}

void Chimney::Impl::carry_out_on_object(Instant now, QueueIndex slot, const flue_wr& wr) {
    if (wr.object == FLUE_TREE) {
        return wr.opcode == FLUE_OP_OFFLOAD ? offload_tree(now, slot, wr)
                                            : answer(slot, wr, FLUE_BAD_REQUEST);
    }
    if (wr.flags != 0) {
        return answer(slot, wr, FLUE_BAD_REQUEST);
    }
    const NodeIndex index = find_node(slot, wr.conn, wr.object);
    switch (wr.opcode) {
        case FLUE_OP_TERMINATE:
        case FLUE_OP_QUERY:
        case FLUE_OP_UPDATE:
        case FLUE_OP_INVALIDATE:
            break;
        default:
            return answer(slot, wr, FLUE_BAD_REQUEST);
    }
    if (index == no_node) {
        return answer(slot, wr, FLUE_BAD_CONNECTION);
    }
    if (wr.opcode == FLUE_OP_TERMINATE) {
        return terminate_node(index, wr);
    }
    if (wr.opcode == FLUE_OP_QUERY) {
        return query_node(now, index, wr);
    }
    const flue_status status =
        wr.opcode == FLUE_OP_UPDATE ? update_node(now, index, wr) : invalidate_node(index, wr);
    if (status != FLUE_SUCCESS) {
        complete_node(index, wr.wr_id, wr.opcode, status, 0);
    }
}

}  // namespace flue::chimney
