#include "tree_builder.hpp"

namespace flue::chimney {

using namespace wire;

namespace {

/// More connections than one turn brings up to date.
constexpr uint16_t many = 150;

Options many_options() {
    Options options                = World::options();
    options.tcp.limits.connections = 256;
    options.tcp.limits.send_items  = 512;
    return options;
}

uint32_t count_of(const std::vector<flue_wc>& all, uint8_t opcode) {
    return static_cast<uint32_t>(
        std::ranges::count_if(all, [&](const flue_wc& wc) { return wc.opcode == opcode; }));
}

void send(World& world, flue_conn conn, std::string_view text) {
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 80, world.put(text, 65536)));
}

flue_neighbor_state moved_neighbor() {
    flue_neighbor_state state = TreeBuilder::neighbor_state();
    state.next_hop_mac[5]     = 0x99;
    return state;
}

/// Every connection's header as it is now.
bool all_flows(World& world, const std::vector<flue_conn>& connections, auto holds) {
    return std::ranges::all_of(connections, [&](flue_conn conn) {
        return holds(world.chimney().flow(static_cast<ConnIndex>(conn & 0xffffff)));
    });
}

}  // namespace

// ---------------------------------------------------------------- UPDATE

TEST(NodeUpdate, R28_a_neighbors_new_address_reaches_all_connections_before_the_completion) {
    World world(256, many_options());
    Family family(world, many);
    world.post(family.update(family.neighbor, FLUE_NEIGHBOR, moved_neighbor()));
    const auto has_moved = [](const FlowHeader& flow) { return flow.next_hop_mac[5] == 0x99; };
    world.chimney().poll(world.now, *world.target_queue);
    world.chimney().advance(world.now);
    EXPECT_TRUE(world.poll().empty()) << "not all of them are done in one turn";
    EXPECT_FALSE(all_flows(world, family.connections, has_moved));
    world.run();
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.opcode, FLUE_OP_UPDATE);
    EXPECT_EQ(wc.status, FLUE_SUCCESS);
    EXPECT_EQ(wc.conn, family.neighbor);
    EXPECT_EQ(wc.host_handle, 1000u);
    EXPECT_TRUE(all_flows(world, family.connections, has_moved));
    family.terminate_all();
}

TEST(NodeUpdate, R28_constants_of_paths_and_neighbors_stay) {
    World world;
    Family family(world);
    flue_neighbor_state neighbor = moved_neighbor();
    neighbor.vlan_id             = 4000;
    neighbor.source_mac[0]       = 6;
    EXPECT_EQ(family.answer(family.update(family.neighbor, FLUE_NEIGHBOR, neighbor)), FLUE_SUCCESS);
    const auto now = family.query<flue_neighbor_state>(family.neighbor, FLUE_NEIGHBOR);
    EXPECT_EQ(now.vlan_id, World::port_vlan);
    EXPECT_EQ(now.source_mac[0], World::port_mac[0]);
    EXPECT_EQ(now.next_hop_mac[5], 0x99);
    flue_path_state path = TreeBuilder::path_state();
    path.family          = 6;
    path.path_mtu        = 1400;
    path.remote_addr[3]  = 77;
    EXPECT_EQ(family.answer(family.update(family.path, FLUE_PATH, path)), FLUE_SUCCESS);
    const auto then = family.query<flue_path_state>(family.path, FLUE_PATH);
    EXPECT_EQ(then.family, 4);
    EXPECT_EQ(then.remote_addr[3], 2);
    EXPECT_EQ(then.path_mtu, 1400);
    EXPECT_EQ(then.neighbor, family.neighbor);
}

