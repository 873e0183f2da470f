#pragma once

#include <algorithm>

#include "frames.hpp"
#include "wire/bytes.hpp"
#include "wire/frame.hpp"
#include "wire/layout.hpp"

namespace flue::wire::test {

/// A router's answer to an untagged frame whose packet was too large for its next link, with
/// correct checksums: it quotes the first `quoted_bytes` of the packet.
struct TooBig {
    Bytes frame;
    std::size_t ip     = ethernet_bytes;
    std::size_t icmp   = 0;  ///< offsets of the ICMP header,
    std::size_t quoted = 0;  ///< and of what it quotes

    [[nodiscard]] bool ipv4() const { return icmp - ip == ipv4_bytes; }

    /// Puts the checksums right after a change.
    void seal() {
        const auto bytes = std::span(frame);
        if (ipv4()) {
            store16(&bytes[ip + ipv4_checksum_offset], 0);
            const uint16_t sum = fold_checksum(sum_bytes(bytes.subspan(ip, ipv4_bytes)));
            store16(&bytes[ip + ipv4_checksum_offset], sum);
        }
        const auto message    = bytes.subspan(icmp);
        const uint32_t length = static_cast<uint32_t>(message.size());
        const uint32_t pseudo = ipv4() ? 0 : sum_bytes(bytes.subspan(ip + 8, 32), 58 + length);
        store16(&message[2], 0);
        store16(&message[2], fold_checksum(sum_bytes(message, pseudo)));
    }
};

inline TooBig too_big(const Bytes& frame, uint16_t mtu, std::size_t quoted_bytes) {
    const auto packet = std::span(frame).subspan(ethernet_bytes);
    const bool ipv4   = load8(packet.data()) >> 4 == 4;
    TooBig result;
    result.icmp   = result.ip + (ipv4 ? ipv4_bytes : ipv6_bytes);
    result.quoted = result.icmp + 8;
    result.frame.assign(frame.begin(), frame.begin() + ethernet_bytes);
    result.frame.resize(result.quoted);
    const auto quoted = packet.first(std::min(quoted_bytes, packet.size()));
    result.frame.insert(result.frame.end(), quoted.begin(), quoted.end());
    std::byte* ip      = &result.frame[result.ip];
    std::byte* icmp    = &result.frame[result.icmp];
    const auto length  = static_cast<uint16_t>(result.frame.size() - result.icmp);
    const auto address = packet.subspan(ipv4 ? 12 : 8, ipv4 ? 4u : 16u);  // its source's
    if (ipv4) {
        store8(ip, 0x45);
        store16(ip + 2, static_cast<uint16_t>(length + ipv4_bytes));
        store8(ip + 8, 64);
        store8(ip + 9, protocol_icmp);
        std::ranges::copy(std::as_bytes(std::span(ipv4_router)).first(4), ip + 12);
        std::ranges::copy(address, ip + 16);
        store8(icmp, 3);
        store8(icmp + 1, 4);
        store16(icmp + 6, mtu);
    } else {
        store8(ip, 0x60);
        store16(ip + 4, length);
        store8(ip + 6, protocol_icmpv6);
        store8(ip + 7, 64);
        std::ranges::copy(std::as_bytes(std::span(ipv6_router)), ip + 8);
        std::ranges::copy(address, ip + 24);
        store8(icmp, 2);
        store32(icmp + 4, mtu);
    }
    result.seal();
    return result;
}

}  // namespace flue::wire::test
