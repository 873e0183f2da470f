#include "base/seq.hpp"

#include <gtest/gtest.h>

namespace flue {

TEST(Seq, order_and_distance_wrap_at_2_to_the_32) {
    const Seq before{0xfffffff0};
    const Seq after{0x10};
    EXPECT_TRUE(before < after);
    EXPECT_FALSE(after < before);
    EXPECT_EQ(after - before, 0x20);
    EXPECT_EQ(bytes_between(before, after), 0x20u);
    EXPECT_EQ(max(before, after), after);
    EXPECT_EQ(min(before, after), before);
}

}  // namespace flue