TEST(NodeUpdate, R28_a_smaller_path_mtu_cuts_what_is_sent_afterwards) {
    World world;
    Family family(world);
    flue_path_state path = TreeBuilder::path_state();
    path.path_mtu        = 540;
    EXPECT_EQ(family.answer(family.update(family.path, FLUE_PATH, path)), FLUE_SUCCESS);
    send(world, family.connections[0], std::string(1000, 'x'));
    auto sent = world.take_sent();
    ASSERT_EQ(sent.size(), 2u);
    EXPECT_EQ(sent[0].payload.size(), 500u);
    path.path_mtu = 340;
    EXPECT_EQ(family.answer(family.update(family.path, FLUE_PATH, path)), FLUE_SUCCESS);
    world.wait_us(400'000);
    sent = world.take_sent();
    ASSERT_GE(sent.size(), 1u);
    EXPECT_EQ(sent[0].payload.size(), 300u) << "what is sent again too";
}

TEST(NodeUpdate, R28_a_path_moves_to_another_neighbor) {
    World world;
    Family family(world, 2);
    TreeBuilder tree(world);
    flue_neighbor_state elsewhere = moved_neighbor();
    elsewhere.vlan_id             = 0;
    tree.neighbor(elsewhere);
    ASSERT_EQ(tree.offload(), FLUE_SUCCESS);
    flue_path_state path = TreeBuilder::path_state();
    path.neighbor        = tree.handle(0);
    EXPECT_EQ(family.answer(family.update(family.path, FLUE_PATH, path)), FLUE_SUCCESS);
    EXPECT_EQ(family.query<flue_path_state>(family.path, FLUE_PATH).neighbor, path.neighbor);
    EXPECT_TRUE(all_flows(world, family.connections, [](const FlowHeader& flow) {
        return flow.next_hop_mac[5] == 0x99 && flow.vlan_id == 0;
    }));
    EXPECT_EQ(family.terminate(family.neighbor, FLUE_NEIGHBOR), FLUE_SUCCESS) << "nothing is left";
    family.neighbor = tree.handle(0);
    family.terminate_all();
}

TEST(NodeUpdate, R31_a_refused_update_changes_nothing) {
    World world;
    Family family(world);
    const auto refused = [&](auto change, uint8_t status) {
        flue_path_state path = TreeBuilder::path_state();
        path.path_mtu        = 1000;
        change(path);
        EXPECT_EQ(family.answer(family.update(family.path, FLUE_PATH, path)), status);
        EXPECT_EQ(family.query<flue_path_state>(family.path, FLUE_PATH).path_mtu, 1500);
    };
    refused([](flue_path_state& path) { path.version = 9; }, FLUE_BAD_STATE);
    refused([](flue_path_state& path) { path.size = 9; }, FLUE_BAD_STATE);
    refused([](flue_path_state& path) { path.path_mtu = 67; }, FLUE_BAD_STATE);
    refused([](flue_path_state& path) { path.path_mtu = World::port_mtu + 1; }, FLUE_PATH_MTU);
    refused([&](flue_path_state& path) { path.neighbor = family.path; }, FLUE_BAD_CONNECTION);
    refused([&](flue_path_state& path) { path.neighbor = UINT64_MAX; }, FLUE_BAD_CONNECTION);
    flue_neighbor_state neighbor = moved_neighbor();
    neighbor.size                = 1;
    EXPECT_EQ(family.answer(family.update(family.neighbor, FLUE_NEIGHBOR, neighbor)),
              FLUE_BAD_STATE);
    flue_wr wr       = family.update(family.neighbor, FLUE_NEIGHBOR, moved_neighbor());
    wr.sge[0].length = sizeof(flue_neighbor_state) - 1;
    EXPECT_EQ(family.answer(wr), FLUE_BAD_LENGTH);
    wr.sge[0].length = sizeof(flue_neighbor_state);
    wr.sge[0].mr += 1;
    EXPECT_EQ(family.answer(wr), FLUE_BAD_REGION);
    send(world, family.connections[0], "goes on");
    EXPECT_EQ(world.take_sent().at(0).flow.next_hop_mac[5], 0x42);
}

TEST(NodeUpdate, what_hangs_on_a_path_takes_from_it_what_is_the_paths) {
    World world;
    Family family(world);
    flue_state block      = World::state();
    block.path_mtu        = 600;
    block.next_hop_mac[0] = 0xaa;
    block.ttl             = 9;
    world.post_and_run(
        World::request(FLUE_OP_UPDATE, family.connections[0], 1, world.put_state(block)));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_TRUE(all_flows(world, family.connections, [](const FlowHeader& flow) {
        return flow.path_mtu == 1500 && flow.next_hop_mac[5] == 0x42 && flow.ttl == 9;
    }));
}

TEST(NodeUpdate, one_sweep_at_a_time_a_second_request_gets_invalid_state) {
    World world(256, many_options());
    Family family(world, many);
    world.post(family.update(family.neighbor, FLUE_NEIGHBOR, moved_neighbor(), 30));
    world.chimney().poll(world.now, *world.target_queue);
    world.chimney().advance(world.now);
    flue_path_state path = TreeBuilder::path_state();
    path.path_mtu        = 1000;
    world.post(family.update(family.neighbor, FLUE_NEIGHBOR, moved_neighbor(), 31));
    world.post(family.update(family.path, FLUE_PATH, path, 32));
    world.post(Family::request(FLUE_OP_INVALIDATE, FLUE_NEIGHBOR, family.neighbor, 33));
    world.post(Family::request(FLUE_OP_TERMINATE, FLUE_PATH, family.path, 34));
    world.run();
    const auto all = world.poll();
    ASSERT_EQ(all.size(), 4u);
    for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(all[i].wr_id, 31 + i);
        EXPECT_EQ(all[i].status, FLUE_INVALID_STATE);
    }
    EXPECT_EQ(all[3].wr_id, 30u);
    EXPECT_EQ(all[3].status, FLUE_SUCCESS);
}

