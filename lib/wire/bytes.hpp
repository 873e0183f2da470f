#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace flue::wire {

// Unaligned loads and stores in network order.  Pre, for all: the bytes lie inside the caller's
// span.

inline uint8_t load8(const std::byte* at) {
    return std::to_integer<uint8_t>(*at);
}

inline uint16_t load16(const std::byte* at) {
    uint16_t value = 0;
    std::memcpy(&value, at, sizeof value);
    return std::endian::native == std::endian::little ? __builtin_bswap16(value) : value;
}

inline uint32_t load32(const std::byte* at) {
    uint32_t value = 0;
    std::memcpy(&value, at, sizeof value);
    return std::endian::native == std::endian::little ? __builtin_bswap32(value) : value;
}

inline void store8(std::byte* at, uint8_t value) {
    *at = std::byte{value};
}

inline void store16(std::byte* at, uint16_t value) {
    const uint16_t swapped =
        std::endian::native == std::endian::little ? __builtin_bswap16(value) : value;
    std::memcpy(at, &swapped, sizeof swapped);
}

inline void store32(std::byte* at, uint32_t value) {
    const uint32_t swapped =
        std::endian::native == std::endian::little ? __builtin_bswap32(value) : value;
    std::memcpy(at, &swapped, sizeof swapped);
}

}  // namespace flue::wire
