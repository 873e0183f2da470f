#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

namespace {

/// A connection with SACK, ten segments in flight, forty more waiting.
struct Scoreboard : ::testing::Test {
    explicit Scoreboard(const Options& options = Options{}) : rig(options) {
        rig.parameters.sack = true;
        rig.fill_pipe();
        rig.advance(40);
    }

    /// An ACK of everything before `offset` that reports `ranges` of offsets.
    Drop sack(uint32_t offset, std::initializer_list<std::pair<uint32_t, uint32_t>> ranges) {
        Segment s = rig.segment(rig.peer_sent, 0, 0, Rig::local(offset));
        for (const auto& [start, end] : ranges) {
            s.tcp.sack.at(s.tcp.sack_count++) = {.start = Rig::local(start),
                                                 .end   = Rig::local(end)};
        }
        return rig.receive(s);
    }

    [[nodiscard]] Engine::Info info() const { return rig.engine.info(Rig::conn); }

    std::vector<uint32_t> offsets_sent() {
        std::vector<uint32_t> out;
        for (const TxSegment& tx : rig.sent()) {
            out.push_back(bytes_between(Rig::local(0), tx.tcp.seq));
        }
        return out;
    }

    Rig rig;
};

}  // namespace

TEST_F(Scoreboard, first_two_reports_let_new_data_out) {
    sack(0, {{1'000, 2'000}});
    EXPECT_EQ(offsets_sent(), (std::vector<uint32_t>{10'000}));
    sack(0, {{1'000, 3'000}});
    EXPECT_EQ(offsets_sent(), (std::vector<uint32_t>{11'000}));
    EXPECT_EQ(info().sacked, 2'000u);
    EXPECT_FALSE(info().recovering);
}

TEST_F(Scoreboard, third_segment_reported_means_that_the_hole_is_lost) {
    sack(0, {{1'000, 4'000}});
    EXPECT_TRUE(info().recovering);
    EXPECT_EQ(info().ssthresh, 5'000u);
    const auto sent = offsets_sent();
    ASSERT_FALSE(sent.empty());
    EXPECT_EQ(sent[0], 0u);
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 1u);
}

TEST_F(Scoreboard, only_holes_are_sent_again_and_in_order) {
    sack(0, {{9'000, 10'000}, {5'000, 6'000}, {1'000, 2'000}});
    std::vector<uint32_t> again = offsets_sent();
    for (const uint32_t acked : {2'000u, 3'000u, 4'000u, 6'000u, 7'000u, 8'000u}) {
        rig.advance(1);
        sack(acked, {{9'000, 10'000}});
        for (const uint32_t offset : offsets_sent()) {
            if (offset < 10'000) {
                again.push_back(offset);
            }
        }
    }
    EXPECT_EQ(again, (std::vector<uint32_t>{0, 2'000, 3'000, 4'000, 6'000, 7'000, 8'000}));
}

TEST_F(Scoreboard, recovery_ends_with_the_window_at_ssthresh) {
    sack(0, {{1'000, 10'000}});
    rig.sent();
    const uint32_t high = bytes_between(Rig::local(0), rig.seen);
    sack(high, {});
    EXPECT_FALSE(info().recovering);
    EXPECT_EQ(info().cwnd, info().ssthresh);
    EXPECT_EQ(info().sacked, 0u);
}

TEST_F(Scoreboard, window_shrinks_in_proportion_to_what_arrives) {
    uint32_t new_segments = 0;
    for (uint32_t end = 4'000; end <= 10'000; end += 1'000) {
        sack(0, {{1'000, end}});
        for (const uint32_t offset : offsets_sent()) {
            new_segments += offset >= 10'000 ? 1 : 0;
        }
    }
    // RFC 6937: of nine segments that arrive, half let one out; the first of those was the hole.
    EXPECT_GE(new_segments, 3u);
    EXPECT_LE(new_segments, 4u);
}

TEST_F(Scoreboard, peer_without_anything_new_to_report_sends_no_duplicate_acks) {
    for (uint32_t i = 0; i < 10; ++i) {
        rig.ack(0);
    }
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 0u) << "RFC 6675 §2";
}

TEST_F(Scoreboard, ranges_that_cannot_be_are_refused_and_counted) {
    sack(0, {{0, 1'000}});       // what the ACK says is missing
    sack(0, {{9'000, 11'000}});  // never sent
    sack(0, {{3'000, 3'000}});   // empty
    sack(0, {{4'000, 3'000}});   // inside out
    EXPECT_EQ(info().sacked, 0u);
    EXPECT_EQ(rig.engine.counters().sacks_refused, 4u);
    EXPECT_TRUE(offsets_sent().empty());
}

TEST_F(Scoreboard, timeout_keeps_what_was_reported_and_the_second_forgets_it) {
    sack(0, {{5'000, 7'000}});
    rig.sent();
    rig.advance(2 * rto_ms);
    ASSERT_EQ(rig.engine.counters().timeouts, 1u);
    EXPECT_EQ(info().sacked, 2'000u);
    rig.sent();
    rig.advance(3 * rto_ms);
    ASSERT_EQ(rig.engine.counters().timeouts, 2u);
    EXPECT_EQ(info().sacked, 0u) << "RFC 2018 §8";
}

TEST_F(Scoreboard, data_that_the_peer_reported_and_threw_away_is_sent_again) {
    sack(0, {{1'000, 10'000}});
    rig.sent();
    sack(1'000, {});  // had it kept the rest, it would have acknowledged that, too
    rig.advance(rto_ms + 300);
    std::vector<uint32_t> again = offsets_sent();
    ASSERT_FALSE(again.empty());
    EXPECT_EQ(again[0], 1'000u);
    EXPECT_EQ(info().sacked, 0u);
}

TEST_F(Scoreboard, R11_what_the_peer_reported_travels) {
    sack(0, {{1'000, 2'000}, {4'000, 5'000}});
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    ASSERT_EQ(state.sack_count, 2);
    EXPECT_EQ(state.sack[0].start, Rig::local(1'000));
    EXPECT_EQ(state.sack[1].end, Rig::local(5'000));

    Rig other;
    other.parameters.sack = true;
    other.state           = state;
    other.now             = rig.now;
    other.reach(established);
    other.post(50'000);
    EXPECT_EQ(other.engine.info(Rig::conn).sacked, 2'000u);
}

TEST_F(Scoreboard, R11_in_recovery_the_holes_below_what_was_reported_are_repaired_elsewhere) {
    sack(0, {{3'000, 10'000}});
    ASSERT_TRUE(info().recovering);
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_TRUE(state.recovery);

    Rig other;
    other.parameters.sack = true;
    other.state           = state;
    other.now             = rig.now;
    other.reach(established);
    other.post(50'000);
    const auto out = other.sent();
    ASSERT_FALSE(out.empty());
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
    EXPECT_EQ(other.engine.info(Rig::conn).recovering, true);
}

TEST(ScoreboardLimits, flood_of_one_byte_ranges_takes_no_more_than_a_connections_share) {
    Options options;
    options.limits.spans                = 4'096;
    options.limits.spans_per_connection = 64;
    Rig rig(options);
    rig.parameters.sack = true;
    rig.reach(established);
    rig.post(10'000);
    rig.sent();
    for (uint32_t i = 1; i + 8 < 10'000; i += 8) {
        Segment s        = rig.segment(0, 0, 0, Rig::local(0));
        s.tcp.sack_count = 4;
        for (uint32_t j = 0; j < 4; ++j) {
            s.tcp.sack.at(j) = {.start = Rig::local(i + 2 * j), .end = Rig::local(i + 2 * j + 1)};
        }
        rig.receive(s);
        rig.sent();
        EXPECT_LE(rig.engine.usage().spans, 64u);
    }
    rig.ack(10'000);
    EXPECT_EQ(rig.engine.send_backlog(Rig::conn), 0u);
    EXPECT_EQ(rig.engine.usage().spans, 0u);
}

TEST(ScoreboardLimits, with_no_span_to_spare_a_timeout_still_repairs_everything) {
    Options options;
    options.limits.spans       = 0;
    options.limits.connections = 1;
    Rig rig(options);
    rig.parameters.sack = true;
    rig.reach(established);
    rig.post(8'000);
    std::set<uint32_t> seen;
    uint32_t acked = 0;
    for (uint32_t i = 0; i < 200 && acked < 8'000; ++i) {
        rig.advance(60'000);
        for (const TxSegment& tx : rig.sent()) {
            const uint32_t offset = bytes_between(Rig::local(0), tx.tcp.seq);
            if (offset == acked && i % 3 == 2) {
                acked += tx.payload_bytes;
            }
        }
        rig.ack(acked);
        EXPECT_LE(rig.engine.usage().spans, 2u);
    }
    EXPECT_EQ(acked, 8'000u);
}

TEST_F(Scoreboard, reports_outlast_a_probe_timer_that_fires_before_the_open_window_can_be_used) {
    rig.peer_window = 0;
    sack(0, {});
    rig.advance(1'000);
    EXPECT_EQ(offsets_sent(), (std::vector<uint32_t>{0})) << "a probe";
    rig.peer_window = Rig::window;
    sack(0, {{3'000, 10'000}});
    const Instant due = rig.engine.next_deadline();
    rig.advance(static_cast<uint64_t>(due - rig.now) / 1000);
    EXPECT_GT(rig.engine.next_deadline(), due) << "what is in flight has a timer";
    const auto sent = offsets_sent();
    ASSERT_FALSE(sent.empty());
    for (const uint32_t offset : sent) {
        EXPECT_TRUE(offset < 3'000 || offset >= 10'000) << offset << ": RFC 2018 §5";
    }
    EXPECT_EQ(rig.engine.counters().sacks_renounced, 0u);
}

}  // namespace flue::tcp::test
