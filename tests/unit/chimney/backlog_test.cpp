#include "world.hpp"

namespace flue::chimney {

using namespace wire;

constexpr uint32_t peer_seq = World::rcv_nxt;
constexpr uint32_t our_seq  = World::snd_nxt;

uint32_t wanted_by_query(World& world, flue_conn conn) {
    world.post_and_run(
        World::request(FLUE_OP_QUERY, conn, 99, world.room(sizeof(flue_state), 32 * 1024)));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    return world.region_state(32 * 1024).send_backlog_wanted_bytes;
}

/// A connection whose peer allows `snd_wnd` bytes; each ACK of the World's peer says 64 KiB.
flue_conn offload_with_window(World& world, uint32_t snd_wnd) {
    flue_state block = World::state();
    block.cwnd       = 1 << 20;
    block.snd_wnd    = snd_wnd;
    return world.offload(block);
}

void send_and_acknowledge(World& world, flue_conn conn) {
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.peer_sends(peer_seq, our_seq + 3, tcp_ack);
}

TEST(SendBacklog, is_told_when_it_doubles_and_query_knows_it_too) {
    World world;
    const flue_conn conn = offload_with_window(world, 32 * 1024);
    EXPECT_EQ(wanted_by_query(world, conn), 64u * 1024);
    send_and_acknowledge(world, conn);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].wr_id, 2u);
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_SEND_BACKLOG);
    EXPECT_EQ(completions[1].bytes, 128u * 1024);
    EXPECT_EQ(completions[1].conn, conn);
    EXPECT_EQ(wanted_by_query(world, conn), 128u * 1024);
}

TEST(SendBacklog, is_told_when_it_halves) {
    World world;
    const flue_conn conn = offload_with_window(world, 128 * 1024);
    send_and_acknowledge(world, conn);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[1].bytes, 128u * 1024);
}

TEST(SendBacklog, less_than_a_factor_of_two_is_not_worth_an_event) {
    World world;
    const flue_conn conn = offload_with_window(world, 100 * 1024);
    send_and_acknowledge(world, conn);
    EXPECT_EQ(world.poll_one().wr_id, 2u);
}

TEST(SendBacklog, is_at_least_64_kib_with_a_shut_window_and_never_more_than_can_be_posted) {
    World world;
    EXPECT_EQ(wanted_by_query(world, offload_with_window(world, 0)), 64u * 1024);
    World other;
    flue_state block     = World::state();
    block.cwnd           = 1u << 30;
    block.snd_wnd        = 65535u << 14;
    block.max_snd_wnd    = block.snd_wnd;
    block.snd_wind_shift = 14;
    EXPECT_EQ(wanted_by_query(other, other.offload(block)), 1u << 30);
}

TEST(SendBacklog, an_event_that_found_no_room_tells_the_latest_figure) {
    World world(8);
    const flue_conn conn = offload_with_window(world, 32 * 1024);
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    for (uint64_t id = 3; id < 9; ++id) {
        world.post_and_run(World::request(FLUE_OP_RECV, conn, id, world.room(1, 8192)));
    }
    world.peer_sends(peer_seq, our_seq + 3, tcp_ack);
    EXPECT_EQ(world.poll_one().wr_id, 2u);
    world.run();
    EXPECT_EQ(world.poll_one().bytes, 128u * 1024);
}

TEST(SendBacklog, nobody_is_told_who_cannot_send_any_more) {
    World world;
    const flue_conn conn = offload_with_window(world, 32 * 1024);
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3));
    world.peer_sends(peer_seq, our_seq + 3, tcp_ack);
    EXPECT_EQ(world.poll_one().wr_id, 2u);
    World lost;
    send_and_acknowledge(lost, offload_with_window(lost, 64 * 1024));
    lost.poll();
    lost.chimney().lose(lost.now, *lost.target_queue, HostLoss::drain);
    lost.run();
    EXPECT_TRUE(lost.poll().empty());
}

TEST(SendBacklog, R14_terminate_says_that_it_does_not_tell) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(world.terminate_request(conn, 2));
    world.poll();
    EXPECT_EQ(world.region_state().send_backlog_wanted_bytes, UINT32_MAX);
}

}  // namespace flue::chimney