TEST(NodeUpdate, a_neighbors_sweep_waits_for_one_of_a_path_that_is_under_way) {
    World world(256, many_options());
    Family family(world, many);
    flue_path_state path = TreeBuilder::path_state();
    path.path_mtu        = 1000;
    world.post(family.update(family.path, FLUE_PATH, path, 30));
    world.chimney().poll(world.now, *world.target_queue);
    world.chimney().advance(world.now);
    world.post(family.update(family.neighbor, FLUE_NEIGHBOR, moved_neighbor(), 31));
    world.run();
    const auto all = world.poll();
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].wr_id, 30u);
    EXPECT_EQ(all[1].wr_id, 31u);
    EXPECT_TRUE(all_flows(world, family.connections, [](const FlowHeader& flow) {
        return flow.path_mtu == 1000 && flow.next_hop_mac[5] == 0x99;
    }));
    family.terminate_all();
}

TEST(NodeUpdate, connections_may_come_and_go_during_a_sweep) {
    World world(256, many_options());
    Family family(world, many);
    world.post(family.update(family.neighbor, FLUE_NEIGHBOR, moved_neighbor(), 30));
    world.chimney().poll(world.now, *world.target_queue);
    world.chimney().advance(world.now);
    // The sweep goes from the last to the first: these are where it is, behind and before it.
    for (const size_t i : {many - 65u, many - 64u, many - 66u, many - 1u, 0u}) {
        world.post(world.terminate_request(family.connections[i], 40));
    }
    world.run();
    const auto all = world.poll();
    EXPECT_EQ(count_of(all, FLUE_OP_TERMINATE), 5u);
    EXPECT_EQ(count_of(all, FLUE_OP_UPDATE), 1u);
    for (const size_t i : {many - 1u, many - 64u, many - 65u, many - 66u, 0u}) {
        family.connections.erase(family.connections.begin() + static_cast<ptrdiff_t>(i));
    }
    EXPECT_TRUE(all_flows(world, family.connections, [](const FlowHeader& flow) {
        return flow.next_hop_mac[5] == 0x99;
    }));
    family.terminate_all();
}

// ---------------------------------------------------------------- INVALIDATE

TEST(NodeInvalidate, R33_R35_everything_below_a_neighbor_stops_and_asks_for_its_upload) {
    World world(512, many_options());
    Family family(world, many);
    send(world, family.connections[3], "x");
    world.take_sent();
    world.post_and_run(Family::request(FLUE_OP_INVALIDATE, FLUE_NEIGHBOR, family.neighbor, 30));
    const auto all = world.poll();
    EXPECT_EQ(count_of(all, FLUE_EVENT_UPLOAD_REQUEST), many);
    EXPECT_EQ(count_of(all, FLUE_OP_INVALIDATE), 1u);
    for (const flue_wc& wc : all) {
        EXPECT_TRUE(wc.opcode != FLUE_EVENT_UPLOAD_REQUEST || wc.info == FLUE_UPLOAD_INVALID_STATE);
    }
    world.wait_us(2'000'000);
    send(world, family.connections[5], "y");
    EXPECT_TRUE(world.take_sent().empty());
    EXPECT_EQ(world.poll_one().status, FLUE_UPLOAD_IN_PROGRESS);
}

