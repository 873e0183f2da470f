#pragma once

#include "world.hpp"

namespace flue::chimney {

/// TreeBuilder lays a tree out in a World's memory, block by block, and has it offloaded.
class TreeBuilder {
  public:
    static constexpr uint64_t base         = 256 * 1024;
    static constexpr uint32_t states_after = FLUE_TREE_BLOCKS_MAX * sizeof(flue_block);
    static constexpr uint16_t root         = FLUE_NO_BLOCK;

    explicit TreeBuilder(World& world) : world_(world) {}

    static flue_neighbor_state neighbor_state() {
        flue_neighbor_state state{};
        state.version              = FLUE_STATE_VERSION;
        state.size                 = sizeof(state);
        state.vlan_id              = World::port_vlan;
        state.host_reachability_ms = UINT32_MAX;
        state.nic_reachability_ms  = UINT32_MAX;
        std::ranges::copy(World::port_mac, state.source_mac);
        state.next_hop_mac[5] = 0x42;
        return state;
    }

    static flue_path_state path_state() {
        const flue_state connection = World::state();
        flue_path_state state{};
        state.version  = FLUE_STATE_VERSION;
        state.size     = sizeof(state);
        state.family   = connection.family;
        state.path_mtu = connection.path_mtu;
        std::ranges::copy(connection.local_addr, state.local_addr);
        std::ranges::copy(connection.remote_addr, state.remote_addr);
        return state;
    }

    /// connection_state is one of the path's; each has a port of its own.
    static flue_state connection_state(uint16_t remote_port = 80) {
        return World::state(FLUE_TCP_ESTABLISHED, remote_port);
    }

    /// add appends a block below `parent` and returns its index.
    uint16_t add(uint16_t parent, uint8_t object, uint8_t kind) {
        const auto index = static_cast<uint16_t>(blocks.size());
        blocks.push_back({});
        blocks[index].object      = object;
        blocks[index].kind        = kind;
        blocks[index].status      = 0xee;
        blocks[index].info        = 0xeeeeeeee;
        blocks[index].next        = FLUE_NO_BLOCK;
        blocks[index].dependents  = FLUE_NO_BLOCK;
        blocks[index].host_handle = 1000u + index;
        std::ranges::fill(blocks[index].host_reserved, 0x5555);
        if (parent == root) {
            return index;
        }
        uint16_t* link = &blocks[parent].dependents;
        while (*link != FLUE_NO_BLOCK) {
            link = &blocks[*link].next;
        }
        *link = index;
        return index;
    }

    template <typename State>
    uint16_t add_new(uint16_t parent, uint8_t object, const State& state) {
        const uint16_t index       = add(parent, object, FLUE_BLOCK_NEW);
        blocks[index].state_offset = put(state);
        return index;
    }

    uint16_t neighbor(const flue_neighbor_state& state = neighbor_state()) {
        return add_new(root, FLUE_NEIGHBOR, state);
    }

    uint16_t path(uint16_t parent, const flue_path_state& state = path_state()) {
        return add_new(parent, FLUE_PATH, state);
    }

    uint16_t connection(uint16_t parent, flue_state state = connection_state()) {
        state.checksum = 0;
        state.checksum = crc32c(std::as_bytes(std::span(&state, 1)));
        return add_new(parent, FLUE_CONNECTION, state);
    }

    uint16_t linker(uint16_t parent, uint8_t object, uint64_t handle) {
        const uint16_t index = add(parent, object, FLUE_BLOCK_LINKER);
        blocks[index].handle = handle;
        return index;
    }

    /// put_bytes puts bytes behind the last state.
    void put_bytes(std::string_view bytes) {
        world_.put(bytes, base + states_after + states_bytes_);
        states_bytes_ += static_cast<uint32_t>(bytes.size());
    }

    flue_wr request(uint64_t wr_id = 1) {
        const uint32_t bytes = states_after + states_bytes_;
        flue_wr wr = World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, wr_id, world_.room(bytes, base));
        world_.put(std::as_bytes(std::span(blocks)), base);
        wr.object = FLUE_TREE;
        return wr;
    }

    /// offload posts the tree, runs, and reads the blocks back; returns the completion's status.
    uint8_t offload() {
        world_.post_and_run(request());
        completions = world_.poll();
        read_back();
        EXPECT_FALSE(completions.empty());
        return completions.empty() ? uint8_t{0xff} : completions.front().status;
    }

    void read_back() {
        const std::string bytes =
            world_.region_text(base, static_cast<uint32_t>(blocks.size() * sizeof(flue_block)));
        std::memcpy(blocks.data(), bytes.data(), bytes.size());
    }

