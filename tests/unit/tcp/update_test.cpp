#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

namespace {

void update(Rig& rig, uint8_t flags = 0) {
    rig.engine.update(rig.now, Rig::conn, rig.parameters, flags);
    rig.check();
}

uint32_t keep_alives(Rig& rig) {
    uint32_t count = 0;
    for (const TxSegment& tx : rig.sent()) {
        count += tx.tcp.seq == Rig::local(0) - 1 ? 1U : 0U;
    }
    return count;
}

}  // namespace

TEST(Update, a_smaller_mss_cuts_what_is_sent_from_now_on_and_what_is_sent_again) {
    Rig rig;
    rig.reach(established);
    rig.post(2'000);
    ASSERT_EQ(rig.sent().size(), 2u);
    rig.parameters.mss = 400;
    update(rig);
    rig.post(800);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 2u);
    EXPECT_EQ(out[0].payload_bytes, 400u);
    rig.advance(rto_ms);
    out = rig.sent();
    ASSERT_GE(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
    EXPECT_EQ(out[0].payload_bytes, 400u);
}

TEST(Update, a_larger_mss_never_leaves_cwnd_below_one_segment) {
    Rig rig;
    rig.state.cwnd = Rig::mss;
    rig.reach(established);
    rig.parameters.mss = 9'000;
    update(rig);
    rig.post(9'000);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].payload_bytes, 9'000u);
}

TEST(Update, without_nagle_a_small_segment_that_waits_goes_at_once) {
    Rig rig;
    rig.parameters.nagle = true;
    rig.reach(established);
    rig.post(100);
    ASSERT_EQ(rig.sent().size(), 1u);
    rig.post(100);
    ASSERT_TRUE(rig.sent().empty());
    rig.parameters.nagle = false;
    update(rig);
    EXPECT_EQ(rig.sent().size(), 1u);
}

TEST(Update, R29_a_larger_window_is_advertised_when_asked_for) {
    Rig rig;
    rig.reach(established);
    rig.ack(0);
    rig.sent();
    rig.parameters.rcv_wnd_max = 60'000;
    update(rig);
    EXPECT_TRUE(rig.sent().empty());
    update(rig, update_tell_window);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(is_bare_ack(out[0]));
    EXPECT_EQ(out[0].tcp.window, 60'000u);
    update(rig, update_tell_window);
    EXPECT_TRUE(rig.sent().empty()) << "the peer knows";
}

TEST(Update, R29_a_smaller_window_never_moves_the_right_edge_back) {
    Rig rig;
    rig.reach(established);
    rig.parameters.rcv_wnd_max = 10'000;
    update(rig, update_tell_window);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.window, Rig::rcv_space);
    for (uint32_t offset = 0; offset < Rig::rcv_space; offset += 1'000) {
        EXPECT_EQ(rig.data(offset, 1'000), Drop::none);
        rig.consume(1'000);
        for (const TxSegment& tx : rig.sent()) {
            EXPECT_GE(tx.tcp.ack + tx.tcp.window, Rig::remote(Rig::rcv_space));
        }
    }
    rig.data(Rig::rcv_space, 0, wire::tcp_psh);
    rig.advance(100);
    EXPECT_LE(rig.engine.info(Rig::conn).rcv_wnd, 10'000u);
}

TEST(Update, keep_alive_can_be_switched_on_and_off) {
    Rig rig;
    rig.reach(established);
    rig.parameters.keep_alive     = true;
    rig.parameters.ka_timeout_ms  = 10'000;
    rig.parameters.ka_interval_ms = 1'000;
    update(rig);
    rig.advance(9'900);
    EXPECT_EQ(keep_alives(rig), 0u);
    rig.advance(200);
    EXPECT_EQ(keep_alives(rig), 1u);
    rig.parameters.keep_alive = false;
    update(rig);
    rig.advance(100'000);
    EXPECT_EQ(keep_alives(rig), 0u);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::none);
}

TEST(Update, a_shorter_keep_alive_time_counts_from_when_the_peer_was_heard) {
    Rig rig;
    rig.parameters.keep_alive    = true;
    rig.parameters.ka_timeout_ms = 100'000;
    rig.reach(established);
    rig.ack(0);
    rig.advance(5'000);
    rig.parameters.ka_timeout_ms = 8'000;
    update(rig);
    rig.advance(2'900);
    EXPECT_EQ(keep_alives(rig), 0u);
    rig.advance(200);
    EXPECT_EQ(keep_alives(rig), 1u);
}

TEST(Update, keep_alive_restart_starts_the_time_and_the_count_afresh) {
    Rig rig;
    rig.parameters.keep_alive     = true;
    rig.parameters.ka_timeout_ms  = 10'000;
    rig.parameters.ka_interval_ms = 1'000;
    rig.parameters.ka_probe_count = 2;
    rig.reach(established);
    rig.advance(11'500);
    EXPECT_EQ(keep_alives(rig), 1u) << "the second waits in the same turn";
    update(rig, update_restart_keep_alive);
    rig.advance(9'900);
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
    update(rig);  // the same values again change nothing
    rig.advance(200);
    EXPECT_EQ(keep_alives(rig), 1u);
}

TEST(Update, R30_max_rt_restart_zeroes_the_time_spent_on_retransmitting) {
    Rig rig;
    rig.parameters.max_rt_ms = 1'000;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    rig.advance(rto_ms + 500);
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    ASSERT_GT(state.total_rt_ms, 0u);
    rig.sent();
    update(rig, update_restart_max_rt);
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_EQ(state.total_rt_ms, 0u);
    rig.advance(900);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::none) << "its time starts again";
}

TEST(Update, a_smaller_max_rt_counts_for_the_segment_that_is_being_retransmitted) {
    Rig rig;
    rig.parameters.max_rt_ms = UINT32_MAX;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    rig.advance(rto_ms + 500);
    rig.sent();
    rig.parameters.max_rt_ms = 100;
    update(rig);
    rig.advance(2'000);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
}

TEST(Update, in_any_state_it_changes_values_only) {
    for (const State state :
         {close_wait, fin_wait_1, fin_wait_2, closing, last_ack, time_wait, closed}) {
        Rig rig;
        rig.reach(state);
        rig.parameters.keep_alive  = true;
        rig.parameters.mss         = 0;
        rig.parameters.rcv_wnd_max = 0;
        update(rig, 0xff);
        rig.sent();
        EXPECT_EQ(rig.engine.state(Rig::conn), state);
    }
}

TEST(Invalidate, R33_R35_nothing_is_sent_or_processed_any_more_and_the_upload_is_asked_for) {
    Rig rig;
    rig.reach(established);
    rig.post(5'000);
    ASSERT_FALSE(rig.sent(1).empty());
    rig.engine.invalidate(Rig::conn);
    rig.check();
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_NE(rig.notices() & notice_upload, 0);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::invalid_state);
    EXPECT_NE(rig.ack(1'000), Drop::none);
    rig.advance(10'000);
    EXPECT_TRUE(rig.sent().empty());
    rig.engine.invalidate(Rig::conn);
    EXPECT_EQ(rig.notices() & notice_upload, 0) << "asked once";
}

}  // namespace flue::tcp::test
