#include "target/flow_table.hpp"

#include <gtest/gtest.h>

#include "support.hpp"

namespace flue::target {

namespace {

FlowTable make_table(uint32_t flows) {
    auto table = FlowTable::create("flows_under_test", flows, SOCKET_ID_ANY);
    EXPECT_TRUE(table);
    return std::move(*table);
}

}  // namespace

TEST(FlowTable, entered_flow_is_found_until_it_is_erased) {
    FlowTable table = make_table(64);
    EXPECT_FALSE(table.find(ipv4_key(1)));
    EXPECT_TRUE(table.set(ipv4_key(1), 0));
    EXPECT_EQ(table.find(ipv4_key(1)), 0u);
    table.erase(ipv4_key(1));
    EXPECT_FALSE(table.find(ipv4_key(1)));
    EXPECT_EQ(table.count(), 0u);
}

TEST(FlowTable, set_again_points_at_the_new_index) {
    FlowTable table = make_table(64);
    EXPECT_TRUE(table.set(ipv4_key(1), 7));
    EXPECT_TRUE(table.set(ipv4_key(1), 70'000));
    EXPECT_EQ(table.find(ipv4_key(1)), 70'000u);
    EXPECT_EQ(table.count(), 1u);
}

TEST(FlowTable, same_bytes_of_another_family_are_another_flow) {
    FlowTable table   = make_table(64);
    wire::FlowKey six = ipv4_key(1);
    six.family        = wire::Family::ipv6;
    EXPECT_TRUE(table.set(ipv4_key(1), 1));
    EXPECT_FALSE(table.find(six));
}

TEST(FlowTable, table_of_n_flows_takes_n_flows) {
    constexpr uint16_t flows = 4096;
    FlowTable table          = make_table(flows);
    for (uint16_t i = 0; i < flows; ++i) {
        ASSERT_TRUE(table.set(ipv4_key(i), i)) << i;
    }
    for (uint16_t i = 0; i < flows; ++i) {
        ASSERT_EQ(table.find(ipv4_key(i)), i);
    }
}

TEST(FlowTable, burst_of_known_and_unknown_keys_tells_them_apart) {
    FlowTable table = make_table(64);
    std::array<wire::FlowKey, 32> keys;
    std::array<const void*, 32> pointers;
    std::array<void*, 32> values{};
    uint64_t expected = 0;
    for (uint16_t i = 0; i < keys.size(); ++i) {
        keys[i]     = ipv4_key(i);
        pointers[i] = &keys[i];
        if (i % 3 == 0) {
            ASSERT_TRUE(table.set(keys[i], i * 100u));
            expected |= uint64_t{1} << i;
        }
    }
    EXPECT_EQ(table.find_burst(pointers, values), expected);
    for (uint32_t i = 0; i < keys.size(); i += 3) {
        EXPECT_EQ(FlowTable::index_of(values[i]), i * 100);
    }
}

TEST(FlowTable, empty_burst_finds_nothing) {
    FlowTable table = make_table(64);
    EXPECT_EQ(table.find_burst({}, {}), 0u);
}

}  // namespace flue::target
