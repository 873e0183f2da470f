#include "unit/chimney/world.hpp"

// Rules of the offload contract that belong to no single file of lib/.

namespace flue::chimney {
namespace {

using namespace wire;

constexpr uint32_t peer_seq = World::rcv_nxt;
constexpr uint32_t our_seq  = World::snd_nxt;

flue_wr recv(const World& world, flue_conn conn, uint64_t wr_id, uint32_t length, uint64_t offset) {
    return World::request(FLUE_OP_RECV, conn, wr_id, world.room(length, offset));
}

std::vector<uint64_t> ids_of(const std::vector<flue_wc>& completions) {
    std::vector<uint64_t> ids;
    for (const flue_wc& wc : completions) {
        ids.push_back(wc.wr_id);
    }
    return ids;
}

/// Ends the offload and checks that nothing is left of it.
void end(World& world, flue_conn conn) {
    world.post_and_run(world.terminate_request(conn, 99));
    const auto completions = world.poll();
    ASSERT_FALSE(completions.empty());
    EXPECT_EQ(completions.back().wr_id, 99u);
    EXPECT_EQ(completions.back().status, FLUE_SUCCESS);
    world.expect_nothing_left();
}

TEST(ContractInitiate, R16_an_offload_completes_after_the_post_has_returned) {
    World world;
    flue_wr wr = World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, 1, world.put_state(World::state()));
    world.post(wr);
    EXPECT_TRUE(world.poll().empty());
    world.run();
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.status, FLUE_SUCCESS);
    end(world, wc.conn);
}

TEST(ContractInitiate, R17_undelivered_data_is_copied_before_the_completion) {
    World world;
    flue_state block            = World::state();
    block.receive_backlog_bytes = 5;
    flue_wr wr   = World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, 1, world.put_state(block));
    wr.sge[1]    = world.put("early", 4096);
    wr.sge_count = 2;
    world.post_and_run(wr);
    const auto completions = world.poll();
    ASSERT_FALSE(completions.empty());
    world.put("XXXXX", 4096);  // the memory is the host's again
    world.post_and_run(recv(world, completions[0].conn, 2, 5, 8192));
    EXPECT_EQ(world.poll_one().bytes, 5u);
    EXPECT_EQ(world.region_text(8192, 5), "early");
    end(world, completions[0].conn);
}

TEST(ContractInitiate, R24_no_event_comes_before_the_completion_of_the_offload) {
    World world;
    const flue_sge block = world.put_state(World::state());
    world.post_and_run(World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, block));
    const flue_conn conn = world.poll_one().conn;
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "waited");
    EXPECT_TRUE(world.poll().empty());
    world.post_and_run(World::request(FLUE_OP_OFFLOAD, conn, 2, block));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].wr_id, 2u);
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_DATA_AVAILABLE);
    end(world, conn);
}

TEST(ContractInitiate, R22_a_refused_offload_leaves_its_sends_to_the_host) {
    World world;
    const flue_sge block = world.put_state(World::state());
    world.post_and_run(World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, block));
    const flue_conn conn = world.poll_one().conn;
    const flue_sge bad   = world.put_state(World::state(FLUE_TCP_TIME_WAIT), 1024);
    world.post(World::request(FLUE_OP_OFFLOAD, conn, 2, bad));
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 3, world.put("abc", 4096)));
    const auto refused = world.poll();
    ASSERT_EQ(refused.size(), 2u);
    EXPECT_EQ(refused[0].status, FLUE_INVALID_STATE);
    EXPECT_EQ(refused[1].status, FLUE_INVALID_STATE);
    EXPECT_EQ(refused[1].bytes, 0u);
    EXPECT_TRUE(world.take_sent().empty());
    EXPECT_EQ(world.region_text(4096, 3), "abc");
    world.post(World::request(FLUE_OP_OFFLOAD, conn, 4, block));
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 5, world.room(3, 4096)));
    ASSERT_EQ(world.sent.size(), 1u);
    EXPECT_EQ(world.sent[0].payload, "abc");
    world.poll();
    end(world, conn);
}

TEST(ContractSend, R36_every_send_is_accepted_and_nothing_completes_while_it_is_posted) {
    World world;
    const flue_conn conn = world.offload();
    world.port_open      = false;  // nothing can leave
    for (uint64_t id = 2; id < 22; ++id) {
        world.post(World::request(FLUE_OP_SEND, conn, id, world.put("0123456789", id * 4096)));
        EXPECT_TRUE(world.poll().empty());
    }
    world.run();
    EXPECT_EQ(world.chimney().usage().tcp.send_items, 20u);
    EXPECT_TRUE(world.poll().empty());
    world.port_open = true;
    world.run();
    world.peer_sends(peer_seq, our_seq + 200, tcp_ack);
    EXPECT_EQ(world.poll().size(), 20u);
    end(world, conn);
}

