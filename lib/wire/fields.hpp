#pragma once

#include <array>
#include <compare>
#include <cstdint>

#include "base/seq.hpp"

namespace flue::wire {

enum class Family : uint8_t { none = 0, ipv4 = 4, ipv6 = 6 };

using MacAddress = std::array<uint8_t, 6>;

[[nodiscard]] constexpr bool is_zero(const MacAddress& mac) {
    return (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) == 0;
}

/// Network order; an IPv4 address is in the first four bytes, the rest is zero.
using IpAddress = std::array<uint8_t, 16>;

/// FlowKey names a TCP connection from this side.  40 bytes without padding, so that it can be
/// hashed as bytes, eight at a time.
struct alignas(8) FlowKey {
    IpAddress local{};
    IpAddress remote{};
    uint16_t local_port  = 0;  ///< host order
    uint16_t remote_port = 0;  ///< host order
    Family family        = Family::none;
    std::array<uint8_t, 3> reserved{};

    friend bool operator==(const FlowKey&, const FlowKey&) = default;
};

static_assert(sizeof(FlowKey) == 40);

/// TCP control bits as they lie in the header.  RFC 9293 §3.1
enum TcpFlags : uint8_t {
    tcp_fin = 0x01,
    tcp_syn = 0x02,
    tcp_rst = 0x04,
    tcp_psh = 0x08,
    tcp_ack = 0x10,
    tcp_urg = 0x20,
    tcp_ece = 0x40,
    tcp_cwr = 0x80,
};

struct SackRange {
    Seq start;  ///< first sequence number
    Seq end;    ///< one past the last

    friend bool operator==(const SackRange&, const SackRange&) = default;
};

constexpr uint32_t sack_ranges_max = 4;

/// TcpFields is a TCP header in host order, options included; the same for segments in and out.
struct TcpFields {
    Seq seq;
    Seq ack;
    uint16_t window             = 0;  ///< as in the header: not scaled up
    uint16_t urgent             = 0;
    uint8_t flags               = 0;  ///< TcpFlags
    bool has_timestamps         = false;
    bool congestion_experienced = false;  ///< the IP header's ECN field is CE (in); unused out
    bool ecn_capable            = false;  ///< the IP header's ECN field is to be ECT(0) (out)
    uint8_t sack_count          = 0;      ///< in [0, sack_ranges_max]
    uint32_t ts_val             = 0;
    uint32_t ts_ecr             = 0;
    std::array<SackRange, sack_ranges_max> sack{};
};

/// What every frame of one connection has in common: 64 bytes, filled in at OFFLOAD, changed by
/// UPDATE only.
struct FlowHeader {
    FlowKey key;
    MacAddress source_mac{};
    MacAddress next_hop_mac{};
    uint16_t vlan_id    = 0;  ///< 0 = untagged
    uint8_t ttl         = 64;
    uint8_t tos         = 0;  ///< the two bits of its ECN field are each segment's, not the flow's
    uint32_t flow_label = 0;
    uint16_t path_mtu   = 1500;  ///< bytes of IP packet
    uint16_t remote_mss = 536;   ///< bytes, as the peer announced it
};

static_assert(sizeof(FlowHeader) == 64);

}  // namespace flue::wire
