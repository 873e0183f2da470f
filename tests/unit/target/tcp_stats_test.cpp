#include "target/tcp_stats.hpp"

#include <gtest/gtest.h>

namespace flue::target {

TEST(TcpStats, R118_counted_since_a_start_also_over_a_wrap_and_gauges_as_they_are) {
    TcpStats start;
    start.in_segments = UINT64_MAX;
    start.established = 7;
    TcpStats present;
    present.in_segments       = 2;
    present.established       = 3;
    present.established_reset = 1;
    const TcpStats counted    = present.since(start);
    EXPECT_EQ(counted.in_segments, 3u);
    EXPECT_EQ(counted.established, 3u);
    EXPECT_EQ(counted.established_reset, 1u);
    EXPECT_EQ(counted.out_octets, 0u);
}

TEST(TcpStats, R118_workers_add_up) {
    TcpStats sum;
    TcpStats one;
    one.established = 2;
    one.out_octets  = 40;
    sum.add(one);
    sum.add(one);
    EXPECT_EQ(sum.established, 4u);
    EXPECT_EQ(sum.out_octets, 80u);
}

}  // namespace flue::target
