#include <algorithm>
#include <gtest/gtest.h>

#include "base/prng.hpp"
#include "frames.hpp"
#include "wire/frame.hpp"

namespace flue::wire {

namespace {

using test::Bytes;
using test::to_bytes;

FlowHeader flow_from_b(Family family, uint16_t local_port, uint16_t remote_port) {
    FlowHeader flow;
    flow.key.family      = family;
    flow.key.local       = family == Family::ipv4 ? test::ipv4_b : test::ipv6_b;
    flow.key.remote      = family == Family::ipv4 ? test::ipv4_a : test::ipv6_a;
    flow.key.local_port  = local_port;
    flow.key.remote_port = remote_port;
    flow.source_mac      = test::mac_b;
    flow.next_hop_mac    = test::mac_a;
    return flow;
}

FlowHeader flow_from_a(Family family, uint16_t local_port, uint16_t remote_port) {
    FlowHeader flow = flow_from_b(family, local_port, remote_port);
    std::swap(flow.key.local, flow.key.remote);
    std::swap(flow.source_mac, flow.next_hop_mac);
    return flow;
}

/// build returns the whole frame: headers with both checksums, then `payload`.
Bytes build(const FlowHeader& flow,
            const TcpFields& tcp,
            const Bytes& payload,
            uint16_t ip_id = 0x8000) {
    Bytes bytes(header_bytes_max);
    const HeaderLengths lengths = build_headers(flow,
                                                tcp,
                                                static_cast<uint32_t>(payload.size()),
                                                ip_id,
                                                TxChecksum::full,
                                                sum_bytes(payload),
                                                bytes);
    bytes.resize(lengths.total());
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return bytes;
}

Bytes payload_odd() {
    return {std::byte{'o'}, std::byte{'d'}, std::byte{'d'}};
}

uint32_t field16(const Bytes& bytes, std::size_t at) {
    return std::to_integer<uint32_t>(bytes.at(at)) << 8 |
           std::to_integer<uint32_t>(bytes.at(at + 1));
}

TcpFields random_fields(Prng& prng) {
    TcpFields tcp;
    tcp.seq            = Seq{static_cast<uint32_t>(prng.next())};
    tcp.ack            = Seq{static_cast<uint32_t>(prng.next())};
    tcp.window         = static_cast<uint16_t>(prng.next());
    tcp.urgent         = static_cast<uint16_t>(prng.next());
    tcp.flags          = static_cast<uint8_t>(prng.next());
    tcp.has_timestamps = prng.chance(1, 2);
    tcp.ecn_capable    = prng.chance(1, 2);
    if (tcp.has_timestamps) {
        tcp.ts_val = static_cast<uint32_t>(prng.next());
        tcp.ts_ecr = static_cast<uint32_t>(prng.next());
    }
    tcp.sack_count = static_cast<uint8_t>(prng.below(tcp.has_timestamps ? 4 : 5));
    for (uint32_t i = 0; i < tcp.sack_count; ++i) {
        tcp.sack.at(i).start = Seq{static_cast<uint32_t>(prng.next())};
        tcp.sack.at(i).end   = Seq{static_cast<uint32_t>(prng.next())};
    }
    return tcp;
}

FlowHeader random_flow(Prng& prng) {
    FlowHeader flow;
    flow.key.family                 = prng.chance(1, 2) ? Family::ipv4 : Family::ipv6;
    const std::size_t address_bytes = flow.key.family == Family::ipv4 ? 4 : 16;
    for (IpAddress* address : {&flow.key.local, &flow.key.remote}) {
        std::generate_n(
            address->begin(), address_bytes, [&] { return static_cast<uint8_t>(prng.next()); });
    }
    flow.key.local_port  = static_cast<uint16_t>(prng.next());
    flow.key.remote_port = static_cast<uint16_t>(prng.next());
    flow.vlan_id    = prng.chance(1, 2) ? static_cast<uint16_t>(1 + prng.below(4094)) : uint16_t{0};
    flow.ttl        = static_cast<uint8_t>(prng.next());
    flow.tos        = static_cast<uint8_t>(prng.next());
    flow.flow_label = static_cast<uint32_t>(prng.next());
    return flow;
}

void expect_fields(const TcpFields& sent, const TcpFields& seen) {
    EXPECT_EQ(seen.seq, sent.seq);
    EXPECT_EQ(seen.ack, sent.ack);
    EXPECT_EQ(seen.window, sent.window);
    EXPECT_EQ(seen.urgent, sent.urgent);
    EXPECT_EQ(seen.flags, sent.flags);
    EXPECT_EQ(seen.has_timestamps, sent.has_timestamps);
    EXPECT_EQ(seen.ts_val, sent.ts_val);
    EXPECT_EQ(seen.ts_ecr, sent.ts_ecr);
    EXPECT_EQ(seen.sack_count, sent.sack_count);
    EXPECT_EQ(seen.sack, sent.sack);
}

/// Spans of a built frame by its own lengths: addresses and TCP segment.
struct Parts {
    std::span<const std::byte> ip_header;
    std::span<const std::byte> addresses;
    std::span<const std::byte> segment;
};

Parts split(const Bytes& bytes, const FlowHeader& flow) {
    const std::size_t l2 = flow.vlan_id == 0 ? 14 : 18;
    const bool ipv4      = flow.key.family == Family::ipv4;
    const auto packet    = std::span(bytes).subspan(l2);
    return Parts{packet.first(ipv4 ? 20 : 40),
                 ipv4 ? packet.subspan(12, 8) : packet.subspan(8, 32),
                 packet.subspan(ipv4 ? 20 : 40)};
}

}  // namespace

TEST(BuildHeaders, ipv4_data_equals_the_frame_of_linux_byte_by_byte) {
    TcpFields tcp;
    tcp.seq            = Seq{2679387084};
    tcp.ack            = Seq{3686538228};
    tcp.window         = 63;
    tcp.flags          = tcp_psh | tcp_ack;
    tcp.has_timestamps = true;
    tcp.ts_val         = 3818869361;
    tcp.ts_ecr         = 2501678182;
    EXPECT_EQ(build(flow_from_a(Family::ipv4, 44180, 7777), tcp, payload_odd(), 0x1417),
              to_bytes(test::capture::data_ipv4));
}

TEST(BuildHeaders, ipv6_data_equals_the_frame_of_linux_byte_by_byte) {
    TcpFields tcp;
    tcp.seq            = Seq{3390140138};
    tcp.ack            = Seq{1506278722};
    tcp.window         = 64;
    tcp.flags          = tcp_psh | tcp_ack;
    tcp.has_timestamps = true;
    tcp.ts_val         = 2968690805;
    tcp.ts_ecr         = 1459440542;
    FlowHeader flow    = flow_from_a(Family::ipv6, 32846, 7777);
    flow.flow_label    = 0x6c9e7;
    EXPECT_EQ(build(flow, tcp, payload_odd()), to_bytes(test::capture::data_ipv6));
}

TEST(BuildHeaders, timestamps_and_3_sack_ranges_equal_the_frame_of_linux_byte_by_byte) {
    const Seq base{3555476106};
    TcpFields tcp;
    tcp.seq            = Seq{0xfb072ce6};
    tcp.ack            = base + 10811;
    tcp.window         = 76;
    tcp.flags          = tcp_ack;
    tcp.has_timestamps = true;
    tcp.ts_val         = 3790377963;
    tcp.ts_ecr         = 3945840690;
    tcp.sack_count     = 3;
    tcp.sack           = {SackRange{base + 31083, base + 32531},
                          SackRange{base + 26739, base + 29635},
                          SackRange{base + 12259, base + 23843}};
    EXPECT_EQ(build(flow_from_b(Family::ipv4, 7777, 44186), tcp, {}, 0x9654),
              to_bytes(test::capture::sack_3_ipv4));
}

TEST(BuildHeaders, vlan_puts_the_tag_before_the_type) {
    TcpFields tcp;
    tcp.flags         = tcp_rst;
    FlowHeader flow   = flow_from_a(Family::ipv4, 1, 2);
    const Bytes plain = build(flow, tcp, {});
    flow.vlan_id      = 0x123;
    EXPECT_EQ(build(flow, tcp, {}), test::with_vlan_tag(plain, 0x123));
}

TEST(BuildHeaders, random_fields_come_back_from_parse_frame) {
    Prng prng(5);
    for (int round = 0; round < 20'000; ++round) {
        const FlowHeader flow = random_flow(prng);
        const TcpFields tcp   = random_fields(prng);
        Bytes payload(prng.chance(1, 4) ? 0 : prng.below(1461));
        std::generate(
            payload.begin(), payload.end(), [&] { return static_cast<std::byte>(prng.next()); });
        const Bytes bytes = build(flow, tcp, payload, static_cast<uint16_t>(prng.next()));

        Frame frame;
        ASSERT_EQ(parse_frame(bytes, Checksum::verify, frame), ParseResult::tcp)
            << "round " << round;
        EXPECT_EQ(frame.key.local, flow.key.remote);
        EXPECT_EQ(frame.key.remote, flow.key.local);
        EXPECT_EQ(frame.key.local_port, flow.key.remote_port);
        EXPECT_EQ(frame.key.remote_port, flow.key.local_port);
        EXPECT_EQ(frame.key.family, flow.key.family);
        EXPECT_FALSE(frame.tcp.congestion_experienced);
        EXPECT_EQ(frame.payload_bytes, payload.size());
        EXPECT_EQ(frame.payload_offset + payload.size(), bytes.size());
        expect_fields(tcp, frame.tcp);
        ASSERT_FALSE(HasFailure()) << "round " << round;
    }
}

TEST(BuildHeaders, ecn_field_is_ect_0_of_an_ecn_capable_segment_and_never_the_flow_s) {
    constexpr std::size_t ip_offset = 14;
    for (const Family family : {Family::ipv4, Family::ipv6}) {
        for (const bool capable : {false, true}) {
            for (uint8_t tos = 0xb8; tos <= 0xbb; ++tos) {
                FlowHeader flow = flow_from_a(family, 1, 2);
                flow.tos        = tos;
                TcpFields tcp;
                tcp.ecn_capable       = capable;
                const Bytes bytes     = build(flow, tcp, payload_odd());
                const uint32_t first  = field16(bytes, ip_offset);
                const uint32_t class_ = family == Family::ipv4 ? first & 0xff : first >> 4 & 0xff;
                EXPECT_EQ(class_, 0xb8u | (capable ? 2u : 0u));
                Frame frame;
                EXPECT_EQ(parse_frame(bytes, Checksum::verify, frame), ParseResult::tcp);
            }
        }
    }
}

TEST(BuildHeaders, full_checksums_satisfy_the_reference) {
    Prng prng(6);
    for (int round = 0; round < 5'000; ++round) {
        const FlowHeader flow = random_flow(prng);
        const TcpFields tcp   = random_fields(prng);
        Bytes payload(prng.below(100));
        std::generate(
            payload.begin(), payload.end(), [&] { return static_cast<std::byte>(prng.next()); });
        const Bytes bytes = build(flow, tcp, payload);
        const Parts parts = split(bytes, flow);
        ASSERT_EQ(test::reference_tcp_sum(parts.addresses, parts.segment), 0xffff)
            << "round " << round;
        if (flow.key.family == Family::ipv4) {
            ASSERT_EQ(test::reference_sum(parts.ip_header), 0xffff) << "round " << round;
        }
    }
}

TEST(BuildHeaders, pseudo_sum_completed_as_a_nic_does_gives_the_full_checksum) {
    Prng prng(7);
    for (int round = 0; round < 5'000; ++round) {
        const FlowHeader flow = random_flow(prng);
        const TcpFields tcp   = random_fields(prng);
        const Bytes payload(prng.below(50), std::byte{0x5a});
        const Bytes full = build(flow, tcp, payload);

        Bytes headers(header_bytes_max);
        const HeaderLengths lengths = build_headers(flow,
                                                    tcp,
                                                    static_cast<uint32_t>(payload.size()),
                                                    0x8000,
                                                    TxChecksum::pseudo,
                                                    0,
                                                    headers);
        headers.resize(lengths.total());
        headers.insert(headers.end(), payload.begin(), payload.end());
        const Parts parts        = split(headers, flow);
        const uint16_t completed = static_cast<uint16_t>(~test::reference_sum(parts.segment));
        ASSERT_EQ(completed, field16(full, lengths.l2 + lengths.l3 + 16u)) << "round " << round;
        if (flow.key.family == Family::ipv4) {
            ASSERT_EQ(field16(headers, lengths.l2 + 10u), 0u);
        }
    }
}

TEST(BuildHeaders, payload_summed_in_pieces_gives_the_same_checksum) {
    Bytes payload(4000, std::byte{0xff});
    const FlowHeader flow = flow_from_a(Family::ipv4, 1, 2);
    const Bytes whole     = build(flow, TcpFields{}, payload);
    uint32_t sum          = 0;
    for (std::size_t at = 0; at < payload.size(); at += 1000) {
        sum = sum_bytes(std::span(payload).subspan(at, 1000), sum);
    }
    ASSERT_GT(sum, 0xffffu);
    Bytes headers(header_bytes_max);
    build_headers(flow, TcpFields{}, 4000, 0x8000, TxChecksum::full, sum, headers);
    EXPECT_EQ(field16(headers, 34 + 16), field16(whole, 34 + 16));
}

TEST(BuildHeaders, R44_ipv4_identification_is_the_callers_and_df_is_set) {
    const Bytes bytes = build(flow_from_a(Family::ipv4, 1, 2), TcpFields{}, {}, 0xbeef);
    EXPECT_EQ(field16(bytes, 14 + 4), 0xbeefu);
    EXPECT_EQ(field16(bytes, 14 + 6), 0x4000u);
}

TEST(BuildHeaders, header_lengths_are_those_of_the_frame) {
    TcpFields tcp;
    tcp.has_timestamps = true;
    tcp.sack_count     = 3;
    FlowHeader flow    = flow_from_a(Family::ipv6, 1, 2);
    flow.vlan_id       = 1;
    Bytes out(header_bytes_max);
    const HeaderLengths lengths = build_headers(flow, tcp, 0, 0, TxChecksum::full, 0, out);
    EXPECT_EQ(lengths.l2, 18);
    EXPECT_EQ(lengths.l3, 40);
    EXPECT_EQ(lengths.l4, 60);
    EXPECT_EQ(lengths.total(), header_bytes_max);
}

TEST(BuildHeaders, checksum_that_sums_to_zero_is_sent_as_zero) {
    // RFC 9293 has no "no checksum" value, unlike UDP: 0x0000 must stay what it is.
    TcpFields tcp;
    const FlowHeader flow = flow_from_a(Family::ipv4, 1, 2);
    const uint32_t before = field16(build(flow, tcp, {}), 34 + 16);
    tcp.urgent            = static_cast<uint16_t>(before);
    const Bytes bytes     = build(flow, tcp, {});
    EXPECT_EQ(field16(bytes, 34 + 16), 0u);
    Frame frame;
    EXPECT_EQ(parse_frame(bytes, Checksum::verify, frame), ParseResult::tcp);
}

TEST(OptionBytes, each_combination_has_its_padded_length) {
    TcpFields tcp;
    EXPECT_EQ(option_bytes(tcp), 0u);
    tcp.sack_count = 1;
    EXPECT_EQ(option_bytes(tcp), 12u);
    tcp.sack_count = 4;
    EXPECT_EQ(option_bytes(tcp), 36u);
    tcp.has_timestamps = true;
    EXPECT_EQ(option_bytes(tcp), 40u);  // the fourth range gives way
    tcp.sack_count = 3;
    EXPECT_EQ(option_bytes(tcp), 40u);
    tcp.sack_count = 0;
    EXPECT_EQ(option_bytes(tcp), 12u);
}

TEST(OptionBytes, fourth_range_beside_timestamps_is_left_out_of_the_frame) {
    TcpFields tcp;
    tcp.has_timestamps = true;
    tcp.sack_count     = 4;
    tcp.sack           = {SackRange{Seq{1}, Seq{2}},
                          SackRange{Seq{3}, Seq{4}},
                          SackRange{Seq{5}, Seq{6}},
                          SackRange{Seq{7}, Seq{8}}};
    const Bytes bytes  = build(flow_from_a(Family::ipv4, 1, 2), tcp, payload_odd());
    Frame frame;
    ASSERT_EQ(parse_frame(bytes, Checksum::verify, frame), ParseResult::tcp);
    EXPECT_EQ(frame.tcp.sack_count, 3);
    EXPECT_EQ(frame.tcp.sack[2], (SackRange{Seq{5}, Seq{6}}));
    EXPECT_EQ(frame.payload_bytes, 3);
}

TEST(BuildHeadersDeathTest, buffer_too_small_stops_the_process) {
    Bytes out(header_bytes_max - 1);
    EXPECT_DEATH(
        build_headers(flow_from_a(Family::ipv4, 1, 2), TcpFields{}, 0, 0, TxChecksum::full, 0, out),
        "header_bytes_max");
}

}  // namespace flue::wire
