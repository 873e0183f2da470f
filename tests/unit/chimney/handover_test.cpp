#include <functional>

#include "chimney/state_block.hpp"
#include "world.hpp"

// What TERMINATE and QUERY give, and what OFFLOAD takes: state blocks, and the requests that go
// with them.

namespace flue::chimney {

using namespace wire;

constexpr uint32_t peer_seq = World::rcv_nxt;
constexpr uint32_t our_seq  = World::snd_nxt;

namespace {

constexpr std::array fin_outstanding = {FLUE_TCP_FIN_WAIT_1, FLUE_TCP_CLOSING, FLUE_TCP_LAST_ACK};

/// A connection whose giver had sent `bytes` and a FIN, none of it acknowledged.
flue_state after_fin(uint8_t tcp_state, uint32_t bytes) {
    flue_state block = World::state(tcp_state);
    block.snd_nxt = block.snd_max = our_seq + bytes + 1;
    return block;
}

}  // namespace

// ---------------------------------------------------------------- a FIN that was sent

TEST(Handover, R15_R21_sends_up_to_the_fin_that_was_sent_are_taken_and_complete) {
    for (const uint8_t tcp_state : fin_outstanding) {
        World world;
        const flue_conn conn = world.offload(after_fin(tcp_state, 7));
        world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abcd", 4096)));
        world.post_and_run(World::request(FLUE_OP_SEND, conn, 3, world.put("efg", 8192)));
        world.peer_sends(peer_seq, our_seq + 4, tcp_ack);
        EXPECT_EQ(world.poll_one().wr_id, 2u);
        world.peer_sends(peer_seq, our_seq + 8, tcp_ack);
        const flue_wc last = world.poll().at(0);
        EXPECT_EQ(last.wr_id, 3u);
        EXPECT_EQ(last.status, FLUE_SUCCESS) << int{tcp_state};
    }
}

TEST(Handover, R38_R65_a_disconnect_stands_for_the_fin_that_was_sent) {
    for (const uint8_t tcp_state : fin_outstanding) {
        World world;
        const flue_conn conn = world.offload(after_fin(tcp_state, 7));
        world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("abcd", 4096)));
        world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("efg", 8192)));
        EXPECT_TRUE(world.poll().empty());
        world.wait_us(1'500'000);
        std::string again;
        for (const SentSegment& segment : world.take_sent()) {
            again += segment.tcp.seq == Seq{our_seq} ? segment.payload : "";
        }
        EXPECT_EQ(again.substr(0, 7), "abcdefg") << "retransmitted from the requests";
        world.peer_sends(peer_seq, our_seq + 7, tcp_ack);
        EXPECT_EQ(world.poll_one().wr_id, 2u);
        world.peer_sends(peer_seq, our_seq + 8, tcp_ack);
        const flue_wc closed = world.poll().at(0);
        EXPECT_EQ(closed.wr_id, 3u);
        EXPECT_EQ(closed.status, FLUE_SUCCESS) << int{tcp_state};
        EXPECT_EQ(closed.bytes, 3u);
        EXPECT_EQ(world.chimney().counters().graceful_disconnects, 1u);
    }
}

TEST(Handover, R21_a_disconnect_for_a_fin_that_was_acknowledged_meanwhile_completes_at_once) {
    for (const uint8_t tcp_state : fin_outstanding) {
        World world;
        const flue_conn conn = world.offload(after_fin(tcp_state, 3));
        world.peer_sends(peer_seq, our_seq + 4, tcp_ack);
        world.poll();  // TIME_WAIT asks for its upload
        world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("ab", 4096)));
        world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("c", 8192)));
        const auto completions = world.poll();
        ASSERT_EQ(completions.size(), 2u) << int{tcp_state};
        EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
        EXPECT_EQ(completions[1].status, FLUE_SUCCESS);
        EXPECT_EQ(world.sent_with(tcp_fin), 0u);
        world.post_and_run(world.terminate_request(conn, 4));
        EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
        world.expect_nothing_left();
    }
}

