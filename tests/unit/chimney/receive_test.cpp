#include "world.hpp"

namespace flue::chimney {

using namespace wire;

constexpr uint32_t peer_seq = World::rcv_nxt;
constexpr uint32_t our_seq  = World::snd_nxt;

flue_wr receive(
    flue_conn conn, uint64_t wr_id, uint32_t length, uint64_t offset, uint8_t flags = 0) {
    flue_wr wr =
        World::request(FLUE_OP_RECV, conn, wr_id, {.mr = 0, .length = length, .offset = offset});
    wr.flags = flags;
    return wr;
}

struct Receive : testing::Test {
    flue_wr recv(uint64_t wr_id, uint32_t length, uint64_t offset, uint8_t flags = 0) const {
        flue_wr wr   = receive(conn, wr_id, length, offset, flags);
        wr.sge[0].mr = world.region_key;
        return wr;
    }

    World world;
    flue_conn conn = world.offload();
};

TEST_F(Receive, R46_requests_are_filled_and_completed_in_order) {
    world.post(recv(2, 4, 4096));
    world.post_and_run(recv(3, 4, 8192));
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abcdefgh");
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].wr_id, 2u);
    EXPECT_EQ(completions[1].wr_id, 3u);
    EXPECT_EQ(world.region_text(4096, 4) + world.region_text(8192, 4), "abcdefgh");
}

TEST_F(Receive, R49_a_no_push_request_completes_only_when_full) {
    world.post_and_run(recv(2, 8, 4096, FLUE_WR_NO_PUSH));
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abcd");
    world.wait_us(600'000);
    EXPECT_TRUE(world.poll().empty());
    world.peer_sends(peer_seq + 4, our_seq, tcp_ack, "efgh");
    EXPECT_EQ(world.poll_one().bytes, 8u);
}

TEST_F(Receive, R50_a_push_request_completes_on_psh) {
    world.post_and_run(recv(2, 8, 4096));
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abc");
    EXPECT_EQ(world.poll_one().bytes, 3u);
}

TEST_F(Receive, R50_R51_a_push_request_completes_when_the_restarted_push_timer_expires) {
    world.post_and_run(recv(2, 8, 4096));
    world.peer_sends(peer_seq, our_seq, tcp_ack, "abc");
    world.wait_us(400'000);
    world.peer_sends(peer_seq + 3, our_seq, tcp_ack, "de");
    world.wait_us(400'000);
    EXPECT_TRUE(world.poll().empty());
    world.wait_us(150'000);
    EXPECT_EQ(world.poll_one().bytes, 5u);
}

TEST_F(Receive, R53_R54_data_is_announced_once_until_a_request_is_posted) {
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abc");
    EXPECT_EQ(world.poll_one().opcode, FLUE_EVENT_DATA_AVAILABLE);
    world.peer_sends(peer_seq + 3, our_seq, tcp_ack | tcp_psh, "def");
    EXPECT_TRUE(world.poll().empty());
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 2));  // zero length: consumes nothing
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].wr_id, 2u);
    EXPECT_EQ(completions[0].bytes, 0u);
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(completions[1].bytes, 6u);
}

TEST_F(Receive, pushed_data_that_waited_completes_a_larger_request_at_once) {
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abc");
    world.poll();
    world.post_and_run(recv(2, 100, 4096));
    EXPECT_EQ(world.poll_one().bytes, 3u);
}

TEST_F(Receive, R58_R81_the_peers_fin_is_told_after_the_data_and_then_requests_are_refused) {
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_fin | tcp_psh, "abc");
    EXPECT_EQ(world.poll_one().opcode, FLUE_EVENT_DATA_AVAILABLE);
    world.post_and_run(recv(2, 3, 4096));
    auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].bytes, 3u);
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_DISCONNECT);
    world.post_and_run(recv(3, 3, 4096));
    EXPECT_EQ(world.poll_one().status, FLUE_INVALID_STATE);
}

TEST_F(Receive, requests_pending_at_the_peers_fin_complete_with_what_they_hold) {
    world.post(recv(2, 8, 4096, FLUE_WR_NO_PUSH));
    world.post_and_run(recv(3, 8, 8192));
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_fin, "abc");
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 3u);
    EXPECT_EQ(completions[0].bytes, 3u);
    EXPECT_EQ(completions[1].bytes, 0u);
    EXPECT_EQ(completions[1].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[2].opcode, FLUE_EVENT_DISCONNECT);
}

TEST_F(Receive, the_window_shows_what_waits) {
    uint32_t seq = peer_seq;
    for (int i = 0; i < 20; ++i, seq += 1000) {
        world.peer_sends(seq, our_seq, tcp_ack, std::string(1000, 'x'));
    }
    world.wait_us(100'000);
    const auto sent = world.take_sent();
    ASSERT_FALSE(sent.empty());
    EXPECT_EQ(sent.back().tcp.ack.value, seq);
    // Rounded up to what the field can express, by an eighth of the window at most.
    EXPECT_LE(uint32_t{sent.back().tcp.window} << 7, 65536u - 20'000u + 65536u / 8);
}

TEST_F(Receive, a_bad_region_is_reported_in_its_turn) {
    world.post(recv(2, 3, 4096));
    world.post(recv(3, 10, World::region_bytes - 2));
    world.post_and_run(recv(4, 3, 8192));
    EXPECT_TRUE(world.poll().empty());
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abcdef");
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 3u);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[1].status, FLUE_BAD_REGION);
    EXPECT_EQ(completions[2].bytes, 3u);
}

TEST(Events, wait_for_room_in_the_completion_ring_and_are_never_lost) {
    World world(8);  // room for 7
    const flue_conn conn = world.offload();
    for (uint64_t id = 2; id < 9; ++id) {
        world.post(World::request(FLUE_OP_QUERY, conn, id, world.room(sizeof(flue_state), 4096)));
    }
    world.run();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abc");
    world.peer_sends(peer_seq + 3, our_seq, tcp_rst);
    const auto full = world.poll();
    EXPECT_EQ(full.size(), 7u);
    world.run();
    const auto events = world.poll();
    ASSERT_EQ(events.size(), 2u);
    EXPECT_EQ(events[0].opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(events[1].opcode, FLUE_EVENT_ABORT);
}

}  // namespace flue::chimney
