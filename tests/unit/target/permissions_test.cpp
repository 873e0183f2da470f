#include "target/permissions.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

namespace flue::target {

namespace {

wire::FlowKey ipv4(wire::IpAddress local, uint16_t port) {
    return {.local       = local,
            .remote      = {10, 0, 0, 9},
            .local_port  = port,
            .remote_port = 9,
            .family      = wire::Family::ipv4};
}

}  // namespace

TEST(Permissions, by_default_everybody_connects_and_root_and_our_user_are_raw) {
    const Permissions permissions;
    EXPECT_TRUE(permissions.may_connect({1, 4711, 4711}));
    EXPECT_TRUE(permissions.is_raw({1, 0, 4711}));
    EXPECT_TRUE(permissions.is_raw({1, ::geteuid(), 4711}));
    EXPECT_FALSE(permissions.is_raw({1, ::geteuid() + 4711, 0}));
}

TEST(Permissions, lists_replace_the_defaults_but_never_shut_the_target_itself_out) {
    Permissions permissions;
    permissions.allow_uids = {7, 8};
    permissions.raw_uids   = {8};
    EXPECT_TRUE(permissions.may_connect({1, 7, 0}));
    EXPECT_FALSE(permissions.may_connect({1, 0, 0}));
    EXPECT_FALSE(permissions.is_raw({1, 0, 0}));
    EXPECT_FALSE(permissions.is_raw({1, 7, 0}));
    EXPECT_TRUE(permissions.is_raw({1, 8, 0}));
    EXPECT_TRUE(permissions.may_connect({::getpid(), 9, 9}));
    EXPECT_TRUE(permissions.is_raw({::getpid(), 9, 9}));
}

TEST(Permissions, local_ranges_are_read) {
    const auto all = parse_local_range("10.1.0.0/16:80-90");
    ASSERT_TRUE(all);
    EXPECT_TRUE(all->contains(ipv4({10, 1, 2, 3}, 90)));
    EXPECT_FALSE(all->contains(ipv4({10, 1, 2, 3}, 91)));
    EXPECT_FALSE(all->contains(ipv4({10, 2, 2, 3}, 90)));
    const auto one = parse_local_range("10.1.2.3");
    ASSERT_TRUE(one);
    EXPECT_TRUE(one->contains(ipv4({10, 1, 2, 3}, 1)));
    EXPECT_FALSE(one->contains(ipv4({10, 1, 2, 2}, 1)));
    const auto port = parse_local_range("0.0.0.0/0:443");
    ASSERT_TRUE(port);
    EXPECT_TRUE(port->contains(ipv4({192, 0, 2, 1}, 443)));
    EXPECT_FALSE(port->contains(ipv4({192, 0, 2, 1}, 444)));
}

TEST(Permissions, ipv6_ranges_stand_in_brackets) {
    const auto range = parse_local_range("[fd09::/16]:1-5");
    ASSERT_TRUE(range);
    wire::FlowKey key{.local       = {0xfd, 0x09, 1},
                      .remote      = {},
                      .local_port  = 5,
                      .remote_port = 1,
                      .family      = wire::Family::ipv6};
    EXPECT_TRUE(range->contains(key));
    key.local_port = 6;
    EXPECT_FALSE(range->contains(key));
    EXPECT_TRUE(parse_local_range("[::1]"));
}

TEST(Permissions, what_is_no_range_is_refused) {
    for (const char* text : {"",
                             "host",
                             "10.0.0.1/33",
                             "10.0.0.1/",
                             "10.0.0.1:",
                             "10.0.0.1:5-4",
                             "10.0.0.1:70000",
                             "10.0.0.1:1-2-3",
                             "[::1",
                             "[::1]8",
                             "[::1/129]",
                             "::1",
                             "10.0.0.1:-1",
                             "10.0.0.1 "}) {
        EXPECT_FALSE(parse_local_range(text)) << text;
    }
}

TEST(Permissions, groups_have_names_and_numbers) {
    EXPECT_EQ(find_group("root"), std::optional<gid_t>{0});
    EXPECT_EQ(find_group("1234"), std::optional<gid_t>{1234});
    EXPECT_FALSE(find_group("no-such-group-here"));
}

}  // namespace flue::target
