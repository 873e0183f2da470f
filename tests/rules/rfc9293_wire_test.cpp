#include <algorithm>
#include <gtest/gtest.h>

#include "unit/wire/too_big.hpp"
#include "wire/icmp.hpp"

// The MUSTs of RFC 9293, as far as they are about bytes of a header.

namespace flue::wire {
namespace {

using test::Bytes;
using test::to_bytes;

constexpr std::size_t tcp_at    = ethernet_bytes + ipv4_bytes;
constexpr std::size_t option_at = tcp_at + tcp_bytes;

/// A segment without text over IPv4 that has these flags and bytes of options.
Bytes segment_with(const std::vector<uint8_t>& options, uint8_t flags = tcp_ack) {
    Bytes bytes = to_bytes(test::capture::data_ipv4);
    bytes.resize(option_at);
    for (const uint8_t option : options) {
        bytes.push_back(std::byte{option});
    }
    store16(&bytes[ethernet_bytes + 2], static_cast<uint16_t>(bytes.size() - ethernet_bytes));
    store8(&bytes[tcp_at + 12], static_cast<uint8_t>((5 + options.size() / 4) << 4));
    store8(&bytes[tcp_at + 13], flags);
    return bytes;
}

TcpFields read(const Bytes& bytes) {
    const Bytes exact(bytes.begin(), bytes.end());  // so that ASan sees a read too far
    Frame frame;
    EXPECT_EQ(parse_frame(exact, Checksum::trust, frame), ParseResult::tcp);
    return frame.tcp;
}

std::vector<uint8_t> timestamps() {
    return {option_timestamps, option_timestamps_bytes, 0, 0, 0, 7, 0, 0, 0, 9};
}

/// `before` and then timestamps, filled up with zeros to a multiple of four.
std::vector<uint8_t> and_timestamps(std::vector<uint8_t> before) {
    for (const uint8_t byte : timestamps()) {
        before.push_back(byte);
    }
    before.resize((before.size() + 3) / 4 * 4, option_end);
    return before;
}

FlowHeader flow() {
    FlowHeader flow;
    flow.key          = {.local       = test::ipv4_b,
                         .remote      = test::ipv4_a,
                         .local_port  = 7777,
                         .remote_port = 44180,
                         .family      = Family::ipv4};
    flow.source_mac   = test::mac_b;
    flow.next_hop_mac = test::mac_a;
    return flow;
}

Bytes build(const FlowHeader& flow, const TcpFields& tcp, const Bytes& payload = {}) {
    Bytes bytes(header_bytes_max);
    const HeaderLengths lengths = build_headers(flow,
                                                tcp,
                                                static_cast<uint32_t>(payload.size()),
                                                0x8000,
                                                TxChecksum::full,
                                                sum_bytes(payload),
                                                bytes);
    bytes.resize(lengths.total());
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return bytes;
}

/// Every kind of segment that is ever sent: with and without each option, and with each flag.
std::vector<TcpFields> all_kinds() {
    std::vector<TcpFields> kinds;
    for (const uint32_t flags : {0U, 0U + tcp_psh, 0U + tcp_fin, 0U + tcp_rst, 0U + tcp_ece}) {
        for (uint32_t options = 0; options < 2 * (sack_ranges_max + 1); ++options) {
            TcpFields tcp;
            tcp.flags          = static_cast<uint8_t>(flags | tcp_ack);
            tcp.has_timestamps = options % 2 != 0;
            tcp.sack_count     = static_cast<uint8_t>(
                std::min(options / 2, tcp.has_timestamps ? 3 : sack_ranges_max));
            kinds.push_back(tcp);
        }
    }
    return kinds;
}

/// The options of a frame that was built, kind and length of each; NOPs have none.
std::vector<std::pair<uint8_t, uint8_t>> options_of(const Bytes& bytes) {
    std::vector<std::pair<uint8_t, uint8_t>> found;
    const std::size_t end = tcp_at + std::size_t{4} * (load8(&bytes[tcp_at + 12]) >> 4);
    for (std::size_t at = option_at; at < end;) {
        const uint8_t kind   = load8(&bytes.at(at));
        const bool alone     = kind == option_nop || kind == option_end;
        const uint8_t length = alone ? 1 : load8(&bytes.at(at + 1));
        EXPECT_GE(length, alone ? 1 : 2);
        EXPECT_LE(at + length, end);
        found.emplace_back(kind, length);
        at += std::max<std::size_t>(length, 1);
    }
    return found;
}

// ---------------------------------------------------------------- options

TEST(MustOptions, MUST_4_the_three_that_everybody_knows_are_passed_over_or_end_the_list) {
    EXPECT_TRUE(read(segment_with(and_timestamps({option_nop}))).has_timestamps);
    EXPECT_TRUE(read(segment_with(and_timestamps({2, 4, 5, 180}))).has_timestamps);  // MSS
    EXPECT_FALSE(read(segment_with(and_timestamps({option_end}))).has_timestamps);
}

TEST(MustOptions, MUST_5_they_are_read_in_any_segment) {
    for (uint32_t flags = 0; flags < 256; ++flags) {
        const Bytes bytes = segment_with(and_timestamps({}), static_cast<uint8_t>(flags));
        EXPECT_EQ(read(bytes).ts_val, 7u) << flags;
        EXPECT_EQ(read(bytes).ts_ecr, 9u) << flags;
    }
}

TEST(MustOptions, MUST_6_MUST_68_those_that_are_not_known_are_passed_over_by_their_length) {
    for (uint32_t kind = 2; kind < 256; ++kind) {
        if (kind == option_sack || kind == option_timestamps) {
            continue;
        }
        for (uint8_t length = 2; length < 20; ++length) {
            std::vector<uint8_t> option(length, 0xff);
            option[0] = static_cast<uint8_t>(kind);
            option[1] = length;
            EXPECT_EQ(read(segment_with(and_timestamps(option))).ts_val, 7u) << kind;
        }
    }
}

TEST(MustOptions, MUST_7_no_length_does_harm) {
    for (uint32_t kind = 2; kind < 256; ++kind) {
        for (uint32_t length = 0; length < 256; ++length) {
            const auto option   = {static_cast<uint8_t>(kind), static_cast<uint8_t>(length)};
            const TcpFields tcp = read(segment_with(and_timestamps(option)));
            EXPECT_EQ(tcp.flags, tcp_ack);
            EXPECT_LE(tcp.sack_count, sack_ranges_max);
        }
    }
}

TEST(MustOptions, MUST_64_they_are_read_at_any_alignment) {
    for (std::size_t nops = 0; nops < 8; ++nops) {
        const std::vector<uint8_t> before(nops, option_nop);
        EXPECT_EQ(read(segment_with(and_timestamps(before))).ts_val, 7u) << nops;
    }
}

TEST(MustOptions, MUST_65_no_segment_that_is_sent_has_an_mss) {
    for (const TcpFields& tcp : all_kinds()) {
        for (const auto& [kind, length] : options_of(build(flow(), tcp))) {
            EXPECT_NE(kind, 2);
        }
    }
}

TEST(MustOptions, MUST_68_MUST_69_each_that_is_sent_has_its_length_and_only_zeros_fill_up) {
    for (const TcpFields& tcp : all_kinds()) {
        const Bytes bytes = build(flow(), tcp);
        const auto found  = options_of(bytes);
        uint32_t known    = 0;
        for (const auto& [kind, length] : found) {
            known += kind == option_timestamps || kind == option_sack ? 1 : 0;
            EXPECT_TRUE(kind == option_nop || kind == option_end || length > 2);
        }
        EXPECT_EQ(known, (tcp.has_timestamps ? 1u : 0u) + (tcp.sack_count > 0 ? 1u : 0u));
        const auto end =
            std::find_if(found.begin(), found.end(), [](auto& o) { return o.first == option_end; });
        EXPECT_TRUE(std::all_of(end, found.end(), [](auto& o) { return o.first == option_end; }));
        EXPECT_EQ(load8(&bytes[tcp_at + 12]) & 0x0f, 0);
    }
}

// ---------------------------------------------------------------- checksums

TEST(MustChecksum, MUST_2_every_segment_that_is_sent_has_a_right_one) {
    for (const TcpFields& tcp : all_kinds()) {
        for (const std::size_t bytes : {0U, 1U, 2U, 999U}) {
            const Bytes frame = build(flow(), tcp, Bytes(bytes, std::byte{0xa5}));
            const auto all    = std::span(frame);
            EXPECT_EQ(
                test::reference_tcp_sum(all.subspan(ethernet_bytes + 12, 8), all.subspan(tcp_at)),
                0xffff);
        }
    }
}

TEST(MustChecksum, MUST_3_a_segment_with_a_wrong_one_is_not_taken) {
    const Bytes good = to_bytes(test::capture::data_ipv4);
    Frame frame;
    EXPECT_EQ(parse_frame(good, Checksum::verify, frame), ParseResult::tcp);
    for (std::size_t at = tcp_at; at < good.size(); ++at) {
        Bytes bad = good;
        bad[at] ^= std::byte{0x10};
        EXPECT_NE(parse_frame(bad, Checksum::verify, frame), ParseResult::tcp) << at;
    }
}

// ---------------------------------------------------------------- IP

TEST(MustIp, MUST_45_every_segment_comes_from_the_address_of_the_connection) {
    for (const TcpFields& tcp : all_kinds()) {
        Frame frame;
        EXPECT_EQ(parse_frame(build(flow(), tcp), Checksum::verify, frame), ParseResult::tcp);
        EXPECT_EQ(frame.key.remote, flow().key.local);  // as the peer names it
        EXPECT_EQ(frame.key.remote_port, flow().key.local_port);
    }
}

TEST(MustIp, MUST_48_diffserv_is_what_was_chosen) {
    for (uint32_t dscp = 0; dscp < 64; ++dscp) {
        FlowHeader chosen = flow();
        chosen.tos        = static_cast<uint8_t>(dscp << 2U);
        EXPECT_EQ(load8(&build(chosen, {})[ethernet_bytes + 1]), chosen.tos);
    }
}

TEST(MustIp, MUST_49_ttl_is_what_was_chosen) {
    for (uint32_t ttl = 1; ttl < 256; ++ttl) {
        FlowHeader chosen = flow();
        chosen.ttl        = static_cast<uint8_t>(ttl);
        EXPECT_EQ(load8(&build(chosen, {})[ethernet_bytes + 8]), ttl);
    }
}

// ---------------------------------------------------------------- ICMP

TEST(MustIcmp, MUST_54_what_a_router_says_of_a_large_packet_is_understood) {
    const auto told =
        parse_packet_too_big(test::too_big(to_bytes(test::capture::data_ipv4), 1400, 1500).frame);
    ASSERT_TRUE(told.has_value());
    EXPECT_EQ(told->key.local, test::ipv4_a);
    EXPECT_EQ(told->next_hop_mtu, 1400);
}

TEST(MustIcmp, MUST_55_MUST_56_no_other_message_concerns_a_connection) {
    for (uint32_t type = 0; type < 256; ++type) {
        for (uint32_t code = 0; code < 16; ++code) {
            test::TooBig message = test::too_big(to_bytes(test::capture::data_ipv4), 1400, 1500);
            store8(&message.frame[message.icmp], static_cast<uint8_t>(type));
            store8(&message.frame[message.icmp + 1], static_cast<uint8_t>(code));
            message.seal();
            EXPECT_EQ(parse_packet_too_big(message.frame).has_value(), type == 3 && code == 4);
        }
    }
}

}  // namespace
}  // namespace flue::wire
