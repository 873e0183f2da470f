#include "tree_builder.hpp"

namespace flue::chimney {

using namespace wire;

namespace {

constexpr uint16_t root = TreeBuilder::root;

void send(World& world, flue_conn conn, std::string_view text) {
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 80, world.put(text, 65536)));
}

}  // namespace

TEST(Tree, R1_R5_everything_of_a_tree_is_offloaded_and_gets_a_handle) {
    World world;
    TreeBuilder tree(world);
    const uint16_t neighbor = tree.neighbor();
    const uint16_t path     = tree.path(neighbor);
    tree.connection(path, TreeBuilder::connection_state(80));
    tree.connection(path, TreeBuilder::connection_state(81));
    EXPECT_EQ(tree.offload(), FLUE_SUCCESS);
    ASSERT_EQ(tree.completions.size(), 1u);
    std::vector<uint64_t> handles;
    for (const flue_block& block : tree.blocks) {
        EXPECT_EQ(block.status, FLUE_SUCCESS);
        EXPECT_EQ(block.info, 0u);
        EXPECT_NE(block.handle, 0u);
        EXPECT_EQ(std::ranges::count(handles, block.handle), 0);
        handles.push_back(block.handle);
    }
    EXPECT_EQ(world.flow_count(), 2u);
    send(world, handles[2], "x");
    const auto sent = world.take_sent();
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].flow.next_hop_mac[5], 0x42) << "the neighbor's";
    EXPECT_EQ(sent[0].flow.source_mac, World::port_mac);
    EXPECT_EQ(sent[0].flow.vlan_id, World::port_vlan);
}

