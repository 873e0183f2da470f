#include "tree_builder.hpp"

namespace flue::chimney {

using namespace wire;

namespace {

Options stale_after(uint32_t ms) {
    Options options      = World::options();
    options.nce_stale_ms = ms;
    return options;
}

flue_neighbor_state neighbor_of(Family& family) {
    return family.query<flue_neighbor_state>(family.neighbor, FLUE_NEIGHBOR);
}

/// Has the first connection send one byte; returns how many REACHABILITY events came.
uint32_t events_after_send(World& world, Family& family) {
    world.post_and_run(
        World::request(FLUE_OP_SEND, family.connections[0], 80, world.put("x", 65536)));
    uint32_t count = 0;
    for (const flue_wc& wc : world.poll()) {
        if (wc.opcode == FLUE_EVENT_REACHABILITY) {
            EXPECT_EQ(wc.conn, family.neighbor);
            EXPECT_EQ(wc.host_handle, 1000u);
            ++count;
        }
    }
    return count;
}

}  // namespace

TEST(Reachability, only_forward_progress_counts_as_having_heard_of_the_neighbor) {
    World world;
    Family family(world);
    EXPECT_EQ(neighbor_of(family).nic_reachability_ms, UINT32_MAX);
    EXPECT_EQ(events_after_send(world, family), 0u);
    world.peer_sends(World::rcv_nxt, World::snd_nxt, tcp_ack);
    EXPECT_EQ(neighbor_of(family).nic_reachability_ms, UINT32_MAX) << "nothing new acknowledged";
    world.peer_sends(World::rcv_nxt, World::snd_nxt + 1, tcp_ack);
    EXPECT_EQ(world.poll_one().opcode, FLUE_OP_SEND);
    EXPECT_EQ(neighbor_of(family).nic_reachability_ms, 0u);
    world.wait_us(50'000);
    EXPECT_EQ(neighbor_of(family).nic_reachability_ms, 50u);
}

TEST(Reachability, ages_come_with_the_offload_and_grow) {
    World world;
    TreeBuilder tree(world);
    flue_neighbor_state state  = TreeBuilder::neighbor_state();
    state.host_reachability_ms = 7;
    state.nic_reachability_ms  = UINT32_MAX - 1;  // longer ago than the clock runs
    tree.neighbor(state);
    ASSERT_EQ(tree.offload(), FLUE_SUCCESS);
    world.wait_us(10'000);
    flue_wr wr = World::request(FLUE_OP_QUERY, tree.handle(0), 1, world.room(64, 4096));
    wr.object  = FLUE_NEIGHBOR;
    world.post_and_run(wr);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    std::memcpy(&state, world.region_text(4096, sizeof(state)).data(), sizeof(state));
    EXPECT_EQ(state.host_reachability_ms, 17u);
    EXPECT_EQ(state.nic_reachability_ms, UINT32_MAX);
}

TEST(Reachability, a_stale_neighbor_that_is_sent_to_is_asked_for_once) {
    World world(256, stale_after(100));
    Family family(world);
    EXPECT_EQ(events_after_send(world, family), 1u) << "neither side ever knew it";
    EXPECT_EQ(events_after_send(world, family), 0u);
    flue_neighbor_state fresh  = TreeBuilder::neighbor_state();
    fresh.host_reachability_ms = 0;
    EXPECT_EQ(family.answer(family.update(family.neighbor, FLUE_NEIGHBOR, fresh)), FLUE_SUCCESS);
    EXPECT_EQ(events_after_send(world, family), 0u);
    world.peer_sends(World::rcv_nxt, World::snd_nxt + 1, tcp_ack);
    world.wait_us(90'000);
    EXPECT_EQ(events_after_send(world, family), 0u);
    world.wait_us(20'000);
    EXPECT_EQ(events_after_send(world, family), 1u);
    // Progress ends the doubt, and a new one may come.
    world.peer_sends(World::rcv_nxt, World::snd_nxt + 4, tcp_ack);
    world.poll();
    EXPECT_EQ(events_after_send(world, family), 0u);
}

TEST(Reachability, by_default_nobody_is_asked) {
    World world;
    Family family(world);
    EXPECT_EQ(events_after_send(world, family), 0u);
}

TEST(Reachability, the_event_waits_for_room_and_goes_with_its_neighbor) {
    World world(8, stale_after(100));
    Family family(world);
    for (uint64_t i = 0; i < 7; ++i) {  // all the room there is, for completions to come
        world.post(World::request(FLUE_OP_RECV, family.connections[0], i, world.room(8, 4096)));
    }
    world.run();
    // The neighbor is sent to by an ACK of what the peer sends.
    world.from_peer(World::rcv_nxt, World::snd_nxt, tcp_ack | tcp_fin);
    world.run();
    uint32_t events = 0;
    for (int i = 0; i < 4; ++i) {
        for (const flue_wc& wc : world.poll()) {
            events += wc.opcode == FLUE_EVENT_REACHABILITY ? 1u : 0u;
        }
        world.run();
    }
    EXPECT_EQ(events, 1u);
    EXPECT_EQ(world.take_sent().at(0).tcp.flags, tcp_ack);
}

}  // namespace flue::chimney
