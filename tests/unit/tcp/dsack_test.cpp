#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

namespace {

using Ranges = std::vector<std::pair<uint32_t, uint32_t>>;

/// A receiver with SACK to which the examples of RFC 2883 §4 are played, with their numbers.
struct Dsack : ::testing::Test {
    Dsack() {
        rig.parameters.sack = true;
        rig.reach(established);
    }

    ~Dsack() override {
        rig.consume(rig.engine.readable(Rig::conn));
        rig.sent();
    }

    /// What has arrived before the example begins.
    void arrived(uint32_t bytes) {
        rig.data(0, bytes);
        rig.sent();
    }

    /// Bytes first to last arrive; returns the ACK that they cause.
    wire::TcpFields received(uint32_t first, uint32_t last) {
        rig.data(first, last - first + 1);
        if (!rig.engine.ack_owed(Rig::conn)) {
            rig.engine.flush_ack(Rig::conn);
        }
        const auto out = rig.sent();
        EXPECT_EQ(out.size(), 1u);
        return out.empty() ? wire::TcpFields{} : out.back().tcp;
    }

    static uint32_t ack_of(const wire::TcpFields& tcp) {
        return bytes_between(Rig::remote(0), tcp.ack);
    }

    static Ranges ranges_of(const wire::TcpFields& tcp) {
        Ranges ranges;
        for (uint32_t i = 0; i < tcp.sack_count; ++i) {
            ranges.emplace_back(bytes_between(Rig::remote(0), tcp.sack[i].start),
                                bytes_between(Rig::remote(0), tcp.sack[i].end));
        }
        return ranges;
    }

    void expect(const wire::TcpFields& tcp, uint32_t ack, const Ranges& ranges) {
        EXPECT_EQ(ack_of(tcp), ack);
        EXPECT_EQ(ranges_of(tcp), ranges);
    }

    Rig rig;
};

}  // namespace

TEST_F(Dsack, example_1_duplicate_segment) {
    arrived(3'000);
    expect(received(3'000, 3'499), 3'500, {});
    expect(received(3'500, 3'999), 4'000, {});
    expect(received(3'000, 3'499), 4'000, {{3'000, 3'500}});
}

TEST_F(Dsack, example_2_duplicate_segment_beside_one_out_of_order) {
    arrived(3'000);
    expect(received(3'000, 3'499), 3'500, {});
    expect(received(3'500, 3'999), 4'000, {});
    expect(received(4'500, 4'999), 4'000, {{4'500, 5'000}});
    expect(received(3'000, 3'499), 4'000, {{3'000, 3'500}, {4'500, 5'000}});
}

TEST_F(Dsack, example_3_duplicate_of_a_segment_out_of_order) {
    arrived(3'500);
    expect(received(3'500, 3'999), 4'000, {});
    expect(received(4'500, 4'999), 4'000, {{4'500, 5'000}});
    expect(received(5'000, 5'499), 4'000, {{4'500, 5'500}});
    expect(received(5'000, 5'499), 4'000, {{5'000, 5'500}, {4'500, 5'500}});
}

TEST_F(Dsack, part_of_a_segment_below_the_cumulative_ack) {
    arrived(1'000);
    expect(received(500, 1'499), 1'500, {{500, 1'000}});
}

TEST_F(Dsack, two_parts_of_what_came_late_are_reported_one_by_one) {
    arrived(1'000);
    expect(received(3'000, 3'499), 1'000, {{3'000, 3'500}});
    expect(received(1'000, 2'499), 2'500, {{3'000, 3'500}});
    expect(received(1'000, 1'499), 2'500, {{1'000, 1'500}, {3'000, 3'500}});
    expect(received(2'000, 2'499), 2'500, {{2'000, 2'500}, {3'000, 3'500}});
}

TEST_F(Dsack, of_two_duplicate_parts_beyond_a_gap_the_first_is_reported) {
    arrived(1'000);
    expect(received(1'500, 1'999), 1'000, {{1'500, 2'000}});
    expect(received(2'500, 2'999), 1'000, {{2'500, 3'000}, {1'500, 2'000}});
    expect(received(1'500, 2'999), 1'000, {{1'500, 2'000}, {1'500, 3'000}});
}

TEST_F(Dsack, block_that_a_duplicate_is_in_follows_it_also_when_another_is_later) {
    arrived(1'000);
    received(2'000, 2'499);
    rig.data(2'000, 500);
    expect(received(4'000, 4'499), 1'000, {{2'000, 2'500}, {2'000, 2'500}, {4'000, 4'500}});
}

TEST_F(Dsack, what_a_large_segment_in_order_covers_had_come_before) {
    arrived(1'000);
    expect(received(2'000, 2'499), 1'000, {{2'000, 2'500}});
    expect(received(1'000, 2'499), 2'500, {{2'000, 2'500}});
}

TEST_F(Dsack, each_duplicate_is_reported_once) {
    arrived(1'000);
    expect(received(0, 499), 1'000, {{0, 500}});
    expect(received(1'000, 1'499), 1'500, {});
}

TEST_F(Dsack, adjoining_duplicates_before_one_ack_are_one) {
    arrived(2'000);
    rig.data(500, 500);
    rig.data(1'000, 500);
    expect(received(0, 499), 2'000, {{0, 1'500}});
}

TEST_F(Dsack, of_duplicates_apart_from_each_other_the_first_is_reported) {
    arrived(2'000);
    rig.data(1'500, 500);
    expect(received(0, 499), 2'000, {{1'500, 2'000}});
}

TEST_F(Dsack, data_takes_a_report_along_and_is_cut_to_leave_it_room) {
    arrived(2'000);
    rig.post(5'000);
    rig.data(0, 500);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 5u + 1u);
    EXPECT_EQ(ranges_of(out[0].tcp), (Ranges{{0, 500}}));
    EXPECT_LE(out[0].payload_bytes + 4 + 8, Rig::mss);
    EXPECT_EQ(out[1].tcp.sack_count, 0);
}

TEST_F(Dsack, block_that_goes_is_not_reported_any_more) {
    Options options;
    options.limits.reassembly_blocks_per_connection = 1;
    Rig small(options);
    small.parameters.sack = true;
    small.reach(established);
    small.data(500, 100);
    small.data(500, 100);
    small.data(300, 100);  // nearer: the other goes
    const auto out = small.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(ranges_of(out[0].tcp), (Ranges{{300, 400}}));
}

TEST_F(Dsack, last_four_blocks_are_repeated_the_latest_first) {
    for (const uint32_t at : {1'000U, 3'000U, 5'000U, 7'000U, 9'000U}) {
        received(at, at + 99);
    }
    const auto tcp = received(3'100, 3'199);
    expect(tcp, 0, {{3'000, 3'200}, {9'000, 9'100}, {7'000, 7'100}, {5'000, 5'100}});
    for (uint32_t at = 3'200; at < 4'000; at += 100) {
        received(at, at + 99);
    }
    expect(received(4'000, 4'099),
           0,
           {{3'000, 4'100}, {9'000, 9'100}, {7'000, 7'100}, {5'000, 5'100}});
}

TEST(DsackOff, duplicate_of_a_peer_without_sack_is_counted_and_not_reported) {
    Rig rig;
    rig.reach(established);
    rig.data(0, 500);
    rig.sent();
    rig.data(0, 500);
    EXPECT_EQ(rig.sent().back().tcp.sack_count, 0);
    EXPECT_EQ(rig.engine.counters().duplicates_received, 1u);
    rig.consume(500);
}

}  // namespace flue::tcp::test
