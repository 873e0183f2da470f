#include "target/hold.hpp"

#include <array>
#include <gtest/gtest.h>

namespace flue::target {

namespace {

/// The queues never look into a packet, so any distinct addresses do.
rte_mbuf* packet(uintptr_t number) {
    return reinterpret_cast<rte_mbuf*>(number * 64);
}

}  // namespace

TEST(HoldQueues, two_connections_packets_come_back_each_in_order) {
    HoldQueues held{{.connections = 2, .packets = 8, .packets_per_connection = 8}};
    for (uintptr_t i = 1; i <= 3; ++i) {
        ASSERT_TRUE(held.push(0, packet(i)));
        ASSERT_TRUE(held.push(1, packet(10 + i)));
    }
    std::array<rte_mbuf*, 8> out{};
    ASSERT_EQ(held.take(0, out), 3u);
    EXPECT_EQ(out[0], packet(1));
    EXPECT_EQ(out[2], packet(3));
    ASSERT_EQ(held.take(1, out), 3u);
    EXPECT_EQ(out[0], packet(11));
    EXPECT_EQ(out[2], packet(13));
    EXPECT_EQ(held.total(), 0u);
}

TEST(HoldQueues, take_of_fewer_leaves_the_rest_in_order) {
    HoldQueues held{{.connections = 1, .packets = 8, .packets_per_connection = 8}};
    for (uintptr_t i = 1; i <= 5; ++i) {
        ASSERT_TRUE(held.push(0, packet(i)));
    }
    std::array<rte_mbuf*, 2> out{};
    ASSERT_EQ(held.take(0, out), 2u);
    ASSERT_TRUE(held.push(0, packet(6)));
    ASSERT_EQ(held.take(0, out), 2u);
    EXPECT_EQ(out[0], packet(3));
    ASSERT_EQ(held.take(0, out), 2u);
    EXPECT_EQ(out[1], packet(6));
    EXPECT_EQ(held.take(0, out), 0u);
}

TEST(HoldQueues, connection_at_its_limit_refuses_and_counts_while_others_hold_on) {
    HoldQueues held{{.connections = 2, .packets = 8, .packets_per_connection = 2}};
    EXPECT_TRUE(held.push(0, packet(1)));
    EXPECT_TRUE(held.push(0, packet(2)));
    EXPECT_FALSE(held.push(0, packet(3)));
    EXPECT_TRUE(held.push(1, packet(4)));
    EXPECT_EQ(held.overflows(), 1u);
    EXPECT_EQ(held.count(0), 2u);
}

TEST(HoldQueues, all_places_taken_refuses_until_one_is_free) {
    HoldQueues held{{.connections = 2, .packets = 2, .packets_per_connection = 2}};
    EXPECT_TRUE(held.push(0, packet(1)));
    EXPECT_TRUE(held.push(1, packet(2)));
    EXPECT_FALSE(held.push(1, packet(3)));
    std::array<rte_mbuf*, 1> out{};
    EXPECT_EQ(held.take(0, out), 1u);
    EXPECT_TRUE(held.push(1, packet(3)));
}

}  // namespace flue::target
