#include "base/crc32c.hpp"

#include <cstring>
#include <gtest/gtest.h>
#include <vector>

namespace flue {
namespace {

uint32_t crc_of(const std::vector<uint8_t>& bytes) {
    return crc32c(std::as_bytes(std::span(bytes)));
}

/// RFC 3720 appendix B.4
TEST(Crc32c, agrees_with_the_examples_of_the_rfc) {
    std::vector<uint8_t> ascending(32);
    std::vector<uint8_t> descending(32);
    for (uint8_t i = 0; i < 32; ++i) {
        ascending[i]  = i;
        descending[i] = static_cast<uint8_t>(31 - i);
    }
    EXPECT_EQ(crc_of(std::vector<uint8_t>(32, 0x00)), 0x8a9136aau);
    EXPECT_EQ(crc_of(std::vector<uint8_t>(32, 0xff)), 0x62a8ab43u);
    EXPECT_EQ(crc_of(ascending), 0x46dd794eu);
    EXPECT_EQ(crc_of(descending), 0x113fdb5cu);
}

TEST(Crc32c, agrees_with_the_definition_at_every_length) {
    std::vector<uint8_t> bytes;
    uint32_t crc = ~0u;
    for (uint32_t length = 0; length < 300; ++length) {
        EXPECT_EQ(crc_of(bytes), ~crc) << length;
        bytes.push_back(static_cast<uint8_t>(length * 37 + 11));
        crc ^= bytes.back();
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
        }
    }
}

TEST(Crc32c, of_nothing_is_zero) {
    EXPECT_EQ(crc32c({}), 0u);
}

}  // namespace
}  // namespace flue
