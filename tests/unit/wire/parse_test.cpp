#include <gtest/gtest.h>

#include "base/prng.hpp"
#include "frames.hpp"
#include "wire/frame.hpp"

namespace flue::wire {

namespace {

using test::Bytes;
using test::to_bytes;

constexpr std::size_t ip_offset       = 14;
constexpr std::size_t tcp_offset_ipv4 = ip_offset + 20;
constexpr std::size_t tcp_offset_ipv6 = ip_offset + 40;

/// parse copies to memory of exactly that size, so that a read too far is one that ASan sees.
ParseResult parse(const Bytes& bytes, Frame& frame, Checksum checksum = Checksum::verify) {
    const Bytes exact(bytes.begin(), bytes.end());
    return parse_frame(exact, checksum, frame);
}

ParseResult parse(const Bytes& bytes, Checksum checksum = Checksum::verify) {
    Frame frame;
    return parse(bytes, frame, checksum);
}

Frame parse_good(const Bytes& bytes) {
    Frame frame;
    EXPECT_EQ(parse(bytes, frame), ParseResult::tcp);
    return frame;
}

void put(Bytes& bytes, std::size_t at, uint8_t value) {
    bytes.at(at) = std::byte{value};
}

/// with_options returns data_ipv4's header with other option bytes (a multiple of 4) and no
/// payload.
Bytes with_options(const std::vector<uint8_t>& options) {
    Bytes bytes = to_bytes(test::capture::data_ipv4);
    bytes.resize(tcp_offset_ipv4 + 20);
    for (const uint8_t option : options) {
        bytes.push_back(std::byte{option});
    }
    put(bytes, ip_offset + 3, static_cast<uint8_t>(40 + options.size()));
    put(bytes, tcp_offset_ipv4 + 12, static_cast<uint8_t>((5 + options.size() / 4) << 4));
    return bytes;
}

TcpFields parse_options(const std::vector<uint8_t>& options) {
    Frame frame;
    EXPECT_EQ(parse(with_options(options), frame, Checksum::trust), ParseResult::tcp);
    EXPECT_EQ(frame.payload_bytes, 0);
    return frame.tcp;
}

std::vector<Bytes> all_captures() {
    return {to_bytes(test::capture::syn_ipv4),
            to_bytes(test::capture::data_ipv4),
            to_bytes(test::capture::data_ipv6),
            to_bytes(test::capture::sack_3_ipv4),
            to_bytes(test::capture::sack_4_ipv4),
            test::with_vlan_tag(to_bytes(test::capture::data_ipv4), 7),
            test::with_vlan_tag(to_bytes(test::capture::data_ipv6), 0x6fff)};
}

}  // namespace

TEST(ParseFrame, ipv4_data_with_timestamps_yields_every_field) {
    const Frame frame = parse_good(to_bytes(test::capture::data_ipv4));
    EXPECT_EQ(frame.key.family, Family::ipv4);
    EXPECT_EQ(frame.key.remote, test::ipv4_a);
    EXPECT_EQ(frame.key.local, test::ipv4_b);
    EXPECT_EQ(frame.key.remote_port, 44180);
    EXPECT_EQ(frame.key.local_port, 7777);
    EXPECT_EQ(frame.tcp.seq, Seq{2679387084});
    EXPECT_EQ(frame.tcp.ack, Seq{3686538228});
    EXPECT_EQ(frame.tcp.flags, tcp_psh | tcp_ack);
    EXPECT_EQ(frame.tcp.window, 63);
    EXPECT_EQ(frame.tcp.urgent, 0);
    EXPECT_TRUE(frame.tcp.has_timestamps);
    EXPECT_EQ(frame.tcp.ts_val, 3818869361);
    EXPECT_EQ(frame.tcp.ts_ecr, 2501678182);
    EXPECT_EQ(frame.tcp.sack_count, 0);
    EXPECT_FALSE(frame.tcp.congestion_experienced);
    EXPECT_EQ(frame.l2_bytes, 14);
    EXPECT_EQ(frame.l3_bytes, 20);
    EXPECT_EQ(frame.payload_offset, 66);
    EXPECT_EQ(frame.payload_bytes, 3);
}

TEST(ParseFrame, ipv6_data_with_timestamps_yields_every_field) {
    const Frame frame = parse_good(to_bytes(test::capture::data_ipv6));
    EXPECT_EQ(frame.key.family, Family::ipv6);
    EXPECT_EQ(frame.key.remote, test::ipv6_a);
    EXPECT_EQ(frame.key.local, test::ipv6_b);
    EXPECT_EQ(frame.key.remote_port, 32846);
    EXPECT_EQ(frame.key.local_port, 7777);
    EXPECT_EQ(frame.tcp.seq, Seq{3390140138});
    EXPECT_EQ(frame.tcp.ack, Seq{1506278722});
    EXPECT_EQ(frame.tcp.flags, tcp_psh | tcp_ack);
    EXPECT_EQ(frame.tcp.window, 64);
    EXPECT_EQ(frame.tcp.ts_val, 2968690805);
    EXPECT_EQ(frame.tcp.ts_ecr, 1459440542);
    EXPECT_EQ(frame.l3_bytes, 40);
    EXPECT_EQ(frame.payload_offset, 86);
    EXPECT_EQ(frame.payload_bytes, 3);
}

TEST(ParseFrame, syn_with_options_not_known_skips_them_to_the_timestamps) {
    const Frame frame = parse_good(to_bytes(test::capture::syn_ipv4));
    EXPECT_EQ(frame.tcp.flags, tcp_syn);
    EXPECT_EQ(frame.tcp.seq, Seq{2679387067});
    EXPECT_EQ(frame.tcp.window, 64240);
    EXPECT_TRUE(frame.tcp.has_timestamps);
    EXPECT_EQ(frame.tcp.ts_val, 3818869311);
    EXPECT_EQ(frame.tcp.ts_ecr, 0u);
    EXPECT_EQ(frame.payload_offset, 74);
    EXPECT_EQ(frame.payload_bytes, 0);
}

TEST(ParseFrame, timestamps_and_3_sack_ranges_are_read) {
    const TcpFields tcp = parse_good(to_bytes(test::capture::sack_3_ipv4)).tcp;
    const Seq base{3555476106};  // tcpdump prints SACK ranges relative to the peer's first byte
    EXPECT_EQ(tcp.ack, base + 10811);
    EXPECT_EQ(tcp.ts_val, 3790377963);
    EXPECT_EQ(tcp.ts_ecr, 3945840690);
    ASSERT_EQ(tcp.sack_count, 3);
    EXPECT_EQ(tcp.sack[0], (SackRange{base + 31083, base + 32531}));
    EXPECT_EQ(tcp.sack[1], (SackRange{base + 26739, base + 29635}));
    EXPECT_EQ(tcp.sack[2], (SackRange{base + 12259, base + 23843}));
}

TEST(ParseFrame, no_timestamps_and_4_sack_ranges_are_read) {
    const TcpFields tcp = parse_good(to_bytes(test::capture::sack_4_ipv4)).tcp;
    EXPECT_FALSE(tcp.has_timestamps);
    ASSERT_EQ(tcp.sack_count, 4);
    EXPECT_EQ(tcp.sack[0], (SackRange{Seq{0x017edfe7}, Seq{0x017ee59b}}));
    EXPECT_EQ(tcp.sack[3], (SackRange{Seq{0x017ea6df}, Seq{0x017eac93}}));
}

TEST(ParseFrame, vlan_tag_moves_offsets_by_4_and_changes_nothing_else) {
    const Frame plain  = parse_good(to_bytes(test::capture::data_ipv4));
    const Frame tagged = parse_good(test::with_vlan_tag(to_bytes(test::capture::data_ipv4), 7));
    EXPECT_EQ(tagged.l2_bytes, plain.l2_bytes + 4);
    EXPECT_EQ(tagged.payload_offset, plain.payload_offset + 4);
    EXPECT_EQ(tagged.payload_bytes, plain.payload_bytes);
    EXPECT_EQ(tagged.key, plain.key);
    EXPECT_EQ(tagged.tcp.ts_val, plain.tcp.ts_val);
}

TEST(ParseFrame, second_vlan_tag_belongs_to_the_exception_path) {
    const Bytes once = test::with_vlan_tag(to_bytes(test::capture::data_ipv4), 7);
    EXPECT_EQ(parse(test::with_vlan_tag(once, 8)), ParseResult::not_ip);
}

TEST(ParseFrame, ethernet_padding_is_not_payload) {
    Bytes bytes = with_options({});
    bytes.resize(60, std::byte{0xee});
    Frame frame;
    ASSERT_EQ(parse(bytes, frame, Checksum::trust), ParseResult::tcp);
    EXPECT_EQ(frame.payload_bytes, 0);

    Bytes padded = to_bytes(test::capture::data_ipv4);
    padded.resize(padded.size() + 9, std::byte{0xee});
    EXPECT_EQ(parse_good(padded).payload_bytes, 3);
}

TEST(ParseFrame, every_truncation_is_malformed) {
    for (const Bytes& whole : all_captures()) {
        for (std::size_t length = 0; length < whole.size(); ++length) {
            const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
            ASSERT_EQ(parse(cut, Checksum::verify), ParseResult::malformed) << length;
            ASSERT_EQ(parse(cut, Checksum::trust), ParseResult::malformed) << length;
        }
    }
}

TEST(ParseFrame, every_flipped_bit_of_ipv4_is_noticed) {
    for (const Bytes& whole :
         {to_bytes(test::capture::data_ipv4), to_bytes(test::capture::sack_3_ipv4)}) {
        for (std::size_t bit = ip_offset * 8; bit < whole.size() * 8; ++bit) {
            Bytes flipped = whole;
            flipped[bit / 8] ^= std::byte{1} << (bit % 8);
            ASSERT_NE(parse(flipped), ParseResult::tcp) << "byte " << bit / 8 << " bit " << bit % 8;
        }
    }
}

TEST(ParseFrame, every_flipped_bit_of_ipv6_that_a_checksum_covers_is_noticed) {
    const Bytes whole = to_bytes(test::capture::data_ipv6);
    for (std::size_t bit = ip_offset * 8; bit < whole.size() * 8; ++bit) {
        const std::size_t byte    = bit / 8 - ip_offset;
        const bool class_or_label = byte < 4 && !(byte == 0 && bit % 8 >= 4);
        const bool hop_limit      = byte == 7;
        Bytes flipped             = whole;
        flipped[bit / 8] ^= std::byte{1} << (bit % 8);
        ASSERT_EQ(parse(flipped) == ParseResult::tcp, class_or_label || hop_limit)
            << "byte " << byte << " bit " << bit % 8;
    }
}

TEST(ParseFrame, payload_bit_flipped_is_bad_checksum_and_trusted_without_verify) {
    Bytes bytes = to_bytes(test::capture::data_ipv4);
    bytes.back() ^= std::byte{0x10};
    EXPECT_EQ(parse(bytes, Checksum::verify), ParseResult::bad_checksum);
    EXPECT_EQ(parse(bytes, Checksum::trust), ParseResult::tcp);
}

TEST(ParseFrame, ipv4_header_checksum_wrong_is_bad_checksum) {
    Bytes bytes = to_bytes(test::capture::data_ipv4);
    put(bytes, ip_offset + 8, 63);
    EXPECT_EQ(parse(bytes), ParseResult::bad_checksum);
}

TEST(ParseFrame, other_ethertypes_are_not_ip) {
    for (const uint32_t type : {0x0806u, 0x88ccu, 0x88a8u, 0x8847u, 0x05dcu}) {
        Bytes bytes = to_bytes(test::capture::data_ipv4);
        put(bytes, 12, static_cast<uint8_t>(type >> 8));
        put(bytes, 13, static_cast<uint8_t>(type & 0xff));
        EXPECT_EQ(parse(bytes), ParseResult::not_ip) << type;
    }
}

TEST(ParseFrame, udp_and_icmp_are_not_tcp) {
    for (const uint8_t protocol : {uint8_t{1}, uint8_t{17}, uint8_t{58}, uint8_t{132}}) {
        Bytes ipv4 = to_bytes(test::capture::data_ipv4);
        put(ipv4, ip_offset + 9, protocol);
        EXPECT_EQ(parse(ipv4), ParseResult::not_tcp);
        Bytes ipv6 = to_bytes(test::capture::data_ipv6);
        put(ipv6, ip_offset + 6, protocol);
        EXPECT_EQ(parse(ipv6), ParseResult::not_tcp);
    }
}

TEST(ParseFrame, R99_fragments_are_left_to_the_host) {
    Bytes first = to_bytes(test::capture::data_ipv4);
    put(first, ip_offset + 6, 0x20);
    EXPECT_EQ(parse(first), ParseResult::fragment);
    Bytes later = to_bytes(test::capture::data_ipv4);
    put(later, ip_offset + 6, 0x00);
    put(later, ip_offset + 7, 0x01);
    EXPECT_EQ(parse(later), ParseResult::fragment);
    Bytes ipv6 = to_bytes(test::capture::data_ipv6);
    put(ipv6, ip_offset + 6, 44);
    EXPECT_EQ(parse(ipv6), ParseResult::fragment);
}

TEST(ParseFrame, R99_ip_options_and_extension_headers_are_left_to_the_host) {
    Bytes ipv4 = to_bytes(test::capture::data_ipv4);
    put(ipv4, ip_offset, 0x46);
    EXPECT_EQ(parse(ipv4), ParseResult::ip_options);
    for (const uint8_t header : {uint8_t{0}, uint8_t{43}, uint8_t{51}, uint8_t{60}, uint8_t{135}}) {
        Bytes ipv6 = to_bytes(test::capture::data_ipv6);
        put(ipv6, ip_offset + 6, header);
        EXPECT_EQ(parse(ipv6), ParseResult::ip_options) << +header;
    }
}

TEST(ParseFrame, ip_version_not_that_of_the_ethertype_is_malformed) {
    Bytes ipv4 = to_bytes(test::capture::data_ipv4);
    put(ipv4, ip_offset, 0x65);
    EXPECT_EQ(parse(ipv4), ParseResult::malformed);
    Bytes ipv6 = to_bytes(test::capture::data_ipv6);
    put(ipv6, ip_offset, 0x46);
    EXPECT_EQ(parse(ipv6), ParseResult::malformed);
}

TEST(ParseFrame, header_lengths_below_the_minimum_are_malformed) {
    Bytes ihl = to_bytes(test::capture::data_ipv4);
    put(ihl, ip_offset, 0x44);
    EXPECT_EQ(parse(ihl, Checksum::trust), ParseResult::malformed);
    Bytes data_offset = to_bytes(test::capture::data_ipv4);
    put(data_offset, tcp_offset_ipv4 + 12, 0x40);
    EXPECT_EQ(parse(data_offset, Checksum::trust), ParseResult::malformed);
    Bytes total_length = to_bytes(test::capture::data_ipv4);
    put(total_length, ip_offset + 3, 39);
    EXPECT_EQ(parse(total_length, Checksum::trust), ParseResult::malformed);
}

TEST(ParseFrame, tcp_header_longer_than_the_segment_is_malformed) {
    Bytes bytes = to_bytes(test::capture::data_ipv6);
    put(bytes, tcp_offset_ipv6 + 12, 0xf0);
    EXPECT_EQ(parse(bytes, Checksum::trust), ParseResult::malformed);
}

TEST(ParseFrame, only_ecn_3_is_congestion_experienced) {
    for (const uint8_t ecn : {uint8_t{0}, uint8_t{1}, uint8_t{2}, uint8_t{3}}) {
        Bytes ipv4 = to_bytes(test::capture::data_ipv4);
        put(ipv4, ip_offset + 1, static_cast<uint8_t>(0xb8 | ecn));
        Frame frame;
        ASSERT_EQ(parse(ipv4, frame, Checksum::trust), ParseResult::tcp);
        EXPECT_EQ(frame.tcp.congestion_experienced, ecn == 3);
        Bytes ipv6 = to_bytes(test::capture::data_ipv6);
        put(ipv6, ip_offset + 1, static_cast<uint8_t>((ecn << 4) | 0x06));
        ASSERT_EQ(parse(ipv6, frame), ParseResult::tcp);
        EXPECT_EQ(frame.tcp.congestion_experienced, ecn == 3);
    }
}

TEST(ParseFragment, first_fragments_of_tcp_name_their_flow_and_nothing_else_does) {
    const Bytes whole = to_bytes(test::capture::data_ipv4);
    Frame frame;
    ASSERT_EQ(parse_frame(whole, Checksum::verify, frame), ParseResult::tcp);
    EXPECT_FALSE(first_fragment_flow(whole));
    Bytes first          = whole;
    first[ip_offset + 6] = std::byte{0x20};  // MF, offset 0
    for (const Bytes& bytes : {first, test::with_vlan_tag(first, 7)}) {
        const auto flow = first_fragment_flow(bytes);
        ASSERT_TRUE(flow);
        EXPECT_EQ(*flow, frame.key);
    }
    Bytes later          = first;
    later[ip_offset + 7] = std::byte{0x01};
    EXPECT_FALSE(first_fragment_flow(later));
    Bytes udp          = first;
    udp[ip_offset + 9] = std::byte{17};
    EXPECT_FALSE(first_fragment_flow(udp));
    for (size_t length = 0; length < tcp_offset_ipv4 + 4; ++length) {
        const Bytes cut(first.begin(), first.begin() + static_cast<ptrdiff_t>(length));
        EXPECT_FALSE(first_fragment_flow(cut)) << length;
    }
}

TEST(ParseFragment, first_fragment_over_ipv6_names_its_flow) {
    Bytes bytes = to_bytes(test::capture::data_ipv6);
    Frame frame;
    ASSERT_EQ(parse_frame(bytes, Checksum::verify, frame), ParseResult::tcp);
    bytes[ip_offset + 6] = std::byte{44};
    const std::array header{std::byte{6},
                            std::byte{0},
                            std::byte{0},
                            std::byte{1},  // M, offset 0
                            std::byte{1},
                            std::byte{2},
                            std::byte{3},
                            std::byte{4}};
    bytes.insert(bytes.begin() + tcp_offset_ipv6, header.begin(), header.end());
    const auto flow = first_fragment_flow(bytes);
    ASSERT_TRUE(flow);
    EXPECT_EQ(*flow, frame.key);
    bytes[tcp_offset_ipv6 + 3] = std::byte{9};  // offset 8
    EXPECT_FALSE(first_fragment_flow(bytes));
}

TEST(ParseTcp, header_without_a_packet_around_it_reads_as_in_its_frame) {
    const Bytes bytes = to_bytes(test::capture::data_ipv4);
    Frame frame;
    ASSERT_EQ(parse_frame(bytes, Checksum::verify, frame), ParseResult::tcp);
    const auto segment = std::span(bytes).subspan(frame.l2_bytes + frame.l3_bytes);
    FlowKey key;
    TcpFields tcp;
    EXPECT_EQ(parse_tcp(segment, key, tcp), 32u);
    EXPECT_EQ(key.local_port, frame.key.local_port);
    EXPECT_EQ(key.remote_port, frame.key.remote_port);
    EXPECT_EQ(tcp.seq, frame.tcp.seq);
    EXPECT_EQ(tcp.ts_val, frame.tcp.ts_val);
    for (size_t length = 0; length < 32; ++length) {
        EXPECT_EQ(parse_tcp(segment.first(length), key, tcp), 0u) << length;
    }
}

TEST(ParseOptions, timestamps_unaligned_or_after_others_are_read) {
    const TcpFields tcp = parse_options({2, 4, 5, 0xb4, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0});
    EXPECT_TRUE(tcp.has_timestamps);
    EXPECT_EQ(tcp.ts_val, 1u);
    EXPECT_EQ(tcp.ts_ecr, 2u);
}

TEST(ParseOptions, end_of_list_hides_what_follows) {
    const TcpFields tcp = parse_options({0, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2});
    EXPECT_FALSE(tcp.has_timestamps);
}

TEST(ParseOptions, length_0_or_1_ends_the_list_and_keeps_what_came_before) {
    for (const uint8_t length : {uint8_t{0}, uint8_t{1}}) {
        const TcpFields tcp = parse_options(
            {8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 254, length, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1});
        EXPECT_TRUE(tcp.has_timestamps);
        EXPECT_EQ(tcp.sack_count, 0);
    }
}

TEST(ParseOptions, length_past_the_header_ends_the_list) {
    EXPECT_FALSE(parse_options({1, 1, 8, 10, 0, 0, 0, 1}).has_timestamps);
    EXPECT_FALSE(parse_options({1, 1, 1, 8}).has_timestamps);
    EXPECT_EQ(parse_options({1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2}).sack_count, 0);
}

TEST(ParseOptions, known_kind_with_wrong_length_is_skipped) {
    const TcpFields tcp = parse_options({8, 6, 0, 0, 0, 1, 5, 6, 0, 0, 0, 1, 5, 2, 8, 2});
    EXPECT_FALSE(tcp.has_timestamps);
    EXPECT_EQ(tcp.sack_count, 0);
}

TEST(ParseFrame, random_bytes_never_crash_and_lengths_stay_inside) {
    Prng prng(3);
    for (int round = 0; round < 200'000; ++round) {
        Bytes bytes(prng.below(160));
        for (std::byte& byte : bytes) {
            byte = static_cast<std::byte>(prng.next());
        }
        Frame frame;
        if (parse_frame(bytes, Checksum::trust, frame) == ParseResult::tcp) {
            ASSERT_LE(frame.payload_offset + frame.payload_bytes, bytes.size());
        }
    }
}

TEST(ParseFrame, captures_with_random_damage_never_crash_and_lengths_stay_inside) {
    Prng prng(4);
    const std::vector<Bytes> captures = all_captures();
    uint32_t still_tcp                = 0;
    for (int round = 0; round < 200'000; ++round) {
        Bytes bytes          = captures.at(prng.below(static_cast<uint32_t>(captures.size())));
        const uint32_t flips = 1 + prng.below(6);
        for (uint32_t i = 0; i < flips; ++i) {
            const auto at = prng.below(static_cast<uint32_t>(bytes.size()));
            bytes[at]     = static_cast<std::byte>(prng.next());
        }
        bytes.resize(bytes.size() - prng.below(4));
        Frame frame;
        if (parse_frame(bytes, Checksum::trust, frame) == ParseResult::tcp) {
            ++still_tcp;
            ASSERT_LE(frame.payload_offset + frame.payload_bytes, bytes.size());
            ASSERT_LE(frame.tcp.sack_count, sack_ranges_max);
        }
    }
    EXPECT_GT(still_tcp, 10'000u);  // else the damage was too great to reach the TCP options
}

}  // namespace flue::wire
