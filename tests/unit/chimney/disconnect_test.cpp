#include "world.hpp"

namespace flue::chimney {

using namespace wire;

constexpr uint32_t peer_seq = World::rcv_nxt;
constexpr uint32_t our_seq  = World::snd_nxt;

TEST(Disconnect, R65_R67_data_of_the_request_goes_before_the_fin_and_behind_earlier_sends) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("first ", 4096)));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("last", 8192)));
    std::string stream;
    for (const SentSegment& segment : world.take_sent()) {
        stream += segment.payload;
        if (segment.tcp.flags & tcp_fin) {
            stream += "FIN";
        }
    }
    EXPECT_EQ(stream, "first lastFIN");
    EXPECT_TRUE(world.poll().empty());  // R69: nothing is acknowledged yet
}

TEST(Disconnect, R68_R69_R71_completes_after_the_sends_when_data_and_fin_are_acknowledged) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("first ", 4096)));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("last", 8192)));
    world.peer_sends(peer_seq, our_seq + 10, tcp_ack);  // all data, not the FIN
    const flue_wc send = world.poll_one();
    EXPECT_EQ(send.wr_id, 2u);
    EXPECT_EQ(send.bytes, 6u);
    world.peer_sends(peer_seq, our_seq + 11, tcp_ack);
    const flue_wc disconnect = world.poll_one();
    EXPECT_EQ(disconnect.wr_id, 3u);
    EXPECT_EQ(disconnect.status, FLUE_SUCCESS);
    EXPECT_EQ(disconnect.bytes, 4u);
    EXPECT_EQ(world.chimney().usage().tcp.connections, 1u);  // R80
}

TEST(Disconnect, R72_the_receive_half_lives_on_after_the_fin) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 2));
    world.peer_sends(peer_seq, our_seq + 1, tcp_ack);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 3, world.room(5, 4096)));
    world.peer_sends(peer_seq, our_seq + 1, tcp_ack | tcp_psh, "later");
    EXPECT_EQ(world.poll_one().bytes, 5u);
    world.peer_sends(peer_seq + 5, our_seq + 1, tcp_ack | tcp_fin);
    const auto last = world.poll();
    ASSERT_EQ(last.size(), 2u);
    EXPECT_EQ(last[0].opcode, FLUE_EVENT_DISCONNECT);
    EXPECT_EQ(last[1].opcode, FLUE_EVENT_UPLOAD_REQUEST);  // R93: TIME_WAIT belongs to the host
    EXPECT_EQ(last[1].info, FLUE_UPLOAD_REQUESTED);
}

TEST(Disconnect, R74_R75_R77_abortive_sends_an_rst_and_completes_after_all_sends) {
    World world;
    const flue_conn conn = world.offload();
    for (uint64_t id = 2; id < 5; ++id) {
        world.post(World::request(
            FLUE_OP_SEND, conn, id, world.put(std::string(40'000, 's'), id * 65536)));
    }
    world.post(World::request(FLUE_OP_RECV, conn, 5, world.room(10, 4096)));
    world.run();
    world.take_sent();
    world.post_and_run(World::abort_request(conn, 6));
    const auto sent = world.take_sent();
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_TRUE(sent[0].tcp.flags & tcp_rst);
    EXPECT_TRUE(sent[0].payload.empty());
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 5u);
    for (uint32_t i = 0; i < 4; ++i) {
        EXPECT_EQ(completions[i].wr_id, i + 2);
        EXPECT_EQ(completions[i].status, FLUE_REQUEST_ABORTED);
    }
    EXPECT_EQ(completions[4].wr_id, 6u);
    EXPECT_EQ(completions[4].status, FLUE_SUCCESS);
}

TEST(Disconnect, R77_abortive_completes_only_when_the_rst_has_been_sent) {
    World world;
    const flue_conn conn = world.offload();
    world.port_open      = false;
    world.post_and_run(World::abort_request(conn, 2));
    EXPECT_TRUE(world.poll().empty());
    world.port_open = true;
    world.run();
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
}

TEST(Disconnect, R76_after_an_abort_nothing_is_processed_or_acknowledged) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(World::abort_request(conn, 2));
    world.poll();
    world.take_sent();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "too late");
    EXPECT_TRUE(world.take_sent().empty());
    EXPECT_TRUE(world.poll().empty());
}

TEST(Disconnect, R73_abortive_after_graceful_aborts_what_is_pending_in_order) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("defg", 8192)));
    world.peer_sends(peer_seq, our_seq + 5, tcp_ack);  // "abc" and 2 bytes of the disconnect
    EXPECT_EQ(world.poll_one().wr_id, 2u);
    world.post_and_run(World::abort_request(conn, 4));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].wr_id, 3u);
    EXPECT_EQ(completions[0].status, FLUE_REQUEST_ABORTED);
    EXPECT_EQ(completions[0].bytes, 2u);  // R71
    EXPECT_EQ(completions[1].wr_id, 4u);
    EXPECT_EQ(completions[1].status, FLUE_SUCCESS);
}

