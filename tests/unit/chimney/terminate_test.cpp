#include "world.hpp"

namespace flue::chimney {

using namespace wire;

constexpr uint32_t peer_seq = World::rcv_nxt;
constexpr uint32_t our_seq  = World::snd_nxt;

TEST(Terminate, R42_R101_R110_R111_everything_outstanding_completes_first) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("abcd", 4096)));
    world.post(World::request(FLUE_OP_RECV, conn, 3, world.room(10, 8192)));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 4, world.put("ef", 12288)));
    world.peer_sends(peer_seq, our_seq + 3, tcp_ack);
    world.post_and_run(world.terminate_request(conn, 5));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 4u);
    EXPECT_EQ(completions[0].wr_id, 2u);
    EXPECT_EQ(completions[0].bytes, 3u);
    EXPECT_EQ(completions[1].wr_id, 4u);
    EXPECT_EQ(completions[2].wr_id, 3u);
    for (uint32_t i = 0; i < 3; ++i) {
        EXPECT_EQ(completions[i].status, FLUE_UPLOAD_IN_PROGRESS);
    }
    EXPECT_EQ(completions[3].wr_id, 5u);
    const flue_state state = world.region_state();
    EXPECT_EQ(state.tcp_state, FLUE_TCP_FIN_WAIT_1);
    EXPECT_EQ(state.snd_una, our_seq + 3);
    EXPECT_EQ(state.snd_max, our_seq + 7);
    EXPECT_EQ(state.send_backlog_bytes, 3u);
    world.expect_nothing_left();
}

TEST(Terminate, R103_an_owed_ack_is_sent_before_the_completion) {
    World world;
    const flue_conn conn = world.offload();
    world.run();
    world.peer_sends(
        peer_seq, our_seq, tcp_ack, "x");  // the first after a hand-off is acknowledged at once
    world.take_sent();
    world.peer_sends(peer_seq + 1, our_seq, tcp_ack, "y");  // this one may wait
    world.poll();
    world.port_open = false;
    world.post_and_run(world.terminate_request(conn, 2));
    const bool ack_was_owed = world.take_sent().empty();
    EXPECT_TRUE(ack_was_owed);
    EXPECT_TRUE(world.poll().empty());
    world.port_open = true;
    world.run();
    EXPECT_EQ(world.take_sent().at(0).tcp.ack.value, peer_seq + 2);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
}

TEST(Terminate, R108_undelivered_data_comes_back_and_its_length_is_needed_first) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "undelivered");
    world.poll();
    flue_wr too_small       = world.terminate_request(conn, 2);
    too_small.sge[1].length = 5;
    world.post_and_run(too_small);
    const flue_wc refused = world.poll_one();
    EXPECT_EQ(refused.status, FLUE_BAD_LENGTH);
    EXPECT_EQ(refused.bytes, 11u);
    world.post_and_run(world.terminate_request(conn, 3));
    EXPECT_EQ(world.poll_one().bytes, 11u);
    EXPECT_EQ(world.region_text(512 * 1024, 11), "undelivered");
    EXPECT_EQ(world.region_state().rcv_nxt, peer_seq + 11);
    EXPECT_EQ(world.region_state().receive_backlog_bytes, 11u);
    world.expect_nothing_left();
}

TEST(Terminate, R10_constant_and_cached_fields_are_left_alone) {
    World world;
    const flue_conn conn = world.offload();
    flue_state marked    = World::state();
    marked.path_mtu      = 777;
    world.put_state(marked);
    world.post_and_run(world.terminate_request(conn, 2));
    world.poll();
    EXPECT_EQ(world.region_state().path_mtu, 777);
    EXPECT_EQ(world.region_state().snd_una, our_seq);
}

TEST(Terminate, R104_segments_that_arrive_afterwards_take_the_exception_path) {
    World world;
    const flue_conn conn = world.offload();
    world.hold_items     = true;
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post_and_run(world.terminate_request(conn, 3));
    EXPECT_TRUE(world.poll().empty());  // a NIC still refers to the send's memory
    world.peer_sends(peer_seq, our_seq + 3, tcp_ack, "during");
    EXPECT_EQ(world.exceptions.size(), 1u);
    world.drop_held_items();
    world.run();
    EXPECT_EQ(world.poll().size(), 2u);
    EXPECT_EQ(world.region_state().snd_una,
              our_seq);  // the ACK during termination was not ours to process
    world.peer_sends(peer_seq, our_seq + 3, tcp_ack, "after");
    EXPECT_EQ(world.exceptions.size(), 2u);
    world.expect_nothing_left();
}

