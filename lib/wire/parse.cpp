#include <algorithm>

#include "wire/ethernet.hpp"
#include "wire/frame.hpp"

namespace flue::wire {

namespace {

constexpr uint32_t timestamps_only_bytes  = 12;
constexpr uint32_t timestamps_only_prefix = 0x0101080a;  ///< NOP NOP kind length

/// What the IP header says about the segment behind it.
struct IpPacket {
    std::span<const std::byte> segment;  ///< TCP header and payload, padding cut off
    uint32_t pseudo_sum = 0;
};

void read_addresses(const std::byte* at, uint32_t address_bytes, FlowKey& key) {
    std::memcpy(key.remote.data(), at, address_bytes);
    std::memcpy(key.local.data(), at + address_bytes, address_bytes);
}

uint32_t pseudo_header_sum(const std::byte* addresses,
                           uint32_t address_bytes,
                           std::size_t segment_bytes) {
    return sum_bytes({addresses, 2 * address_bytes},
                     protocol_tcp + static_cast<uint32_t>(segment_bytes));
}

/// Spec: RFC 791 §3.1
ParseResult parse_ipv4(std::span<const std::byte> packet,
                       Checksum checksum,
                       Frame& frame,
                       IpPacket& ip) {
    if (packet.size() < ipv4_bytes || load8(&packet[0]) >> 4 != 4) {
        return ParseResult::malformed;
    }
    const uint32_t header_bytes = (load8(&packet[0]) & 0x0fu) * 4;
    const uint32_t total_bytes  = load16(&packet[2]);
    if (header_bytes < ipv4_bytes || total_bytes < header_bytes || total_bytes > packet.size()) {
        return ParseResult::malformed;
    }
    if (load8(&packet[9]) != protocol_tcp) {
        return ParseResult::not_tcp;
    }
    if (header_bytes > ipv4_bytes) {
        return ParseResult::ip_options;
    }
    if ((load16(&packet[6]) & ipv4_more_or_offset) != 0) {
        return ParseResult::fragment;
    }
    if (checksum == Checksum::verify && fold_checksum(sum_bytes(packet.first(ipv4_bytes))) != 0) {
        return ParseResult::bad_checksum;
    }
    frame.key.family                 = Family::ipv4;
    frame.tcp.congestion_experienced = (load8(&packet[1]) & ecn_mask) == ecn_congestion;
    frame.l3_bytes                   = ipv4_bytes;
    read_addresses(&packet[12], ipv4_address_bytes, frame.key);
    ip.segment = packet.first(total_bytes).subspan(ipv4_bytes);
    if (checksum == Checksum::verify) {
        ip.pseudo_sum = pseudo_header_sum(&packet[12], ipv4_address_bytes, ip.segment.size());
    }
    return ParseResult::tcp;
}

/// classify_next_header says what a packet that is not plain TCP over IPv6 is.  Spec: RFC 8200 §4
ParseResult classify_next_header(uint8_t next_header) {
    switch (next_header) {
        case protocol_fragment:
            return ParseResult::fragment;
        case 0:    // hop-by-hop options
        case 43:   // routing
        case 51:   // authentication
        case 60:   // destination options
        case 135:  // mobility
        case 139:  // host identity
        case 140:  // shim6
            return ParseResult::ip_options;
        default:
            return ParseResult::not_tcp;
    }
}

/// Spec: RFC 8200 §3
ParseResult parse_ipv6(std::span<const std::byte> packet,
                       Checksum checksum,
                       Frame& frame,
                       IpPacket& ip) {
    if (packet.size() < ipv6_bytes || load8(&packet[0]) >> 4 != 6) {
        return ParseResult::malformed;
    }
    const uint32_t payload_bytes = load16(&packet[4]);
    if (payload_bytes > packet.size() - ipv6_bytes) {
        return ParseResult::malformed;
    }
    const uint8_t next_header = load8(&packet[6]);
    if (next_header != protocol_tcp) {
        return classify_next_header(next_header);
    }
    const uint8_t traffic_class      = static_cast<uint8_t>(load16(&packet[0]) >> 4);
    frame.key.family                 = Family::ipv6;
    frame.tcp.congestion_experienced = (traffic_class & ecn_mask) == ecn_congestion;
    frame.l3_bytes                   = ipv6_bytes;
    read_addresses(&packet[8], ipv6_address_bytes, frame.key);
    ip.segment = packet.subspan(ipv6_bytes, payload_bytes);
    if (checksum == Checksum::verify) {
        ip.pseudo_sum = pseudo_header_sum(&packet[8], ipv6_address_bytes, ip.segment.size());
    }
    return ParseResult::tcp;
}

void read_timestamps(const std::byte* value, TcpFields& tcp) {
    tcp.has_timestamps = true;
    tcp.ts_val         = load32(value);
    tcp.ts_ecr         = load32(value + 4);
}

/// Five ranges would not fit in the 40 bytes of options.
static_assert(tcp_options_bytes_max < 2 + (sack_ranges_max + 1) * sack_range_bytes);

void read_sack(std::span<const std::byte> ranges, TcpFields& tcp) {
    tcp.sack_count = static_cast<uint8_t>(ranges.size() / sack_range_bytes);
    for (std::size_t i = 0; i < tcp.sack_count; ++i) {
        const std::byte* at = &ranges[i * sack_range_bytes];
        tcp.sack.at(i)      = SackRange{Seq{load32(at)}, Seq{load32(at + 4)}};
    }
}

void read_option(uint8_t kind, std::span<const std::byte> value, TcpFields& tcp) {
    if (kind == option_timestamps && value.size() == option_timestamps_bytes - 2) {
        read_timestamps(value.data(), tcp);
        return;
    }
    const bool whole_ranges = !value.empty() && value.size() % sack_range_bytes == 0;
    if (kind == option_sack && whole_ranges) {
        read_sack(value, tcp);
    }
}

/// read_options reads the options that it knows.  A length that cannot be ends the list and the
/// options before it stand, as in Linux's tcp_parse_options.
void read_options(std::span<const std::byte> options, TcpFields& tcp) {
    if (options.size() == timestamps_only_bytes && load32(options.data()) == timestamps_only_prefix)
        [[likely]] {
        read_timestamps(&options[4], tcp);
        return;
    }
    while (!options.empty()) {
        const uint8_t kind = load8(&options[0]);
        if (kind == option_end) {
            return;
        }
        if (kind == option_nop) {
            options = options.subspan(1);
            continue;
        }
        const std::size_t length = options.size() < 2 ? 0 : load8(&options[1]);
        if (length < 2 || length > options.size()) {
            return;
        }
        read_option(kind, options.subspan(2, length - 2), tcp);
        options = options.subspan(length);
    }
}

ParseResult parse_segment(const IpPacket& ip, Checksum checksum, Frame& frame) {
    const std::span<const std::byte> segment = ip.segment;
    if (checksum == Checksum::verify && segment.size() >= tcp_bytes &&
        fold_checksum(sum_bytes(segment, ip.pseudo_sum)) != 0) {
        return ParseResult::bad_checksum;
    }
    const uint32_t header_bytes = parse_tcp(segment, frame.key, frame.tcp);
    if (header_bytes == 0) {
        return ParseResult::malformed;
    }
    frame.payload_offset = static_cast<uint16_t>(frame.l2_bytes + frame.l3_bytes + header_bytes);
    frame.payload_bytes  = static_cast<uint16_t>(segment.size() - header_bytes);
    return ParseResult::tcp;
}

}  // namespace

uint32_t parse_tcp(std::span<const std::byte> segment, FlowKey& key, TcpFields& tcp) {
    if (segment.size() < tcp_bytes) {
        return 0;
    }
    const uint32_t header_bytes = (load8(&segment[12]) >> 4) * 4u;
    if (header_bytes < tcp_bytes || header_bytes > segment.size()) {
        return 0;
    }
    key.remote_port = load16(&segment[0]);
    key.local_port  = load16(&segment[2]);
    tcp.seq         = Seq{load32(&segment[4])};
    tcp.ack         = Seq{load32(&segment[8])};
    tcp.flags       = load8(&segment[13]);
    tcp.window      = load16(&segment[14]);
    tcp.urgent      = load16(&segment[18]);
    read_options(segment.first(header_bytes).subspan(tcp_bytes), tcp);
    return header_bytes;
}

std::optional<FlowKey> first_fragment_flow(std::span<const std::byte> bytes) {
    const EtherType type = read_ethertype(bytes);
    const auto packet    = bytes.subspan(type.l2_bytes);
    FlowKey key;
    std::size_t at = 0;  // of the TCP header
    if (type.value == ethertype_ipv4 && packet.size() >= ipv4_bytes) {
        at                  = (load8(&packet[0]) & 0x0fu) * std::size_t{4};
        const uint32_t word = load16(&packet[6]) & ipv4_more_or_offset;
        if (word != ipv4_more_fragments || load8(&packet[9]) != protocol_tcp || at < ipv4_bytes) {
            return std::nullopt;
        }
        key.family = Family::ipv4;
        read_addresses(&packet[12], ipv4_address_bytes, key);
    } else if (type.value == ethertype_ipv6 && packet.size() >= ipv6_bytes + ipv6_fragment_bytes) {
        at                  = ipv6_bytes + ipv6_fragment_bytes;
        const uint32_t word = load16(&packet[ipv6_bytes + 2]);  // offset, two reserved bits, M
        if (load8(&packet[6]) != protocol_fragment || load8(&packet[ipv6_bytes]) != protocol_tcp ||
            (word & ~6u) != 1) {
            return std::nullopt;
        }
        key.family = Family::ipv6;
        read_addresses(&packet[8], ipv6_address_bytes, key);
    }
    if (at == 0 || packet.size() < at + 4) {
        return std::nullopt;
    }
    key.remote_port = load16(&packet[at]);
    key.local_port  = load16(&packet[at + 2]);
    return key;
}

ParseResult parse_frame(std::span<const std::byte> bytes, Checksum checksum, Frame& frame) {
    frame                = Frame{};
    const EtherType type = read_ethertype(bytes);
    if (type.l2_bytes == 0) {
        return ParseResult::malformed;
    }
    frame.l2_bytes                          = static_cast<uint16_t>(type.l2_bytes);

    const std::span<const std::byte> packet = bytes.subspan(type.l2_bytes);
    IpPacket ip;
    ParseResult result = ParseResult::not_ip;
    if (type.value == ethertype_ipv4) {
        result = parse_ipv4(packet, checksum, frame, ip);
    } else if (type.value == ethertype_ipv6) {
        result = parse_ipv6(packet, checksum, frame, ip);
    }
    return result == ParseResult::tcp ? parse_segment(ip, checksum, frame) : result;
}

}  // namespace flue::wire
