#include "wire/bytes.hpp"
#include "wire/frame.hpp"

namespace flue::wire {

namespace {

/// One's complement sums do not care about byte order until the end (RFC 1071 §2 B), so words are
/// added as they lie in memory and the result is swapped once.
uint16_t fold_native(uint64_t sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>((sum & 0xffff) + (sum >> 16));
}

uint64_t load_native(const std::byte* at) {
    uint64_t value = 0;
    std::memcpy(&value, at, sizeof value);
    return value;
}

}  // namespace

uint32_t sum_bytes(std::span<const std::byte> bytes, uint32_t sum, bool odd) {
    // Halves of a word go to different sums of 64 bits: no carry can be lost below 2^32 words, and
    // the two chains of additions run side by side.
    uint64_t low          = 0;
    uint64_t high         = 0;
    const std::byte* at   = bytes.data();
    std::size_t remaining = bytes.size();
    for (; remaining >= sizeof(uint64_t); remaining -= sizeof(uint64_t), at += sizeof(uint64_t)) {
        const uint64_t word = load_native(at);
        low += word & 0xffffffff;
        high += word >> 32;
    }
    if (remaining > 0) {
        uint64_t tail = 0;  // bytes that are not there count as zero.  RFC 1071 §1
        std::memcpy(&tail, at, remaining);
        low += tail & 0xffffffff;
        high += tail >> 32;
    }
    const uint16_t folded     = fold_native(low + high);
    const bool swapped        = (std::endian::native == std::endian::little) != odd;
    const uint16_t big_endian = swapped ? __builtin_bswap16(folded) : folded;
    const uint64_t total      = uint64_t{sum} + big_endian;
    return static_cast<uint32_t>((total & 0xffffffff) + (total >> 32));
}

uint16_t fold_checksum(uint32_t sum) {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(~sum);
}

}  // namespace flue::wire
