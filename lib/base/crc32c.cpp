#include "base/crc32c.hpp"

#include <array>
#include <cstring>

namespace flue {

namespace {

constexpr uint32_t reflected_polynomial = 0x82f63b78;

constexpr std::array<uint32_t, 256> make_table() {
    std::array<uint32_t, 256> table{};
    for (uint32_t byte = 0; byte < table.size(); ++byte) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? reflected_polynomial : 0);
        }
        table[byte] = crc;
    }
    return table;
}

constexpr std::array<uint32_t, 256> table = make_table();

uint32_t by_table(std::span<const std::byte> bytes, uint32_t crc) {
    for (const std::byte byte : bytes) {
        crc = (crc >> 8) ^ table[(crc ^ static_cast<uint32_t>(byte)) & 0xff];
    }
    return crc;
}

#if defined(__x86_64__)

/// The instruction of SSE 4.2: a state block takes some 100 cycles instead of 1,500.
__attribute__((target("sse4.2"))) uint32_t by_instruction(std::span<const std::byte> bytes,
                                                          uint32_t crc) {
    uint64_t wide = crc;
    while (bytes.size() >= sizeof(uint64_t)) {
        uint64_t word = 0;
        std::memcpy(&word, bytes.data(), sizeof(word));
        wide  = __builtin_ia32_crc32di(wide, word);
        bytes = bytes.subspan(sizeof(word));
    }
    return by_table(bytes, static_cast<uint32_t>(wide));
}

bool has_instruction() {
    static const bool has = __builtin_cpu_supports("sse4.2") != 0;
    return has;
}

#endif

}  // namespace

uint32_t crc32c(std::span<const std::byte> bytes) {
#if defined(__x86_64__)
    if (has_instruction()) {
        return ~by_instruction(bytes, ~0u);
    }
#endif
    return ~by_table(bytes, ~0u);
}

}  // namespace flue