TEST(Terminate, keep_held_keeps_segments_until_release_and_shows_the_fin_again) {
    World world;
    const flue_conn conn = world.offload(World::state(FLUE_TCP_CLOSE_WAIT));
    world.post_and_run(world.terminate_request(conn, 2, FLUE_WR_KEEP_HELD));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_EQ(world.from_peer(peer_seq, our_seq, tcp_ack), Chimney::Disposition::hold);
    flue_wr release = World::request(FLUE_OP_RELEASE, conn, 3);
    release.flags   = FLUE_WR_REPLAY_FIN;
    world.post_and_run(release);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    ASSERT_EQ(world.shown.size(), 1u);
    EXPECT_EQ(world.shown[0].seq.value, peer_seq - 1);
    EXPECT_EQ(world.shown[0].ack.value, our_seq);
    EXPECT_TRUE(world.shown[0].flags & tcp_fin);
    EXPECT_EQ(world.exceptions.size(), 1u);
    world.expect_nothing_left();
}

TEST(Terminate, a_connection_goes_out_and_in_again_under_its_handle_and_loses_nothing) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "one ");
    world.poll();
    world.post_and_run(world.terminate_request(conn, 2, FLUE_WR_KEEP_HELD));
    world.from_peer(peer_seq + 4, our_seq, tcp_ack | tcp_psh, "two");
    const flue_wc terminated = world.poll_one();
    flue_wr again   = World::request(FLUE_OP_OFFLOAD, conn, 3, world.room(sizeof(flue_state), 0));
    again.sge[1]    = world.room(terminated.bytes, 512 * 1024);
    again.sge_count = 2;
    world.post(again);
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 4, world.room(7, 4096)));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[1].bytes, 7u);
    EXPECT_EQ(world.region_text(4096, 7), "one two");
}

TEST(Terminate, R100_after_an_rst_the_state_is_closed_and_undelivered_data_still_comes_back) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "acked");
    world.peer_sends(peer_seq + 5, our_seq, tcp_rst);
    world.poll();
    world.post_and_run(world.terminate_request(conn, 2));
    EXPECT_EQ(world.poll_one().bytes, 5u);
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_CLOSED);
    EXPECT_EQ(world.region_text(512 * 1024, 5), "acked");
    world.expect_nothing_left();
}

TEST(HostLoss, drain_sends_what_was_posted_then_fin_then_waits_2msl_and_frees) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_RECV, conn, 2, world.room(100, 8192)));
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 3, world.put("last words", 4096)));
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    world.run();
    EXPECT_EQ(world.sent_with(tcp_fin), 1u);
    EXPECT_EQ(world.sent_with(tcp_rst), 0u);
    EXPECT_FALSE(world.chimney().detachable(*world.target_queue));
    world.peer_sends(peer_seq, our_seq + 11, tcp_ack, "nobody reads this");
    world.peer_sends(peer_seq + 17, our_seq + 11, tcp_ack | tcp_fin);
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
    EXPECT_EQ(world.chimney().usage().time_waits, 1u);
    EXPECT_EQ(world.chimney().usage().tcp.connections, 0u);
    EXPECT_TRUE(world.poll().empty());
    world.now = world.now + 61'000'000;
    world.run();
    EXPECT_EQ(world.flow_count(), 0u);
}

/// The host dies after OFFLOAD and before the SEND for the 4 bytes that the kernel had sent.
TEST(HostLoss, bytes_that_were_never_posted_hold_the_fin_back_until_the_peer_has_them) {
    World world;
    flue_state block = World::state();
    block.snd_nxt = block.snd_max = our_seq + 4;
    world.offload(block);
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    world.run();
    EXPECT_EQ(world.sent_with(tcp_fin), 0u);
    world.peer_sends(peer_seq, our_seq + 4, tcp_ack);
    ASSERT_EQ(world.sent_with(tcp_fin), 1u);
    EXPECT_EQ(world.sent.back().tcp.seq.value, our_seq + 4);
    world.peer_sends(peer_seq, our_seq + 5, tcp_ack | tcp_fin);
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
}

TEST(HostLoss, a_peer_that_never_acknowledges_unposted_bytes_does_not_keep_them_for_ever) {
    World world;
    flue_state block = World::state();
    block.snd_nxt = block.snd_max = our_seq + 4;
    world.offload(block);
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    for (int minute = 0; minute < 30 && !world.chimney().detachable(*world.target_queue);
         ++minute) {
        world.now = world.now + 60'000'000;
        world.run();
    }
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
    EXPECT_EQ(world.sent_with(tcp_rst), 0u);
}

