#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/bytes.hpp"
#include "wire/frame.hpp"
#include "wire/layout.hpp"

/// The ECN field of a frame's IP header.  RFC 3168 §5
namespace flue::sim {

enum class Codepoint : uint8_t { not_ect = 0, ect_1 = 1, ect_0 = 2, ce = 3 };

/// Pre: an IP packet in an Ethernet frame, with one 802.1Q tag at most.
inline uint32_t ip_offset(std::span<const std::byte> frame) {
    const bool tagged = wire::load16(&frame[wire::ethernet_type_offset]) == wire::ethertype_vlan;
    return wire::ethernet_bytes + (tagged ? wire::vlan_tag_bytes : 0);
}

inline bool is_ipv6(std::span<const std::byte> frame) {
    return wire::load8(&frame[ip_offset(frame)]) >> 4U == 6;
}

inline Codepoint codepoint_of(std::span<const std::byte> frame) {
    const uint32_t field = wire::load8(&frame[ip_offset(frame) + 1]);
    return static_cast<Codepoint>((is_ipv6(frame) ? field >> 4U : field) & wire::ecn_mask);
}

/// mark_congestion does what a router does that would have dropped the packet.  Returns whether it
/// may.
inline bool mark_congestion(std::span<std::byte> frame) {
    const Codepoint before = codepoint_of(frame);
    if (before != Codepoint::ect_0 && before != Codepoint::ect_1) {
        return false;
    }
    const std::span<std::byte> ip = frame.subspan(ip_offset(frame));
    const uint32_t field          = wire::load8(&ip[1]);
    if (is_ipv6(frame)) {
        wire::store8(&ip[1], static_cast<uint8_t>(field | wire::ecn_congestion << 4U));
        return true;
    }
    wire::store8(&ip[1], static_cast<uint8_t>(field | wire::ecn_congestion));
    wire::store16(&ip[wire::ipv4_checksum_offset], 0);
    const uint32_t sum = wire::sum_bytes(ip.first(wire::ipv4_bytes));
    wire::store16(&ip[wire::ipv4_checksum_offset], wire::fold_checksum(sum));
    return true;
}

}  // namespace flue::sim
