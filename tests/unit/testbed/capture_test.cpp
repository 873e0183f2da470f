#include "testbed/capture.hpp"

#include <array>
#include <gtest/gtest.h>

namespace flue::testbed {
namespace {

/// The headers of a frame from 10.9.0.1:80 to 10.9.0.2:4000 with 1,000 bytes behind them, which are
/// not captured.
std::vector<std::byte> frame_to_remote(uint8_t flags) {
    wire::FlowHeader header;
    header.key = {.local       = {10, 9, 0, 1},
                  .remote      = {10, 9, 0, 2},
                  .local_port  = 80,
                  .remote_port = 4000,
                  .family      = wire::Family::ipv4};
    wire::TcpFields tcp;
    tcp.seq   = Seq{77};
    tcp.flags = flags;
    std::array<std::byte, wire::header_bytes_max> bytes{};
    const auto lengths =
        wire::build_headers(header, tcp, 1000, 0x8000, wire::TxChecksum::pseudo, 0, bytes);
    return {bytes.begin(), bytes.begin() + lengths.total()};
}

std::optional<CapturedSegment> decode(const std::vector<std::byte>& head, Direction direction) {
    return decode_segment(
        {.time_ns = 5, .frame_bytes = static_cast<uint32_t>(head.size()) + 1000, .head = head},
        direction);
}

TEST(DecodeSegment, frame_to_the_remote_names_the_host_as_local) {
    const auto segment =
        decode(frame_to_remote(wire::tcp_fin | wire::tcp_ack), Direction::to_remote);
    ASSERT_TRUE(segment);
    EXPECT_EQ(segment->flow.local_port, 80);
    EXPECT_EQ(segment->flow.remote_port, 4000);
    EXPECT_EQ(segment->flow.local[3], 1);
    EXPECT_EQ(segment->time_ns, 5);
    EXPECT_EQ(segment->tcp.seq, Seq{77});
    EXPECT_TRUE(segment->has(wire::tcp_fin));
    EXPECT_FALSE(segment->has(wire::tcp_fin | wire::tcp_rst));
}

TEST(DecodeSegment, frame_from_the_remote_names_the_host_as_local) {
    const auto segment = decode(frame_to_remote(wire::tcp_ack), Direction::from_remote);
    ASSERT_TRUE(segment);
    EXPECT_EQ(segment->flow.local_port, 4000);
}

TEST(DecodeSegment, headers_alone_give_the_payload_length) {
    EXPECT_EQ(decode(frame_to_remote(wire::tcp_ack), Direction::to_remote)->payload_bytes, 1000U);
}

TEST(DecodeSegment, arp_is_no_segment) {
    auto frame = frame_to_remote(wire::tcp_ack);
    frame[12]  = std::byte{0x08};
    frame[13]  = std::byte{0x06};
    EXPECT_FALSE(decode(frame, Direction::to_remote));
}

TEST(OfFlow, other_ports_are_left_out) {
    const auto one = decode(frame_to_remote(wire::tcp_ack), Direction::to_remote);
    EXPECT_EQ(of_flow({*one, *one}, 80, 4000).size(), 2U);
    EXPECT_TRUE(of_flow({*one}, 80, 4001).empty());
    EXPECT_TRUE(of_flow({*one}, 4000, 80).empty());
}

}  // namespace
}  // namespace flue::testbed
