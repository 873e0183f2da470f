#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

// ---------------------------------------------------------------- first: sequence number

TEST(TcpInput, established_text_behind_the_window_is_dropped_and_acknowledged) {
    Rig rig;
    rig.reach(established);
    rig.data(0, 100);
    rig.sent();
    EXPECT_EQ(rig.data(0, 100), Drop::outside_window);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(is_bare_ack(out[0]));
    EXPECT_EQ(out[0].tcp.ack, Rig::remote(100));
    rig.consume(100);
}

TEST(TcpInput, established_text_past_the_window_is_dropped_and_acknowledged) {
    Rig rig;
    rig.reach(established);
    EXPECT_EQ(rig.data(Rig::rcv_space, 100), Drop::outside_window);
    EXPECT_EQ(rig.sent().size(), 1u);
    EXPECT_EQ(rig.engine.counters().drops[static_cast<uint32_t>(Drop::outside_window)], 1u);
}

TEST(TcpInput, established_text_that_laps_over_both_edges_is_cut_to_the_window) {
    Rig rig;
    rig.parameters.rcv_wnd_max = 1'000;
    rig.state.rcv_wnd          = 1'000;
    rig.reach(established);
    rig.data(0, 400);
    EXPECT_EQ(rig.data(300, 2'000), Drop::none);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 1'000u);
    EXPECT_EQ(rig.engine.front_chunk(Rig::conn).length, 400u);
    rig.consume(400);
    const ByteRef second = rig.engine.front_chunk(Rig::conn);
    EXPECT_EQ(second.offset, 54u + 100);
    EXPECT_EQ(second.length, 600u);
    rig.consume(600);
}

TEST(TcpInput, keepalive_probe_of_the_peer_is_acknowledged) {
    Rig rig;
    rig.reach(established);
    EXPECT_EQ(rig.receive(rig.segment(UINT32_MAX, 0, 0, rig.seen)), Drop::outside_window);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(is_bare_ack(out[0]));
}

TEST(TcpInput, bare_segments_outside_the_window_are_answered_at_a_limited_rate) {
    Rig rig;
    rig.reach(established);
    uint32_t answers = 0;
    for (uint32_t i = 0; i < 100; ++i) {
        rig.receive(rig.segment(UINT32_MAX, 0, 0, rig.seen));
        answers += static_cast<uint32_t>(rig.sent().size());
        rig.advance(10);
    }
    EXPECT_EQ(answers, 2u);  // of one second, two halves
}

TEST(TcpInput, zero_window_probe_is_answered_and_its_ack_is_processed) {
    Rig rig;
    rig.parameters.rcv_wnd_max = 1'000;
    rig.state.rcv_wnd          = 1'000;
    rig.reach(established);
    rig.post(500);
    rig.sent();
    rig.data(0, 1'000);
    rig.sent();
    Segment probe = rig.segment(1'000, 1, 0, Rig::local(500));
    EXPECT_EQ(rig.receive(probe), Drop::receive_window_full);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.ack, Rig::remote(1'000));
    EXPECT_EQ(out[0].tcp.window, 0);
    EXPECT_EQ(rig.engine.send_backlog(Rig::conn), 0u);
    rig.consume(1'000);
}

// ---------------------------------------------------------------- timestamps

struct Timestamps : ::testing::Test {
    Timestamps() {
        rig.parameters.timestamps = true;
        rig.state.ts_recent       = rig.peer_clock_ms();
        rig.state.ts_time         = 123'456;
        rig.reach(established);
    }

    Rig rig;
};

TEST_F(Timestamps, every_segment_carries_own_clock_and_the_peers_latest) {
    rig.advance(70);
    rig.data(0, 10);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(out[0].tcp.has_timestamps);
    EXPECT_EQ(out[0].tcp.ts_val, 123'456u + 70);
    EXPECT_EQ(out[0].tcp.ts_ecr, rig.peer_clock_ms());
    rig.consume(10);
}

TEST_F(Timestamps, payload_leaves_room_for_the_option) {
    rig.post(5'000);
    EXPECT_EQ(rig.sent()[0].payload_bytes, Rig::mss - 12);
}

TEST_F(Timestamps, segment_with_an_older_timestamp_is_dropped_and_acknowledged) {
    Segment old    = rig.segment(0, 100, 0, rig.seen);
    old.tcp.ts_val = rig.state.ts_recent - 1;
    EXPECT_EQ(rig.receive(old), Drop::paws);
    EXPECT_EQ(rig.sent().size(), 1u);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 0u);
}

TEST_F(Timestamps, after_24_days_of_silence_any_timestamp_is_taken) {
    rig.advance(uint64_t{24} * 24 * 3600 * 1000 + 1'000);
    Segment old    = rig.segment(0, 100, 0, rig.seen);
    old.tcp.ts_val = rig.state.ts_recent - 1;
    EXPECT_EQ(rig.receive(old), Drop::none);
    rig.consume(100);
}

// Linux hands no ts_recent over: whatever the peer's clock says, the first segment sets it.
TEST(Adopt, a_peers_timestamp_that_nobody_knows_is_taken_from_its_first_segment_even_out_of_order) {
    for (const uint32_t peer_clock : {1U, 0x7fff'ffffU, 0x8000'0001U, 0xffff'fff0U}) {
        Rig rig;
        rig.parameters.timestamps  = true;
        rig.state.ts_recent        = 0;
        rig.state.ts_recent_age_ms = UINT32_MAX;
        rig.adopt();
        Segment later    = rig.segment(100, 100, 0, rig.seen);
        later.tcp.ts_val = peer_clock;
        Segment first    = rig.segment(0, 100, 0, rig.seen);
        first.tcp.ts_val = peer_clock;
        EXPECT_EQ(rig.receive(later), Drop::none) << peer_clock;
        EXPECT_EQ(rig.receive(first), Drop::none) << peer_clock;
        EXPECT_EQ(rig.engine.readable(Rig::conn), 200u);
        rig.consume(200);
        first.tcp.ts_val = peer_clock - 1;
        EXPECT_EQ(rig.receive(first), Drop::paws) << peer_clock;
    }
}

TEST_F(Timestamps, segment_without_the_option_is_taken) {
    Segment bare            = rig.segment(0, 100, 0, rig.seen);
    bare.tcp.has_timestamps = false;
    EXPECT_EQ(rig.receive(bare), Drop::none);
    rig.consume(100);
}

TEST_F(Timestamps, rst_with_an_older_timestamp_still_counts) {
    Segment rst    = rig.segment(0, 0, wire::tcp_rst, rig.seen);
    rst.tcp.ts_val = rig.state.ts_recent - 1;
    rig.receive(rst);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
}

TEST_F(Timestamps, latest_timestamp_in_order_is_echoed) {
    for (uint32_t i = 0; i < 5; ++i) {
        rig.advance(50);
        rig.data(i * 10, 10);
        rig.engine.flush_ack(Rig::conn);
        EXPECT_EQ(rig.sent().back().tcp.ts_ecr, rig.peer_clock_ms());
    }
    rig.consume(50);
}

TEST_F(Timestamps, of_segments_that_share_an_ack_the_first_is_echoed) {
    rig.data(0, 10);
    rig.sent();
    rig.advance(10);
    const uint32_t first = rig.peer_clock_ms();
    rig.data(10, 10);
    rig.advance(10);
    rig.data(20, 10);
    EXPECT_EQ(rig.sent().back().tcp.ts_ecr, first);
    rig.consume(30);
}

TEST_F(Timestamps, timestamp_of_a_segment_past_a_gap_is_not_echoed) {
    rig.advance(50);
    rig.data(1'000, 100);
    EXPECT_EQ(rig.sent()[0].tcp.ts_ecr, rig.state.ts_recent);
}

// ---------------------------------------------------------------- second: RST

TEST(TcpInput, R84_established_rst_at_rcv_nxt_closes_and_notifies) {
    Rig rig;
    rig.reach(established);
    rig.post(100);
    rig.receive(rig.segment(0, 0, wire::tcp_rst, rig.seen));
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
    EXPECT_EQ(rig.notices() & notice_reset, notice_reset);
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_EQ(rig.engine.counters().resets_in, 1u);
    EXPECT_NE(rig.engine.front_item(Rig::conn), no_item)
        << "posted sends stay until they are popped.  R80";
}

TEST(TcpInput, R86_rst_inside_the_window_draws_one_challenge_ack_until_an_acceptable_segment) {
    Rig rig;
    rig.reach(established);
    EXPECT_EQ(rig.receive(rig.segment(10, 0, wire::tcp_rst, rig.seen)), Drop::rst_challenged);
    EXPECT_EQ(rig.sent().size(), 1u);
    EXPECT_EQ(rig.receive(rig.segment(20, 0, wire::tcp_rst, rig.seen)), Drop::rst_challenged);
    EXPECT_TRUE(rig.sent().empty());
    rig.ack(0);
    EXPECT_EQ(rig.receive(rig.segment(20, 0, wire::tcp_rst, rig.seen)), Drop::rst_challenged);
    EXPECT_EQ(rig.sent().size(), 1u);
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
}

TEST(TcpInput, R86_rst_outside_the_window_draws_nothing) {
    Rig rig;
    rig.reach(established);
    EXPECT_EQ(rig.receive(rig.segment(Rig::rcv_space, 0, wire::tcp_rst, rig.seen)),
              Drop::rst_outside_window);
    EXPECT_EQ(rig.receive(rig.segment(UINT32_MAX, 0, wire::tcp_rst, rig.seen)),
              Drop::rst_outside_window);
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
}

TEST(TcpInput, rst_at_rcv_nxt_of_a_shut_window_closes) {
    Rig rig;
    rig.parameters.rcv_wnd_max = 100;
    rig.state.rcv_wnd          = 100;
    rig.reach(established);
    rig.data(0, 100);
    rig.receive(rig.segment(100, 0, wire::tcp_rst, rig.seen));
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 100u)
        << "what was acknowledged before the RST can still be read";
    rig.consume(100);
}

TEST(TcpInput, rst_closes_in_every_state) {
    for (const State state :
         {established, fin_wait_1, fin_wait_2, close_wait, closing, last_ack, time_wait}) {
        Rig rig;
        rig.reach(state);
        const uint32_t next =
            state == close_wait || state == last_ack || state == closing || state == time_wait;
        rig.receive(rig.segment(next, 0, wire::tcp_rst, rig.seen));
        EXPECT_EQ(rig.engine.state(Rig::conn), closed) << to_string(state);
        EXPECT_EQ((rig.notices() & notice_reset) != 0, state != time_wait) << to_string(state);
    }
}

TEST(TcpInput, challenged_peer_that_stays_silent_is_probed_after_5_minutes_and_given_up_closed) {
    Rig rig;
    rig.parameters.ka_interval_ms = 0;
    rig.parameters.ka_probe_count = 0;
    rig.reach(established);
    rig.receive(rig.segment(10, 0, wire::tcp_rst, rig.seen));
    rig.sent();
    rig.advance(299'000);
    EXPECT_TRUE(rig.sent().empty());
    uint32_t probes = 0;
    for (uint32_t second = 0; second < 15; ++second) {
        rig.advance(1'000);
        probes += static_cast<uint32_t>(rig.sent().size());
    }
    EXPECT_EQ(probes, 10u);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
    EXPECT_EQ(rig.notices() & notice_upload, notice_upload);
}

TEST(TcpInput, challenged_peer_that_answers_is_left_alone) {
    Rig rig;
    rig.reach(established);
    rig.receive(rig.segment(10, 0, wire::tcp_rst, rig.seen));
    rig.sent();
    rig.ack(0);
    rig.advance(400'000);
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
}

// ---------------------------------------------------------------- fourth: SYN

TEST(TcpInput, R87_syn_at_rcv_nxt_closes_and_asks_for_upload) {
    Rig rig;
    rig.reach(established);
    rig.receive(rig.segment(0, 0, wire::tcp_syn, rig.seen));
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
    EXPECT_EQ(rig.notices(), notice_upload);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::upload_requested);
    EXPECT_TRUE(rig.sent().empty()) << "an RST only from abort.  R78";
}

TEST(TcpInput, syn_inside_the_window_draws_a_challenge_ack_every_three_seconds) {
    Rig rig;
    rig.reach(established);
    uint32_t answers = 0;
    for (uint32_t i = 0; i < 60; ++i) {
        EXPECT_EQ(rig.receive(rig.segment(10, 0, wire::tcp_syn, rig.seen)), Drop::syn_challenged);
        answers += static_cast<uint32_t>(rig.sent().size());
        rig.advance(100);
    }
    EXPECT_EQ(answers, 2u);
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
}

TEST(TcpInput, syn_outside_the_window_is_acknowledged) {
    Rig rig;
    rig.reach(established);
    EXPECT_EQ(rig.receive(rig.segment(0x8000'0000, 0, wire::tcp_syn, rig.seen)),
              Drop::outside_window);
    EXPECT_EQ(rig.sent().size(), 1u);
}

TEST(TcpInput, R88_syn_in_time_wait_is_not_touched) {
    Rig rig;
    rig.reach(time_wait);
    EXPECT_EQ(rig.receive(rig.segment(100'000, 0, wire::tcp_syn, rig.seen)),
              Drop::connection_closed);
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_EQ(rig.engine.state(Rig::conn), time_wait);
}

// ---------------------------------------------------------------- sixth: urgent; closed and
// stopped

TEST(TcpInput, R97_urgent_data_asks_for_upload_and_nothing_further_is_acknowledged) {
    Rig rig;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    Segment urgent = rig.segment(0, 10, wire::tcp_urg, Rig::local(100));
    EXPECT_EQ(rig.receive(urgent), Drop::urgent);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::received_urgent_data);
    EXPECT_EQ(rig.notices() & notice_upload, notice_upload);
    EXPECT_EQ(rig.engine.send_backlog(Rig::conn), 0u) << "its ACK is validated and taken";
    EXPECT_EQ(rig.data(0, 10), Drop::connection_stopped);
    rig.advance(1'000);
    EXPECT_TRUE(rig.sent().empty());
}

TEST(TcpInput, R95_stopped_connection_neither_processes_nor_sends) {
    Rig rig;
    rig.reach(established);
    rig.post(3'000);
    rig.data(0, 10);
    rig.engine.stop(Rig::conn);
    EXPECT_EQ(rig.data(10, 10), Drop::connection_stopped);
    rig.advance(10'000);
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_FALSE(rig.engine.next_deadline().is_set());
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
    rig.consume(10);
}

TEST(TcpInput, R89_segment_for_a_closed_connection_is_the_callers) {
    Rig rig;
    rig.reach(closed);
    EXPECT_EQ(rig.data(1, 10), Drop::connection_closed);
    EXPECT_TRUE(rig.sent().empty());
}

/// Deleting the fast path must not change anything: both ways lead to the same state.
TEST(TcpInput, predicted_segment_and_the_long_way_agree) {
    Rig fast;
    Rig slow;
    for (Rig* rig : {&fast, &slow}) {
        rig->reach(established);
        rig->post(2'500);
        rig->sent();
    }
    slow.peer_window = Rig::window - 1;  // a window that differs is not predicted
    for (Rig* rig : {&fast, &slow}) {
        rig->receive(rig->segment(0, 100, wire::tcp_psh, Rig::local(1'000)));
        rig->peer_window = Rig::window;
        rig->receive(rig->segment(100, 100, 0, Rig::local(2'000)));
    }
    Delegated a;
    Delegated b;
    fast.engine.snapshot(fast.now, Rig::conn, a);
    slow.engine.snapshot(slow.now, Rig::conn, b);
    EXPECT_EQ(a.rcv_nxt, b.rcv_nxt);
    EXPECT_EQ(a.snd_una, b.snd_una);
    EXPECT_EQ(a.cwnd, b.cwnd);
    EXPECT_EQ(a.snd_wnd, b.snd_wnd);
    EXPECT_EQ(a.snd_wl1, b.snd_wl1);
    EXPECT_EQ(a.srtt_us_x8, b.srtt_us_x8);
    EXPECT_EQ(fast.notices(), slow.notices());
    EXPECT_EQ(fast.sent().size(), slow.sent().size());
}

}  // namespace flue::tcp::test
