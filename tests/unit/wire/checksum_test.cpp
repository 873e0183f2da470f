#include <gtest/gtest.h>

#include "base/prng.hpp"
#include "reference_checksum.hpp"
#include "wire/frame.hpp"

namespace flue::wire {

namespace {

using test::Bytes;

Bytes random_bytes(Prng& prng, std::size_t size) {
    Bytes bytes(size);
    for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(prng.next());
    }
    return bytes;
}

/// As the folded checksum, so that 0 and 0xffff, which mean the same sum, stay apart.
uint16_t reference_checksum(const Bytes& bytes) {
    return static_cast<uint16_t>(~test::reference_sum(bytes));
}

}  // namespace

TEST(SumBytes, example_of_rfc_1071_yields_its_sum) {
    const Bytes bytes{std::byte{0x00},
                      std::byte{0x01},
                      std::byte{0xf2},
                      std::byte{0x03},
                      std::byte{0xf4},
                      std::byte{0xf5},
                      std::byte{0xf6},
                      std::byte{0xf7}};
    EXPECT_EQ(fold_checksum(sum_bytes(bytes)), static_cast<uint16_t>(~0xddf2));
}

TEST(SumBytes, nothing_yields_the_sum_given) {
    EXPECT_EQ(sum_bytes({}), 0u);
    EXPECT_EQ(sum_bytes({}, 0x12345), 0x12345u);
    EXPECT_EQ(sum_bytes({}, 7, true), 7u);
}

TEST(SumBytes, every_length_and_alignment_agrees_with_reference) {
    Prng prng(1);
    const Bytes bytes = random_bytes(prng, 160);
    for (std::size_t start = 0; start < 16; ++start) {
        for (std::size_t length = 0; length <= bytes.size() - start; ++length) {
            const Bytes part(bytes.begin() + static_cast<std::ptrdiff_t>(start),
                             bytes.begin() + static_cast<std::ptrdiff_t>(start + length));
            ASSERT_EQ(fold_checksum(sum_bytes(std::span(bytes).subspan(start, length))),
                      reference_checksum(part))
                << "start " << start << " length " << length;
        }
    }
}

TEST(SumBytes, largest_packet_of_ones_loses_no_carry) {
    const Bytes bytes(65535, std::byte{0xff});
    EXPECT_EQ(fold_checksum(sum_bytes(bytes)), reference_checksum(bytes));
}

TEST(SumBytes, pieces_of_any_length_add_up_to_the_whole) {
    Prng prng(2);
    for (int round = 0; round < 2000; ++round) {
        const Bytes bytes = random_bytes(prng, 1 + prng.below(3000));
        uint32_t sum      = 0;
        std::size_t done  = 0;
        while (done < bytes.size()) {
            const auto left          = static_cast<uint32_t>(bytes.size() - done);
            const std::size_t length = 1 + prng.below(left);
            sum = sum_bytes(std::span(bytes).subspan(done, length), sum, done % 2 == 1);
            done += length;
        }
        ASSERT_EQ(fold_checksum(sum), reference_checksum(bytes)) << "round " << round;
    }
}

TEST(SumBytes, sum_near_the_top_carries_around) {
    const Bytes bytes{std::byte{0x00}, std::byte{0x02}};
    EXPECT_EQ(sum_bytes(bytes, 0xffffffff), 2u);
}

TEST(FoldChecksum, inverts_and_carries_twice) {
    EXPECT_EQ(fold_checksum(0), 0xffff);
    EXPECT_EQ(fold_checksum(0xffff), 0);
    EXPECT_EQ(fold_checksum(0x1ffff), static_cast<uint16_t>(~0x0001));
    EXPECT_EQ(fold_checksum(0xffffffff), 0);
}

}  // namespace flue::wire
