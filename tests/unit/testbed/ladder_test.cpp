#include "testbed/ladder.hpp"

#include <algorithm>
#include <gtest/gtest.h>

namespace flue::testbed {
namespace {

constexpr LadderStyle plain{};
constexpr int64_t ms = 1'000'000;

struct Part {
    int64_t time_ns;
    Direction direction;
    uint8_t flags;
    uint32_t seq;
    uint32_t ack;
    uint32_t payload_bytes = 0;
};

CapturedSegment segment(const Part& part) {
    CapturedSegment made;
    made.time_ns       = part.time_ns;
    made.direction     = part.direction;
    made.tcp.flags     = part.flags;
    made.tcp.seq       = Seq{part.seq};
    made.tcp.ack       = Seq{part.ack};
    made.payload_bytes = part.payload_bytes;
    return made;
}

size_t line_count(const std::string& text) {
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
}

std::string line(const std::string& text, size_t index) {
    size_t begin = 0;
    for (; index > 0; --index) {
        begin = text.find('\n', begin) + 1;
    }
    return text.substr(begin, text.find('\n', begin) - begin);
}

/// A handshake at sequence numbers close to the wrap, then `data_count` segments out, each with an
/// ACK.
std::vector<CapturedSegment> transfer(uint32_t data_count) {
    using enum Direction;
    constexpr uint32_t remote_iss = 0xffffffff;
    constexpr uint32_t host_iss   = 0xfffffff0;
    std::vector<CapturedSegment> all{
        segment({0, from_remote, wire::tcp_syn, remote_iss, 0}),
        segment({1 * ms, to_remote, wire::tcp_syn | wire::tcp_ack, host_iss, remote_iss + 1})};
    for (uint32_t i = 0; i < data_count; ++i) {
        const uint32_t seq = host_iss + 1 + i * 1000;
        all.push_back(segment({(2 + i) * ms, to_remote, wire::tcp_ack, seq, remote_iss + 1, 1000}));
        all.push_back(
            segment({(2 + i) * ms + 1, from_remote, wire::tcp_ack, remote_iss + 1, seq + 1000}));
    }
    return all;
}

TEST(Ladder, handshake_across_the_wrap_counts_from_zero) {
    const auto drawn = draw_ladder({}, transfer(1), plain);
    EXPECT_NE(line(drawn, 1).find(" SYN seq 0 --|"), std::string::npos) << drawn;
    EXPECT_NE(line(drawn, 2).find("|-- SYN ACK seq 0 ack 1 -"), std::string::npos) << drawn;
    EXPECT_NE(line(drawn, 3).find("|-- ACK seq 1 ack 1 len 1000 -"), std::string::npos) << drawn;
    EXPECT_NE(line(drawn, 4).find(" ACK seq 1 ack 1001 --|"), std::string::npos) << drawn;
}

TEST(Ladder, short_run_is_drawn_whole) {
    EXPECT_EQ(line_count(draw_ladder({}, transfer(4), plain)), 1U + 2 + 8);
}

TEST(Ladder, long_run_is_summed_up_between_its_ends) {
    const auto drawn = draw_ladder({}, transfer(1000), plain);
    EXPECT_EQ(line_count(drawn), 1U + 2 + 4 + 1 + 4) << drawn;
    EXPECT_NE(drawn.find("... 996 segments, 972.7 KiB -->   <-- 996 ACKs ..."), std::string::npos)
        << drawn;
}

TEST(Ladder, fin_in_a_long_run_is_kept) {
    auto all = transfer(100);
    all[100].tcp.flags |= wire::tcp_fin;
    EXPECT_NE(draw_ladder({}, all, plain).find("FIN ACK"), std::string::npos);
}

TEST(Ladder, repeated_segment_is_marked) {
    auto all = transfer(2);
    all.push_back(segment({500 * ms, Direction::to_remote, wire::tcp_ack, 0xfffffff1, 0, 1000}));
    const auto drawn = draw_ladder({}, all, plain);
    EXPECT_NE(line(drawn, 7).find("seq 1 ack 1 len 1000 (again) -"), std::string::npos) << drawn;
}

TEST(Ladder, repeated_segments_in_a_long_run_are_counted) {
    auto all         = transfer(100);
    all[100].tcp.seq = all[90].tcp.seq;
    const auto drawn = draw_ladder({}, all, plain);
    EXPECT_NE(drawn.find(" KiB, 1 again -->"), std::string::npos) << drawn;
}

TEST(Ladder, late_segment_is_not_a_repeated_one) {
    auto all = transfer(4);
    std::swap(all[2].tcp.seq, all[4].tcp.seq);
    EXPECT_EQ(draw_ladder({}, all, plain).find("again"), std::string::npos);
}

TEST(Ladder, host_events_stand_at_their_time) {
    const auto drawn =
        draw_ladder({{.time_ns = 2 * ms + ms / 2, .text = "DISCONNECT"}}, transfer(2), plain);
    EXPECT_NE(line(drawn, 5).find("2.500  DISCONNECT"), std::string::npos) << drawn;
}

TEST(Ladder, routine_events_are_counted_in_the_sum) {
    std::vector<HostEvent> events;
    for (int i = 0; i < 50; ++i) {
        events.push_back({.time_ns = (100 + i) * ms, .text = "WC SEND SUCCESS", .routine = true});
    }
    EXPECT_NE(draw_ladder(events, transfer(1000), plain).find("... 50 more ..."),
              std::string::npos);
}

TEST(Ladder, no_colour_asked_gives_no_escape) {
    EXPECT_EQ(draw_ladder({}, transfer(100), plain).find('\033'), std::string::npos);
    EXPECT_NE(draw_ladder({}, transfer(100), {.colour = true}).find('\033'), std::string::npos);
}

TEST(Ladder, lines_are_equally_wide) {
    const auto drawn   = draw_ladder({{.time_ns = 0, .text = "OFFLOAD"}}, transfer(100), plain);
    const size_t width = line(drawn, 1).size();
    for (size_t i = 2; i < line_count(drawn); ++i) {
        EXPECT_EQ(line(drawn, i).size(), width) << line(drawn, i);
    }
}

TEST(HumanBytes, picks_the_unit) {
    EXPECT_EQ(human_bytes(812), "812 B");
    EXPECT_EQ(human_bytes(64 << 20), "64.0 MiB");
}

TEST(HumanCount, groups_thousands) {
    EXPECT_EQ(human_count(999), "999");
    EXPECT_EQ(human_count(1000), "1,000");
    EXPECT_EQ(human_count(1234567), "1,234,567");
}

}  // namespace
}  // namespace flue::testbed
