#include "base/index_pool.hpp"

#include <gtest/gtest.h>
#include <set>

namespace flue {

namespace {

struct Element {
    uint32_t next = 0;
};

using Pool = IndexPool<Element, &Element::next>;

}  // namespace

TEST(IndexPool, every_element_is_handed_out_once) {
    Pool pool(5);
    std::set<uint32_t> taken;
    while (pool.free_count() > 0) {
        taken.insert(pool.take());
    }
    EXPECT_EQ(taken.size(), 5u);
    EXPECT_EQ(pool.used_count(), 5u);
    EXPECT_LT(*taken.rbegin(), pool.capacity());
}

TEST(IndexPool, last_given_back_is_first_taken) {
    Pool pool(3);
    const uint32_t first  = pool.take();
    const uint32_t second = pool.take();
    pool.give(first);
    pool.give(second);
    EXPECT_EQ(pool.take(), second);
    EXPECT_EQ(pool.take(), first);
    EXPECT_EQ(pool.used_count(), 2u);
}

TEST(IndexPoolDeathTest, empty_pool_has_nothing_to_take) {
    Pool pool(0);
    EXPECT_DEATH((void)pool.take(), "free_count_");
}

}  // namespace flue
