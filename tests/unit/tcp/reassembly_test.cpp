#include "base/prng.hpp"
#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

namespace {

/// What the segments so far let a reader see: for each byte, by which payload it came is not
/// checked, its place is.
void expect_readable(Rig& rig, uint32_t bytes) {
    EXPECT_EQ(rig.engine.readable(Rig::conn), bytes);
    rig.consume(bytes);
}

struct Reassembly : ::testing::Test {
    Reassembly() { rig.reach(established); }

    Rig rig;
};

}  // namespace

TEST_F(Reassembly, one_gap_is_closed_by_what_was_missing) {
    rig.data(100, 100);
    rig.data(200, 100);
    rig.data(0, 100);
    expect_readable(rig, 300);
}

TEST_F(Reassembly, many_gaps_are_closed_in_any_order) {
    for (const uint32_t at : {500U, 100U, 300U, 700U, 200U, 600U, 400U}) {
        EXPECT_EQ(rig.data(at, 100), Drop::none);
        EXPECT_EQ(rig.engine.readable(Rig::conn), 0u);
    }
    rig.data(0, 100);
    expect_readable(rig, 800);
}

TEST_F(Reassembly, repeated_segment_is_not_kept) {
    rig.data(100, 100);
    rig.data(100, 100);
    rig.data(120, 30);
    EXPECT_EQ(rig.kept.size(), 1u);
    rig.data(0, 100);
    expect_readable(rig, 200);
}

TEST_F(Reassembly, newcomer_is_cut_where_it_overlaps_both_neighbours) {
    rig.data(100, 100);
    rig.data(300, 100);
    rig.data(150, 200);  // [200, 300) is new
    EXPECT_EQ(rig.engine.usage().receive_chunks, 3u);
    rig.data(0, 100);
    expect_readable(rig, 400);
}

TEST_F(Reassembly, newcomer_replaces_what_it_covers) {
    rig.data(200, 50);
    rig.data(300, 50);
    rig.data(150, 300);
    EXPECT_EQ(rig.take_released().size(), 2u);
    rig.data(0, 150);
    expect_readable(rig, 450);
}

TEST_F(Reassembly, segment_in_order_that_covers_the_queue_makes_it_superfluous) {
    rig.data(100, 100);
    rig.data(300, 100);
    rig.data(0, 500);
    EXPECT_EQ(rig.take_released().size(), 2u);
    expect_readable(rig, 500);
}

TEST_F(Reassembly, segment_in_order_that_laps_into_the_queue_gets_the_rest_from_it) {
    rig.data(100, 100);
    rig.data(0, 150);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 200u);
    rig.consume(150);
    EXPECT_EQ(rig.engine.front_chunk(Rig::conn).offset, 54u + 50);
    rig.consume(50);
}

TEST_F(Reassembly, fin_of_a_covered_segment_is_kept) {
    rig.data(200, 100, wire::tcp_fin);
    rig.data(100, 200);
    rig.data(0, 100);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
    expect_readable(rig, 300);
}

TEST_F(Reassembly, fin_that_comes_later_than_its_data_is_kept) {
    rig.data(100, 100);
    rig.data(100, 100, wire::tcp_fin);
    rig.data(0, 100);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
    expect_readable(rig, 200);
}

TEST_F(Reassembly, data_past_a_fin_is_thrown_away) {
    rig.data(300, 100);
    rig.data(100, 100, wire::tcp_fin);
    rig.data(0, 100);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
    expect_readable(rig, 200);
}