TEST(ContractSend, R41_at_most_one_send_is_partly_acknowledged_and_it_is_no_success) {
    World world;
    const flue_conn conn = world.offload();
    for (uint64_t id = 2; id < 5; ++id) {
        world.post(World::request(FLUE_OP_SEND, conn, id, world.put("abcd", id * 4096)));
    }
    world.run();
    world.peer_sends(peer_seq, our_seq + 6, tcp_ack);
    EXPECT_EQ(world.poll_one().bytes, 4u);
    world.post_and_run(world.terminate_request(conn, 9));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 3u);
    EXPECT_EQ(completions[0].status, FLUE_UPLOAD_IN_PROGRESS);
    EXPECT_EQ(completions[0].bytes, 2u);
    EXPECT_EQ(completions[1].status, FLUE_UPLOAD_IN_PROGRESS);
    EXPECT_EQ(completions[1].bytes, 0u);
    world.expect_nothing_left();
}

TEST(ContractReceive, R45_every_request_is_completed_those_of_zero_bytes_too) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_RECV, conn, 2));
    world.post(recv(world, conn, 3, 4, 4096));
    world.post(World::request(FLUE_OP_RECV, conn, 4));
    world.post_and_run(recv(world, conn, 5, 4, 8192));
    EXPECT_EQ(ids_of(world.poll()), std::vector<uint64_t>{2});
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abcdef");
    EXPECT_EQ(ids_of(world.poll()), (std::vector<uint64_t>{3, 4, 5}));
    end(world, conn);
}

TEST(ContractReceive, R47_completions_and_announcements_of_a_connection_come_one_after_the_other) {
    World world;
    const flue_conn conn = world.offload();
    world.post(recv(world, conn, 2, 4, 4096));
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abcdef");
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].wr_id, 2u);  // "abcd" before it is told that "ef" waits
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(completions[1].bytes, 2u);
    end(world, conn);
}

TEST(ContractReceive, R52_data_goes_into_posted_requests_and_is_not_announced) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(recv(world, conn, 2, 100, 4096));
    world.peer_sends(peer_seq, our_seq, tcp_ack, "abc");
    EXPECT_TRUE(world.poll().empty());
    world.peer_sends(peer_seq + 3, our_seq, tcp_ack | tcp_psh, "def");
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.wr_id, 2u);
    EXPECT_EQ(wc.bytes, 6u);
    end(world, conn);
}

TEST(ContractReceive, R55_of_announced_data_exactly_the_bytes_not_taken_are_kept) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abcdef");
    EXPECT_EQ(world.poll_one().bytes, 6u);
    world.post_and_run(recv(world, conn, 2, 2, 4096));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(completions[1].bytes, 4u);
    world.post_and_run(recv(world, conn, 3, 4, 8192));
    EXPECT_EQ(world.poll_one().bytes, 4u);
    EXPECT_EQ(world.region_text(4096, 2) + world.region_text(8192, 4), "abcdef");
    end(world, conn);
}

TEST(ContractReceive, R57_an_announcement_stands_alone_and_says_success) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abc");
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(wc.status, FLUE_SUCCESS);
    EXPECT_EQ(wc.wr_id, 0u);
    EXPECT_EQ(wc.conn, conn);
    end(world, conn);
}

TEST(ContractReceive, R60_data_is_delivered_in_sequence_whatever_way_the_segments_came) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(recv(world, conn, 2, 9, 4096));
    world.peer_sends(peer_seq + 6, our_seq, tcp_ack | tcp_psh, "ghi");
    world.peer_sends(peer_seq + 3, our_seq, tcp_ack, "def");
    EXPECT_TRUE(world.poll().empty());
    world.peer_sends(peer_seq, our_seq, tcp_ack, "abc");
    EXPECT_EQ(world.poll_one().bytes, 9u);
    EXPECT_EQ(world.region_text(4096, 9), "abcdefghi");
    end(world, conn);
}

