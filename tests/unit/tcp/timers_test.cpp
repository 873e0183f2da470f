#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

namespace {

struct KeepAlive : ::testing::Test {
    KeepAlive() {
        rig.parameters.keep_alive     = true;
        rig.parameters.ka_timeout_ms  = 10'000;
        rig.parameters.ka_interval_ms = 1'000;
        rig.parameters.ka_probe_count = 3;
    }

    Rig rig;
};

}  // namespace

TEST_F(KeepAlive, idle_connection_is_probed_just_before_the_next_byte) {
    rig.reach(established);
    rig.advance(9'999);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(1);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0) - 1);
    EXPECT_EQ(out[0].payload_bytes, 0u);
}

TEST_F(KeepAlive, unanswered_probes_end_in_closed_and_an_upload_request) {
    rig.reach(established);
    uint32_t probes = 0;
    for (uint32_t second = 0; second < 20; ++second) {
        rig.advance(1'000);
        probes += static_cast<uint32_t>(rig.sent().size());
    }
    EXPECT_EQ(probes, 3u);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
}

TEST_F(KeepAlive, an_answer_starts_the_idle_time_again) {
    rig.reach(established);
    for (uint32_t round = 0; round < 20; ++round) {
        rig.advance(10'000);
        EXPECT_EQ(rig.sent().size(), 1u);
        rig.ack(0);
    }
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
}

TEST_F(KeepAlive, traffic_puts_the_probe_off) {
    rig.reach(established);
    for (uint32_t i = 0; i < 30; ++i) {
        rig.advance(5'000);
        rig.data(i, 1);
        for (const TxSegment& tx : rig.sent()) {
            EXPECT_NE(tx.tcp.seq, Rig::local(0) - 1);
        }
    }
    rig.consume(30);
}

TEST_F(KeepAlive, data_outstanding_leaves_it_to_retransmission) {
    rig.parameters.ka_timeout_ms = 100;
    rig.reach(established);
    rig.post(10);
    rig.sent();
    rig.advance(150);
    EXPECT_TRUE(rig.sent().empty());
}

TEST_F(KeepAlive, R12_carried_timer_fires_when_it_would_have) {
    rig.state.ka_delta_ms          = 300;
    rig.state.ka_probes_unanswered = 2;
    rig.reach(established);
    rig.advance(299);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(1);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.advance(1'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
}

TEST_F(KeepAlive, R12_snapshot_tells_the_time_left_and_the_probes_unanswered) {
    rig.reach(established);
    rig.advance(4'000);
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_EQ(state.ka_delta_ms, 6'000);
    rig.advance(6'500);
    rig.sent();
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_EQ(state.ka_delta_ms, 500);
    EXPECT_EQ(state.ka_probes_unanswered, 1);
}

TEST(Timers, R12_retransmission_timer_carried_over_fires_when_it_would_have) {
    Rig rig;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(100);
    rig.state.retransmit_delta_ms         = 70;
    rig.reach(established);
    rig.post(100);
    rig.advance(69);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(1);
    EXPECT_EQ(rig.sent().size(), 1u);
}

TEST(Timers, R12_delta_of_zero_fires_at_once) {
    Rig rig;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(100);
    rig.state.retransmit_delta_ms         = 0;
    rig.reach(established);
    rig.post(100);
    EXPECT_EQ(rig.sent().size(), 1u);
    EXPECT_EQ(rig.engine.counters().timeouts, 1u);
}

TEST(Timers, R12_delta_of_minus_one_with_data_outstanding_starts_the_timer) {
    Rig rig;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(100);
    rig.reach(established);
    rig.post(100);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(rto_ms);
    EXPECT_EQ(rig.sent().size(), 1u);
}

TEST(Timers, R12_fin_wait_2_timer_is_carried_both_ways) {
    Rig rig;
    rig.state.state               = fin_wait_2;
    rig.state.retransmit_delta_ms = 5'000;
    rig.adopt();
    rig.advance(2'000);
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_EQ(state.retransmit_delta_ms, 3'000);
    rig.advance(3'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
}

TEST(Timers, next_deadline_is_unset_when_nothing_runs) {
    Rig rig;
    rig.reach(established);
    EXPECT_FALSE(rig.engine.next_deadline().is_set());
}

TEST(Timers, next_deadline_is_never_late_over_weeks) {
    Rig rig;
    rig.parameters.keep_alive    = true;
    rig.parameters.ka_timeout_ms = 7'200'000;
    rig.reach(established);
    for (uint32_t day = 0; day < 60; ++day) {
        for (uint32_t probe = 0; probe < 12; ++probe) {
            rig.advance(7'200'000);
            ASSERT_EQ(rig.sent().size(), 1u) << "day " << day;
            rig.ack(0);
        }
    }
}

TEST(Timers, a_connection_that_is_forgotten_leaves_no_timer_behind) {
    Rig rig;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    rig.engine.forget(Rig::conn);
    EXPECT_FALSE(rig.engine.next_deadline().is_set());
    rig.adopted = false;
    rig.advance(10'000);
    EXPECT_TRUE(rig.sent().empty());
}

}  // namespace flue::tcp::test
