#include "base/relaxed.hpp"

#include <gtest/gtest.h>

namespace flue {

TEST(Relaxed, counts_up_and_down) {
    Relaxed<uint32_t> figure{5};
    figure.add(3);
    figure.subtract(7);
    EXPECT_EQ(figure.get(), 1u);
    figure.set(9);
    EXPECT_EQ(figure.get(), 9u);
}

}  // namespace flue