TEST(ContractDisconnect, R63_each_disconnect_completes_exactly_once_with_its_own_id) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 2, world.put("bye", 4096)));
    EXPECT_TRUE(world.poll().empty());
    world.peer_sends(peer_seq, our_seq + 4, tcp_ack);
    world.peer_sends(peer_seq, our_seq + 4, tcp_ack);  // the same ACK again
    EXPECT_EQ(world.poll_one().wr_id, 2u);
    world.post_and_run(World::abort_request(conn, 3));
    EXPECT_EQ(world.poll_one().wr_id, 3u);
    end(world, conn);
}

TEST(ContractDisconnect, R64_a_disconnect_completes_no_send_and_no_send_a_disconnect) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("one", 4096)));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("two", 8192)));
    world.peer_sends(peer_seq, our_seq + 7, tcp_ack);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].opcode, FLUE_OP_SEND);
    EXPECT_EQ(completions[0].bytes, 3u);
    EXPECT_EQ(completions[1].opcode, FLUE_OP_DISCONNECT);
    EXPECT_EQ(completions[1].bytes, 3u);
    end(world, conn);
}

TEST(ContractDisconnect, R70_without_all_acknowledged_it_is_aborted_or_the_upload_takes_it) {
    for (const bool by_upload : {false, true}) {
        World world;
        const flue_conn conn = world.offload();
        world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 2, world.put("bye", 4096)));
        world.peer_sends(peer_seq, our_seq + 3, tcp_ack);  // the data, not the FIN
        if (by_upload) {
            world.post_and_run(world.terminate_request(conn, 3));
        } else {
            world.peer_sends(peer_seq, our_seq + 3, tcp_rst | tcp_ack);
        }
        const auto completions = world.poll();
        ASSERT_EQ(completions.size(), 2u);
        EXPECT_EQ(completions[0].wr_id, 2u);
        EXPECT_EQ(completions[0].status,
                  by_upload ? FLUE_UPLOAD_IN_PROGRESS : FLUE_REQUEST_ABORTED);
        EXPECT_EQ(completions[0].bytes, 3u);
        if (!by_upload) {
            end(world, conn);
        }
        world.expect_nothing_left();
    }
}

TEST(ContractDisconnect, R79_for_want_of_anything_else_a_disconnect_waits_instead_of_failing) {
    World world;
    const flue_conn conn = world.offload();
    for (uint64_t id = 2; id < 66; ++id) {  // more than the session's share of requests
        world.post(World::request(FLUE_OP_SEND, conn, id, world.put("x", 4096)));
    }
    world.post(World::request(FLUE_OP_DISCONNECT, conn, 100));
    world.run();
    EXPECT_EQ(world.sent_with(tcp_fin), 0u);
    EXPECT_TRUE(world.poll().empty());
    std::vector<flue_wc> completions;
    for (int round = 0; round < 65 && completions.size() < 65; ++round) {
        const SentSegment& last = world.sent.back();
        const auto text         = static_cast<uint32_t>(last.payload.size());
        const uint32_t fin      = (last.tcp.flags & tcp_fin) != 0 ? 1 : 0;
        world.peer_sends(peer_seq, last.tcp.seq.value + text + fin, tcp_ack);
        const auto more = world.poll();
        completions.insert(completions.end(), more.begin(), more.end());
    }
    ASSERT_EQ(completions.size(), 65u);
    EXPECT_EQ(completions.back().wr_id, 100u);
    for (const flue_wc& wc : completions) {
        EXPECT_EQ(wc.status, FLUE_SUCCESS) << wc.wr_id;
    }
    end(world, conn);
}

TEST(ContractClose, R80_a_fin_an_rst_or_a_disconnect_frees_nothing) {
    World world;
    const flue_conn conn = world.offload();
    const auto in_use    = [&world] { return world.chimney().usage().tcp.connections; };
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 2));
    world.peer_sends(peer_seq, our_seq + 1, tcp_ack | tcp_fin);
    EXPECT_EQ(in_use(), 1u);
    world.post_and_run(World::abort_request(conn, 3));
    world.peer_sends(peer_seq + 1, our_seq + 1, tcp_rst | tcp_ack);
    world.wait_us(1'000'000);
    EXPECT_EQ(in_use(), 1u);
    EXPECT_EQ(world.flow_count(), 1u);
    world.poll();
    end(world, conn);
}

TEST(ContractUpload, R96_an_upload_request_names_one_connection) {
    World world;
    const flue_conn conn  = world.offload();
    const flue_conn other = world.offload(World::state(FLUE_TCP_ESTABLISHED, 81));
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_syn);
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.opcode, FLUE_EVENT_UPLOAD_REQUEST);
    EXPECT_EQ(wc.conn, conn);
    world.post_and_run(world.terminate_request(other, 98));
    world.poll();
    end(world, conn);
}

