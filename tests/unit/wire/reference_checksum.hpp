#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace flue::wire::test {

using Bytes = std::vector<std::byte>;

/// reference_sum is the Internet checksum as RFC 1071 §4.1 writes it, one 16-bit word at a time and
/// folded at once: slow, and shares nothing with the code under test.
inline uint16_t reference_sum(std::span<const std::byte> bytes) {
    uint32_t sum = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const uint32_t value = std::to_integer<uint32_t>(bytes[i]);
        sum += i % 2 == 0 ? value << 8 : value;
        sum = sum > 0xffff ? sum - 0xffff : sum;
    }
    return static_cast<uint16_t>(sum);
}

/// reference_tcp_sum adds up pseudo-header and segment: 0xffff when the checksum in it is right.
/// Spec: RFC 9293 §3.1, RFC 8200 §8.1
inline uint16_t reference_tcp_sum(std::span<const std::byte> addresses,
                                  std::span<const std::byte> segment) {
    Bytes all(addresses.begin(), addresses.end());
    const std::size_t length = segment.size();
    for (const std::size_t byte : {length >> 8, length & 0xff, std::size_t{0}, std::size_t{6}}) {
        all.push_back(static_cast<std::byte>(byte));
    }
    all.insert(all.end(), segment.begin(), segment.end());
    return reference_sum(all);
}

}  // namespace flue::wire::test