TEST(Disconnect, a_second_graceful_one_and_a_send_after_it_are_refused_in_order_without_effect) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_DISCONNECT, conn, 2, world.put("bye", 4096)));
    world.post(World::request(FLUE_OP_DISCONNECT, conn, 3));
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 4, world.put("more", 8192)));
    EXPECT_TRUE(world.poll().empty());
    EXPECT_EQ(world.sent_with(tcp_fin), 1u);
    world.peer_sends(peer_seq, our_seq + 4, tcp_ack);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 3u);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[1].status, FLUE_INVALID_STATE);
    EXPECT_EQ(completions[2].status, FLUE_INVALID_STATE);
    EXPECT_EQ(completions[2].wr_id, 4u);
}

TEST(Disconnect, R43_R84_R85_a_peers_rst_aborts_everything_outstanding_and_then_is_told) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post(World::request(FLUE_OP_RECV, conn, 3, world.room(10, 8192)));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 4));
    world.peer_sends(peer_seq, our_seq, tcp_rst);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 4u);
    EXPECT_EQ(completions[0].wr_id, 2u);
    EXPECT_EQ(completions[1].wr_id, 4u);
    EXPECT_EQ(completions[2].wr_id, 3u);
    for (uint32_t i = 0; i < 3; ++i) {
        EXPECT_EQ(completions[i].status, FLUE_REQUEST_ABORTED);
    }
    EXPECT_EQ(completions[3].opcode, FLUE_EVENT_ABORT);
    world.post(World::request(FLUE_OP_DISCONNECT, conn, 5));
    world.post_and_run(World::abort_request(conn, 6));
    const auto after = world.poll();
    ASSERT_EQ(after.size(), 2u);
    EXPECT_EQ(after[0].status, FLUE_REQUEST_ABORTED);  // graceful after a remote RST
    EXPECT_EQ(after[1].status, FLUE_SUCCESS);          // abortive after a remote RST
}

TEST(Disconnect, R83_half_close_by_the_peer_leaves_the_send_half_open) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_fin);
    EXPECT_EQ(world.poll_one().opcode, FLUE_EVENT_DISCONNECT);
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("still", 4096)));
    world.peer_sends(peer_seq + 1, our_seq + 5, tcp_ack);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3));
    world.peer_sends(peer_seq + 1, our_seq + 6, tcp_ack);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    world.post_and_run(world.terminate_request(conn, 4));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_CLOSED);
    world.expect_nothing_left();
}