TEST(Handover, what_does_not_fit_before_the_fin_that_was_sent_is_refused) {
    World world;
    const flue_conn conn = world.offload(after_fin(FLUE_TCP_FIN_WAIT_1, 4));
    const auto status_of = [&](const flue_wr& wr) {
        world.post_and_run(wr);
        return world.poll_one().status;
    };
    const flue_sge four = world.put("abcd", 4096);
    EXPECT_EQ(status_of(World::request(FLUE_OP_DISCONNECT, conn, 2, world.put("abc", 4096))),
              FLUE_INVALID_STATE);
    EXPECT_EQ(status_of(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("abcde", 4096))),
              FLUE_INVALID_STATE);
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 4, four));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 5));
    EXPECT_TRUE(world.poll().empty());
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 6));
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 7, four));
    world.peer_sends(peer_seq, our_seq + 5, tcp_ack);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 4u);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[1].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[2].status, FLUE_INVALID_STATE);
    EXPECT_EQ(completions[3].status, FLUE_INVALID_STATE);
}

TEST(Handover, R15_in_fin_wait_2_the_giver_has_had_its_completion) {
    World world;
    const flue_conn conn = world.offload(World::state(FLUE_TCP_FIN_WAIT_2));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 2));
    EXPECT_EQ(world.poll_one().status, FLUE_INVALID_STATE);
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 3, world.put("x", 4096)));
    EXPECT_EQ(world.poll_one().status, FLUE_INVALID_STATE);
}

TEST(Handover, R73_abort_after_the_move_cuts_the_disconnect_short) {
    World world;
    const flue_conn conn = world.offload(after_fin(FLUE_TCP_FIN_WAIT_1, 3));
    world.post(World::request(FLUE_OP_DISCONNECT, conn, 2, world.put("abc", 4096)));
    world.post_and_run(World::abort_request(conn, 3));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].status, FLUE_REQUEST_ABORTED);
    EXPECT_EQ(completions[1].status, FLUE_SUCCESS);
    EXPECT_EQ(world.sent_with(tcp_rst), 1u);
}

TEST(Handover, R74_R100_a_pending_rst_leaves_before_the_state_does_and_is_not_taken_up_again) {
    World world;
    const flue_conn conn = world.offload();
    world.port_open      = false;
    world.post(World::abort_request(conn, 2));
    world.post_and_run(world.terminate_request(conn, 3, FLUE_WR_KEEP_HELD));
    EXPECT_TRUE(world.poll().empty());
    world.port_open = true;
    world.run();
    EXPECT_EQ(world.sent_with(tcp_rst), 1u);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_CLOSED);
    world.post_and_run(World::request(FLUE_OP_OFFLOAD, conn, 4, world.room(sizeof(flue_state), 0)));
    EXPECT_EQ(world.poll_one().status, FLUE_INVALID_STATE);
}

// ---------------------------------------------------------------- blocks