TEST(ContractUpload, R98_after_an_upload_request_that_stops_it_every_io_request_says_so) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_urg, "!");
    EXPECT_EQ(world.poll_one().info, FLUE_UPLOAD_RECEIVED_URGENT_DATA);
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post(recv(world, conn, 3, 4, 8192));
    world.post(World::request(FLUE_OP_DISCONNECT, conn, 4));
    world.post_and_run(World::abort_request(conn, 5));
    const auto completions = world.poll();
    EXPECT_EQ(completions.size(), 4u);
    for (const flue_wc& wc : completions) {
        EXPECT_EQ(wc.status, FLUE_UPLOAD_IN_PROGRESS) << wc.wr_id;
    }
    EXPECT_EQ(world.sent_with(tcp_rst), 0u);
    end(world, conn);
}

TEST(ContractUpload, R102_events_that_wait_for_room_come_before_the_end_of_the_offload) {
    World world{8};  // seven completions fit
    const flue_conn conn = world.offload();
    for (uint64_t id = 2; id < 9; ++id) {
        world.post(World::request(FLUE_OP_QUERY, conn, id, world.room(sizeof(flue_state), 4096)));
    }
    world.run();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh, "abc");  // no room for its event
    world.post_and_run(world.terminate_request(conn, 9));
    std::vector<flue_wc> all;
    for (int turn = 0; turn < 4; ++turn) {
        for (const flue_wc& wc : world.poll()) {
            all.push_back(wc);
        }
        world.run();
    }
    ASSERT_GE(all.size(), 9u);
    EXPECT_EQ(all.back().wr_id, 9u);
    EXPECT_EQ(all.back().bytes, 3u);  // R108: and the data itself comes back
    world.expect_nothing_left();
}

TEST(ContractUpload, R115_sends_that_wait_for_the_end_of_the_offload_say_so) {
    World world;
    const flue_conn conn = world.offload();
    world.hold_items     = true;  // a NIC still reads the first one, so TERMINATE has to wait
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post(world.terminate_request(conn, 3));
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 4, world.put("def", 8192)));
    EXPECT_TRUE(world.poll().empty());
    world.drop_held_items();
    world.run();
    const auto completions = world.poll();
    EXPECT_EQ(ids_of(completions), (std::vector<uint64_t>{2, 4, 3}));
    EXPECT_EQ(completions[0].status, FLUE_UPLOAD_IN_PROGRESS);
    EXPECT_EQ(completions[1].status, FLUE_UPLOAD_IN_PROGRESS);
    EXPECT_EQ(completions[1].bytes, 0u);
    world.expect_nothing_left();
}

TEST(ContractUpload, R106_R107_sends_come_back_in_order_from_the_first_byte_not_acknowledged) {
    World world;
    const flue_conn conn = world.offload();
    for (uint64_t id = 2; id < 5; ++id) {
        world.post(World::request(FLUE_OP_SEND, conn, id, world.put("abcd", id * 4096)));
    }
    world.run();
    world.peer_sends(peer_seq, our_seq + 5, tcp_ack);
    EXPECT_EQ(world.poll_one().wr_id, 2u);
    world.post_and_run(world.terminate_request(conn, 9));
    EXPECT_EQ(ids_of(world.poll()), (std::vector<uint64_t>{3, 4, 9}));
    const flue_state given = world.region_state();
    EXPECT_EQ(given.snd_una, our_seq + 5);  // the second byte of request 3
    EXPECT_EQ(given.snd_nxt, our_seq + 12);
    EXPECT_EQ(given.snd_max, our_seq + 12);
    EXPECT_EQ(given.send_backlog_bytes, 7u);
    world.expect_nothing_left();
}

TEST(ContractUpload, R112_everything_is_freed_with_the_completion_and_not_before) {
    World world;
    const flue_conn conn = world.offload();
    world.hold_items     = true;
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post_and_run(world.terminate_request(conn, 3));
    EXPECT_TRUE(world.poll().empty());  // a NIC still reads the host's bytes
    EXPECT_EQ(world.chimney().usage().tcp.connections, 1u);
    world.drop_held_items();
    world.run();
    EXPECT_EQ(ids_of(world.poll()), (std::vector<uint64_t>{2, 3}));
    world.expect_nothing_left();
}

}  // namespace
}  // namespace flue::chimney
