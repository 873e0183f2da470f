#include "tcp/rtt.hpp"

#include <gtest/gtest.h>

namespace flue::tcp {

namespace {

constexpr uint32_t rto_min = 200'000;
constexpr uint32_t rto_max = 60'000'000;

}  // namespace

TEST(Rtt, without_a_sample_the_timeout_is_one_second) {
    EXPECT_EQ(rtt::rto_us(Tcb{}, rto_min, rto_max), 1'000'000u);
}

TEST(Rtt, first_sample_sets_srtt_and_half_of_it_as_variation) {
    Tcb tcb;
    rtt::sample(tcb, 100'000);
    EXPECT_EQ(tcb.srtt_us_x8, 800'000u);
    EXPECT_EQ(tcb.rttvar_us_x4, 200'000u);
    EXPECT_EQ(rtt::rto_us(tcb, rto_min, rto_max), 300'000u);
}

TEST(Rtt, later_samples_move_srtt_by_an_eighth_and_variation_by_a_quarter) {
    Tcb tcb;
    rtt::sample(tcb, 100'000);
    rtt::sample(tcb, 180'000);
    EXPECT_EQ(tcb.srtt_us_x8 / 8, 110'000u);   // 7/8 * 100 + 1/8 * 180
    EXPECT_EQ(tcb.rttvar_us_x4 / 4, 57'500u);  // 3/4 * 50 + 1/4 * 80
}

TEST(Rtt, steady_samples_end_at_the_minimum) {
    Tcb tcb;
    for (int i = 0; i < 100; ++i) {
        rtt::sample(tcb, 50);
    }
    EXPECT_EQ(tcb.srtt_us_x8 / 8, 50u);
    EXPECT_EQ(rtt::rto_us(tcb, rto_min, rto_max), rto_min);
    EXPECT_EQ(rtt::rto_us(tcb, 0, rto_max), 1'050u);  // never less than the clock can tell
}

TEST(Rtt, a_sample_of_zero_still_counts_as_a_sample) {
    Tcb tcb;
    rtt::sample(tcb, 0);
    EXPECT_NE(tcb.srtt_us_x8, 0u);
}

TEST(Rtt, backoff_doubles_up_to_the_maximum_and_does_not_overflow) {
    EXPECT_EQ(rtt::backed_off_us(300'000, 0, rto_max), 300'000u);
    EXPECT_EQ(rtt::backed_off_us(300'000, 3, rto_max), 2'400'000u);
    EXPECT_EQ(rtt::backed_off_us(300'000, 8, rto_max), rto_max);
    EXPECT_EQ(rtt::backed_off_us(300'000, 255, rto_max), rto_max);
}

}  // namespace flue::tcp