namespace {

struct BadBlock {
    const char* name;
    std::function<void(flue_state&)> change;
};

const std::vector<BadBlock>& bad_blocks() {
    static const std::vector<BadBlock> all = {
        {"version", [](flue_state& s) { s.version = FLUE_STATE_VERSION + 1; }},
        {"size", [](flue_state& s) { s.size = sizeof(flue_state) - 4; }},
        {"family", [](flue_state& s) { s.family = 5; }},
        {"const_flags", [](flue_state& s) { s.const_flags |= 0x10; }},
        {"snd_wind_shift", [](flue_state& s) { s.snd_wind_shift = 15; }},
        {"rcv_wind_shift", [](flue_state& s) { s.rcv_wind_shift = 15; }},
        {"shift without scaling", [](flue_state& s) { s.const_flags = 0; }},
        {"local_addr", [](flue_state& s) { s.local_addr[4] = 1; }},
        {"remote_addr", [](flue_state& s) { s.remote_addr[15] = 1; }},
        {"remote_mss", [](flue_state& s) { s.remote_mss = 87; }},
        {"vlan_id", [](flue_state& s) { s.vlan_id = 4095; }},
        {"path_mtu", [](flue_state& s) { s.path_mtu = 67; }},
        {"path_mtu of IPv6",
         [](flue_state& s) {
             s.family   = 6;
             s.path_mtu = 1279;
         }},
        {"cached_flags", [](flue_state& s) { s.cached_flags = 0x20; }},
        {"ttl", [](flue_state& s) { s.ttl = 0; }},
        {"congestion", [](flue_state& s) { s.congestion = FLUE_CONGESTION_DCTCP + 1; }},
        {"DCTCP without ECN", [](flue_state& s) { s.congestion = FLUE_CONGESTION_DCTCP; }},
        {"reserved", [](flue_state& s) { s.reserved = 1; }},
        {"flow_label", [](flue_state& s) { s.flow_label = 1 << 20; }},
        {"rcv_wnd_max", [](flue_state& s) { s.rcv_wnd_max = 0; }},
        {"rcv_wnd", [](flue_state& s) { s.rcv_wnd = (65535U << 14) + 1; }},
        {"snd_nxt before snd_una", [](flue_state& s) { s.snd_nxt = s.snd_una - 1; }},
        {"snd_nxt behind snd_max", [](flue_state& s) { s.snd_nxt = s.snd_max + 1; }},
        {"snd_max", [](flue_state& s) { s.snd_max = s.snd_una + (1U << 30) + 1; }},
        {"snd_wnd", [](flue_state& s) { s.snd_wnd = (65535U << 14) + 1; }},
        {"cwnd", [](flue_state& s) { s.cwnd = 0; }},
        {"ka_delta_ms", [](flue_state& s) { s.ka_delta_ms = -2; }},
        {"retransmit_delta_ms", [](flue_state& s) { s.retransmit_delta_ms = INT32_MIN; }},
        {"backoff", [](flue_state& s) { s.backoff = 32; }},
        {"delegated_flags", [](flue_state& s) { s.delegated_flags = 0x02; }},
        {"delegated_reserved", [](flue_state& s) { s.delegated_reserved = 1; }},
        {"recover at snd_una",
         [](flue_state& s) {
             s.delegated_flags = FLUE_DELEGATED_RECOVERY;
             s.recover         = s.snd_una;
         }},
        {"recover behind snd_max",
         [](flue_state& s) {
             s.delegated_flags = FLUE_DELEGATED_RECOVERY;
             s.recover         = s.snd_max + 1;
         }},
        {"sack_count", [](flue_state& s) { s.sack_count = FLUE_SACK_MAX + 1; }},
        {"sack beyond sack_count", [](flue_state& s) { s.sack[0].end = 1; }},
        {"sack at snd_una",
         [](flue_state& s) {
             s.sack_count = 1;
             s.sack[0]    = {s.snd_una, s.snd_una + 1};
         }},
        {"sack that is empty",
         [](flue_state& s) {
             s.sack_count = 1;
             s.sack[0]    = {s.snd_una + 5, s.snd_una + 5};
         }},
        {"sack of what was not sent",
         [](flue_state& s) {
             s.sack_count = 1;
             s.sack[0]    = {s.snd_una + 5, s.snd_max + 1};
         }},
    };
    return all;
}

flue_state sealed(flue_state block) {
    block.checksum = 0;
    block.checksum = crc32c(std::as_bytes(std::span(&block, 1)));
    return block;
}

/// A block in which every field that may be is something else than zero.
flue_state full_block() {
    flue_state block      = World::state();
    block.snd_nxt         = our_seq + 500;
    block.snd_max         = our_seq + 1000;
    block.recover         = our_seq + 1000;
    block.delegated_flags = FLUE_DELEGATED_RECOVERY;
    block.backoff         = 31;
    block.sack_count      = 2;
    block.sack[0]         = {our_seq + 10, our_seq + 20};
    block.sack[1]         = {our_seq + 900, our_seq + 1000};
    return block;
}

}  // namespace

