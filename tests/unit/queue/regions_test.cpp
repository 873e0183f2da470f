#include "queue/regions.hpp"

#include <array>
#include <gtest/gtest.h>
#include <set>

namespace flue::queue {
namespace {

std::array<std::byte, 4096> memory;

Regions::Mapping mapping(uint64_t bytes = memory.size()) {
    return Regions::Mapping{memory.data(), bytes, true};
}

flue_sge sge(uint32_t key, uint64_t offset, uint32_t length) {
    return flue_sge{key, length, offset};
}

TEST(Regions, added_region_resolves_to_its_bytes) {
    Regions regions(4, 1);
    const uint32_t key = regions.add(mapping()).value();
    const auto range   = regions.resolve(sge(key, 100, 50));
    ASSERT_TRUE(range.has_value());
    EXPECT_EQ(range->data, memory.data() + 100);
    EXPECT_TRUE(range->dma_mapped);
}

TEST(Regions, range_that_leaves_the_region_does_not_resolve) {
    Regions regions(4, 1);
    const uint32_t key = regions.add(mapping(4096)).value();
    EXPECT_TRUE(regions.resolve(sge(key, 0, 4096)));
    EXPECT_TRUE(regions.resolve(sge(key, 4096, 0)));
    EXPECT_TRUE(regions.resolve(sge(key, 4095, 1)));
    EXPECT_FALSE(regions.resolve(sge(key, 0, 4097)));
    EXPECT_FALSE(regions.resolve(sge(key, 4096, 1)));
    EXPECT_FALSE(regions.resolve(sge(key, 4097, 0)));
    EXPECT_FALSE(regions.resolve(sge(key, UINT64_MAX, 1)));
    EXPECT_FALSE(regions.resolve(sge(key, UINT64_MAX - 9, 10)));
    EXPECT_FALSE(regions.resolve(sge(key, 1, UINT32_MAX)));
}

TEST(Regions, keys_that_were_never_given_do_not_resolve) {
    Regions regions(4, 1);
    const uint32_t key = regions.add(mapping()).value();
    for (const uint32_t wrong :
         {0u, key + 1, key + 0x10000, key ^ 0x80000000u, 3u, 4u, 0xffffu, UINT32_MAX}) {
        EXPECT_FALSE(regions.resolve(sge(wrong, 0, 1))) << wrong;
        EXPECT_FALSE(regions.close(wrong)) << wrong;
    }
}

TEST(Regions, reopened_key_resolves_again_and_can_be_closed_again) {
    Regions regions(1, 1);
    const uint32_t key = regions.add(mapping()).value();
    regions.acquire(key, 0);
    ASSERT_TRUE(regions.close(key));
    regions.reopen(key);
    EXPECT_TRUE(regions.resolve(sge(key, 0, 1)));
    EXPECT_FALSE(regions.add(mapping())) << "its slot is taken";
    regions.release(key, 0);
    ASSERT_TRUE(regions.close(key));
    EXPECT_EQ(regions.remove(key).base, memory.data());
}

TEST(Regions, closed_key_does_not_resolve_while_references_live_on) {
    Regions regions(4, 2);
    const uint32_t key = regions.add(mapping()).value();
    regions.acquire(key, 1);
    ASSERT_TRUE(regions.close(key));
    EXPECT_FALSE(regions.resolve(sge(key, 0, 1)));
    EXPECT_FALSE(regions.close(key));
    EXPECT_EQ(regions.references(key, 0), 0u);
    EXPECT_EQ(regions.references(key, 1), 1u);
    regions.release(key, 1);
    EXPECT_EQ(regions.references(key, 1), 0u);
    EXPECT_EQ(regions.remove(key).base, memory.data());
}

TEST(Regions, key_of_a_removed_region_never_names_its_successor) {
    Regions regions(1, 1);
    std::set<uint32_t> keys;
    uint32_t previous = 0;
    for (int i = 0; i < 1000; ++i) {
        const uint32_t key = regions.add(mapping()).value();
        EXPECT_TRUE(keys.insert(key).second);
        EXPECT_FALSE(regions.resolve(sge(previous, 0, 1)));
        ASSERT_TRUE(regions.close(key));
        (void)regions.remove(key);
        previous = key;
    }
}

TEST(Regions, generation_wraps_without_ever_making_key_zero) {
    Regions regions(1, 1);
    for (int i = 0; i < 70'000; ++i) {
        const uint32_t key = regions.add(mapping()).value();
        ASSERT_NE(key, 0u);
        ASSERT_TRUE(regions.close(key));
        (void)regions.remove(key);
    }
}

TEST(Regions, full_table_takes_no_more_until_one_is_removed) {
    Regions regions(2, 1);
    const uint32_t key = regions.add(mapping()).value();
    ASSERT_TRUE(regions.add(mapping()));
    EXPECT_FALSE(regions.add(mapping()));
    ASSERT_TRUE(regions.close(key));
    EXPECT_FALSE(regions.add(mapping()));
    (void)regions.remove(key);
    EXPECT_TRUE(regions.add(mapping()));
}

TEST(RegionsDeathTest, region_with_references_cannot_be_removed) {
    Regions regions(1, 1);
    const uint32_t key = regions.add(mapping()).value();
    regions.acquire(key, 0);
    ASSERT_TRUE(regions.close(key));
    EXPECT_DEATH((void)regions.remove(key), "assertion failed");
}

}  // namespace
}  // namespace flue::queue