TEST(Disconnect, drain_deadline_is_reported_and_the_drain_goes_on) {
    World world;
    const flue_conn conn = world.offload();
    flue_wr wr           = World::request(FLUE_OP_DISCONNECT, conn, 2, world.put("slow", 4096));
    wr.drain_ms          = 50;
    world.post_and_run(wr);
    world.wait_us(60'000);
    const flue_wc event = world.poll_one();
    EXPECT_EQ(event.opcode, FLUE_EVENT_DRAIN_DEADLINE);
    EXPECT_EQ(event.bytes, 4u);
    world.peer_sends(peer_seq, our_seq + 5, tcp_ack);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
}

TEST(Disconnect, drain_deadline_is_met_by_the_ack_whatever_the_nic_still_holds) {
    World world;
    const flue_conn conn = world.offload();
    world.hold_items     = true;
    flue_wr wr           = World::request(FLUE_OP_DISCONNECT, conn, 2, world.put("quick", 4096));
    wr.drain_ms          = 50;
    wr.flags             = FLUE_WR_DEADLINE_ABORT;
    world.post_and_run(wr);
    world.peer_sends(peer_seq, our_seq + 6, tcp_ack);
    world.wait_us(60'000);
    EXPECT_EQ(world.sent_with(tcp_rst), 0u);
    EXPECT_TRUE(world.poll().empty());
    world.drop_held_items();
    world.run();
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
}

TEST(Disconnect, drain_deadline_with_abort_cuts_the_connection) {
    World world;
    const flue_conn conn = world.offload();
    flue_wr wr           = World::request(FLUE_OP_DISCONNECT, conn, 2, world.put("slow", 4096));
    wr.drain_ms          = 50;
    wr.flags             = FLUE_WR_DEADLINE_ABORT;
    world.post_and_run(wr);
    world.wait_us(60'000);
    EXPECT_EQ(world.sent_with(tcp_rst), 1u);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].status, FLUE_REQUEST_ABORTED);
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_DRAIN_DEADLINE);
}

TEST(Disconnect, before_the_sends_up_to_snd_max_is_refused_and_with_the_last_of_them_is_not) {
    for (const bool with_bytes : {false, true}) {
        World world;
        flue_state block = World::state();
        block.snd_nxt = block.snd_max = our_seq + 4;
        const flue_conn conn          = world.offload(block);
        world.post_and_run(
            with_bytes ? World::request(FLUE_OP_DISCONNECT, conn, 2, world.put("sent", 4096))
                       : World::request(FLUE_OP_DISCONNECT, conn, 2));
        if (!with_bytes) {
            EXPECT_EQ(world.poll_one().status, FLUE_INVALID_STATE);
            continue;
        }
        world.peer_sends(peer_seq, our_seq + 5, tcp_ack);
        EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    }
}

TEST(Send, R38_R39_completes_only_when_all_bytes_are_acknowledged) {
    World world;
    const flue_conn conn = world.offload();
    flue_wr wr           = World::request(FLUE_OP_SEND, conn, 2, world.put("head", 4096));
    wr.sge[1]            = world.put("body", 8192);
    wr.sge_count         = 2;
    world.post_and_run(wr);
    std::string stream;
    for (const SentSegment& segment : world.take_sent()) {
        stream += segment.payload;
    }
    EXPECT_EQ(stream, "headbody");
    world.peer_sends(peer_seq, our_seq + 7, tcp_ack);
    EXPECT_TRUE(world.poll().empty());
    world.peer_sends(peer_seq, our_seq + 8, tcp_ack);
    EXPECT_EQ(world.poll_one().bytes, 8u);
}

TEST(Send, memory_that_a_nic_refers_to_is_not_given_back) {
    World world;
    const flue_conn conn = world.offload();
    world.hold_items     = true;
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("data", 4096)));
    world.peer_sends(peer_seq, our_seq + 4, tcp_ack);
    EXPECT_TRUE(world.poll().empty());
    world.post_and_run(World::abort_request(conn, 3));
    EXPECT_TRUE(world.poll().empty());
    world.drop_held_items();
    world.run();
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[1].wr_id, 3u);
}

TEST(Send, R40_after_a_refused_send_no_later_one_goes_out) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("good", 4096)));
    world.post(World::request(FLUE_OP_SEND, conn, 3, world.room(10, World::region_bytes)));
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 4, world.put("never", 8192)));
    EXPECT_TRUE(world.poll().empty());
    world.peer_sends(peer_seq, our_seq + 4, tcp_ack);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 3u);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[1].status, FLUE_BAD_REGION);
    EXPECT_EQ(completions[2].status, FLUE_INVALID_STATE);
    std::string stream;
    for (const SentSegment& segment : world.take_sent()) {
        stream += segment.payload;
    }
    EXPECT_EQ(stream, "good");
}

}  // namespace flue::chimney
