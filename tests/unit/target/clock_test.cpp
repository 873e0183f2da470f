#include "target/clock.hpp"

#include <gtest/gtest.h>

namespace flue::target {

TEST(Clock, one_second_of_cycles_is_a_million_microseconds) {
    const Clock clock{2'600'000'000};
    const Instant start = clock.at(1'000'000);
    EXPECT_NEAR(static_cast<double>(clock.at(1'000'000 + 2'600'000'000) - start), 1e6, 1.0);
}

TEST(Clock, zero_cycles_is_set) {
    EXPECT_TRUE(Clock{1'000'000'000}.at(0).is_set());
}

TEST(Clock, a_year_of_cycles_does_not_overflow) {
    constexpr uint64_t hz   = 4'000'000'000;
    constexpr uint64_t year = uint64_t{365} * 86'400;
    const auto us           = static_cast<double>(Clock{hz}.at(year * hz).us);
    EXPECT_NEAR(us / (static_cast<double>(year) * 1e6), 1.0, 1e-6);
}

}  // namespace flue::target
