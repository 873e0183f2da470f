#include "target/steering.hpp"

#include <bit>
#include <cstring>

#include <rte_byteorder.h>
#include <rte_thash.h>

#include "base/assert.hpp"

namespace flue::target {

namespace {

// The key of Microsoft's RSS verification suite, with which most ports come up anyway.
alignas(4) constexpr std::array<uint8_t, Steering::key_bytes> verification_key = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

/// Appends an address as 32-bit words in host order and returns how many words there are now.
uint32_t append(std::span<uint32_t> words,
                uint32_t count,
                const wire::IpAddress& address,
                uint32_t bytes) {
    for (uint32_t at = 0; at < bytes; at += 4) {
        uint32_t word = 0;
        std::memcpy(&word, address.data() + at, sizeof(word));
        words[count++] = rte_be_to_cpu_32(word);
    }
    return count;
}

}  // namespace

Steering::Steering(uint16_t workers, uint16_t buckets)
    : workers_(workers), bucket_mask_(buckets - 1u) {
    FLUE_ASSERT(workers > 0);
    FLUE_ASSERT(std::has_single_bit(buckets));
    rte_convert_rss_key(reinterpret_cast<const uint32_t*>(verification_key.data()),
                        reinterpret_cast<uint32_t*>(converted_key_.data()),
                        key_bytes);
}

const std::array<uint8_t, Steering::key_bytes>& Steering::rss_key() {
    return verification_key;
}

uint32_t Steering::hash(const wire::FlowKey& key) const {
    std::array<uint32_t, 9> tuple;
    const uint32_t address_bytes = key.family == wire::Family::ipv4 ? 4 : 16;
    // On a received segment the remote end is the source.
    uint32_t count = append(tuple, 0, key.remote, address_bytes);
    count          = append(tuple, count, key.local, address_bytes);
    tuple[count++] = (uint32_t{key.remote_port} << 16) | key.local_port;
    return rte_softrss_be(tuple.data(), count, converted_key_.data());
}

}  // namespace flue::target
