#include "wire/icmp.hpp"

#include <algorithm>

#include "wire/ethernet.hpp"
#include "wire/frame.hpp"

namespace flue::wire {

namespace {

constexpr uint32_t icmp_bytes               = 8;
constexpr uint32_t icmp_mtu_offset          = 6;  ///< 16 bits.  RFC 1191 §4
constexpr uint32_t icmpv6_mtu_offset        = 4;  ///< 32 bits.  RFC 4443 §3.2
constexpr uint32_t quoted_tcp_bytes         = 8;  ///< at least: ports and sequence number.  RFC 792
constexpr uint8_t icmp_unreachable          = 3;
constexpr uint8_t icmp_fragmentation_needed = 4;
constexpr uint8_t icmpv6_packet_too_big     = 2;

using Bytes                                 = std::span<const std::byte>;

/// An IP packet in two parts; without a payload it is none.
struct Packet {
    Bytes header;
    Bytes payload;
};

/// Of a quoted packet only the beginning is there, whatever its length says.
enum class Extent : uint8_t { whole, quoted };

Packet split_ipv4(Bytes bytes, uint8_t protocol, Extent extent) {
    if (bytes.size() < ipv4_bytes || load8(&bytes[0]) >> 4 != 4 || load8(&bytes[9]) != protocol ||
        (load16(&bytes[6]) & ipv4_more_or_offset) != 0) {
        return {};
    }
    const std::size_t header_bytes = (load8(&bytes[0]) & 0x0fu) * std::size_t{4};
    const std::size_t total_bytes  = load16(&bytes[2]);
    const bool fits                = extent == Extent::quoted || total_bytes <= bytes.size();
    if (header_bytes < ipv4_bytes || header_bytes > total_bytes || header_bytes > bytes.size() ||
        !fits) {
        return {};
    }
    bytes = bytes.first(std::min(total_bytes, bytes.size()));
    return {bytes.first(header_bytes), bytes.subspan(header_bytes)};
}

Packet split_ipv6(Bytes bytes, uint8_t protocol, Extent extent) {
    if (bytes.size() < ipv6_bytes || load8(&bytes[0]) >> 4 != 6 || load8(&bytes[6]) != protocol) {
        return {};
    }
    const std::size_t total_bytes = ipv6_bytes + std::size_t{load16(&bytes[4])};
    if (extent == Extent::whole && total_bytes > bytes.size()) {
        return {};
    }
    bytes = bytes.first(std::min(total_bytes, bytes.size()));
    return {bytes.first(ipv6_bytes), bytes.subspan(ipv6_bytes)};
}

/// The quoted segment is one of ours: its source is the local end.
void read_quoted(Bytes addresses, Bytes tcp, PacketTooBig& told) {
    const std::size_t address_bytes = addresses.size() / 2;
    std::ranges::copy(addresses.first(address_bytes),
                      std::as_writable_bytes(std::span(told.key.local)).begin());
    std::ranges::copy(addresses.subspan(address_bytes),
                      std::as_writable_bytes(std::span(told.key.remote)).begin());
    told.key.local_port  = load16(&tcp[0]);
    told.key.remote_port = load16(&tcp[2]);
    told.seq             = Seq{load32(&tcp[4])};
}

std::optional<PacketTooBig> parse_ipv4(Bytes bytes) {
    const Packet outer = split_ipv4(bytes, protocol_icmp, Extent::whole);
    const Bytes icmp   = outer.payload;
    if (icmp.size() < icmp_bytes || load8(&icmp[0]) != icmp_unreachable ||
        load8(&icmp[1]) != icmp_fragmentation_needed) {
        return std::nullopt;
    }
    const Packet quoted = split_ipv4(icmp.subspan(icmp_bytes), protocol_tcp, Extent::quoted);
    if (quoted.payload.size() < quoted_tcp_bytes || fold_checksum(sum_bytes(outer.header)) != 0 ||
        fold_checksum(sum_bytes(icmp)) != 0) {
        return std::nullopt;
    }
    const Bytes to   = outer.header.subspan(16, ipv4_address_bytes);
    const Bytes from = quoted.header.subspan(12, ipv4_address_bytes);
    if (!std::ranges::equal(to, from)) {
        return std::nullopt;
    }
    PacketTooBig told{.key = {}, .seq = {}, .next_hop_mtu = load16(&icmp[icmp_mtu_offset])};
    told.key.family = Family::ipv4;
    read_quoted(
        quoted.header.subspan(12, std::size_t{2} * ipv4_address_bytes), quoted.payload, told);
    return told;
}

std::optional<PacketTooBig> parse_ipv6(Bytes bytes) {
    const Packet outer = split_ipv6(bytes, protocol_icmpv6, Extent::whole);
    const Bytes icmp   = outer.payload;
    if (icmp.size() < icmp_bytes || load8(&icmp[0]) != icmpv6_packet_too_big) {
        return std::nullopt;
    }
    const Packet quoted   = split_ipv6(icmp.subspan(icmp_bytes), protocol_tcp, Extent::quoted);
    const Bytes addresses = outer.header.subspan(8);
    const uint32_t pseudo =
        sum_bytes(addresses, protocol_icmpv6 + static_cast<uint32_t>(icmp.size()));
    if (quoted.payload.size() < quoted_tcp_bytes || fold_checksum(sum_bytes(icmp, pseudo)) != 0) {
        return std::nullopt;
    }
    const Bytes to   = addresses.subspan(ipv6_address_bytes);
    const Bytes from = quoted.header.subspan(8, ipv6_address_bytes);
    if (!std::ranges::equal(to, from)) {
        return std::nullopt;
    }
    const uint32_t mtu = std::min(load32(&icmp[icmpv6_mtu_offset]), ip_total_bytes_max);
    PacketTooBig told{.key = {}, .seq = {}, .next_hop_mtu = static_cast<uint16_t>(mtu)};
    told.key.family = Family::ipv6;
    read_quoted(quoted.header.subspan(8), quoted.payload, told);
    return told;
}

}  // namespace

std::optional<PacketTooBig> parse_packet_too_big(Bytes bytes) {
    const EtherType type = read_ethertype(bytes);
    switch (type.value) {
        case ethertype_ipv4:
            return parse_ipv4(bytes.subspan(type.l2_bytes));
        case ethertype_ipv6:
            return parse_ipv6(bytes.subspan(type.l2_bytes));
        default:
            return std::nullopt;
    }
}

}  // namespace flue::wire
