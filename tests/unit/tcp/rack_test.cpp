#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

namespace {

struct Rack : ::testing::Test {
    Rack() {
        rig.parameters.sack  = true;
        rig.state.srtt_us_x8 = 40'000 * 8;  // probe timeout 80 ms, below the RTO of 200 ms
        rig.reach(established);
    }

    void sack(uint32_t offset, std::initializer_list<std::pair<uint32_t, uint32_t>> ranges) {
        Segment s = rig.segment(rig.peer_sent, 0, 0, Rig::local(offset));
        for (const auto& [start, end] : ranges) {
            s.tcp.sack.at(s.tcp.sack_count++) = {.start = Rig::local(start),
                                                 .end   = Rig::local(end)};
        }
        rig.receive(s);
    }

    /// Sends `count` segments, a millisecond between two of them.
    void send_spaced(uint32_t count) {
        for (uint32_t i = 0; i < count; ++i) {
            rig.post(1'000);
            EXPECT_EQ(rig.sent().size(), 1u);
            rig.advance(1);
        }
    }

    [[nodiscard]] Engine::Info info() const { return rig.engine.info(Rig::conn); }

    Rig rig;
};

}  // namespace

TEST_F(Rack, one_segment_reported_waits_a_quarter_of_the_round_trip_for_the_one_before) {
    send_spaced(4);
    rig.advance(36);
    sack(0, {{1'000, 2'000}});
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_FALSE(info().recovering);
    rig.advance(20);
    const auto out = rig.sent();
    ASSERT_GE(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
    EXPECT_TRUE(info().recovering);
    EXPECT_EQ(rig.engine.counters().timeouts, 0u);
}

TEST_F(Rack, a_segment_that_was_only_late_is_not_sent_again) {
    send_spaced(4);
    rig.advance(36);
    sack(0, {{1'000, 2'000}});
    rig.advance(5);
    sack(2'000, {});
    rig.advance(15);
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 0u);
}

TEST_F(Rack, once_reordering_was_seen_three_segments_are_not_enough) {
    send_spaced(4);
    rig.advance(36);
    sack(0, {{1'000, 2'000}});
    rig.advance(2);
    sack(2'000, {});  // it was late
    sack(4'000, {});
    send_spaced(5);
    rig.advance(36);
    sack(4'000, {{5'000, 9'000}});
    EXPECT_FALSE(info().recovering) << "RFC 8985 §6.2 step 4";
    rig.advance(20);
    EXPECT_TRUE(info().recovering);
}

TEST_F(Rack, lost_retransmission_is_found_without_a_timeout) {
    send_spaced(6);
    rig.advance(30);
    sack(0, {{1'000, 6'000}});
    ASSERT_TRUE(info().recovering);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);  // lost, too
    rig.advance(1);
    rig.post(5'000);
    out = rig.sent();
    ASSERT_FALSE(out.empty());
    rig.advance(40);
    sack(0, {{1'000, bytes_between(Rig::local(0), rig.seen)}});
    out = rig.sent();
    ASSERT_FALSE(out.empty());
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
    EXPECT_EQ(rig.engine.counters().timeouts, 0u);
}

TEST_F(Rack, duplicates_that_the_peer_reports_widen_the_reordering_window) {
    send_spaced(6);
    rig.advance(30);
    sack(0, {{1'000, 6'000}});
    rig.sent();
    rig.advance(5);
    sack(6'000, {});            // the original was late ...
    sack(6'000, {{0, 1'000}});  // ... and came twice.  RFC 2883
    EXPECT_EQ(rig.engine.counters().duplicates_reported, 1u);
    EXPECT_EQ(rig.engine.counters().spurious_recoveries, 1u);
    EXPECT_EQ(info().cwnd, 10'000u) << "what was taken for a loss is undone";
}

// ---------------------------------------------------------------- tail loss probe

TEST_F(Rack, last_segment_is_sent_again_after_two_round_trips) {
    rig.post(3'000);
    EXPECT_EQ(rig.sent().size(), 3u);
    rig.advance(79);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(1);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(2'000));
    EXPECT_EQ(rig.engine.counters().tail_probes, 1u);
    EXPECT_EQ(rig.engine.counters().timeouts, 0u);
    rig.advance(199);
    EXPECT_TRUE(rig.sent().empty()) << "one probe only";
    rig.advance(1);
    EXPECT_EQ(rig.engine.counters().timeouts, 1u);
}

TEST_F(Rack, probe_is_new_data_when_there_is_some_even_beyond_the_window) {
    rig.post(12'000);
    EXPECT_EQ(rig.sent().size(), 10u);
    rig.advance(80);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(10'000));
}

TEST_F(Rack, loss_that_the_probe_repaired_costs_a_reduction) {
    rig.post(3'000);
    rig.sent();
    rig.advance(80);
    rig.sent();
    rig.post(1'000);
    rig.sent();
    rig.advance(40);
    rig.ack(4'000);
    EXPECT_LT(info().cwnd, 10'000u) << "RFC 8985 §7.4.2";
    EXPECT_FALSE(info().recovering);
}

TEST_F(Rack, probe_that_came_twice_costs_nothing) {
    rig.post(3'000);
    rig.sent();
    rig.advance(80);
    rig.sent();
    rig.ack(3'000);
    sack(3'000, {{2'000, 3'000}});
    EXPECT_EQ(info().cwnd, 10'000u);
}

TEST_F(Rack, probe_that_shows_a_hole_starts_recovery) {
    rig.post(5'000);
    rig.sent();
    rig.advance(80);
    rig.sent();
    rig.advance(40);
    sack(0, {{4'000, 5'000}});
    EXPECT_TRUE(info().recovering) << "all sent before the probe and not reported is lost";
    EXPECT_EQ(rig.sent()[0].tcp.seq, Rig::local(0));
    EXPECT_EQ(rig.engine.counters().timeouts, 0u);
}

TEST_F(Rack, R12_timer_that_travels_is_the_retransmission_timers) {
    rig.post(3'000);
    rig.sent();
    rig.advance(50);
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_EQ(state.retransmit_delta_ms, 150);
}

// ---------------------------------------------------------------- spurious timeouts, RFC 5682

TEST_F(Rack, timeout_is_undone_when_what_was_not_sent_again_arrives) {
    rig.post(10'000);
    rig.sent();
    rig.advance(80 + 200);
    ASSERT_EQ(rig.engine.counters().timeouts, 1u);
    rig.sent();
    EXPECT_EQ(info().cwnd, 1'000u);
    rig.ack(3'000);
    EXPECT_EQ(rig.engine.counters().spurious_recoveries, 1u);
    EXPECT_GE(info().cwnd, 10'000u);
    EXPECT_EQ(info().lost, 0u);
    EXPECT_TRUE(rig.sent().empty()) << "nothing of it needs to be sent again";
}

TEST_F(Rack, timeout_is_real_when_only_what_was_sent_again_is_acknowledged) {
    rig.post(10'000);
    rig.sent();
    rig.advance(80 + 200);
    rig.sent();
    rig.ack(1'000);
    EXPECT_EQ(rig.engine.counters().spurious_recoveries, 0u);
    const auto out = rig.sent();
    ASSERT_FALSE(out.empty());
    EXPECT_EQ(out[0].tcp.seq, Rig::local(1'000)) << "there is no new data to find out with";
    rig.ack(3'000);
    EXPECT_EQ(rig.engine.counters().spurious_recoveries, 0u);
}

}  // namespace flue::tcp::test