TEST(StateBlock, each_field_out_of_its_range_is_refused) {
    ASSERT_TRUE(read_state_block(sealed(full_block()), 1 << 20).ok());
    for (const BadBlock& bad : bad_blocks()) {
        flue_state block = World::state();
        block.snd_nxt = block.snd_max = our_seq + 100;
        ASSERT_TRUE(read_state_block(sealed(block), 1 << 20).ok());
        bad.change(block);
        const auto read = read_state_block(sealed(block), 1 << 20);
        ASSERT_FALSE(read.ok()) << bad.name;
        EXPECT_EQ(read.error(), FLUE_BAD_STATE) << bad.name;
    }
}

TEST(StateBlock, each_bit_is_under_the_checksum) {
    const flue_state good = sealed(full_block());
    for (size_t bit = 0; bit < 8 * sizeof(flue_state); ++bit) {
        flue_state block = good;
        reinterpret_cast<uint8_t*>(&block)[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
        const auto read = read_state_block(block, 1 << 20);
        ASSERT_FALSE(read.ok()) << "byte " << bit / 8;
        EXPECT_EQ(read.error(), FLUE_BAD_STATE);
    }
}

TEST(StateBlock, R26_limits_have_statuses_of_their_own) {
    flue_state block            = World::state();
    block.receive_backlog_bytes = (1 << 20) + 1;
    EXPECT_EQ(read_state_block(sealed(block), 1 << 20).error(), FLUE_TCP_RCV_WINDOW);
    block             = World::state();
    block.rcv_wnd_max = (1 << 20) + 1;
    EXPECT_EQ(read_state_block(sealed(block), 1 << 20).error(), FLUE_TCP_RCV_WINDOW);
}

// ---------------------------------------------------------------- round trips

namespace {

/// Brings a connection into a state, with data outstanding both ways where the state has room for
/// it.
flue_conn reach(World& world, uint8_t tcp_state) {
    const flue_conn conn  = world.offload();
    const bool peer_first = tcp_state == FLUE_TCP_CLOSE_WAIT || tcp_state == FLUE_TCP_LAST_ACK;
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("posted", 4096)));
    world.peer_sends(peer_seq, our_seq, tcp_ack | (peer_first ? tcp_fin : tcp_psh), "unread");
    if (tcp_state != FLUE_TCP_ESTABLISHED && tcp_state != FLUE_TCP_CLOSE_WAIT) {
        world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("bye", 8192)));
    }
    if (tcp_state == FLUE_TCP_FIN_WAIT_2) {
        world.peer_sends(peer_seq + 6, our_seq + 10, tcp_ack);
    }
    if (tcp_state == FLUE_TCP_CLOSING) {
        world.peer_sends(peer_seq + 6, our_seq, tcp_ack | tcp_fin);
    }
    world.wait_us(50'000);  // no ACK is owed any more
    world.poll();
    return conn;
}

flue_wr query_request(const World& world, flue_conn conn, uint64_t wr_id, uint64_t offset) {
    return World::request(FLUE_OP_QUERY, conn, wr_id, world.room(sizeof(flue_state), offset));
}

constexpr std::array offloadable = {FLUE_TCP_ESTABLISHED,
                                    FLUE_TCP_FIN_WAIT_1,
                                    FLUE_TCP_FIN_WAIT_2,
                                    FLUE_TCP_CLOSE_WAIT,
                                    FLUE_TCP_CLOSING,
                                    FLUE_TCP_LAST_ACK};

}  // namespace

