#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

namespace {

void duplicate_acks(Rig& rig, uint32_t offset, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        rig.ack(offset);
    }
}

}  // namespace

TEST(Recovery, first_two_duplicate_acks_let_one_new_segment_out_each) {
    Rig rig;
    rig.fill_pipe();
    duplicate_acks(rig, 0, 1);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(10'000));
    duplicate_acks(rig, 0, 1);
    EXPECT_EQ(rig.sent().size(), 1u);
}

TEST(Recovery, third_duplicate_ack_sends_the_first_segment_again_and_halves_the_window) {
    Rig rig;
    rig.fill_pipe();
    duplicate_acks(rig, 0, 3);
    const auto out = rig.sent();
    ASSERT_GE(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
    EXPECT_EQ(out[0].payload_bytes, 1'000u);
    EXPECT_EQ(rig.engine.info(Rig::conn).ssthresh, 5'000u);
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 1u);
    EXPECT_EQ(rig.engine.counters().timeouts, 0u);
}

TEST(Recovery, full_ack_ends_it_with_the_window_at_ssthresh) {
    Rig rig;
    rig.fill_pipe();
    duplicate_acks(rig, 0, 9);
    rig.sent();
    const uint32_t high = bytes_between(Rig::local(0), rig.seen);
    rig.ack(high);
    const Engine::Info info = rig.engine.info(Rig::conn);
    EXPECT_LE(info.cwnd, info.ssthresh);
    EXPECT_GE(info.cwnd, 2'000u);
    duplicate_acks(rig, high, 1);
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 1u);
}

TEST(Recovery, partial_ack_sends_the_next_hole_without_waiting) {
    Rig rig;
    rig.fill_pipe();
    duplicate_acks(rig, 0, 3);
    rig.sent();
    rig.ack(4'000);
    const auto out = rig.sent();
    ASSERT_FALSE(out.empty());
    EXPECT_EQ(out[0].tcp.seq, Rig::local(4'000));
    rig.ack(7'000);
    EXPECT_EQ(rig.sent()[0].tcp.seq, Rig::local(7'000));
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 1u);
}

TEST(Recovery, duplicate_ack_needs_data_outstanding_the_same_window_and_no_data) {
    Rig rig;
    rig.fill_pipe();
    rig.peer_window = Rig::window - 100;
    rig.ack(0);
    rig.peer_window = Rig::window - 200;
    rig.ack(0);
    rig.peer_window = Rig::window - 300;
    rig.ack(0);
    for (uint32_t i = 0; i < 3; ++i) {
        rig.receive(rig.segment(i * 10, 10, 0, Rig::local(0)));
    }
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 0u);
    rig.consume(30);
}

TEST(Recovery, duplicate_acks_after_a_timeout_do_not_start_it_again) {
    Rig rig;
    rig.fill_pipe();
    rig.advance(rto_ms);
    rig.sent();
    duplicate_acks(rig, 0, 5);
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 0u);
}

TEST(Recovery, fast_retransmit_takes_the_fin_along_when_it_was_on_the_segment) {
    Rig rig;
    rig.reach(established);
    rig.post(500, true);
    rig.sent();
    // a FIN that is the only thing outstanding still gets repaired by the timer
    rig.advance(rto_ms);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has_fin(out[0]));
    EXPECT_EQ(out[0].payload_bytes, 500u);
}

// ---------------------------------------------------------------- timeouts

TEST(Timeout,
     everything_unacknowledged_is_sent_again_from_the_first_byte_with_a_window_of_one_segment) {
    Rig rig;
    rig.fill_pipe();
    rig.advance(rto_ms);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
    EXPECT_EQ(rig.engine.info(Rig::conn).cwnd, 1'000u);
    EXPECT_EQ(rig.engine.info(Rig::conn).ssthresh, 5'000u);
    rig.ack(1'000);
    out = rig.sent();
    ASSERT_EQ(out.size(), 2u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(10'000)) << "RFC 5682 step 2b: perhaps nothing was lost";
    rig.ack(1'000);
    out = rig.sent();
    ASSERT_EQ(out.size(), 0u) << "two segments are in flight already";
    rig.ack(2'000);
    EXPECT_EQ(rig.sent()[0].tcp.seq, Rig::local(2'000));
}

TEST(Timeout, bare_ack_meanwhile_has_the_highest_number_which_the_peer_surely_takes) {
    Rig rig;
    rig.fill_pipe();
    rig.advance(rto_ms);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.receive(rig.segment(0, 10, 0, Rig::local(0)));
    rig.engine.flush_ack(Rig::conn);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(is_bare_ack(out[0]));
    EXPECT_EQ(out[0].tcp.seq, Rig::local(10'000));
    rig.consume(10);
}

TEST(Timeout, bare_ack_does_not_look_old_for_a_window_told_less_than_a_unit_short) {
    for (const uint8_t shift : {uint8_t{0}, uint8_t{13}}) {
        Rig rig;
        rig.parameters.snd_wind_shift = shift;
        rig.reach(established);
        rig.post(1'000);
        rig.sent();
        rig.peer_window = 0;
        rig.receive(rig.segment(0, 10, 0, Rig::local(0)));
        rig.engine.flush_ack(Rig::conn);
        const auto out = rig.sent();
        ASSERT_EQ(out.size(), 1u);
        EXPECT_TRUE(is_bare_ack(out[0]));
        EXPECT_EQ(out[0].tcp.seq, Rig::local(shift == 0 ? 0 : 1'000));
        rig.consume(10);
    }
}

TEST(Timeout, ack_of_what_had_arrived_skips_it) {
    Rig rig;
    rig.fill_pipe();
    rig.advance(rto_ms);
    rig.sent();
    rig.ack(9'000);
    rig.sent();
    rig.ack(9'000);
    rig.ack(9'500);
    EXPECT_EQ(rig.sent()[0].tcp.seq, Rig::local(9'500));
}

TEST(Timeout, interval_doubles_with_each_and_comes_back_with_a_measured_round_trip) {
    Rig rig;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    uint64_t waited = rto_ms;
    for (uint32_t i = 0; i < 4; ++i) {
        rig.advance(waited - 1);
        EXPECT_TRUE(rig.sent().empty()) << i;
        rig.advance(1);
        EXPECT_EQ(rig.sent().size(), 1u) << i;
        waited *= 2;
    }
    rig.ack(100);
    EXPECT_EQ(rig.engine.info(Rig::conn).rto_us, 16u * 200'000)
        << "Karn: kept until a round trip is measured";
    rig.post(100);
    rig.sent();
    rig.advance(100);
    rig.ack(200);
    EXPECT_EQ(rig.engine.info(Rig::conn).rto_us, 200'000u);
}

TEST(Timeout, ssthresh_is_halved_once_for_one_segment) {
    Rig rig;
    rig.fill_pipe();
    rig.advance(rto_ms);
    rig.sent();
    rig.advance(2 * rto_ms);
    EXPECT_EQ(rig.engine.info(Rig::conn).ssthresh, 5'000u);
}

TEST(Timeout, limit_of_retransmissions_asks_for_upload_and_sends_no_rst) {
    Options options;
    options.retransmits_max = 3;
    Rig rig(options);
    rig.reach(established);
    rig.post(100);
    rig.sent();
    rig.notices();
    uint32_t again = 0;
    for (uint32_t i = 0; i < 100; ++i) {
        rig.advance(100);
        again += static_cast<uint32_t>(rig.sent().size());
    }
    EXPECT_EQ(again, 3u);
    EXPECT_EQ(rig.notices(), notice_upload);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
    EXPECT_EQ(rig.engine.counters().resets_out, 0u);
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_EQ(state.retransmit_count, 3);
    EXPECT_EQ(state.retransmit_delta_ms, 0) << "the host's timer fires at once.  R12";
    EXPECT_EQ(state.total_rt_ms, 10'000u - rto_ms);
}

TEST(Timeout, limit_counts_retransmissions_of_one_segment_only) {
    Options options;
    options.retransmits_max = 2;
    Rig rig(options);
    rig.reach(established);
    rig.post(5'000);
    rig.sent();
    for (uint32_t i = 1; i <= 5; ++i) {
        rig.advance(2 * rto_ms);
        rig.sent();
        rig.ack(i * 1'000);
    }
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::none);
    EXPECT_EQ(rig.engine.send_backlog(Rig::conn), 0u);
    EXPECT_GE(rig.engine.counters().timeouts, 5u);
}

TEST(Timeout, max_rt_limits_the_time_instead_of_the_count) {
    Options options;
    options.retransmits_max = 1;
    Rig rig(options);
    rig.parameters.max_rt_ms = 5'000;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    rig.advance(5'000);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::none);
    rig.advance(5'000);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
}

TEST(Timeout, max_rt_of_all_ones_never_gives_up) {
    Options options;
    options.retransmits_max = 1;
    Rig rig(options);
    rig.parameters.max_rt_ms = UINT32_MAX;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    rig.advance(24 * 3'600'000);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::none);
}

TEST(Timeout, nothing_outstanding_means_no_timer) {
    Rig rig;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    EXPECT_TRUE(rig.engine.next_deadline().is_set());
    rig.ack(100);
    rig.advance(60'000);
    EXPECT_EQ(rig.engine.counters().timeouts, 0u);
    EXPECT_FALSE(rig.engine.next_deadline().is_set());
}

}  // namespace flue::tcp::test
