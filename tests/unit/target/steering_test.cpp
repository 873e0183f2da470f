#include "target/steering.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <gtest/gtest.h>
#include <vector>

#include "support.hpp"

namespace flue::target {

namespace {

/// A flow as its received segments show it: from `source` to `destination`.
wire::FlowKey received(const char* source,
                       uint16_t source_port,
                       const char* destination,
                       uint16_t destination_port) {
    const bool six = std::string_view{source}.find(':') != std::string_view::npos;
    wire::FlowKey key;
    key.family = six ? wire::Family::ipv6 : wire::Family::ipv4;
    EXPECT_EQ(inet_pton(six ? AF_INET6 : AF_INET, source, key.remote.data()), 1);
    EXPECT_EQ(inet_pton(six ? AF_INET6 : AF_INET, destination, key.local.data()), 1);
    key.remote_port = source_port;
    key.local_port  = destination_port;
    return key;
}

}  // namespace

// The verification suite of Microsoft's RSS, "Verifying the RSS hash calculation".
TEST(Steering, ipv4_hash_is_that_of_the_verification_suite) {
    const Steering steering{2, 128};
    EXPECT_EQ(steering.hash(received("66.9.149.187", 2794, "161.142.100.80", 1766)), 0x51ccc178u);
    EXPECT_EQ(steering.hash(received("199.92.111.2", 14230, "65.69.140.83", 4739)), 0xc626b0eau);
}

TEST(Steering, ipv6_hash_is_that_of_the_verification_suite) {
    const Steering steering{2, 128};
    EXPECT_EQ(steering.hash(received("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766)),
              0x40207d3du);
    EXPECT_EQ(steering.hash(received("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739)),
              0xdde51bbfu);
}

TEST(Steering, one_worker_owns_everything) {
    const Steering steering{1, 128};
    EXPECT_EQ(steering.owner(received("66.9.149.187", 2794, "161.142.100.80", 1766)), 0u);
}

TEST(Steering, ports_with_larger_tables_agree_with_the_smallest) {
    const Steering steering{3, 64};
    const wire::FlowKey key = received("66.9.149.187", 2794, "161.142.100.80", 1766);
    for (const uint32_t table_size : {64u, 128u, 512u}) {
        const uint32_t bucket = steering.hash(key) & (table_size - 1);
        EXPECT_EQ(steering.queue_of_bucket(bucket), steering.owner(key)) << table_size;
    }
}

TEST(Steering, many_flows_spread_over_all_workers) {
    const Steering steering{4, 128};
    std::array<uint32_t, 4> flows{};
    for (uint16_t port = 1024; port < 1024 + 4000; ++port) {
        ++flows[steering.owner(ipv4_key(port))];
    }
    EXPECT_GT(*std::ranges::min_element(flows), 700u);
}

}  // namespace flue::target
