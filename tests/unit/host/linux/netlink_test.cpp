#include "host/linux/netlink.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>

#include "testbed/process.hpp"
#include "two_hosts.hpp"

namespace flue::test {

namespace {

using testbed::inside;
using testbed::run_tool;

class Netlink : public testing::TestWithParam<int> {
  protected:
    [[nodiscard]] bool v4() const { return GetParam() == 4; }

    /// The next hop that near's kernel knows for a remote address.
    auto next_hop(const char* remote_v4, const char* remote_v6, uint32_t wait_ms = 3000) {
        flue_state tuple{};
        tuple.family = v4() ? 4 : 6;
        ::inet_pton(v4() ? AF_INET : AF_INET6, v4() ? "10.8.0.1" : "fd08::1", tuple.local_addr);
        ::inet_pton(v4() ? AF_INET : AF_INET6, v4() ? remote_v4 : remote_v6, tuple.remote_addr);
        return inside(hosts.near, [&] { return host::find_next_hop(tuple, 0, wait_ms); });
    }

    TwoHosts hosts;
};

INSTANTIATE_TEST_SUITE_P(Ip, Netlink, testing::Values(4, 6), family_name);

constexpr std::array<uint8_t, 6> mac = {0x02, 0, 0, 0, 0x0f, 0xa2};

void set_far_mac(const TwoHosts& hosts) {
    inside(hosts.far, [] {
        run_tool({"ip", "link", "set", "far0", "address", "02:00:00:00:0f:a2"});
    });
}

}  // namespace

TEST_P(Netlink, neighbour_that_nobody_has_asked_for_is_resolved) {
    set_far_mac(hosts);
    const auto hop = next_hop("10.8.0.2", "fd08::2");
    ASSERT_TRUE(hop.ok()) << hop.error().text;
    EXPECT_EQ(hop.value().mac, mac);
    EXPECT_EQ(hop.value().path_mtu, 1500);
    EXPECT_EQ(hop.value().interface, inside(hosts.near, [] { return ::if_nametoindex("near0"); }));
}

TEST_P(Netlink, peer_behind_a_router_is_reached_by_the_routers_address) {
    set_far_mac(hosts);
    inside(hosts.near, [] {
        run_tool({"ip", "route", "add", "192.0.2.0/24", "via", "10.8.0.2", "mtu", "1400"});
        run_tool({"ip", "route", "add", "2001:db8::/32", "via", "fd08::2", "mtu", "1400"});
    });
    const auto hop = next_hop("192.0.2.9", "2001:db8::9");
    ASSERT_TRUE(hop.ok()) << hop.error().text;
    EXPECT_EQ(hop.value().mac, mac);
    EXPECT_EQ(hop.value().path_mtu, 1400);
}

TEST_P(Netlink, ipv4_by_way_of_an_ipv6_router_is_reached) {
    set_far_mac(hosts);
    inside(hosts.near, [] {
        run_tool({"ip", "route", "add", "192.0.2.0/24", "via", "inet6", "fd08::2"});
        run_tool({"ip", "route", "add", "2001:db8::/32", "via", "fd08::2"});
    });
    const auto hop = next_hop("192.0.2.9", "2001:db8::9");
    ASSERT_TRUE(hop.ok()) << hop.error().text;
    EXPECT_EQ(hop.value().mac, mac);
}

TEST_P(Netlink, address_without_a_route_is_unreachable) {
    const auto hop = next_hop("203.0.113.1", "2001:db8:1::1");
    ASSERT_FALSE(hop.ok());
    EXPECT_EQ(hop.error().code, ENETUNREACH);
}

TEST_P(Netlink, neighbour_that_does_not_answer_is_unreachable_in_time) {
    const auto hop = next_hop("10.8.0.99", "fd08::99", 50);
    ASSERT_FALSE(hop.ok());
    EXPECT_EQ(hop.error().code, EHOSTUNREACH);
}

TEST_P(Netlink, own_address_has_no_next_hop) {
    const auto hop = next_hop("10.8.0.1", "fd08::1");
    ASSERT_FALSE(hop.ok());
    EXPECT_EQ(hop.error().code, EHOSTUNREACH);
}

}  // namespace flue::test