TEST(Tree, R1_depth_first_then_along_siblings) {
    Options options                = World::options();
    options.tcp.limits.connections = 2;
    World world(256, options);
    TreeBuilder tree(world);
    const uint16_t neighbor = tree.neighbor();
    const uint16_t first    = tree.path(neighbor);
    const uint16_t second   = tree.path(neighbor);
    const uint16_t c        = tree.connection(second, TreeBuilder::connection_state(82));
    const uint16_t a        = tree.connection(first, TreeBuilder::connection_state(80));
    const uint16_t b        = tree.connection(first, TreeBuilder::connection_state(81));
    EXPECT_EQ(tree.offload(), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(tree.status(a), FLUE_SUCCESS);
    EXPECT_EQ(tree.status(b), FLUE_SUCCESS);
    EXPECT_EQ(tree.status(c), FLUE_TCP_ENTRIES) << "the last in this order finds no room";
    EXPECT_EQ(tree.status(first), FLUE_SUCCESS);
    EXPECT_EQ(tree.status(second), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(tree.status(neighbor), FLUE_SUCCESS) << "all of its immediate dependents are there";
}

TEST(Tree, R3_a_placeholder_gets_success_and_stands_for_nothing) {
    World world;
    TreeBuilder tree(world);
    const uint16_t neighbor   = tree.add(root, FLUE_NEIGHBOR, FLUE_BLOCK_PLACEHOLDER);
    const uint16_t path       = tree.add(neighbor, FLUE_PATH, FLUE_BLOCK_PLACEHOLDER);
    flue_state state          = TreeBuilder::connection_state();
    state.next_hop_mac[5]     = 7;
    const uint16_t connection = tree.connection(path, state);
    tree.blocks[path].handle  = 0x77;
    EXPECT_EQ(tree.offload(), FLUE_SUCCESS);
    EXPECT_EQ(tree.status(neighbor), FLUE_SUCCESS);
    EXPECT_EQ(tree.status(path), FLUE_SUCCESS);
    EXPECT_EQ(tree.handle(path), 0x77u) << "not written";
    EXPECT_EQ(tree.status(connection), FLUE_SUCCESS);
    EXPECT_EQ(world.chimney().usage().paths, 0u);
    send(world, tree.handle(connection), "x");
    EXPECT_EQ(world.take_sent().at(0).flow.next_hop_mac[5], 7) << "its own";
}

TEST(Tree, R4_a_linker_says_how_its_dependents_did) {
    Options options                = World::options();
    options.tcp.limits.connections = 3;
    World world(256, options);
    Family family(world, 1);
    const auto link = [&](uint16_t first_port, int count) {
        TreeBuilder tree(world);
        const uint16_t linker = tree.linker(root, FLUE_PATH, family.path);
        for (int i = 0; i < count; ++i) {
            const auto port = static_cast<uint16_t>(first_port + i);
            tree.connection(linker, TreeBuilder::connection_state(port));
        }
        const uint8_t status = tree.offload();
        EXPECT_EQ(tree.status(linker), status);
        EXPECT_EQ(tree.handle(linker), family.path);
        return status;
    };
    EXPECT_EQ(link(100, 0), FLUE_SUCCESS);
    EXPECT_EQ(link(110, 1), FLUE_SUCCESS);
    EXPECT_EQ(link(120, 3), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(link(130, 2), FLUE_FAILURE);
}

TEST(Tree, R2_R5_what_fails_gets_a_status_and_no_handle_and_fails_its_dependents) {
    World world;
    TreeBuilder tree(world);
    const uint16_t neighbor  = tree.neighbor();
    flue_path_state too_wide = TreeBuilder::path_state();
    too_wide.path_mtu        = World::port_mtu + 1;
    const uint16_t bad       = tree.path(neighbor, too_wide);
    const uint16_t below     = tree.connection(bad, TreeBuilder::connection_state(80));
    const uint16_t empty     = tree.add(bad, FLUE_CONNECTION, FLUE_BLOCK_PLACEHOLDER);
    const uint16_t good      = tree.path(neighbor);
    const uint16_t beside    = tree.connection(good, TreeBuilder::connection_state(81));
    EXPECT_EQ(tree.offload(), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(tree.status(neighbor), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(tree.status(bad), FLUE_PATH_MTU);
    EXPECT_EQ(tree.status(below), FLUE_FAILURE);
    EXPECT_EQ(tree.status(empty), FLUE_SUCCESS);
    EXPECT_EQ(tree.status(good), FLUE_SUCCESS);
    EXPECT_EQ(tree.status(beside), FLUE_SUCCESS) << "siblings go on";
    EXPECT_EQ(tree.handle(bad), 0u);
    EXPECT_EQ(tree.handle(below), 0u);
}

TEST(Tree, R23_a_root_that_cannot_be_offloaded_ends_the_walk) {
    World world;
    const auto root_fails = [&](auto change, uint8_t status) {
        flue_neighbor_state state = TreeBuilder::neighbor_state();
        change(state);
        TreeBuilder tree(world);
        const uint16_t neighbor = tree.neighbor(state);
        const uint16_t path     = tree.path(neighbor);
        const uint16_t conn     = tree.connection(path);
        EXPECT_EQ(tree.offload(), status);
        EXPECT_EQ(tree.status(neighbor), status);
        EXPECT_EQ(tree.status(path), FLUE_FAILURE);
        EXPECT_EQ(tree.status(conn), FLUE_FAILURE);
        EXPECT_EQ(tree.handle(neighbor) + tree.handle(path) + tree.handle(conn), 0u);
        world.expect_nothing_left();
    };
    root_fails([](flue_neighbor_state& state) { state.vlan_id = World::port_vlan + 1; },
               FLUE_VLAN_MISMATCH);
    root_fails([](flue_neighbor_state& state) { state.source_mac[0] = 6; },
               FLUE_HW_ADDRESS_ENTRIES);
    root_fails([](flue_neighbor_state& state) { state.version = 1; }, FLUE_BAD_STATE);
    root_fails([](flue_neighbor_state& state) { state.size = 1; }, FLUE_BAD_STATE);
    root_fails([](flue_neighbor_state& state) { state.vlan_id = 4095; }, FLUE_BAD_STATE);
}

TEST(Tree, R25_a_vlan_that_is_not_configured_is_refused) {
    World world;
    TreeBuilder tree(world);
    flue_neighbor_state state = TreeBuilder::neighbor_state();
    state.vlan_id             = 99;
    tree.neighbor(state);
    EXPECT_EQ(tree.offload(), FLUE_VLAN_MISMATCH);
}

TEST(Tree, R8_what_is_the_hosts_is_not_touched) {
    World world;
    TreeBuilder tree(world);
    const uint16_t neighbor = tree.neighbor();
    tree.connection(tree.path(neighbor));
    const std::vector<flue_block> before = tree.blocks;
    EXPECT_EQ(tree.offload(), FLUE_SUCCESS);
    for (size_t i = 0; i < before.size(); ++i) {
        flue_block expected = before[i];
        expected.status     = tree.blocks[i].status;
        expected.info       = tree.blocks[i].info;
        expected.handle     = tree.blocks[i].handle;
        EXPECT_EQ(std::memcmp(&expected, &tree.blocks[i], sizeof(expected)), 0);
    }
}

TEST(Tree, R7_events_carry_each_objects_own_host_handle) {
    World world;
    TreeBuilder tree(world);
    const uint16_t conn = tree.connection(tree.path(tree.neighbor()));
    EXPECT_EQ(tree.offload(), FLUE_SUCCESS);
    world.peer_sends(World::rcv_nxt, World::snd_nxt, tcp_ack | tcp_psh, "x");
    const flue_wc event = world.poll_one();
    EXPECT_EQ(event.opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(event.host_handle, 1000u + conn);
}

TEST(Tree, R24_no_event_before_the_completion_of_a_held_or_fresh_connection) {
    World world;
    world.post_and_run(
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 9, world.put_state(World::state())));
    const flue_conn held = world.poll_one().conn;
    world.from_peer(World::rcv_nxt, World::snd_nxt, tcp_ack | tcp_psh, "kept");
    TreeBuilder tree(world);
    const uint16_t path         = tree.path(tree.neighbor());
    const uint16_t conn         = tree.connection(path);
    tree.blocks[conn].handle    = held;
    flue_state fresh            = TreeBuilder::connection_state(81);
    fresh.receive_backlog_bytes = 5;
    tree.connection(path, fresh);
    tree.put_bytes("older");
    EXPECT_EQ(tree.offload(), FLUE_SUCCESS);
    EXPECT_EQ(tree.handle(conn), held);
    ASSERT_EQ(tree.completions.size(), 3u);
    EXPECT_EQ(tree.completions[0].opcode, FLUE_OP_OFFLOAD);
    EXPECT_EQ(tree.completions[1].opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(tree.completions[2].opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(tree.completions[1].bytes + tree.completions[2].bytes, 9u);
}

TEST(Tree, a_connection_that_contradicts_its_path_or_neighbor_is_refused) {
    const auto status_of = [](auto change) {
        World world;
        flue_state state = TreeBuilder::connection_state();
        change(state);
        TreeBuilder tree(world);
        const uint16_t conn = tree.connection(tree.path(tree.neighbor()), state);
        tree.offload();
        return tree.status(conn);
    };
    EXPECT_EQ(status_of([](flue_state& state) { state.remote_addr[3] = 9; }), FLUE_BAD_STATE);
    EXPECT_EQ(status_of([](flue_state& state) { state.local_addr[3] = 9; }), FLUE_BAD_STATE);
    EXPECT_EQ(status_of([](flue_state& state) { state.path_mtu = 1400; }), FLUE_BAD_STATE);
    EXPECT_EQ(status_of([](flue_state& state) { state.vlan_id = 99; }), FLUE_BAD_STATE);
    EXPECT_EQ(status_of([](flue_state& state) { state.source_mac[0] = 6; }), FLUE_BAD_STATE);
    EXPECT_EQ(status_of([](flue_state& state) { state.next_hop_mac[0] = 6; }), FLUE_BAD_STATE);
    EXPECT_EQ(status_of([](flue_state& state) {
                  state.vlan_id = World::port_vlan;
                  std::ranges::copy(World::port_mac, state.source_mac);
                  state.next_hop_mac[5] = 0x42;
              }),
              FLUE_SUCCESS);
}

TEST(Tree, R114_corrupt_state_is_told_and_leaves_every_object_whole) {
    World world;
    world.post_and_run(
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 9, world.put_state(World::state())));
    const flue_conn held = world.poll_one().conn;
    TreeBuilder tree(world);
    const uint16_t neighbor  = tree.neighbor();
    const uint16_t path      = tree.path(neighbor);
    const uint16_t conn      = tree.connection(path);
    tree.blocks[conn].handle = held;
    world.put("?", TreeBuilder::base + tree.blocks[conn].state_offset + 40);
    EXPECT_EQ(tree.offload(), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(tree.status(conn), FLUE_BAD_STATE);
    EXPECT_EQ(tree.status(path), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(world.chimney().usage().held, 1u) << "as it was";
    world.post(World::request(FLUE_OP_RELEASE, held, 1));
    world.post(Family::request(FLUE_OP_TERMINATE, FLUE_PATH, tree.handle(path), 2));
    world.post_and_run(Family::request(FLUE_OP_TERMINATE, FLUE_NEIGHBOR, tree.handle(neighbor), 3));
    const auto all = world.poll();
    ASSERT_EQ(all.size(), 3u);
    for (const flue_wc& wc : all) {
        EXPECT_EQ(wc.status, FLUE_SUCCESS);
    }
    world.expect_nothing_left();
}

TEST(Tree, a_connection_of_another_worker_is_named_and_the_others_go_on) {
    World world;
    world.claim_answer = Environment::Claim::not_owner;
    TreeBuilder tree(world);
    const uint16_t conn = tree.connection(tree.path(tree.neighbor()));
    EXPECT_EQ(tree.offload(), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(tree.status(conn), FLUE_NOT_OWNER);
    EXPECT_EQ(tree.blocks[conn].info, 3u);
}

TEST(Tree, any_object_may_be_the_root) {
    World world;
    TreeBuilder conn(world);
    conn.connection(root);
    EXPECT_EQ(conn.offload(), FLUE_SUCCESS);
    TreeBuilder path(world);
    path.connection(path.path(root), TreeBuilder::connection_state(81));
    EXPECT_EQ(path.offload(), FLUE_SUCCESS);
    EXPECT_EQ(world.chimney().usage().paths, 1u);
    EXPECT_EQ(world.chimney().usage().neighbors, 0u);
}

TEST(Tree, no_slot_for_a_path_or_neighbor_is_said) {
    Options options   = World::options();
    options.paths     = 1;
    options.neighbors = 1;
    World world(256, options);
    Family family(world, 1);
    TreeBuilder neighbor(world);
    neighbor.neighbor();
    EXPECT_EQ(neighbor.offload(), FLUE_NEIGHBOR_ENTRIES);
    TreeBuilder path(world);
    path.path(path.linker(root, FLUE_NEIGHBOR, family.neighbor));
    EXPECT_EQ(path.offload(), FLUE_FAILURE);
    EXPECT_EQ(path.status(1), FLUE_PATH_ENTRIES);
    family.terminate_all();
}

// ---------------------------------------------------------------- hostile trees

TEST(HostileTree, R2_a_malformed_tree_is_refused_as_a_whole_and_every_block_told) {
    const auto refused = [](auto change) {
        World world;
        TreeBuilder tree(world);
        const uint16_t neighbor = tree.neighbor();
        const uint16_t path     = tree.path(neighbor);
        tree.connection(path, TreeBuilder::connection_state(80));
        tree.connection(path, TreeBuilder::connection_state(81));
        change(tree.blocks);
        EXPECT_EQ(tree.offload(), FLUE_BAD_REQUEST);
        EXPECT_EQ(tree.status(0), FLUE_BAD_REQUEST);
        for (const flue_block& block : tree.blocks) {
            EXPECT_TRUE(block.status == FLUE_BAD_REQUEST || block.status == 0xee);
            EXPECT_EQ(block.handle, 0u);
            EXPECT_EQ(block.host_reserved[0], 0x5555u);
        }
        world.expect_nothing_left();
    };
    using Blocks = std::vector<flue_block>;
    refused([](Blocks& blocks) { blocks[0].next = 0; });        // its own sibling
    refused([](Blocks& blocks) { blocks[0].next = 1; });        // a root has none
    refused([](Blocks& blocks) { blocks[0].dependents = 0; });  // its own dependent
    refused([](Blocks& blocks) { blocks[1].next = 1; });
    refused([](Blocks& blocks) { blocks[3].next = 2; });                     // a cycle of two
    refused([](Blocks& blocks) { blocks[2].dependents = 1; });               // up again
    refused([](Blocks& blocks) { blocks[3].next = FLUE_TREE_BLOCKS_MAX; });  // one too far
    refused([](Blocks& blocks) { blocks[1].dependents = FLUE_NO_BLOCK - 1; });
    refused([](Blocks& blocks) { blocks[1].object = FLUE_CONNECTION; });  // level left out
    refused([](Blocks& blocks) { blocks[2].object = FLUE_PATH; });
    refused([](Blocks& blocks) { blocks[0].object = FLUE_TREE; });
    refused([](Blocks& blocks) { blocks[0].object = 255; });
    refused([](Blocks& blocks) { blocks[3].kind = FLUE_BLOCK_NEW + 1; });
    refused([](Blocks& blocks) { blocks[2].wr_flags = FLUE_WR_ABORT; });
    refused([](Blocks& blocks) { blocks[1].wr_flags = FLUE_WR_KEEP_TIME_WAIT; });
}

TEST(HostileTree, states_that_leave_the_memory_fail_alone) {
    World world;
    TreeBuilder tree(world);
    const uint16_t path                = tree.path(tree.neighbor());
    flue_state state                   = TreeBuilder::connection_state(80);
    const uint16_t good                = tree.connection(path, state);
    const uint16_t far                 = tree.connection(path, state);
    const uint16_t farthest            = tree.connection(path, state);
    state                              = TreeBuilder::connection_state(83);
    state.receive_backlog_bytes        = 65536;
    const uint16_t backlog             = tree.connection(path, state);
    tree.blocks[far].state_offset      = tree.blocks[backlog].state_offset + 1;
    tree.blocks[farthest].state_offset = UINT32_MAX;
    EXPECT_EQ(tree.offload(), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(tree.status(good), FLUE_SUCCESS);
    EXPECT_EQ(tree.status(far), FLUE_BAD_LENGTH);
    EXPECT_EQ(tree.status(farthest), FLUE_BAD_LENGTH);
    EXPECT_EQ(tree.status(backlog), FLUE_BAD_LENGTH);
    EXPECT_EQ(world.flow_count(), 1u);
}

TEST(HostileTree, two_blocks_may_share_a_state_but_not_a_connection) {
    World world;
    TreeBuilder tree(world);
    const uint16_t path   = tree.path(tree.neighbor());
    const uint16_t first  = tree.connection(path);
    const uint16_t second = tree.connection(path);
    EXPECT_EQ(tree.offload(), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(tree.status(first), FLUE_SUCCESS);
    EXPECT_EQ(tree.status(second), FLUE_TUPLE_IN_USE);
}

TEST(HostileTree, foreign_and_stale_handles_are_refused) {
    World world;
    Family family(world, 1);
    const auto refused =
        [&](uint8_t object, uint64_t handle, uint8_t status = FLUE_BAD_CONNECTION) {
            TreeBuilder tree(world);
            tree.linker(root, object, handle);
            EXPECT_EQ(tree.offload(), status) << handle;
        };
    refused(FLUE_PATH, 0);
    refused(FLUE_PATH, UINT64_MAX);
    refused(FLUE_PATH, family.neighbor);
    refused(FLUE_NEIGHBOR, family.path);
    refused(FLUE_CONNECTION, family.path);
    refused(FLUE_PATH, family.connections[0]);
    refused(FLUE_PATH, family.path + (uint64_t{1} << 56));
    refused(FLUE_PATH, family.path + (uint64_t{1} << 24));
    refused(FLUE_PATH, family.path, FLUE_SUCCESS);
    // A linker stands where it hangs.
    TreeBuilder other(world);
    const uint16_t neighbor = other.neighbor();
    const uint16_t path     = other.linker(neighbor, FLUE_PATH, family.path);
    EXPECT_EQ(other.offload(), FLUE_PARTIAL_SUCCESS);
    EXPECT_EQ(other.status(path), FLUE_BAD_REQUEST);
    EXPECT_EQ(family.terminate(other.handle(neighbor), FLUE_NEIGHBOR), FLUE_SUCCESS);
    family.terminate_all();
}

TEST(HostileTree, another_queues_objects_are_foreign) {
    World world;
    Family family(world, 1);
    World other;
    Family others(other, 1);
    EXPECT_EQ(family.path, others.path) << "the same number at another target names another path";
    const auto memory = queue::TargetQueueMemory::create(
        {.worker_count = 1, .submission_entries = 8, .completion_entries = 8});
    ASSERT_TRUE(memory.ok());
    auto parts    = memory.value().parts(0);
    parts.regions = &world.regions;
    queue::TargetQueue second(parts);
    world.chimney().attach(second);
    auto mapped = queue::map_queue_memory(
        memory.value().memory_fd(),
        {.worker_count = 1, .submission_entries = 8, .completion_entries = 8},
        memory.value().bytes());
    ASSERT_TRUE(mapped.ok());
    const flue_wr wr = Family::request(FLUE_OP_TERMINATE, FLUE_PATH, family.path, 1);
    ASSERT_EQ(mapped.value().submissions(0).enqueue(std::span<const flue_wr>(&wr, 1)), 1u);
    world.chimney().poll(world.now, second);
    world.chimney().advance(world.now);
    std::array<flue_wc, 4> out;
    ASSERT_EQ(mapped.value().completions(0).dequeue(out), 1u);
    EXPECT_EQ(out[0].status, FLUE_BAD_CONNECTION);
    EXPECT_EQ(world.chimney().usage().paths, 1u);
    world.chimney().detach(second);
}

TEST(HostileTree, what_the_host_changes_during_the_walk_is_not_read) {
    /// Overwrites all blocks in the middle of the walk, as a host on another CPU may.
    class ScribbledWorld : public World {
      public:
        ClaimResult claim(const wire::FlowKey& key, ConnIndex index) override {
            put(std::string(TreeBuilder::states_after, '\0'), TreeBuilder::base);
            return World::claim(key, index);
        }
    };

    ScribbledWorld world;
    TreeBuilder tree(world);
    const uint16_t path   = tree.path(tree.neighbor());
    const uint16_t first  = tree.connection(path, TreeBuilder::connection_state(80));
    const uint16_t second = tree.connection(path, TreeBuilder::connection_state(81));
    EXPECT_EQ(tree.offload(), FLUE_SUCCESS);
    EXPECT_EQ(world.flow_count(), 2u);
    EXPECT_EQ(tree.handle(first), 0u) << "written before it was overwritten";
    EXPECT_NE(tree.handle(second), 0u);
    EXPECT_NE(tree.handle(path), 0u);
    EXPECT_EQ(tree.blocks[path].host_reserved[0], 0u) << "never written back";
}

TEST(HostileTree, one_session_leaves_the_others_their_paths_and_neighbors) {
    Options options   = World::options();
    options.sessions  = 2;
    options.neighbors = 4;  // one for each session, two for whoever comes first
    World world(256, options);
    for (int i = 0; i < 4; ++i) {
        TreeBuilder tree(world);
        tree.neighbor();
        EXPECT_EQ(tree.offload(), i < 3 ? FLUE_SUCCESS : FLUE_NEIGHBOR_ENTRIES);
    }
    EXPECT_EQ(world.chimney().usage().neighbors, 3u);
}

TEST(HostileTree, a_queue_pays_for_a_burst_of_trees_with_its_next_turns) {
    World world;
    TreeBuilder tree(world);
    const uint16_t neighbor = tree.add(root, FLUE_NEIGHBOR, FLUE_BLOCK_PLACEHOLDER);
    for (uint32_t i = 1; i < FLUE_TREE_BLOCKS_MAX; ++i) {
        tree.add(neighbor, FLUE_PATH, FLUE_BLOCK_PLACEHOLDER);
    }
    for (uint64_t id = 1; id < 5; ++id) {
        world.post(tree.request(id));
    }
    EXPECT_EQ(world.chimney().poll(world.now, *world.target_queue), 4u);
    world.post(World::request(FLUE_OP_RECV, FLUE_NO_CONN, 5));
    for (int turn = 0; turn < 3; ++turn) {
        EXPECT_EQ(world.chimney().poll(world.now, *world.target_queue), 0u);
    }
    EXPECT_EQ(world.chimney().poll(world.now, *world.target_queue), 1u);
    world.run();
    EXPECT_EQ(world.poll().size(), 5u);
    world.expect_nothing_left();
}

TEST(HostileTree, the_request_itself_is_checked) {
    World world;
    const auto status_of = [&](auto change) {
        TreeBuilder tree(world);
        tree.neighbor();
        flue_wr wr = tree.request();
        change(wr);
        world.post_and_run(wr);
        return world.poll_one().status;
    };
    EXPECT_EQ(status_of([](flue_wr& wr) { wr.sge_count = 0; }), FLUE_BAD_REQUEST);
    EXPECT_EQ(status_of([](flue_wr& wr) { wr.sge_count = 2; }), FLUE_BAD_REQUEST);
    EXPECT_EQ(status_of([](flue_wr& wr) { wr.flags = FLUE_WR_KEEP_TIME_WAIT; }), FLUE_BAD_REQUEST);
    EXPECT_EQ(status_of([](flue_wr& wr) { wr.opcode = FLUE_OP_QUERY; }), FLUE_BAD_REQUEST);
    EXPECT_EQ(status_of([](flue_wr& wr) { wr.object = FLUE_PATH; }), FLUE_BAD_REQUEST);
    EXPECT_EQ(status_of([](flue_wr& wr) { wr.conn = FLUE_ON_WORKER(1); }), FLUE_BAD_CONNECTION);
    EXPECT_EQ(status_of([](flue_wr& wr) { wr.sge[0].length = 63; }), FLUE_BAD_LENGTH);
    EXPECT_EQ(status_of([](flue_wr& wr) { wr.sge[0].offset = World::region_bytes; }),
              FLUE_BAD_REGION);
    EXPECT_EQ(status_of([](flue_wr& wr) { wr.sge[0].length = sizeof(flue_block); }),
              FLUE_BAD_LENGTH)
        << "the neighbor's own status: its state lies outside";
    world.expect_nothing_left();
}

}  // namespace flue::chimney