TEST(HostLoss, a_connection_that_stands_still_needs_no_item_for_a_fin) {
    Options options               = World::options();
    options.sessions              = 1;
    options.tcp.limits.send_items = 4;
    World world(256, options);
    const flue_conn conn = world.offload();
    for (uint64_t id = 2; id < 4; ++id) {  // every item there is
        flue_wr wr   = World::request(FLUE_OP_SEND, conn, id, world.put("abc", 4096));
        wr.sge[1]    = wr.sge[0];
        wr.sge_count = 2;
        world.post_and_run(wr);
    }
    EXPECT_EQ(world.chimney().engine().free_items(), 0u);
    world.target_queue->abandon();
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    world.run();
    EXPECT_FALSE(world.chimney().detachable(*world.target_queue));
    world.peer_sends(peer_seq, our_seq, tcp_syn | tcp_ack);  // ends it: nothing is acknowledged now
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
    EXPECT_EQ(world.chimney().usage().tcp.send_items, 0u);
}

TEST(HostLoss, abort_resets_and_frees) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.chimney().lose(world.now, *world.target_queue, HostLoss::abort);
    world.run();
    EXPECT_EQ(world.sent_with(tcp_rst), 1u);
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
    EXPECT_EQ(world.flow_count(), 0u);
}

TEST(HostLoss, a_connection_that_the_peer_has_reset_waits_for_no_rst_of_ours) {
    for (const HostLoss policy : {HostLoss::abort, HostLoss::drain}) {
        World world;
        world.offload();
        world.peer_sends(peer_seq, our_seq, tcp_rst);
        world.chimney().lose(world.now, *world.target_queue, policy);
        world.run();
        EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
        EXPECT_EQ(world.sent_with(tcp_rst), 0u);
    }
}

TEST(HostLoss, a_posted_abort_is_carried_out_whatever_the_policy) {
    for (const HostLoss policy : {HostLoss::abort, HostLoss::drain}) {
        World world;
        const flue_conn conn = world.offload();
        world.port_open      = false;
        world.post_and_run(World::abort_request(conn, 2));
        world.chimney().lose(world.now, *world.target_queue, policy);
        world.run();
        EXPECT_FALSE(world.chimney().detachable(*world.target_queue));
        world.port_open = true;
        world.run();
        EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
        EXPECT_EQ(world.sent_with(tcp_rst), 1u);
    }
}

/// The host dies after OFFLOAD and before the DISCONNECT that would have waited for the FIN.
TEST(HostLoss, a_fin_that_nobody_waits_for_ends_the_connection_when_it_is_acknowledged) {
    World world;
    flue_state block = World::state(FLUE_TCP_LAST_ACK);
    block.snd_nxt = block.snd_max = our_seq + 1;
    world.offload(block);
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    world.run();
    EXPECT_FALSE(world.chimney().detachable(*world.target_queue));
    world.peer_sends(peer_seq, our_seq + 1, tcp_ack);
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
    EXPECT_EQ(world.flow_count(), 0u);
}

TEST(HostLoss, a_held_tuple_goes_back_to_the_kernel) {
    World world;
    world.post_and_run(
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(World::state())));
    world.from_peer(peer_seq, our_seq, tcp_ack, "kept");
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    world.run();
    EXPECT_EQ(world.exceptions.size(), 1u);
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
}

TEST(HostLoss, a_terminate_that_was_posted_still_ends_the_offload) {
    World world;
    const flue_conn conn = world.offload();
    world.hold_items     = true;
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post_and_run(world.terminate_request(conn, 3, FLUE_WR_KEEP_HELD));
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    world.run();
    EXPECT_FALSE(world.chimney().detachable(*world.target_queue));
    world.drop_held_items();
    world.run();
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
    EXPECT_EQ(world.flow_count(), 0u);
}

TEST(Terminate, is_taken_though_what_stands_still_has_the_whole_share_of_requests) {
    World world;
    const flue_conn conn = world.offload();
    for (uint64_t id = 2; id < 102; ++id) {
        world.post(World::request(FLUE_OP_RECV, conn, id, world.room(4, 4096)));
    }
    world.post_and_run(world.terminate_request(conn, 200));
    EXPECT_TRUE(world.poll().empty()) << "the share is smaller than what waits";
    world.peer_sends(World::rcv_nxt, World::snd_nxt, wire::tcp_syn | wire::tcp_ack);
    std::vector<flue_wc> completions;
    for (int turn = 0; turn < 20; ++turn) {
        world.run();
        const auto more = world.poll();
        completions.insert(completions.end(), more.begin(), more.end());
    }
    ASSERT_EQ(completions.size(), 102u);
    EXPECT_EQ(std::ranges::count(completions, FLUE_UPLOAD_IN_PROGRESS, &flue_wc::status), 100);
    EXPECT_EQ(completions.back().wr_id, 200u);
    EXPECT_EQ(completions.back().status, FLUE_SUCCESS);
    world.expect_nothing_left();
}

}  // namespace flue::chimney
