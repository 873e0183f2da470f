#include <gtest/gtest.h>

#include "world.hpp"

namespace flue::chimney {

namespace {

using wire::tcp_ack;
using wire::tcp_fin;
using wire::tcp_psh;

constexpr uint32_t peer_seq = World::rcv_nxt;
constexpr uint32_t our_seq  = World::snd_nxt;

flue_conn hold(World& world, uint16_t remote_port) {
    world.post_and_run(World::request(
        FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(World::state(4, remote_port))));
    return world.poll_one().conn;
}

/// The events that follow a reattachment, in order.
std::vector<uint8_t> events_of_next_host(World& world) {
    world.chimney().reattach(*world.target_queue);
    world.run();
    std::vector<uint8_t> events;
    for (const flue_wc& wc : world.poll()) {
        events.push_back(wc.opcode);
    }
    return events;
}

}  // namespace

TEST(Reattach, the_next_host_is_told_of_each_connection_and_its_state) {
    World world;
    const flue_conn live = world.offload();
    const flue_conn held = hold(world, 81);
    world.chimney().reattach(*world.target_queue);
    world.run();
    const auto told = world.poll();
    ASSERT_EQ(told.size(), 2u);
    for (const flue_wc& wc : told) {
        EXPECT_EQ(wc.opcode, FLUE_EVENT_REATTACHED);
        EXPECT_EQ(wc.info, wc.conn == live ? FLUE_TCP_ESTABLISHED : FLUE_TCP_CLOSED);
        EXPECT_TRUE(wc.conn == live || wc.conn == held);
    }
    EXPECT_EQ(told[told[0].conn == live ? 0 : 1].host_handle, 0xabcdu);
    world.run();
    EXPECT_TRUE(world.poll().empty());
    world.post_and_run(world.terminate_request(live, 2));
    world.post_and_run(World::request(FLUE_OP_RELEASE, held, 3));
    EXPECT_EQ(world.poll().size(), 2u);
    world.expect_nothing_left();
}

TEST(Reattach, outstanding_requests_complete_with_their_own_wr_ids) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 11, world.room(100, 8192)));
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 12, world.put("sent before", 4096)));
    EXPECT_EQ(events_of_next_host(world), std::vector<uint8_t>{FLUE_EVENT_REATTACHED});
    world.peer_sends(peer_seq, our_seq + 11, tcp_ack | tcp_psh, "an answer");
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].wr_id + completions[1].wr_id, 23u);
    EXPECT_EQ(world.region_text(8192, 9), "an answer");
}

TEST(Reattach, what_the_host_before_was_told_and_still_holds_is_told_again) {
    World world;
    world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "nobody has read this");
    EXPECT_EQ(world.poll_one().opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(events_of_next_host(world),
              (std::vector<uint8_t>{FLUE_EVENT_REATTACHED, FLUE_EVENT_DATA_AVAILABLE}));
}

TEST(Reattach, the_peers_fin_is_told_again_and_data_that_was_taken_is_not) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 11, world.room(4, 8192)));
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_fin, "data");
    EXPECT_EQ(world.poll().size(), 2u);
    EXPECT_EQ(events_of_next_host(world),
              (std::vector<uint8_t>{FLUE_EVENT_REATTACHED, FLUE_EVENT_DISCONNECT}));
}

TEST(Reattach, events_wait_for_room_and_connections_may_leave_meanwhile) {
    World world(8);
    std::vector<flue_conn> held;
    for (uint16_t port = 80; port < 88; ++port) {
        held.push_back(hold(world, port));
    }
    // A RECV each would be refused; refused QUERYs fill the ring, so that no event finds room.
    for (uint64_t id = 1; id <= 7; ++id) {
        world.post_and_run(World::request(FLUE_OP_QUERY, FLUE_NO_CONN, id));
    }
    world.chimney().reattach(*world.target_queue);
    world.run();
    const auto refused = world.poll();
    ASSERT_EQ(refused.size(), 7u);
    EXPECT_EQ(refused.back().opcode, FLUE_OP_QUERY);

    // The first to be told is the last that was made.  It leaves with its event unposted.
    world.post(World::request(FLUE_OP_RELEASE, held.back(), 8));
    world.run();
    std::vector<flue_conn> told;
    for (int turn = 0; turn < 3; ++turn) {
        for (const flue_wc& wc : world.poll()) {
            if (wc.opcode == FLUE_EVENT_REATTACHED) {
                told.push_back(wc.conn);
            }
        }
        world.run();
    }
    held.pop_back();
    std::ranges::sort(told);
    std::ranges::sort(held);
    EXPECT_EQ(told, held);
}

TEST(Reattach, R27_the_next_host_is_told_that_the_target_takes_nothing_new) {
    World world;
    world.chimney().set_intake(Intake::paused);
    world.run();
    EXPECT_EQ(world.poll_one().opcode, FLUE_EVENT_PAUSE);
    EXPECT_EQ(events_of_next_host(world), std::vector<uint8_t>{FLUE_EVENT_PAUSE});
}

TEST(Reattach, a_host_that_dies_again_leaves_its_connections_to_the_policy) {
    World world;
    world.offload();
    world.chimney().reattach(*world.target_queue);
    world.chimney().lose(world.now, *world.target_queue, HostLoss::abort);
    world.run();
    EXPECT_TRUE(world.poll().empty());
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
}

}  // namespace flue::chimney
