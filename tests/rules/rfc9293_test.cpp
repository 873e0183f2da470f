#include "chimney/state_block.hpp"
#include "unit/tcp/support.hpp"

// The MUSTs of RFC 9293, as far as they are the engine's.

namespace flue::tcp {
namespace {

using test::has;
using test::is_bare_ack;
using test::Rig;
using test::rto_ms;
using enum State;

uint32_t bytes_of(const std::vector<TxSegment>& segments) {
    uint32_t bytes = 0;
    for (const TxSegment& tx : segments) {
        bytes += tx.payload_bytes;
    }
    return bytes;
}

/// The times in ms, from now on, at which the connection sends something until `ms` have passed.
std::vector<uint64_t> times_of_output(Rig& rig, uint64_t ms) {
    std::vector<uint64_t> times;
    for (uint64_t at = 1; at <= ms; ++at) {
        rig.advance(1);
        if (!rig.sent().empty()) {
            times.push_back(at);
        }
    }
    return times;
}

/// A connection whose receive window is full.
void shut_receive_window(Rig& rig) {
    rig.reach(established);
    rig.data(0, Rig::rcv_space);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    ASSERT_EQ(out[0].tcp.window, 0);
    rig.notices();
}

// ---------------------------------------------------------------- PUSH

TEST(MustPush, MUST_60_what_waits_goes_out_without_more_being_posted) {
    Rig rig;
    rig.parameters.nagle = true;
    rig.reach(established);
    rig.post(500);
    EXPECT_EQ(bytes_of(rig.sent()), 500u);
    rig.post(300);
    EXPECT_TRUE(rig.sent().empty());
    rig.ack(500);
    EXPECT_EQ(bytes_of(rig.sent()), 300u);
}

TEST(MustPush, MUST_61_the_last_segment_of_what_is_queued_has_psh) {
    Rig rig;
    rig.reach(established);
    rig.post(2'500);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 3u);
    EXPECT_FALSE(has(out[0], wire::tcp_psh));
    EXPECT_FALSE(has(out[1], wire::tcp_psh));
    EXPECT_TRUE(has(out[2], wire::tcp_psh));
}

// ---------------------------------------------------------------- window

TEST(MustWindow, MUST_1_a_window_with_its_highest_bit_set_is_a_large_one) {
    Rig rig;
    rig.peer_window   = 65'535;
    rig.state.snd_wnd = 1'000;
    rig.state.cwnd    = 1'000'000;
    rig.reach(established);
    rig.ack(0);
    rig.post(100'000);
    EXPECT_EQ(bytes_of(rig.sent()), 65'000u);
}

TEST(MustWindow, MUST_34_a_shrunk_window_is_kept_to_and_loses_nothing) {
    Rig rig;
    rig.reach(established);
    rig.post(20'000);
    EXPECT_EQ(bytes_of(rig.sent()), 10'000u);
    rig.peer_window = 3'000;
    rig.ack(2'000);
    EXPECT_TRUE(rig.sent().empty());  // 8'000 are in flight, where 3'000 may be
    for (int i = 0; i < 1'000; ++i) {
        rig.advance(1);
        for (const TxSegment& tx : rig.sent()) {
            EXPECT_LE(tx.tcp.seq + tx.payload_bytes, Rig::local(5'000));
            EXPECT_GE(tx.tcp.seq, Rig::local(2'000));
        }
    }
    rig.peer_window = Rig::window;
    for (uint32_t acked = 10'000; acked < 20'000;) {
        rig.ack(acked);
        const auto out = rig.sent();
        ASSERT_FALSE(out.empty());
        acked = bytes_between(Rig::local(0), out.back().tcp.seq + out.back().payload_bytes);
    }
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
}

TEST(MustWindow, MUST_35_a_window_that_shrinks_to_zero_is_probed) {
    Rig rig;
    rig.reach(established);
    rig.post(10'000);
    rig.sent();
    rig.peer_window = 0;
    rig.ack(2'000);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(1'000);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(2'000));
    EXPECT_EQ(out[0].payload_bytes, 1u);
}

TEST(MustWindow, MUST_66_rst_and_urg_count_though_the_window_is_shut) {
    Rig reset;
    shut_receive_window(reset);
    reset.receive(reset.segment(Rig::rcv_space, 0, wire::tcp_rst, Rig::local(0)));
    EXPECT_EQ(reset.engine.state(Rig::conn), closed);

    Rig urgent;
    shut_receive_window(urgent);
    urgent.data(Rig::rcv_space, 1, wire::tcp_urg);
    EXPECT_EQ(urgent.engine.upload_reason(Rig::conn), UploadReason::received_urgent_data);
}

// ---------------------------------------------------------------- urgent data

TEST(MustUrgent, MUST_30_MUST_32_it_is_told_at_once_and_left_to_who_can_read_it) {
    Rig rig;
    rig.reach(established);
    Segment segment    = rig.segment(0, 100, wire::tcp_urg, Rig::local(0));
    segment.tcp.urgent = 1;
    EXPECT_EQ(rig.receive(segment), Drop::urgent);
    EXPECT_EQ(rig.notices(), notice_upload);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::received_urgent_data);
    EXPECT_TRUE(rig.sent().empty());  // the peer sends it again, to whoever takes over
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_EQ(state.rcv_nxt, Rig::remote(0));
}

// ---------------------------------------------------------------- segment size

TEST(MustMss, MUST_16_path_peer_and_options_limit_a_segment) {
    EXPECT_EQ(chimney::payload_mss(wire::Family::ipv4, 1'500, 9'000), 1'460u);
    EXPECT_EQ(chimney::payload_mss(wire::Family::ipv6, 1'500, 9'000), 1'440u);
    EXPECT_EQ(chimney::payload_mss(wire::Family::ipv4, 1'500, 536), 536u);
    Rig rig;
    rig.parameters.timestamps = true;
    rig.reach(established);
    rig.post(5'000);
    EXPECT_EQ(rig.sent()[0].payload_bytes, Rig::mss - 12);
}

// ---------------------------------------------------------------- closing

TEST(MustClose, MUST_12_closed_and_reset_are_told_apart) {
    Rig finished;
    finished.reach(established);
    finished.fin(0);
    EXPECT_EQ(finished.notices(), notice_peer_fin);

    Rig reset;
    reset.reach(established);
    reset.data(0, 0, wire::tcp_rst);
    EXPECT_EQ(reset.notices(), notice_reset);
}

TEST(MustClose, MUST_13_time_wait_lasts_60_seconds) {
    Rig rig;
    rig.reach(time_wait);
    rig.advance(59'999);
    EXPECT_EQ(rig.engine.state(Rig::conn), time_wait);
    rig.advance(1);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
}

// ---------------------------------------------------------------- retransmission

TEST(MustCongestion, MUST_19_slow_start_doubles_the_window_each_round_trip) {
    Rig rig;
    rig.state.cwnd = 2'000;
    rig.reach(established);
    rig.post(100'000);
    EXPECT_EQ(bytes_of(rig.sent()), 2'000u);
    for (uint32_t acked = 1'000; acked <= 6'000; acked += 1'000) {
        rig.ack(acked);
        EXPECT_EQ(bytes_of(rig.sent()), 2'000u) << acked;
    }
}

TEST(MustCongestion, MUST_19_congestion_avoidance_adds_a_segment_each_round_trip) {
    Rig rig;
    rig.state.ssthresh = rig.state.cwnd;
    rig.reach(established);
    rig.post(100'000);
    EXPECT_EQ(bytes_of(rig.sent()), 10'000u);
    rig.ack(10'000);
    EXPECT_EQ(bytes_of(rig.sent()), 11'000u);
}

TEST(MustCongestion, MUST_19_the_timeout_doubles_with_each_retransmission) {
    Rig rig;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    EXPECT_EQ(times_of_output(rig, 15 * rto_ms),
              (std::vector<uint64_t>{rto_ms, 3 * rto_ms, 7 * rto_ms, 15 * rto_ms}));
}

TEST(MustCongestion, MUST_18_a_retransmission_is_no_measure_of_the_round_trip) {
    Rig rig;
    rig.reach(established);
    const uint32_t before = rig.engine.info(Rig::conn).srtt_us;
    rig.post(100);
    rig.sent();
    rig.advance(rto_ms);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.ack(100);
    EXPECT_EQ(rig.engine.info(Rig::conn).srtt_us, before);
    rig.post(100);
    rig.sent();
    rig.advance(20);
    rig.ack(200);
    EXPECT_LT(rig.engine.info(Rig::conn).srtt_us, before);
}

// ---------------------------------------------------------------- ACKs

TEST(MustAck, MUST_58_segments_that_came_together_get_one_ack) {
    Rig rig;
    rig.reach(established);
    for (uint32_t at = 0; at < 8'000; at += 1'000) {
        rig.data(at, 1'000);
    }
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(is_bare_ack(out[0]));
    EXPECT_EQ(out[0].tcp.ack, Rig::remote(8'000));
}

TEST(MustAck, MUST_59_what_was_queued_behind_a_gap_is_acknowledged_with_it) {
    Rig rig;
    rig.reach(established);
    rig.data(1'000, 1'000);
    rig.data(2'000, 1'000);
    rig.sent();
    rig.data(0, 1'000);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.ack, Rig::remote(3'000));
}

TEST(MustAck, MUST_40_no_ack_is_delayed_by_half_a_second) {
    Rig rig;
    rig.reach(established);
    rig.data(0, 1'000);
    rig.sent();  // of the first segment after adopt at once
    rig.data(1'000, 1'000);
    EXPECT_TRUE(rig.sent().empty());
    const auto times = times_of_output(rig, 1'000);
    ASSERT_EQ(times.size(), 1u);
    EXPECT_LT(times[0], 500u);
}

TEST(MustAck, MUST_39_a_shut_window_does_not_open_for_less_than_a_segment) {
    Rig rig;
    shut_receive_window(rig);
    rig.consume(Rig::mss - 1);
    EXPECT_TRUE(rig.sent().empty());
    rig.data(Rig::rcv_space, 1);  // a probe
    const auto answer = rig.sent();
    ASSERT_EQ(answer.size(), 1u);
    EXPECT_EQ(answer[0].tcp.window, 0);
    rig.consume(1);
    const auto update = rig.sent();
    ASSERT_EQ(update.size(), 1u);
    EXPECT_EQ(update[0].tcp.window, Rig::mss);
}

// ---------------------------------------------------------------- sending

TEST(MustSend, MUST_38_a_small_part_of_a_window_is_not_worth_a_segment) {
    Rig rig;
    rig.reach(established);
    rig.peer_window = 500;
    rig.ack(0);
    rig.post(5'000);
    EXPECT_TRUE(rig.sent().empty());
    rig.peer_window = 1'500;
    rig.ack(0);
    EXPECT_EQ(bytes_of(rig.sent()), 1'000u);
}

TEST(MustSend, MUST_17_nagle_can_be_switched_off) {
    Rig rig;
    rig.parameters.nagle = true;
    rig.reach(established);
    rig.post(10);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.post(10);
    EXPECT_TRUE(rig.sent().empty());
    rig.parameters.nagle = false;
    rig.engine.update(rig.now, Rig::conn, rig.parameters, 0);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.post(10);
    EXPECT_EQ(rig.sent().size(), 1u);
}

// ---------------------------------------------------------------- failures

TEST(MustFailure, MUST_20_after_so_many_retransmissions_the_connection_is_given_up) {
    Options options;
    options.retransmits_max = 3;
    Rig rig(options);
    rig.reach(established);
    rig.post(100);
    rig.sent();
    EXPECT_EQ(times_of_output(rig, 100 * rto_ms).size(), 3u);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
}

TEST(MustFailure, MUST_21_each_connection_has_its_own_limit) {
    Rig rig;
    rig.parameters.max_rt_ms = 1'000;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    const auto times = times_of_output(rig, 100 * rto_ms);
    ASSERT_FALSE(times.empty());
    EXPECT_LE(times.back(), rto_ms + 1'000);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
}

// ---------------------------------------------------------------- keepalive

TEST(MustKeepAlive, MUST_24_it_can_be_switched_on_and_off) {
    Rig rig;
    rig.parameters.ka_timeout_ms = 10'000;
    rig.reach(established);
    rig.parameters.keep_alive = true;
    rig.engine.update(rig.now, Rig::conn, rig.parameters, 0);
    rig.advance(10'000);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.parameters.keep_alive = false;
    rig.engine.update(rig.now, Rig::conn, rig.parameters, 0);
    rig.advance(100'000);
    EXPECT_TRUE(rig.sent().empty());
}

TEST(MustKeepAlive, MUST_25_nobody_asked_for_it_so_an_idle_connection_is_silent) {
    Rig rig;
    rig.parameters.keep_alive = Parameters{}.keep_alive;
    rig.reach(established);
    rig.advance(30'000'000);
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_FALSE(rig.engine.next_deadline().is_set());
}

TEST(MustKeepAlive, MUST_26_MUST_27_it_is_sent_after_the_time_that_was_chosen) {
    Rig rig;
    rig.parameters.keep_alive    = true;
    rig.parameters.ka_timeout_ms = 10'000;
    rig.reach(established);
    rig.advance(9'000);
    rig.data(0, 100);  // not idle any more
    rig.sent();
    rig.advance(9'999);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(1);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(is_bare_ack(out[0]));
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0) - 1);
}

TEST(MustKeepAlive, MUST_28_where_no_time_was_chosen_it_is_two_hours) {
    for (const uint32_t unchosen : {0U, Parameters{}.ka_timeout_ms}) {
        Rig rig;
        rig.parameters.keep_alive    = true;
        rig.parameters.ka_timeout_ms = unchosen;
        rig.reach(established);
        rig.advance(7'199'999);
        EXPECT_TRUE(rig.sent().empty());
        rig.advance(1);
        EXPECT_EQ(rig.sent().size(), 1u);
    }
}

TEST(MustKeepAlive, MUST_29_probes_and_answers_may_be_lost) {
    Rig rig;
    rig.parameters.keep_alive     = true;
    rig.parameters.ka_timeout_ms  = 10'000;
    rig.parameters.ka_interval_ms = 1'000;
    rig.parameters.ka_probe_count = 3;
    rig.reach(established);
    rig.advance(10'000);
    rig.sent();
    rig.advance(2'000);  // two more
    rig.sent();
    rig.ack(0);
    rig.advance(9'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
    EXPECT_TRUE(rig.sent().empty());
}

}  // namespace
}  // namespace flue::tcp
