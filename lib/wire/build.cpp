#include <algorithm>

#include "base/assert.hpp"
#include "wire/bytes.hpp"
#include "wire/frame.hpp"
#include "wire/layout.hpp"

namespace flue::wire {

namespace {

constexpr uint32_t timestamps_padded_bytes =
    12;  ///< with two NOPs before it, so that values are aligned
constexpr uint32_t sack_prefix_bytes    = 4;  ///< NOP NOP kind length
constexpr uint32_t sack_with_timestamps = 3;  ///< RFC 2018 §3

/// With timestamps there is no room for a fourth range in the 40 bytes of options.
uint32_t sack_ranges_sent(const TcpFields& tcp) {
    return std::min<uint32_t>(tcp.sack_count,
                              tcp.has_timestamps ? sack_with_timestamps : sack_ranges_max);
}

uint32_t write_ethernet(const FlowHeader& flow, std::byte* out) {
    std::memcpy(out, flow.next_hop_mac.data(), flow.next_hop_mac.size());
    std::memcpy(out + 6, flow.source_mac.data(), flow.source_mac.size());
    std::byte* type = out + ethernet_type_offset;
    if (flow.vlan_id != 0) {
        store16(type, ethertype_vlan);
        store16(type + 2, flow.vlan_id);
        type += vlan_tag_bytes;
    }
    store16(type, flow.key.family == Family::ipv4 ? ethertype_ipv4 : ethertype_ipv6);
    return static_cast<uint32_t>(type + 2 - out);
}

/// The flow says what the type of service or traffic class is, the segment its ECN field.
uint8_t traffic_class(const FlowHeader& flow, const TcpFields& tcp) {
    return static_cast<uint8_t>((flow.tos & ~ecn_mask) |
                                (tcp.ecn_capable ? ecn_capable_0 : uint8_t{0}));
}

/// Spec: RFC 791 §3.1, RFC 6864 §4 (the identification of a packet that must not be fragmented may
/// be anything)
uint32_t write_ipv4(const FlowHeader& flow,
                    uint8_t tos,
                    uint32_t segment_bytes,
                    uint16_t ip_id,
                    TxChecksum checksum,
                    std::byte* out) {
    store8(out, 0x45);
    store8(out + 1, tos);
    store16(out + 2, static_cast<uint16_t>(ipv4_bytes + segment_bytes));
    store16(out + 4, ip_id);
    store16(out + 6, ipv4_dont_fragment);
    store8(out + 8, flow.ttl);
    store8(out + 9, protocol_tcp);
    store16(out + ipv4_checksum_offset, 0);
    std::memcpy(out + 12, flow.key.local.data(), ipv4_address_bytes);
    std::memcpy(out + 16, flow.key.remote.data(), ipv4_address_bytes);
    if (checksum == TxChecksum::full) {
        store16(out + ipv4_checksum_offset, fold_checksum(sum_bytes({out, ipv4_bytes})));
    }
    return ipv4_bytes;
}

/// Spec: RFC 8200 §3
uint32_t write_ipv6(const FlowHeader& flow,
                    uint8_t traffic_class,
                    uint32_t segment_bytes,
                    std::byte* out) {
    store32(out, (6u << 28) | (uint32_t{traffic_class} << 20) | (flow.flow_label & 0xfffff));
    store16(out + 4, static_cast<uint16_t>(segment_bytes));
    store8(out + 6, protocol_tcp);
    store8(out + 7, flow.ttl);
    std::memcpy(out + 8, flow.key.local.data(), ipv6_address_bytes);
    std::memcpy(out + 24, flow.key.remote.data(), ipv6_address_bytes);
    return ipv6_bytes;
}

/// Options in the order that Linux sends them: timestamps, then SACK, each behind two NOPs.
void write_options(const TcpFields& tcp, std::byte* out) {
    if (tcp.has_timestamps) {
        store8(out, option_nop);
        store8(out + 1, option_nop);
        store8(out + 2, option_timestamps);
        store8(out + 3, option_timestamps_bytes);
        store32(out + 4, tcp.ts_val);
        store32(out + 8, tcp.ts_ecr);
        out += timestamps_padded_bytes;
    }
    const uint32_t ranges = sack_ranges_sent(tcp);
    if (ranges == 0) {
        return;
    }
    store8(out, option_nop);
    store8(out + 1, option_nop);
    store8(out + 2, option_sack);
    store8(out + 3, static_cast<uint8_t>(2 + ranges * sack_range_bytes));
    out += sack_prefix_bytes;
    for (uint32_t i = 0; i < ranges; ++i, out += sack_range_bytes) {
        store32(out, tcp.sack.at(i).start.value);
        store32(out + 4, tcp.sack.at(i).end.value);
    }
}

/// Spec: RFC 9293 §3.1.  The checksum stays zero.
uint32_t write_tcp(const FlowKey& key, const TcpFields& tcp, std::byte* out) {
    const uint32_t header_bytes = tcp_bytes + option_bytes(tcp);
    store16(out, key.local_port);
    store16(out + 2, key.remote_port);
    store32(out + 4, tcp.seq.value);
    store32(out + 8, tcp.ack.value);
    store8(out + 12, static_cast<uint8_t>(header_bytes / 4 << 4));
    store8(out + 13, tcp.flags);
    store16(out + 14, tcp.window);
    store16(out + tcp_checksum_offset, 0);
    store16(out + 18, tcp.urgent);
    write_options(tcp, out + tcp_bytes);
    return header_bytes;
}

uint32_t pseudo_header_sum(const FlowKey& key, uint32_t segment_bytes) {
    const uint32_t words = key.family == Family::ipv4 ? 1 : ipv6_address_bytes / 4;
    uint32_t sum         = protocol_tcp + segment_bytes;
    for (uint32_t i = 0; i < words; ++i) {
        const uint32_t local  = load32(std::as_bytes(std::span(key.local)).data() + 4 * i);
        const uint32_t remote = load32(std::as_bytes(std::span(key.remote)).data() + 4 * i);
        sum += (local >> 16) + (local & 0xffff) + (remote >> 16) + (remote & 0xffff);
    }
    return sum;
}

}  // namespace

uint32_t option_bytes(const TcpFields& tcp) {
    const uint32_t ranges = sack_ranges_sent(tcp);
    return (tcp.has_timestamps ? timestamps_padded_bytes : 0) +
           (ranges > 0 ? sack_prefix_bytes + ranges * sack_range_bytes : 0);
}

HeaderLengths build_headers(const FlowHeader& flow,
                            const TcpFields& tcp,
                            uint32_t payload_bytes,
                            uint16_t ip_id,
                            TxChecksum checksum,
                            uint32_t payload_sum,
                            std::span<std::byte> out) {
    FLUE_ASSERT(out.size() >= header_bytes_max);
    FLUE_ASSERT(flow.key.family != Family::none);
    FLUE_ASSERT(payload_bytes <= ip_total_bytes_max - ipv4_bytes - tcp_bytes - option_bytes(tcp));

    const bool ipv4              = flow.key.family == Family::ipv4;
    const uint32_t segment_bytes = tcp_bytes + option_bytes(tcp) + payload_bytes;
    std::byte* at                = out.data();
    const uint32_t l2            = write_ethernet(flow, at);
    at += l2;
    const uint8_t tos = traffic_class(flow, tcp);
    const uint32_t l3 = ipv4 ? write_ipv4(flow, tos, segment_bytes, ip_id, checksum, at)
                             : write_ipv6(flow, tos, segment_bytes, at);
    at += l3;
    const uint32_t l4         = write_tcp(flow.key, tcp, at);

    const uint32_t pseudo_sum = pseudo_header_sum(flow.key, segment_bytes);
    if (checksum == TxChecksum::full) {
        const uint32_t payload_folded = (payload_sum & 0xffff) + (payload_sum >> 16);
        const uint32_t sum            = sum_bytes({at, l4}, pseudo_sum + payload_folded);
        store16(at + tcp_checksum_offset, fold_checksum(sum));
    } else {
        store16(at + tcp_checksum_offset, static_cast<uint16_t>(~fold_checksum(pseudo_sum)));
    }
    return HeaderLengths{
        static_cast<uint8_t>(l2), static_cast<uint8_t>(l3), static_cast<uint8_t>(l4)};
}

}  // namespace flue::wire