TEST(Handover, R32_R100_what_query_and_terminate_give_is_taken_as_it_is_in_every_state) {
    for (const uint8_t tcp_state : offloadable) {
        World world;
        const flue_conn conn          = reach(world, tcp_state);
        constexpr uint64_t queried_at = 65536;
        world.post_and_run(query_request(world, conn, 5, queried_at));
        EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
        flue_state queried                = world.region_state(queried_at);
        queried.send_backlog_wanted_bytes = UINT32_MAX;  // R14: QUERY's alone
        world.put_state(queried, 0);  // constant and cached fields; TERMINATE writes the others
        world.post_and_run(world.terminate_request(conn, 6, FLUE_WR_KEEP_HELD));
        const flue_wc terminated = world.poll().back();
        EXPECT_EQ(terminated.status, FLUE_SUCCESS);
        const flue_state given = world.region_state();
        queried.checksum       = given.checksum;
        EXPECT_EQ(std::memcmp(&given, &queried, sizeof(given)), 0) << int{tcp_state};
        EXPECT_EQ(given.tcp_state, tcp_state);

        flue_wr again = World::request(FLUE_OP_OFFLOAD, conn, 7, world.room(sizeof(flue_state), 0));
        again.sge[1]  = world.room(terminated.bytes, 512 * 1024);
        again.sge_count = 2;
        world.post_and_run(again);
        EXPECT_EQ(world.poll().at(0).status, FLUE_SUCCESS) << int{tcp_state};
        world.post_and_run(query_request(world, conn, 8, queried_at));
        const flue_state taken = world.region_state(queried_at);
        EXPECT_EQ(taken.tcp_state, given.tcp_state);
        EXPECT_EQ(taken.snd_una, given.snd_una);
        EXPECT_EQ(taken.snd_nxt, given.snd_nxt);
        EXPECT_EQ(taken.snd_max, given.snd_max);
        EXPECT_EQ(taken.rcv_nxt, given.rcv_nxt);
        EXPECT_EQ(taken.rcv_wnd, given.rcv_wnd);
        EXPECT_EQ(taken.receive_backlog_bytes, 6u);
        EXPECT_EQ(taken.retransmit_delta_ms, given.retransmit_delta_ms);
    }
}

TEST(Handover, R10_R32_congestion_control_and_ecn_are_shown_by_query_and_left_by_terminate) {
    struct Case {
        uint8_t given;
        uint8_t had;
        uint8_t ecn;
    };

    for (const Case& c : {Case{FLUE_CONGESTION_DEFAULT, FLUE_CONGESTION_CUBIC, 0},
                          Case{FLUE_CONGESTION_CUBIC, FLUE_CONGESTION_CUBIC, FLUE_CONST_ECN},
                          Case{FLUE_CONGESTION_NEWRENO, FLUE_CONGESTION_NEWRENO, 0},
                          Case{FLUE_CONGESTION_DCTCP, FLUE_CONGESTION_DCTCP, FLUE_CONST_ECN}}) {
        World world;
        flue_state block              = World::state();
        block.const_flags             = static_cast<uint8_t>(block.const_flags | c.ecn);
        block.congestion              = c.given;

        constexpr uint64_t queried_at = 65536;
        const flue_conn conn          = world.offload(block);
        world.post_and_run(query_request(world, conn, 5, queried_at));
        EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
        EXPECT_EQ(world.region_state(queried_at).congestion, c.had);
        EXPECT_EQ(world.region_state(queried_at).const_flags & FLUE_CONST_ECN, c.ecn);
        world.put_state(block);
        world.post_and_run(world.terminate_request(conn, 6));
        EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
        EXPECT_EQ(world.region_state().congestion, c.given);
        EXPECT_EQ(world.region_state().const_flags & FLUE_CONST_ECN, c.ecn);
    }
}

