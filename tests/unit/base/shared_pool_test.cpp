#include "base/shared_pool.hpp"

#include <gtest/gtest.h>

namespace flue {

TEST(SharedPool, one_user_alone_may_have_all) {
    SharedPool pool(100, 1);
    SharedPool::Part part;
    EXPECT_EQ(pool.room(part), 100u);
    pool.take(part, 100);
    EXPECT_EQ(pool.room(part), 0u);
    EXPECT_EQ(pool.used(), 100u);
    pool.give(part, 30);
    EXPECT_EQ(pool.room(part), 30u);
    EXPECT_EQ(pool.used(), 70u);
}

TEST(SharedPool, greedy_users_leave_each_other_user_its_part) {
    SharedPool pool(64, 4);
    SharedPool::Part greedy[3];
    for (SharedPool::Part& part : greedy) {
        pool.take(part, pool.room(part));
    }
    EXPECT_EQ(greedy[0].used.get(), 8u + 32u);
    EXPECT_EQ(greedy[1].used.get(), 8u);
    EXPECT_EQ(greedy[2].used.get(), 8u);
    const SharedPool::Part honest;
    EXPECT_EQ(pool.room(honest), 8u);
}

TEST(SharedPool, what_a_user_gives_back_beyond_its_part_is_for_everybody) {
    SharedPool pool(64, 4);
    SharedPool::Part first;
    SharedPool::Part second;
    pool.take(first, 40);
    EXPECT_EQ(pool.room(second), 8u);
    pool.give(first, 20);
    EXPECT_EQ(pool.room(second), 28u);
    pool.give(first, 20);
    EXPECT_EQ(pool.room(second), 40u);
}

TEST(SharedPool, a_limit_of_its_own_binds_a_user_first) {
    SharedPool pool(64, 4);
    SharedPool::Part part{.limit = 5, .used = {}};
    EXPECT_EQ(pool.room(part), 5u);
    pool.take(part, 5);
    EXPECT_EQ(pool.room(part), 0u);
}

TEST(SharedPool, fewer_objects_than_users_are_first_come_first_served) {
    SharedPool pool(3, 64);
    SharedPool::Part part;
    EXPECT_EQ(pool.room(part), 3u);
}

}  // namespace flue