    [[nodiscard]] uint64_t handle(uint16_t index) const { return blocks[index].handle; }

    [[nodiscard]] uint8_t status(uint16_t index) const { return blocks[index].status; }

    std::vector<flue_block> blocks;
    std::vector<flue_wc> completions;

  private:
    template <typename State>
    uint32_t put(const State& state) {
        const uint32_t offset = states_after + states_bytes_;
        put_bytes({reinterpret_cast<const char*>(&state), sizeof(state)});
        return offset;
    }

    World& world_;
    uint32_t states_bytes_ = 0;
};

/// A neighbor, a path and connections that were offloaded with them.
struct Family {
    explicit Family(World& world_in, uint16_t connection_count = 1) : world(world_in) {
        TreeBuilder tree(world);
        const uint16_t neighbor_block = tree.neighbor();
        const uint16_t path_block     = tree.path(neighbor_block);
        for (uint16_t i = 0; i < std::min<uint16_t>(connection_count, 50); ++i) {
            tree.connection(path_block, TreeBuilder::connection_state(80 + i));
        }
        EXPECT_EQ(tree.offload(), FLUE_SUCCESS);
        neighbor = tree.handle(neighbor_block);
        path     = tree.handle(path_block);
        for (uint16_t i = 2; i < tree.blocks.size(); ++i) {
            connections.push_back(tree.handle(i));
        }
        while (connections.size() < connection_count) {
            add_connections(connection_count);
        }
    }

    /// add_connections hangs more connections on the path, up to `count`, by a tree of their own.
    void add_connections(uint16_t count) {
        TreeBuilder tree(world);
        const uint16_t linked = tree.linker(TreeBuilder::root, FLUE_PATH, path);
        for (size_t i = connections.size(); i < count && tree.blocks.size() < 60; ++i) {
            tree.connection(linked, TreeBuilder::connection_state(static_cast<uint16_t>(80 + i)));
        }
        ASSERT_EQ(tree.offload(), FLUE_SUCCESS);
        for (uint16_t i = 1; i < tree.blocks.size(); ++i) {
            connections.push_back(tree.handle(i));
        }
    }

    static flue_wr request(uint8_t opcode, uint8_t object, flue_conn handle, uint64_t wr_id) {
        flue_wr wr = World::request(opcode, handle, wr_id);
        wr.object  = object;
        return wr;
    }

    template <typename State>
    flue_wr update(flue_conn handle, uint8_t object, const State& state, uint64_t wr_id = 20) {
        flue_wr wr   = request(FLUE_OP_UPDATE, object, handle, wr_id);
        wr.sge_count = 1;
        wr.sge[0]    = world.put(std::as_bytes(std::span(&state, 1)), 700 * 1024 + wr_id * 64);
        return wr;
    }

    template <typename State>
    State query(flue_conn handle, uint8_t object) {
        flue_wr wr   = request(FLUE_OP_QUERY, object, handle, 21);
        wr.sge_count = 1;
        wr.sge[0]    = world.room(sizeof(State), 4096);
        world.post_and_run(wr);
        const flue_wc wc = world.poll_one();
        EXPECT_EQ(wc.status, FLUE_SUCCESS);
        EXPECT_EQ(wc.bytes, sizeof(State));
        State state;
        std::memcpy(&state, world.region_text(4096, sizeof(State)).data(), sizeof(State));
        return state;
    }

    /// answer posts a request and returns the status of its completion, the first one.
    uint8_t answer(const flue_wr& wr) {
        world.post_and_run(wr);
        const auto all = world.poll();
        EXPECT_FALSE(all.empty());
        return all.empty() ? uint8_t{0xff} : all.front().status;
    }

    uint8_t terminate(flue_conn handle, uint8_t object) {
        return answer(request(FLUE_OP_TERMINATE, object, handle, 22));
    }

    /// terminate_all ends everything from the leaves on.
    void terminate_all() {
        for (const flue_conn conn : connections) {
            world.post_and_run(world.terminate_request(conn, 23));
            const auto all = world.poll();
            ASSERT_FALSE(all.empty());
            EXPECT_EQ(all.back().status, FLUE_SUCCESS);
        }
        EXPECT_EQ(terminate(path, FLUE_PATH), FLUE_SUCCESS);
        EXPECT_EQ(terminate(neighbor, FLUE_NEIGHBOR), FLUE_SUCCESS);
        world.expect_nothing_left();
    }

    World& world;
    flue_conn neighbor = 0;
    flue_conn path     = 0;
    std::vector<flue_conn> connections;
};

}  // namespace flue::chimney
