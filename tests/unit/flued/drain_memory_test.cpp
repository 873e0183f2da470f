#include "drain_memory.hpp"

#include <gtest/gtest.h>

#include "base/prng.hpp"

namespace flue {

using Ranges = std::map<uint64_t, uint64_t>;

TEST(FreeSpace, the_first_range_that_fits_is_taken_from_its_front) {
    FreeSpace space(100);
    EXPECT_EQ(space.take(30), 0u);
    EXPECT_EQ(space.take(70), 30u);
    EXPECT_EQ(space.take(1), std::nullopt);
    EXPECT_TRUE(space.ranges().empty());
}

TEST(FreeSpace, what_comes_back_joins_its_neighbours) {
    FreeSpace space(100);
    ASSERT_TRUE(space.take(20) && space.take(20) && space.take(20));
    space.give(0, 20);
    space.give(40, 20);
    EXPECT_EQ(space.ranges(), (Ranges{{0, 20}, {40, 60}}));
    space.give(20, 20);
    EXPECT_EQ(space.ranges(), (Ranges{{0, 100}}));
}

TEST(FreeSpace, the_end_of_a_piece_may_come_back_first) {
    FreeSpace space(100);
    ASSERT_EQ(space.take(60), 0u);
    space.give(10, 50);
    EXPECT_EQ(space.ranges(), (Ranges{{10, 90}}));
    space.give(10, 0);
    space.give(0, 10);
    EXPECT_EQ(space.ranges(), (Ranges{{0, 100}}));
}

TEST(FreeSpace, pieces_never_overlap_and_all_comes_back) {
    constexpr uint64_t bytes = 10'000;
    FreeSpace space(bytes);
    Prng prng(11);
    Ranges taken;
    for (int i = 0; i < 20'000; ++i) {
        const uint64_t wanted = 1 + prng.below(700);
        const auto offset     = prng.below(2) == 0 ? space.take(wanted) : std::nullopt;
        if (offset) {
            const auto next = taken.lower_bound(*offset);
            ASSERT_TRUE(next == taken.end() || *offset + wanted <= next->first);
            ASSERT_TRUE(next == taken.begin() ||
                        std::prev(next)->first + std::prev(next)->second <= *offset);
            taken.emplace(*offset, wanted);
        } else if (!taken.empty()) {
            const auto victim =
                std::next(taken.begin(),
                          static_cast<ptrdiff_t>(prng.below(static_cast<uint32_t>(taken.size()))));
            space.give(victim->first, victim->second);
            taken.erase(victim);
        }
    }
    for (const auto& [offset, length] : taken) {
        space.give(offset, length);
    }
    EXPECT_EQ(space.ranges(), (Ranges{{0, bytes}}));
}

}  // namespace flue
