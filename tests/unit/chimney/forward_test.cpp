#include <array>

#include "wire/frame.hpp"
#include "world.hpp"

namespace flue::chimney {

using namespace wire;

constexpr uint32_t peer_seq     = World::rcv_nxt;
constexpr uint32_t our_seq      = World::snd_nxt;
constexpr uint64_t forwarded_at = 64 * 1024;

struct Ports {
    uint16_t remote = 80;
    uint16_t local  = 1234;
};

/// A segment of the peer as the host has it: from the first byte of its TCP header on.
std::string segment_bytes(
    uint32_t seq, uint32_t ack, uint8_t flags, std::string_view payload = {}, Ports ports = {}) {
    FlowHeader from_peer;
    from_peer.key.family      = Family::ipv4;
    from_peer.key.local_port  = ports.remote;
    from_peer.key.remote_port = ports.local;
    TcpFields tcp;
    tcp.seq    = Seq{seq};
    tcp.ack    = Seq{ack};
    tcp.flags  = flags;
    tcp.window = 512;
    std::array<std::byte, header_bytes_max> headers;
    const HeaderLengths length =
        build_headers(from_peer, tcp, 0, 0x8000, TxChecksum::full, 0, headers);
    const auto* bytes = reinterpret_cast<const char*>(headers.data());
    return std::string(bytes + length.l2 + length.l3, length.l4) + std::string(payload);
}

flue_wr forward(World& world, flue_conn conn, uint64_t wr_id, std::string_view bytes) {
    return World::request(FLUE_OP_FORWARD, conn, wr_id, world.put(bytes, forwarded_at));
}

flue_status status_of_forward(World& world, flue_conn conn, std::string_view bytes) {
    world.post_and_run(forward(world, conn, 77, bytes));
    for (const flue_wc& wc : world.poll()) {
        if (wc.opcode == FLUE_OP_FORWARD) {
            EXPECT_EQ(wc.wr_id, 77u);
            return static_cast<flue_status>(wc.status);
        }
    }
    ADD_FAILURE() << "FORWARD was not completed";
    return FLUE_FAILURE;
}

TEST(Forward, R61_a_forwarded_segment_is_processed_as_if_received) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 3, world.room(100, 8192)));
    world.take_sent();
    world.post_and_run(
        forward(world, conn, 4, segment_bytes(peer_seq, our_seq + 3, tcp_ack | tcp_psh, "hello")));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 3u);
    EXPECT_EQ(completions[0].wr_id, 4u);
    EXPECT_EQ(completions[0].opcode, FLUE_OP_FORWARD);
    for (const flue_wc& wc : completions) {
        EXPECT_EQ(wc.status, FLUE_SUCCESS);
    }
    EXPECT_EQ(world.region_text(8192, 5), "hello");
    world.wait_us(50'000);  // the ACK may be delayed
    const auto sent = world.take_sent();
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].tcp.ack.value, peer_seq + 5);
    EXPECT_EQ(world.chimney().counters().forwards, 1u);
    world.post_and_run(world.terminate_request(conn, 5));
    world.poll();
    world.expect_nothing_left();
}

TEST(Forward, R61_fills_the_gap_before_segments_that_came_by_wire) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 2, world.room(10, 8192)));
    world.peer_sends(peer_seq + 5, our_seq, tcp_ack | tcp_psh, "world");
    EXPECT_TRUE(world.poll().empty());
    world.post_and_run(forward(world, conn, 3, segment_bytes(peer_seq, our_seq, tcp_ack, "hello")));
    EXPECT_EQ(world.poll().size(), 2u);
    EXPECT_EQ(world.region_text(8192, 10), "helloworld");
}

TEST(Forward, R61_the_largest_segment_is_processed_in_pieces_with_push_and_fin_on_the_last) {
    World world;
    const flue_conn conn = world.offload();
    std::string payload(FLUE_FORWARD_BYTES_MAX - 20, ' ');
    for (size_t i = 0; i < payload.size(); ++i) {
        payload[i] = static_cast<char>('a' + i % 23);
    }
    const auto length = static_cast<uint32_t>(payload.size());
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 2, world.room(length, 256 * 1024)));
    EXPECT_EQ(
        status_of_forward(
            world, conn, segment_bytes(peer_seq, our_seq, tcp_ack | tcp_psh | tcp_fin, payload)),
        FLUE_SUCCESS);
    EXPECT_EQ(world.region_text(256 * 1024, length), payload);
    EXPECT_EQ(world.take_sent().back().tcp.ack.value, peer_seq + length + 1);
    world.post_and_run(world.terminate_request(conn, 3));
    world.poll();
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_CLOSE_WAIT);
    world.expect_nothing_left();
}

