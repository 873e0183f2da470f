#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>

#include "chimney/impl.hpp"

// OFFLOAD of a tree.  Spec: contract 1.1, 2.1, R1 to R5, R23

namespace flue::chimney {

/// A tree on its way: the blocks as they were when they were copied, and where they lie.
struct Chimney::Impl::TreeWalk {
    Instant now;
    QueueIndex slot;
    std::byte* base;  ///< of the host's memory
    uint64_t bytes;
    uint16_t block_count = 0;  ///< that fit; which of them are blocks the links say
    uint64_t visited     = 0;  ///< bit i: block i belongs to the tree
    uint32_t failed      = 0;  ///< blocks of the tree that did not get SUCCESS
    uint32_t fresh_count = 0;
    std::array<flue_block, FLUE_TREE_BLOCKS_MAX> blocks{};
    std::array<ConnIndex, FLUE_TREE_BLOCKS_MAX> fresh{};  ///< connections offloaded

    template <typename State>
    [[nodiscard]] std::optional<State> read(uint32_t offset) const {
        if (uint64_t{offset} + sizeof(State) > bytes) {
            return std::nullopt;
        }
        State state;
        std::memcpy(&state, base + offset, sizeof(state));
        return state;
    }
};

namespace {

constexpr uint16_t no_block = FLUE_NO_BLOCK;

static_assert(FLUE_TREE_BLOCKS_MAX <= 64, "a bit of `visited` for each");

bool has_legal_fields(const flue_block& block) {
    const bool is_new_connection = block.object == FLUE_CONNECTION && block.kind == FLUE_BLOCK_NEW;
    const uint8_t known_flags    = is_new_connection ? FLUE_WR_KEEP_TIME_WAIT : 0;
    return block.object <= FLUE_NEIGHBOR && block.kind <= FLUE_BLOCK_NEW &&
           (block.wr_flags & ~known_flags) == 0 &&
           (block.object != FLUE_CONNECTION || block.dependents == no_block);
}

bool is_offloaded(uint8_t status) {
    return status == FLUE_SUCCESS || status == FLUE_PARTIAL_SUCCESS;
}

/// Zero says nothing: the neighbor's is taken.
bool agrees(const wire::MacAddress& own, const wire::MacAddress& of_neighbor) {
    return own == wire::MacAddress{} || own == of_neighbor;
}

}  // namespace

/// visit marks the blocks that the links reach and returns whether they make a tree: every block is
/// there, stands in one place only, and is of the kind that this place takes.  A tree is three
/// levels deep, so this is as well.
bool Chimney::Impl::visit(TreeWalk& walk, uint16_t first, uint8_t object) {
    bool is_tree = true;
    for (uint16_t i = first; i != no_block; i = walk.blocks[i].next) {
        if (i >= walk.block_count || (walk.visited >> i & 1) != 0) {
            return false;
        }
        walk.visited |= uint64_t{1} << i;
        const flue_block& block = walk.blocks[i];
        if (block.object != object || !has_legal_fields(block)) {
            is_tree = false;
        } else if (object != FLUE_CONNECTION) {
            is_tree = visit(walk, block.dependents, static_cast<uint8_t>(object - 1)) && is_tree;
        }
    }
    return is_tree;
}

void Chimney::Impl::offload_tree(Instant now, QueueIndex slot, const flue_wr& wr) {
    if (wr.sge_count != 1 || wr.flags != 0) {
        return answer(slot, wr, FLUE_BAD_REQUEST);
    }
    if (wr.conn >> 56 != options.worker) {
        return answer(slot, wr, FLUE_BAD_CONNECTION);
    }
    if (wr.sge[0].length < sizeof(flue_block)) {
        return answer(slot, wr, FLUE_BAD_LENGTH, sizeof(flue_block));
    }
    const auto range = queues[slot].queue->regions().resolve(wr.sge[0]);
    if (!range) {
        return answer(slot, wr, FLUE_BAD_REGION);
    }
    TreeWalk walk{.now = now, .slot = slot, .base = range->data, .bytes = wr.sge[0].length};
    walk.block_count = static_cast<uint16_t>(
        std::min<uint64_t>(walk.bytes / sizeof(flue_block), FLUE_TREE_BLOCKS_MAX));
    std::memcpy(walk.blocks.data(), walk.base, walk.block_count * sizeof(flue_block));
    const flue_block& root = walk.blocks[0];
    const bool is_tree     = visit(walk, 0, root.object) && root.next == no_block;
    queues[slot].blocks_walked += static_cast<uint32_t>(std::popcount(walk.visited));
    if (!is_tree) {
        refuse_tree(walk);
        return answer(slot, wr, FLUE_BAD_REQUEST);
    }
    (void)walk_siblings(walk, 0, no_node);
    finish_tree(walk, wr);
}

void Chimney::Impl::refuse_tree(TreeWalk& walk) {
    for (uint16_t i = 0; i < walk.block_count; ++i) {
        if ((walk.visited >> i & 1) != 0) {
            walk.blocks[i].status = FLUE_BAD_REQUEST;
            write_block(walk, i);
        }
    }
}

void Chimney::Impl::finish_tree(const TreeWalk& walk, const flue_wr& wr) {
    const flue_block& root = walk.blocks[0];
    uint8_t status         = root.status;
    if (is_offloaded(status)) {
        status = walk.failed == 0 ? FLUE_SUCCESS : FLUE_PARTIAL_SUCCESS;
    }
    post(queues[walk.slot],
         {.wr_id       = wr.wr_id,
          .conn        = wr.conn,
          .host_handle = wr.host_handle,
          .bytes       = 0,
          .opcode      = wr.opcode,
          .status      = status,
          .info        = static_cast<uint16_t>(root.info)});
    for (uint32_t i = 0; i < walk.fresh_count; ++i) {
        environment.replay_held(walk.fresh[i]);  // R24: after the completion
    }
}

// ---------------------------------------------------------------- the walk

/// Depth first, then along siblings (R1).  Returns how the siblings did.
Chimney::Impl::Tally Chimney::Impl::walk_siblings(TreeWalk& walk,
                                                  uint16_t first,
                                                  NodeIndex parent) {
    Tally tally;
    for (uint16_t i = first; i != no_block; i = walk.blocks[i].next) {
        flue_block& block = walk.blocks[i];
        NodeIndex node    = no_node;
        block.info        = 0;
        block.status      = static_cast<uint8_t>(offload_block(walk, block, parent, node));
        if (block.status == FLUE_SUCCESS) {
            note_dependents(block, walk_siblings(walk, block.dependents, node));
        } else {
            fail_dependents(walk, block.dependents);
        }
        write_block(walk, i);
        ++tally.count;
        tally.offloaded += is_offloaded(block.status) ? 1U : 0U;
        walk.failed += block.status != FLUE_SUCCESS ? 1 : 0;
    }
    return tally;
}

/// Spec: R3, R4
void Chimney::Impl::note_dependents(flue_block& block, const Tally& tally) {
    if (block.kind == FLUE_BLOCK_PLACEHOLDER || tally.offloaded == tally.count) {
        return;
    }
    const bool none = tally.offloaded == 0 && block.kind == FLUE_BLOCK_LINKER;
    block.status    = none ? FLUE_FAILURE : FLUE_PARTIAL_SUCCESS;
}

/// What hangs on an object that is not there fails, placeholders excepted.
void Chimney::Impl::fail_dependents(TreeWalk& walk, uint16_t first) {
    for (uint16_t i = first; i != no_block; i = walk.blocks[i].next) {
        flue_block& block = walk.blocks[i];
        block.info        = 0;
        block.status      = block.kind == FLUE_BLOCK_PLACEHOLDER ? FLUE_SUCCESS : FLUE_FAILURE;
        walk.failed += block.status != FLUE_SUCCESS ? 1 : 0;
        write_block(walk, i);
        fail_dependents(walk, block.dependents);
    }
}

/// write_block writes what is the target's to write (R2, R8); a handle only for what was offloaded
/// now (R5).
void Chimney::Impl::write_block(const TreeWalk& walk, uint16_t i) {
    const flue_block& block = walk.blocks[i];
    std::byte* out          = walk.base + i * sizeof(flue_block);
    std::memcpy(out + offsetof(flue_block, status), &block.status, sizeof(block.status));
    std::memcpy(out + offsetof(flue_block, info), &block.info, sizeof(block.info));
    if (block.kind == FLUE_BLOCK_NEW && is_offloaded(block.status)) {
        std::memcpy(out + offsetof(flue_block, handle), &block.handle, sizeof(block.handle));
    }
}

// ---------------------------------------------------------------- blocks

flue_status Chimney::Impl::offload_block(TreeWalk& walk,
                                         flue_block& block,
                                         NodeIndex parent,
                                         NodeIndex& node) {
    if (block.kind == FLUE_BLOCK_PLACEHOLDER) {
        return FLUE_SUCCESS;
    }
    if (block.kind == FLUE_BLOCK_LINKER) {
        return find_linked(walk, block, parent, node);
    }
    if (!may_depend_on(parent)) {
        return FLUE_INVALID_STATE;
    }
    if (block.object == FLUE_CONNECTION) {
        return offload_connection(walk, block, parent);
    }
    const auto made = block.object == FLUE_PATH ? offload_path(walk, block, parent)
                                                : offload_neighbor(walk, block);
    if (!made.ok()) {
        return made.error();
    }
    node         = made.value();
    block.handle = handle_of_node(node);
    return FLUE_SUCCESS;
}

/// A linker stands below what it hangs on already, or below nothing.
flue_status Chimney::Impl::find_linked(const TreeWalk& walk,
                                       const flue_block& block,
                                       NodeIndex parent,
                                       NodeIndex& node) const {
    NodeIndex hangs_on = no_node;
    if (block.object == FLUE_CONNECTION) {
        const ConnIndex index = find(walk.slot, block.handle);
        if (index == tcp::no_conn) {
            return FLUE_BAD_CONNECTION;
        }
        if (connections[index].state == OffloadState::held) {
            return FLUE_INVALID_STATE;
        }
        hangs_on = path_links[index].path;
    } else {
        node = find_node(walk.slot, block.handle, block.object);
        if (node == no_node) {
            return FLUE_BAD_CONNECTION;
        }
        hangs_on = nodes[node].neighbor;
    }
    return parent == no_node || parent == hangs_on ? FLUE_SUCCESS : FLUE_BAD_REQUEST;
}

Result<NodeIndex, flue_status> Chimney::Impl::offload_neighbor(const TreeWalk& walk,
                                                               const flue_block& block) {
    const auto state = walk.read<flue_neighbor_state>(block.state_offset);
    if (!state) {
        return FLUE_BAD_LENGTH;
    }
    const auto fields = read_neighbor(*state);
    if (!fields.ok()) {
        return fields.error();
    }
    const NeighborFields& given = fields.value();
    flue_status status          = check_link(given.source_mac, given.vlan_id, 0);
    status = status == FLUE_SUCCESS ? may_have_another(walk.slot, FLUE_NEIGHBOR) : status;
    if (status != FLUE_SUCCESS) {
        return status;
    }
    const NodeIndex index    = new_node(walk.slot, FLUE_NEIGHBOR, block.host_handle);
    Node& neighbor           = nodes[index];
    neighbor.source_mac      = given.source_mac;
    neighbor.next_hop_mac    = given.next_hop_mac;
    neighbor.vlan_id         = given.vlan_id;
    neighbor.host_heard_us   = heard_at(walk.now, given.host_heard_ago_ms);
    neighbor.target_heard_us = heard_at(walk.now, given.target_heard_ago_ms);
    return index;
}

Result<NodeIndex, flue_status> Chimney::Impl::offload_path(const TreeWalk& walk,
                                                           const flue_block& block,
                                                           NodeIndex parent) {
    const auto state = walk.read<flue_path_state>(block.state_offset);
    if (!state) {
        return FLUE_BAD_LENGTH;
    }
    const auto fields = read_path(*state);
    if (!fields.ok()) {
        return fields.error();
    }
    const PathFields& given = fields.value();
    flue_status status      = check_link_through(parent, given.path_mtu);
    status = status == FLUE_SUCCESS ? may_have_another(walk.slot, FLUE_PATH) : status;
    if (status != FLUE_SUCCESS) {
        return status;
    }
    const NodeIndex index = new_node(walk.slot, FLUE_PATH, block.host_handle);
    Node& path            = nodes[index];
    path.family           = given.family;
    path.local            = given.local;
    path.remote           = given.remote;
    path.path_mtu         = given.path_mtu;
    if (parent != no_node) {
        join_neighbor(index, parent);
    }
    return index;
}

/// hangs_together: a connection's own words about its way do not contradict those of its path and
/// neighbor.
bool Chimney::Impl::hangs_together(const wire::FlowHeader& flow, NodeIndex index) const {
    const Node& path = nodes[index];
    if (flow.key.family != path.family || flow.key.local != path.local ||
        flow.key.remote != path.remote || flow.path_mtu != path.path_mtu) {
        return false;
    }
    if (path.neighbor == no_node) {
        return true;
    }
    const Node& neighbor = nodes[path.neighbor];
    return agrees(flow.source_mac, neighbor.source_mac) &&
           agrees(flow.next_hop_mac, neighbor.next_hop_mac) &&
           (flow.vlan_id == 0 || flow.vlan_id == neighbor.vlan_id);
}

flue_status Chimney::Impl::offload_connection(TreeWalk& walk, flue_block& block, NodeIndex path) {
    const auto state = walk.read<flue_state>(block.state_offset);
    if (!state) {
        return FLUE_BAD_LENGTH;
    }
    auto read = read_state_block(*state, options.rcv_wnd_limit);
    if (!read.ok()) {
        return read.error();
    }
    StateBlock& given = read.value();
    if (path != no_node) {
        if (!hangs_together(given.flow, path)) {
            return FLUE_BAD_STATE;
        }
        take_from_path(nodes[path], given.flow);
    }
    const uint64_t backlog_at = uint64_t{block.state_offset} + sizeof(flue_state);
    if (backlog_at + given.receive_backlog_bytes > walk.bytes) {
        return FLUE_BAD_LENGTH;
    }
    flue_wr wr{};
    wr.conn          = block.handle;
    wr.opcode        = FLUE_OP_OFFLOAD;
    wr.flags         = block.wr_flags;
    wr.host_handle   = block.host_handle;
    uint16_t owner   = 0;
    const auto taken = offload_one(walk.now,
                                   walk.slot,
                                   wr,
                                   given,
                                   {walk.base + backlog_at, given.receive_backlog_bytes},
                                   owner);
    if (!taken.ok()) {
        block.info = owner;
        return taken.error();
    }
    if (path != no_node) {
        join_path(taken.value(), path);
    }
    walk.fresh[walk.fresh_count++] = taken.value();
    block.handle                   = handle_of(taken.value());
    return FLUE_SUCCESS;
}

}  // namespace flue::chimney
