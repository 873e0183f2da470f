#pragma once

#include <cstdint>

/// Sizes, numbers and offsets of the headers that parse.cpp reads and build.cpp writes.
namespace flue::wire {

constexpr uint32_t ethernet_bytes        = 14;
constexpr uint32_t ethernet_type_offset  = 12;
constexpr uint32_t vlan_tag_bytes        = 4;
constexpr uint32_t ipv4_bytes            = 20;
constexpr uint32_t ipv4_checksum_offset  = 10;
constexpr uint32_t ipv6_bytes            = 40;
constexpr uint32_t ipv6_fragment_bytes   = 8;
constexpr uint32_t tcp_bytes             = 20;
constexpr uint32_t tcp_options_bytes_max = 40;
constexpr uint32_t tcp_checksum_offset   = 16;
constexpr uint32_t ipv4_address_bytes    = 4;
constexpr uint32_t ipv6_address_bytes    = 16;
constexpr uint32_t ip_total_bytes_max    = 65535;

constexpr uint16_t ethertype_ipv4        = 0x0800;
constexpr uint16_t ethertype_vlan        = 0x8100;
constexpr uint16_t ethertype_ipv6        = 0x86dd;

constexpr uint8_t protocol_icmp          = 1;
constexpr uint8_t protocol_tcp           = 6;
constexpr uint8_t protocol_fragment      = 44;
constexpr uint8_t protocol_icmpv6        = 58;

/// The ECN field: the low two bits of the type of service or traffic class.  RFC 3168 §5
constexpr uint8_t ecn_mask             = 0x03;
constexpr uint8_t ecn_capable_0        = 0x02;  ///< ECT(0)
constexpr uint8_t ecn_congestion       = 0x03;  ///< CE

constexpr uint16_t ipv4_dont_fragment  = 0x4000;
constexpr uint16_t ipv4_more_fragments = 0x2000;
constexpr uint16_t ipv4_more_or_offset =
    0x3fff;  ///< MF and the fragment offset: not 0 in any fragment.  RFC 791 §3.1

/// TCP option kinds.  RFC 9293 §3.2, RFC 2018 §3, RFC 7323 §3.2
constexpr uint8_t option_end              = 0;
constexpr uint8_t option_nop              = 1;
constexpr uint8_t option_sack             = 5;
constexpr uint8_t option_timestamps       = 8;
constexpr uint8_t option_timestamps_bytes = 10;
constexpr uint8_t sack_range_bytes        = 8;

}  // namespace flue::wire