TEST(Forward, R61_a_duplicate_is_processed_too_and_its_memory_comes_back) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack, "once");
    world.poll();
    EXPECT_EQ(status_of_forward(world, conn, segment_bytes(peer_seq, our_seq, tcp_ack, "once")),
              FLUE_SUCCESS);
    world.post_and_run(world.terminate_request(conn, 3));
    EXPECT_EQ(world.poll_one().bytes, 4u);
    world.expect_nothing_left();
}

TEST(Forward, R62_of_a_held_connection_is_an_invalid_state) {
    World world;
    world.post_and_run(
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(World::state())));
    const flue_conn conn = world.poll_one().conn;
    EXPECT_EQ(status_of_forward(world, conn, segment_bytes(peer_seq, our_seq, tcp_ack, "x")),
              FLUE_INVALID_STATE);
}

TEST(Forward, R62_R101_during_a_terminate_is_left_to_the_host) {
    World world;
    const flue_conn conn = world.offload();
    world.hold_items     = true;
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post_and_run(world.terminate_request(conn, 3));
    EXPECT_EQ(status_of_forward(world, conn, segment_bytes(peer_seq, our_seq + 3, tcp_ack, "x")),
              FLUE_UPLOAD_IN_PROGRESS);
    world.drop_held_items();
    world.run();
    EXPECT_EQ(world.poll().size(), 2u);
    EXPECT_EQ(world.region_state().rcv_nxt, peer_seq);
    EXPECT_EQ(world.region_state().snd_una, our_seq);
    world.expect_nothing_left();
}

TEST(Forward, R84_a_forwarded_rst_aborts_and_what_is_forwarded_behind_it_too) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post(forward(world, conn, 3, segment_bytes(peer_seq, our_seq, tcp_rst)));
    flue_wr behind = forward(world, conn, 4, "");
    behind.sge[0]  = world.put(segment_bytes(peer_seq, our_seq, tcp_ack, "x"), forwarded_at + 4096);
    world.post_and_run(behind);
    std::string order;
    for (const flue_wc& wc : world.poll()) {
        order += std::to_string(wc.wr_id) + ":" + std::to_string(wc.status) + " ";
        if (wc.wr_id == 0) {
            EXPECT_EQ(wc.opcode, FLUE_EVENT_ABORT);
        }
    }
    EXPECT_EQ(order, "3:0 4:1 2:1 0:0 ");
    EXPECT_EQ(status_of_forward(world, conn, segment_bytes(peer_seq, our_seq, tcp_ack, "y")),
              FLUE_REQUEST_ABORTED);
}

TEST(Forward, R86_the_payload_of_an_rst_gives_it_no_second_sequence_number) {
    World world;
    const flue_conn conn = world.offload();
    EXPECT_EQ(
        status_of_forward(
            world,
            conn,
            segment_bytes(peer_seq - 2048, our_seq, tcp_rst | tcp_ack, std::string(4096, 'r'))),
        FLUE_SUCCESS);
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("alive", 4096)));
    world.peer_sends(peer_seq, our_seq + 5, tcp_ack);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
}

TEST(Forward, R87_a_syn_in_sequence_asks_for_the_upload) {
    World world;
    const flue_conn conn = world.offload();
    EXPECT_EQ(status_of_forward(world, conn, segment_bytes(peer_seq, our_seq, tcp_syn)),
              FLUE_SUCCESS);
    EXPECT_EQ(status_of_forward(world, conn, segment_bytes(peer_seq, our_seq, tcp_ack, "x")),
              FLUE_UPLOAD_IN_PROGRESS);
}

TEST(Forward, R95_R97_urgent_data_stays_with_the_host_as_does_what_follows_it) {
    World world;
    const flue_conn conn = world.offload();
    world.post(forward(world, conn, 2, segment_bytes(peer_seq, our_seq, tcp_ack | tcp_urg, "!")));
    flue_wr behind = forward(world, conn, 3, "");
    behind.sge[0] =
        world.put(segment_bytes(peer_seq + 1, our_seq, tcp_ack, "x"), forwarded_at + 4096);
    world.post_and_run(behind);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 3u);
    EXPECT_EQ(completions[0].status, FLUE_UPLOAD_IN_PROGRESS);
    EXPECT_EQ(completions[1].status, FLUE_UPLOAD_IN_PROGRESS);
    EXPECT_EQ(completions[2].opcode, FLUE_EVENT_UPLOAD_REQUEST);
    EXPECT_EQ(completions[2].info, FLUE_UPLOAD_RECEIVED_URGENT_DATA);
    EXPECT_TRUE(world.take_sent().empty());
    world.post_and_run(world.terminate_request(conn, 4));
    world.poll();
    EXPECT_EQ(world.region_state().rcv_nxt, peer_seq);
    world.expect_nothing_left();
}