TEST(Handover, default_congestion_control_is_the_target_s) {
    Options options        = World::options();
    options.tcp.congestion = tcp::CongestionControl::dctcp;
    World world(256, options);
    flue_state marked = World::state();
    marked.const_flags |= FLUE_CONST_ECN;
    flue_state unmarked           = World::state(FLUE_TCP_ESTABLISHED, 81);

    constexpr uint64_t queried_at = 65536;
    const auto shown              = [&](const flue_state& block) {
        world.post_and_run(query_request(world, world.offload(block), 5, queried_at));
        EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
        return world.region_state(queried_at).congestion;
    };
    EXPECT_EQ(shown(marked), FLUE_CONGESTION_DCTCP);
    EXPECT_EQ(shown(unmarked), FLUE_CONGESTION_CUBIC) << "without ECN";
}

TEST(Handover, R58_R108_a_fin_behind_undelivered_data_travels_in_the_state_and_is_told_once) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_fin, "unread");
    EXPECT_EQ(world.poll_one().opcode, FLUE_EVENT_DATA_AVAILABLE);
    world.put_state(World::state());
    world.post_and_run(world.terminate_request(conn, 2, FLUE_WR_KEEP_HELD));
    const flue_wc terminated = world.poll_one();
    EXPECT_EQ(terminated.opcode, FLUE_OP_TERMINATE) << "no event";
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_CLOSE_WAIT);
    EXPECT_EQ(world.region_state().rcv_nxt, peer_seq + 7);

    flue_wr again   = World::request(FLUE_OP_OFFLOAD, conn, 3, world.room(sizeof(flue_state), 0));
    again.sge[1]    = world.room(terminated.bytes, 512 * 1024);
    again.sge_count = 2;
    world.post(again);
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 4, world.room(6, 4096)));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 3u);
    EXPECT_EQ(completions[1].bytes, 6u);
    EXPECT_EQ(completions[2].opcode, FLUE_EVENT_DISCONNECT);
}

TEST(Handover, R15_a_fin_that_was_delivered_is_not_told_again) {
    World world;
    world.offload(World::state(FLUE_TCP_CLOSE_WAIT));
    EXPECT_TRUE(world.poll().empty());
}

TEST(Handover, a_window_that_was_shut_opens_with_the_move_when_the_data_was_read) {
    World world;
    flue_state block = World::state();
    block.rcv_wnd    = 0;
    world.offload(block);
    ASSERT_EQ(world.sent.size(), 1u);
    EXPECT_GT(world.sent[0].tcp.window, 0u);
}

// ---------------------------------------------------------------- tuples that live elsewhere

TEST(Hold, again_drops_what_was_kept_and_keeps_what_comes_from_then_on) {
    World world;
    const flue_conn conn = world.offload();
    world.put_state(World::state());
    world.post_and_run(world.terminate_request(conn, 2, FLUE_WR_KEEP_HELD));
    world.poll();
    world.from_peer(peer_seq, our_seq, tcp_ack, "stale");
    world.post_and_run(World::request(FLUE_OP_HOLD, conn, 3));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_EQ(world.from_peer(peer_seq, our_seq, tcp_ack | tcp_psh, "new"),
              Chimney::Disposition::hold);
    world.post(World::request(FLUE_OP_OFFLOAD, conn, 4, world.room(sizeof(flue_state), 0)));
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 5, world.room(16, 4096)));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[1].bytes, 3u);
    EXPECT_TRUE(world.exceptions.empty());
}

TEST(Hold, discard_shows_the_kernel_nothing_until_the_tuple_is_released) {
    World world;
    const flue_conn conn = world.offload();
    world.put_state(World::state());
    world.post_and_run(world.terminate_request(conn, 2, FLUE_WR_KEEP_HELD));
    world.poll();
    world.from_peer(peer_seq, our_seq, tcp_ack, "kept");
    flue_wr hold = World::request(FLUE_OP_HOLD, conn, 3);
    hold.flags   = FLUE_WR_DISCARD;
    world.post_and_run(hold);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_EQ(world.from_peer(peer_seq, our_seq, tcp_ack, "dropped"),
              Chimney::Disposition::dropped);
    world.post_and_run(World::request(FLUE_OP_RELEASE, conn, 4));
    EXPECT_TRUE(world.exceptions.empty());
    world.expect_nothing_left();
}