TEST(NodeInvalidate, R34_resources_stay_until_terminate) {
    World world;
    Family family(world, 2);
    EXPECT_EQ(family.answer(Family::request(FLUE_OP_INVALIDATE, FLUE_PATH, family.path, 1)),
              FLUE_SUCCESS);
    EXPECT_EQ(world.chimney().usage().tcp.connections, 2u);
    EXPECT_EQ(world.chimney().usage().paths, 1u);
    world.run();
    world.poll();
    EXPECT_EQ(family.query<flue_path_state>(family.path, FLUE_PATH).path_mtu, 1500);
    flue_path_state path = TreeBuilder::path_state();
    EXPECT_EQ(family.answer(family.update(family.path, FLUE_PATH, path)), FLUE_INVALID_STATE);
    EXPECT_EQ(family.answer(Family::request(FLUE_OP_INVALIDATE, FLUE_PATH, family.path, 1)),
              FLUE_SUCCESS)
        << "once more does no harm";
    EXPECT_TRUE(world.poll().empty());
    // Nothing new hangs on what is invalid.
    TreeBuilder tree(world);
    tree.connection(tree.linker(TreeBuilder::root, FLUE_PATH, family.path),
                    TreeBuilder::connection_state(99));
    EXPECT_EQ(tree.offload(), FLUE_FAILURE);
    EXPECT_EQ(tree.status(1), FLUE_INVALID_STATE);
    family.terminate_all();
}

TEST(NodeInvalidate, R33_no_path_slips_away_before_the_sweep_reaches_it) {
    World world;
    Family family(world);
    TreeBuilder tree(world);
    tree.neighbor(moved_neighbor());
    ASSERT_EQ(tree.offload(), FLUE_SUCCESS);
    flue_path_state path = TreeBuilder::path_state();
    path.neighbor        = tree.handle(0);
    world.post(Family::request(FLUE_OP_INVALIDATE, FLUE_NEIGHBOR, family.neighbor, 1));
    world.post(Family::request(FLUE_OP_INVALIDATE, FLUE_PATH, family.path, 2));
    world.post_and_run(family.update(family.path, FLUE_PATH, path, 3));
    const auto all = world.poll();
    ASSERT_EQ(all.size(), 4u);
    EXPECT_EQ(all[0].wr_id, 2u);
    EXPECT_EQ(all[0].status, FLUE_INVALID_STATE);
    EXPECT_EQ(all[1].wr_id, 3u);
    EXPECT_EQ(all[1].status, FLUE_INVALID_STATE);
    EXPECT_EQ(all[2].wr_id, 1u);
    EXPECT_EQ(all[2].status, FLUE_SUCCESS);
    EXPECT_EQ(all[3].opcode, FLUE_EVENT_UPLOAD_REQUEST);
    send(world, family.connections[0], "x");
    EXPECT_TRUE(world.take_sent().empty());
}

TEST(NodeInvalidate, R33_one_path_only) {
    World world;
    Family family(world, 1);
    TreeBuilder tree(world);
    const uint16_t path = tree.path(tree.linker(TreeBuilder::root, FLUE_NEIGHBOR, family.neighbor));
    tree.connection(path, TreeBuilder::connection_state(90));
    ASSERT_EQ(tree.offload(), FLUE_SUCCESS);
    world.post_and_run(Family::request(FLUE_OP_INVALIDATE, FLUE_PATH, family.path, 1));
    world.poll();
    send(world, family.connections[0], "no");
    EXPECT_TRUE(world.take_sent().empty());
    send(world, tree.handle(2), "yes");
    EXPECT_EQ(world.take_sent().size(), 1u);
}

// ---------------------------------------------------------------- QUERY, TERMINATE, loss

TEST(NodeQuery, R32_several_at_once_and_while_a_terminate_waits) {
    World world;
    Family family(world);
    world.post(Family::request(FLUE_OP_TERMINATE, FLUE_NEIGHBOR, family.neighbor, 1));
    for (uint64_t i = 0; i < 3; ++i) {
        flue_wr wr   = Family::request(FLUE_OP_QUERY, FLUE_NEIGHBOR, family.neighbor, 10 + i);
        wr.sge_count = 1;
        wr.sge[0]    = world.room(sizeof(flue_neighbor_state), 4096 + 64 * i);
        world.post(wr);
    }
    world.run();
    const auto all = world.poll();
    ASSERT_EQ(all.size(), 3u);
    for (const flue_wc& wc : all) {
        EXPECT_EQ(wc.status, FLUE_SUCCESS);
    }
    flue_wr wr   = Family::request(FLUE_OP_QUERY, FLUE_PATH, family.path, 1);
    wr.sge_count = 1;
    wr.sge[0]    = world.room(sizeof(flue_path_state) - 1, 4096);
    world.post_and_run(wr);
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.status, FLUE_BAD_LENGTH);
    EXPECT_EQ(wc.bytes, sizeof(flue_path_state));
}

