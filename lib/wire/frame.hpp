#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "wire/fields.hpp"

namespace flue::wire {

/// Why a frame is not a TCP segment that the target may handle itself; such frames belong to the
/// exception path.
enum class ParseResult : uint8_t {
    tcp,          ///< `Frame` is filled in
    not_ip,       ///< ARP, LLDP, anything but IPv4 and IPv6
    not_tcp,      ///< ICMP, UDP, ...
    fragment,     ///< R99
    ip_options,   ///< IPv4 options or IPv6 extension headers.  R99
    malformed,    ///< lengths contradict each other: to be dropped if the checksum is good
    bad_checksum  ///< only with Checksum::verify
};

enum class Checksum : uint8_t {
    trust,  ///< the port has verified it
    verify
};

/// A parsed TCP frame.  Offsets count from the first byte of the Ethernet header.
struct Frame {
    FlowKey key;
    TcpFields tcp;
    uint16_t payload_offset = 0;
    uint16_t payload_bytes  = 0;  ///< from the IP length: Ethernet padding is not counted
    uint16_t l2_bytes       = 0;
    uint16_t l3_bytes       = 0;
};

/// parse_frame reads an Ethernet frame (one optional 802.1Q tag) whose headers, and with
/// Checksum::verify all of whose bytes, are contiguous.  It never reads outside `bytes`; any
/// content is legal.  TCP options that are unknown, or behind a length that cannot be, are ignored.
/// Returns ParseResult::tcp, or why not; then `frame` is not to be used.
/// Cost: O(1), with Checksum::verify O(bytes).
/// Spec: RFC 9293 §3.1, RFC 791 §3.1, RFC 8200 §3, R99
ParseResult parse_frame(std::span<const std::byte> bytes, Checksum checksum, Frame& frame);

/// first_fragment_flow returns the flow of a TCP datagram's first fragment, which has the ports;
/// for anything else nothing.  Of IPv6 only a fragment header right behind the IPv6 header is seen.
std::optional<FlowKey> first_fragment_flow(std::span<const std::byte> bytes);

/// parse_tcp reads the TCP header of a received segment, options included, into `tcp` and the ports
/// of `key`; the checksum is not looked at.  Returns the length of the header, or 0: malformed, and
/// nothing was written.
/// Pre: `tcp` is as constructed.  Spec: RFC 9293 §3.1
uint32_t parse_tcp(std::span<const std::byte> segment, FlowKey& key, TcpFields& tcp);

/// Upper bound of build_headers: Ethernet 14, 802.1Q 4, IPv6 40, TCP 60.
constexpr uint32_t header_bytes_max = 118;

/// option_bytes returns the bytes of TCP options that a segment with these fields carries; a
/// multiple of 4.  A fourth SACK range is left out beside timestamps, which leave room for three.
uint32_t option_bytes(const TcpFields& tcp);

/// How the two checksums of an outgoing frame are filled in.
enum class TxChecksum : uint8_t {
    full,  ///< IPv4 header and TCP checksum over header and `payload_sum`
    /// IPv4 checksum zero and the pseudo-header sum in the TCP checksum, as DPDK's TX offloads want
    /// it.  The sum includes the TCP length, which a TSO request would have to leave out.
    pseudo
};

struct HeaderLengths {
    uint8_t l2 = 0;
    uint8_t l3 = 0;
    uint8_t l4 = 0;

    [[nodiscard]] constexpr uint32_t total() const { return uint32_t{l2} + l3 + l4; }
};

/// build_headers writes Ethernet, IP and TCP headers for a segment of `payload_bytes` to `out`.
/// `payload_sum`: sum_bytes of the payload, used with TxChecksum::full only.  IPv4: DF set, `ip_id`
/// goes into the identification field (R44: the caller draws it from 0x8000..0xFFFF).
/// Pre: out.size() >= header_bytes_max; family ipv4 or ipv6; headers and payload within 65535
/// bytes. Cost: O(1).
HeaderLengths build_headers(const FlowHeader& flow,
                            const TcpFields& tcp,
                            uint32_t payload_bytes,
                            uint16_t ip_id,
                            TxChecksum checksum,
                            uint32_t payload_sum,
                            std::span<std::byte> out);

/// sum_bytes adds up `bytes` as big-endian 16-bit words (RFC 1071), not yet folded or inverted.
/// `odd`: the first byte is the second of a word, as after an odd number of bytes before it.
uint32_t sum_bytes(std::span<const std::byte> bytes, uint32_t sum = 0, bool odd = false);

/// fold_checksum turns a sum into the value that goes into a header, network order not applied.
uint16_t fold_checksum(uint32_t sum);

}  // namespace flue::wire