TEST(ReassemblyLimits, a_connection_keeps_no_more_than_its_share) {
    Options options;
    options.limits.reassembly_blocks_per_connection = 3;
    Rig rig(options);
    rig.reach(established);
    for (uint32_t i = 1; i <= 3; ++i) {
        EXPECT_EQ(rig.data(i * 200, 100), Drop::none);
    }
    EXPECT_EQ(rig.data(1'000, 100), Drop::reassembly_full);
    rig.data(0, 200);
    expect_readable(rig, 300);
    EXPECT_EQ(rig.data(1'000, 100), Drop::none);
}

TEST(ReassemblyLimits, data_out_of_order_leaves_chunks_for_data_in_order) {
    for (const uint32_t chunks : {1U, 6U, 16U}) {
        Options options;
        options.limits.receive_chunks = chunks;
        Rig rig(options);
        rig.reach(established);
        Drop drop = Drop::none;
        for (uint32_t i = 1; drop == Drop::none; ++i) {
            drop = rig.data(i * 20, 10);
        }
        EXPECT_EQ(drop, Drop::no_chunk);
        EXPECT_EQ(rig.data(0, 20), Drop::none);
        rig.consume(rig.engine.readable(Rig::conn));
    }
}

TEST(ReassemblyLimits, R105_terminate_drops_what_is_out_of_order) {
    Rig rig;
    rig.reach(established);
    rig.data(100, 100);
    rig.engine.stop(Rig::conn);
    EXPECT_EQ(rig.take_released().size(), 1u);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 0u);
}

TEST(Sack, ranges_are_reported_latest_first) {
    Rig rig;
    rig.parameters.sack = true;
    rig.reach(established);
    rig.data(100, 100);
    rig.data(300, 100);
    rig.data(500, 100);
    rig.data(400, 50);
    const auto out = rig.sent();
    ASSERT_FALSE(out.empty());
    const wire::TcpFields& tcp = out.back().tcp;
    ASSERT_EQ(tcp.sack_count, 3);
    EXPECT_EQ(tcp.sack[0], (wire::SackRange{Rig::remote(300), Rig::remote(450)}));
    EXPECT_EQ(tcp.sack[1], (wire::SackRange{Rig::remote(500), Rig::remote(600)}));
    EXPECT_EQ(tcp.sack[2], (wire::SackRange{Rig::remote(100), Rig::remote(200)}));
}

TEST(Sack, three_ranges_fit_beside_timestamps_and_the_latest_is_among_them) {
    Rig rig;
    rig.parameters.sack       = true;
    rig.parameters.timestamps = true;
    rig.reach(established);
    for (const uint32_t at : {100U, 300U, 500U, 700U, 900U}) {
        rig.data(at, 100);
    }
    const wire::TcpFields tcp = rig.sent().back().tcp;
    ASSERT_EQ(tcp.sack_count, 3);
    EXPECT_EQ(tcp.sack[0].start, Rig::remote(900));
}

TEST(Sack, none_is_reported_without_the_option_or_without_a_gap) {
    Rig rig;
    rig.reach(established);
    rig.data(100, 100);
    EXPECT_EQ(rig.sent().back().tcp.sack_count, 0);
    Rig in_order;
    in_order.parameters.sack = true;
    in_order.reach(established);
    in_order.data(0, 100);
    EXPECT_EQ(in_order.sent().back().tcp.sack_count, 0);
    in_order.consume(100);
}

/// Random segments beside a plain array of what has arrived.
TEST(ReassemblyRandom, readable_bytes_are_the_unbroken_front_of_what_arrived) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        Prng prng(seed);
        Options options;
        options.limits.reassembly_blocks_per_connection = 1'000;
        Rig rig(options);
        rig.reach(established);
        std::vector<bool> arrived(400);
        uint32_t front = 0;
        while (front < arrived.size()) {
            const uint32_t from   = prng.below(400);
            const uint32_t length = std::min(1 + prng.below(60), 400 - from);
            rig.data(from, length);
            for (uint32_t i = from; i < from + length; ++i) {
                arrived[i] = true;
            }
            while (front < arrived.size() && arrived[front]) {
                ++front;
            }
            ASSERT_EQ(rig.engine.readable(Rig::conn), front) << "seed " << seed;
        }
        rig.consume(400);
    }
}

}  // namespace flue::tcp::test
