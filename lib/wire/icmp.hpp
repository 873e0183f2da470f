#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "wire/fields.hpp"

namespace flue::wire {

/// What a router says of a TCP segment that was too large for its next link.
struct PacketTooBig {
    FlowKey key;                ///< of the connection, as this side names it
    Seq seq;                    ///< of the segment
    uint16_t next_hop_mtu = 0;  ///< bytes of IP packet; 0: it does not say, as before RFC 1191

    friend bool operator==(const PacketTooBig&, const PacketTooBig&) = default;
};

/// parse_packet_too_big reads an Ethernet frame (one optional 802.1Q tag) with an ICMP "destination
/// unreachable, fragmentation needed" or an ICMPv6 "packet too big" about a TCP segment.  Anything
/// else, a checksum that is wrong, or a message to somebody else than the sender of what it quotes:
/// nothing.  It never reads outside `bytes`; any content is legal.  Whether that segment was ever
/// sent, only TCP can tell: anybody can make such a frame.
/// Cost: O(1) unless it is one, then O(bytes).
/// Spec: RFC 792, RFC 1191 §4, RFC 4443 §3.2
std::optional<PacketTooBig> parse_packet_too_big(std::span<const std::byte> bytes);

}  // namespace flue::wire