TEST(NodeTerminate, R112_R113_completes_when_nothing_depends_on_it_any_more) {
    World world;
    Family family(world, 2);
    world.post(Family::request(FLUE_OP_TERMINATE, FLUE_NEIGHBOR, family.neighbor, 1));
    world.post_and_run(Family::request(FLUE_OP_TERMINATE, FLUE_PATH, family.path, 2));
    EXPECT_TRUE(world.poll().empty());
    EXPECT_EQ(family.terminate(family.path, FLUE_PATH), FLUE_INVALID_STATE) << "asked already";
    TreeBuilder tree(world);
    tree.path(tree.linker(TreeBuilder::root, FLUE_NEIGHBOR, family.neighbor));
    EXPECT_EQ(tree.offload(), FLUE_FAILURE);
    EXPECT_EQ(tree.status(1), FLUE_INVALID_STATE) << "nothing new may depend on it";
    world.post_and_run(world.terminate_request(family.connections[0], 3));
    EXPECT_EQ(world.poll_one().wr_id, 3u);
    world.post_and_run(world.terminate_request(family.connections[1], 4));
    const auto all = world.poll();
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[0].wr_id, 4u);
    EXPECT_EQ(all[1].wr_id, 2u);
    EXPECT_EQ(all[2].wr_id, 1u);
    world.expect_nothing_left();
    EXPECT_EQ(world.chimney().usage().neighbors, 0u);
}

TEST(NodeTerminate, R6_a_handle_is_good_until_terminate_and_no_longer) {
    World world;
    Family family(world);
    const flue_conn old_path     = family.path;
    const flue_conn old_neighbor = family.neighbor;
    family.terminate_all();
    Family again(world);
    EXPECT_NE(again.path, old_path);
    EXPECT_EQ(family.terminate(old_path, FLUE_PATH), FLUE_BAD_CONNECTION);
    EXPECT_EQ(family.terminate(old_neighbor, FLUE_NEIGHBOR), FLUE_BAD_CONNECTION);
    again.terminate_all();
}

TEST(NodeTerminate, a_connection_that_is_held_again_leaves_its_path) {
    World world;
    Family family(world);
    world.post_and_run(world.terminate_request(family.connections[0], 1, FLUE_WR_KEEP_HELD));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_EQ(family.terminate(family.path, FLUE_PATH), FLUE_SUCCESS);
    EXPECT_EQ(family.terminate(family.neighbor, FLUE_NEIGHBOR), FLUE_SUCCESS);
    world.post_and_run(World::request(FLUE_OP_RELEASE, family.connections[0], 1));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    world.expect_nothing_left();
}

TEST(NodeTerminate, what_is_not_of_paths_and_neighbors_is_refused) {
    World world;
    Family family(world);
    for (const uint8_t opcode : {FLUE_OP_HOLD,
                                 FLUE_OP_OFFLOAD,
                                 FLUE_OP_SEND,
                                 FLUE_OP_RECV,
                                 FLUE_OP_DISCONNECT,
                                 FLUE_OP_RELEASE,
                                 FLUE_OP_FORWARD}) {
        EXPECT_EQ(family.answer(Family::request(opcode, FLUE_PATH, family.path, 1)),
                  FLUE_BAD_REQUEST);
    }
    flue_wr wr = Family::request(FLUE_OP_TERMINATE, FLUE_PATH, family.path, 1);
    wr.flags   = FLUE_WR_KEEP_HELD;
    EXPECT_EQ(family.answer(wr), FLUE_BAD_REQUEST);
    wr           = Family::request(FLUE_OP_INVALIDATE, FLUE_PATH, family.path, 1);
    wr.sge_count = 1;
    EXPECT_EQ(family.answer(wr), FLUE_BAD_REQUEST);
    family.terminate_all();
}

TEST(NodeLoss, paths_and_neighbors_go_after_their_connections) {
    World world(256, many_options());
    Family family(world, many);
    world.post(family.update(family.neighbor, FLUE_NEIGHBOR, moved_neighbor(), 30));
    world.post(Family::request(FLUE_OP_TERMINATE, FLUE_NEIGHBOR, family.neighbor, 31));
    world.chimney().poll(world.now, *world.target_queue);
    world.chimney().lose(world.now, *world.target_queue, HostLoss::abort);
    world.chimney().advance(world.now);
    EXPECT_EQ(world.chimney().usage().paths, 1u);
    EXPECT_FALSE(world.chimney().detachable(*world.target_queue));
    world.run();
    world.run();
    EXPECT_EQ(world.chimney().usage().tcp.connections, 0u);
    EXPECT_EQ(world.chimney().usage().paths, 0u);
    EXPECT_EQ(world.chimney().usage().neighbors, 0u);
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
}

}  // namespace flue::chimney