TEST(Forward, without_memory_nothing_is_processed_and_nothing_kept) {
    World world;
    const flue_conn conn   = world.offload();
    world.payloads_max     = 1;
    const std::string data = segment_bytes(peer_seq, our_seq, tcp_ack, std::string(3000, 'm'));
    EXPECT_EQ(status_of_forward(world, conn, data), FLUE_RESOURCES);
    EXPECT_TRUE(world.take_sent().empty());
    world.payloads_max = 2;
    EXPECT_EQ(status_of_forward(world, conn, data), FLUE_SUCCESS);
    EXPECT_EQ(world.take_sent().back().tcp.ack.value, peer_seq + 3000);
}

TEST(Forward, mistakes_in_the_request_are_named) {
    World world;
    const flue_conn conn   = world.offload();
    const std::string good = segment_bytes(peer_seq, our_seq, tcp_ack, "x");
    flue_wr none           = World::request(FLUE_OP_FORWARD, conn, 2);
    world.post_and_run(none);
    EXPECT_EQ(world.poll_one().status, FLUE_BAD_REQUEST);
    world.post_and_run(World::request(FLUE_OP_FORWARD, conn, 2, world.room(19, 0)));
    const flue_wc too_short = world.poll_one();
    EXPECT_EQ(too_short.status, FLUE_BAD_LENGTH);
    EXPECT_EQ(too_short.bytes, 20u);
    world.post_and_run(World::request(FLUE_OP_FORWARD, conn, 2, world.room(65536, 0)));
    const flue_wc too_long = world.poll_one();
    EXPECT_EQ(too_long.status, FLUE_BAD_LENGTH);
    EXPECT_EQ(too_long.bytes, FLUE_FORWARD_BYTES_MAX);
    world.post_and_run(
        World::request(FLUE_OP_FORWARD, conn, 2, world.room(30, World::region_bytes - 29)));
    EXPECT_EQ(world.poll_one().status, FLUE_BAD_REGION);
    EXPECT_EQ(status_of_forward(
                  world, conn, segment_bytes(peer_seq, our_seq, tcp_ack, "x", {.remote = 81})),
              FLUE_BAD_REQUEST);
    EXPECT_EQ(status_of_forward(
                  world, conn, segment_bytes(peer_seq, our_seq, tcp_ack, "x", {.local = 1235})),
              FLUE_BAD_REQUEST);
    std::string long_header = good;
    long_header[12]         = '\x60';  // 24 bytes of 21
    EXPECT_EQ(status_of_forward(world, conn, long_header), FLUE_BAD_REQUEST);
    EXPECT_TRUE(world.take_sent().empty());
    EXPECT_EQ(world.chimney().counters().forwards, 0u);
    EXPECT_EQ(status_of_forward(world, conn, good), FLUE_SUCCESS);
}

TEST(Urgent, R95_R97_segments_wait_unacknowledged_and_reach_the_host_in_order_after_terminate) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack, "before");
    world.poll();
    world.take_sent();
    world.peer_sends(peer_seq + 6, our_seq, tcp_ack | tcp_urg, "!");
    const flue_wc event = world.poll_one();
    EXPECT_EQ(event.opcode, FLUE_EVENT_UPLOAD_REQUEST);
    EXPECT_EQ(event.info, FLUE_UPLOAD_RECEIVED_URGENT_DATA);
    world.peer_sends(peer_seq + 7, our_seq, tcp_ack, "after");
    EXPECT_TRUE(world.take_sent().empty());
    EXPECT_TRUE(world.exceptions.empty());
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("no", 4096)));
    EXPECT_EQ(world.poll_one().status, FLUE_UPLOAD_IN_PROGRESS);
    world.post_and_run(world.terminate_request(conn, 3));
    EXPECT_EQ(world.poll_one().bytes, 6u);
    EXPECT_EQ(world.region_state().rcv_nxt, peer_seq + 6);
    ASSERT_EQ(world.exceptions.size(), 2u);
    EXPECT_EQ(world.exceptions[0].tcp.seq.value, peer_seq + 6);
    EXPECT_EQ(world.exceptions[1].tcp.seq.value, peer_seq + 7);
    world.expect_nothing_left();
}

}  // namespace flue::chimney