TEST(Hold, a_release_that_discards_keeps_late_packets_from_the_kernel_for_a_while) {
    World world;
    const flue_conn conn = world.offload();
    world.put_state(World::state());
    world.post_and_run(world.terminate_request(conn, 2, FLUE_WR_KEEP_HELD));
    world.from_peer(peer_seq, our_seq, tcp_ack, "kept");
    flue_wr release = World::request(FLUE_OP_RELEASE, conn, 3);
    release.flags   = FLUE_WR_DISCARD;
    world.post_and_run(release);
    EXPECT_EQ(world.poll().size(), 2u);
    world.expect_nothing_left();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(world.from_peer(peer_seq, our_seq, tcp_ack | tcp_fin, "late"),
                  Chimney::Disposition::dropped);
        world.now = world.now + 59'000'000;
        world.run();
    }
    EXPECT_EQ(world.flow_count(), 1u) << "something came within 2MSL";
    EXPECT_TRUE(world.replies.empty());
    world.now = world.now + 2'000'000;
    world.run();
    EXPECT_EQ(world.flow_count(), 0u);
}

TEST(Hold, a_silent_tuple_may_be_claimed_again_or_taken_by_a_new_connection) {
    World world;
    const auto silence = [&world] {
        const flue_conn conn = world.offload();
        world.put_state(World::state());
        world.post_and_run(world.terminate_request(conn, 2, FLUE_WR_KEEP_HELD));
        flue_wr release = World::request(FLUE_OP_RELEASE, conn, 3);
        release.flags   = FLUE_WR_DISCARD;
        world.post_and_run(release);
        world.poll();
        ASSERT_EQ(world.chimney().usage().time_waits, 1u);
    };
    silence();
    silence();  // claims it again
    EXPECT_EQ(world.from_peer(1, 0, tcp_syn), Chimney::Disposition::exception);
    EXPECT_EQ(world.chimney().usage().time_waits, 0u);
    EXPECT_EQ(world.flow_count(), 0u);
}

TEST(HostLoss, a_tuple_that_is_discarded_stays_silent) {
    World world;
    const flue_conn conn = world.offload();
    world.put_state(World::state());
    world.post_and_run(world.terminate_request(conn, 2, FLUE_WR_KEEP_HELD));
    flue_wr hold = World::request(FLUE_OP_HOLD, conn, 3);
    hold.flags   = FLUE_WR_DISCARD;
    world.post_and_run(hold);
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    world.run();
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
    EXPECT_EQ(world.from_peer(peer_seq, our_seq, tcp_ack, "late"), Chimney::Disposition::dropped);
}

TEST(Hold, again_needs_a_connection_that_is_held) {
    World world;
    const flue_conn conn = world.offload();
    const auto status_of = [&](const flue_wr& wr) {
        world.post_and_run(wr);
        return world.poll_one().status;
    };
    EXPECT_EQ(status_of(World::request(FLUE_OP_HOLD, conn, 2)), FLUE_INVALID_STATE);
    EXPECT_EQ(status_of(World::request(FLUE_OP_HOLD, conn + 1, 3)), FLUE_BAD_CONNECTION);
    EXPECT_EQ(status_of(World::request(FLUE_OP_HOLD, conn, 4, world.room(4, 0))), FLUE_BAD_REQUEST);
    flue_wr fresh = World::request(
        FLUE_OP_HOLD, FLUE_NO_CONN, 5, world.put_state(World::state(FLUE_TCP_ESTABLISHED, 81)));
    fresh.flags = FLUE_WR_DISCARD;
    EXPECT_EQ(status_of(fresh), FLUE_BAD_REQUEST);
}

}  // namespace flue::chimney
