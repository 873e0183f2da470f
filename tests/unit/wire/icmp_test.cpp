#include "wire/icmp.hpp"

#include <gtest/gtest.h>

#include "base/prng.hpp"
#include "too_big.hpp"

namespace flue::wire {

namespace {

using test::Bytes;
using test::to_bytes;
using test::too_big;
using test::TooBig;

Bytes sent(Family family) {
    return family == Family::ipv4 ? to_bytes(test::capture::data_ipv4)
                                  : to_bytes(test::capture::data_ipv6);
}

/// What a message about that frame is to be read as.
PacketTooBig about(const Bytes& frame, uint16_t mtu) {
    Frame parsed;
    EXPECT_EQ(parse_frame(frame, Checksum::verify, parsed), ParseResult::tcp);
    PacketTooBig told{.key = parsed.key, .seq = parsed.tcp.seq, .next_hop_mtu = mtu};
    std::swap(told.key.local, told.key.remote);
    std::swap(told.key.local_port, told.key.remote_port);
    return told;
}

constexpr std::array families{Family::ipv4, Family::ipv6};

constexpr std::size_t least_tcp = 8;

std::size_t ip_bytes(Family family) {
    return family == Family::ipv4 ? ipv4_bytes : ipv6_bytes;
}

}  // namespace

TEST(PacketTooBig, names_connection_segment_and_mtu) {
    for (const Family family : families) {
        const Bytes frame = sent(family);
        EXPECT_EQ(parse_packet_too_big(too_big(frame, 1400, 1500).frame), about(frame, 1400));
    }
}

TEST(PacketTooBig, may_be_tagged_and_padded) {
    for (const Family family : families) {
        const Bytes frame = sent(family);
        Bytes bytes       = test::with_vlan_tag(too_big(frame, 1400, 1500).frame, 7);
        bytes.resize(bytes.size() + 6, std::byte{0xff});
        EXPECT_EQ(parse_packet_too_big(bytes), about(frame, 1400));
    }
}

TEST(PacketTooBig, eight_bytes_of_tcp_are_enough_and_less_are_not) {
    for (const Family family : families) {
        const Bytes frame       = sent(family);
        const std::size_t least = ip_bytes(family) + least_tcp;
        EXPECT_EQ(parse_packet_too_big(too_big(frame, 1400, least).frame), about(frame, 1400));
        for (std::size_t bytes = 0; bytes < least; ++bytes) {
            EXPECT_EQ(parse_packet_too_big(too_big(frame, 1400, bytes).frame), std::nullopt);
        }
    }
}

TEST(PacketTooBig, mtu_of_more_than_16_bits_is_the_largest_of_16) {
    TooBig message = too_big(sent(Family::ipv6), 0, 1500);
    store32(&message.frame[message.icmp + 4], 0x10000);
    message.seal();
    EXPECT_EQ(parse_packet_too_big(message.frame)->next_hop_mtu, 65535);
}

TEST(PacketTooBig, any_wrong_byte_is_found_by_a_checksum_or_changes_nothing_that_counts) {
    for (const Family family : families) {
        const TooBig good = too_big(sent(family), 1400, 1500);
        const auto told   = parse_packet_too_big(good.frame);
        for (std::size_t at = good.ip; at < good.frame.size(); ++at) {
            Bytes bytes = good.frame;
            bytes[at] ^= std::byte{0x10};
            const auto now     = parse_packet_too_big(bytes);
            const bool ignored = family == Family::ipv6 && at < good.icmp;  // has no checksum
            EXPECT_TRUE(now == std::nullopt || (ignored && now == told)) << at;
        }
    }
}

TEST(PacketTooBig, other_messages_and_protocols_are_none) {
    const auto reads = [](TooBig message, std::size_t at, uint8_t value) {
        message.frame[at] = std::byte{value};
        message.seal();
        return parse_packet_too_big(message.frame).has_value();
    };
    const TooBig v4 = too_big(sent(Family::ipv4), 1400, 1500);
    EXPECT_FALSE(reads(v4, v4.icmp, 11)) << "time exceeded";
    EXPECT_FALSE(reads(v4, v4.icmp + 1, 3)) << "port unreachable";
    EXPECT_FALSE(reads(v4, v4.quoted + 9, 17)) << "about UDP";
    EXPECT_FALSE(reads(v4, v4.quoted, 0x65)) << "about IPv6";
    EXPECT_FALSE(reads(v4, v4.quoted + 7, 1)) << "about a fragment";
    EXPECT_FALSE(reads(v4, v4.ip + 9, 17)) << "UDP";
    EXPECT_FALSE(reads(v4, v4.ip + 6, 0x20)) << "a fragment";
    EXPECT_FALSE(reads(v4, v4.ip + 19, 3)) << "to somebody else";
    const TooBig v6 = too_big(sent(Family::ipv6), 1400, 1500);
    EXPECT_FALSE(reads(v6, v6.icmp, 3)) << "time exceeded";
    EXPECT_FALSE(reads(v6, v6.quoted + 6, 17)) << "about UDP";
    EXPECT_FALSE(reads(v6, v6.quoted, 0x40)) << "about IPv4";
    EXPECT_FALSE(reads(v6, v6.ip + 6, 0)) << "behind hop-by-hop options";
    EXPECT_FALSE(reads(v6, v6.ip + 39, 9)) << "to somebody else";
    EXPECT_EQ(parse_packet_too_big(sent(Family::ipv4)), std::nullopt) << "TCP";
    EXPECT_EQ(parse_packet_too_big({}), std::nullopt);
}

TEST(PacketTooBig, ipv4_options_before_the_quoted_segment_are_skipped) {
    TooBig message = too_big(sent(Family::ipv4), 1400, 28);
    const auto tcp = message.frame.begin() + static_cast<std::ptrdiff_t>(message.quoted) + 20;
    message.frame.insert(tcp, 4, std::byte{1});
    message.frame[message.quoted] = std::byte{0x46};
    store16(&message.frame[message.ip + 2], 28 + 20 + 8 + 4);
    message.seal();
    EXPECT_EQ(parse_packet_too_big(message.frame), about(sent(Family::ipv4), 1400));
}

TEST(PacketTooBig, frame_cut_anywhere_or_of_random_bytes_is_read_within_its_bounds) {
    Prng prng(31);
    for (const Family family : families) {
        const TooBig good = too_big(sent(family), 1400, 1500);
        for (std::size_t length = 0; length < good.frame.size(); ++length) {
            const Bytes cut(good.frame.begin(),
                            good.frame.begin() + static_cast<std::ptrdiff_t>(length));
            EXPECT_EQ(parse_packet_too_big(cut), std::nullopt);
        }
        for (int round = 0; round < 20'000; ++round) {
            TooBig message   = good;
            const auto first = static_cast<uint32_t>(good.ip);
            const auto count = static_cast<uint32_t>(good.frame.size()) - first;
            for (int change = 0; change < 3; ++change) {
                message.frame[first + prng.below(count)] = static_cast<std::byte>(prng.next());
            }
            message.seal();
            (void)parse_packet_too_big(message.frame);
        }
    }
}

}  // namespace flue::wire
