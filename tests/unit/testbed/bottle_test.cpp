#include "testbed/bottle.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <chrono>
#include <cstring>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "testbed/capture.hpp"
#include "testbed/process.hpp"

namespace flue::testbed {
namespace {

/// Without a target the host's addresses go on the wire itself.
void address_the_wire() {
    set_sysctl("net/ipv4/conf/wire0/rp_filter", "0");
    run_tool({"ip", "address", "add", std::string(Bottle::host_ipv4) + "/24", "dev", Bottle::wire});
}

unsigned ping(unsigned count) {
    const auto exit =
        Child::execute(
            {"ping", "-q", "-c", std::to_string(count), "-i", "0.002", Bottle::remote_ipv4})
            .wait();
    const auto at   = exit.output.find(" received");
    const auto from = exit.output.rfind(' ', at - 1);
    return static_cast<unsigned>(std::stoul(exit.output.substr(from)));
}

sockaddr_in address(const char* ip, uint16_t port) {
    sockaddr_in made{};
    made.sin_family = AF_INET;
    made.sin_port   = htons(port);
    ::inet_pton(AF_INET, ip, &made.sin_addr);
    return made;
}

/// Each test has a host namespace of its own to build its Bottle in.
class BottleTest : public testing::Test {
    Namespace host_ = Namespace::create();
    NamespaceScope scope_{host_};
};

TEST_F(BottleTest, wire_is_up_hosts_reach_each_other) {
    const Bottle bottle;
    address_the_wire();
    EXPECT_EQ(ping(5), 5U);
}

TEST_F(BottleTest, second_bottle_can_follow_the_first) {
    for (const BottleOptions& options : {BottleOptions{},
                                         BottleOptions{.impairable = true},
                                         BottleOptions{.distant = true},
                                         BottleOptions{.routed = true},
                                         BottleOptions{}}) {
        const Bottle bottle{options};
        address_the_wire();
        EXPECT_EQ(ping(1), 1U);
    }
}

TEST_F(BottleTest, remote_has_no_offloads) {
    const Bottle bottle;
    const auto features = inside(bottle.remote(), [] {
        return run_tool({"ethtool", "-k", "remote0"});
    });
    for (const std::string feature :
         {"tx-checksumming", "generic-segmentation-offload", "generic-receive-offload"}) {
        EXPECT_NE(features.find(feature + ": off"), std::string::npos) << features;
    }
}

TEST_F(BottleTest, impaired_wire_loses_about_what_was_asked_and_heals) {
    const Bottle bottle{{.impairable = true}};
    address_the_wire();
    EXPECT_EQ(ping(20), 20U);
    bottle.set_impairment({.loss_permille = 300});
    const unsigned received = ping(200);
    EXPECT_GT(received, 50U);  // 98 expected, standard deviation 7
    EXPECT_LT(received, 146U);
    bottle.set_impairment({});
    EXPECT_EQ(ping(20), 20U);
}

TEST_F(BottleTest, late_frames_all_arrive_once) {
    const Bottle bottle{{.impairable = true}};
    address_the_wire();
    bottle.set_impairment({.late_permille = 500});
    const auto output = run_tool({"ping", "-c", "100", "-i", "0.002", Bottle::remote_ipv4});
    EXPECT_NE(output.find(" 100 received"), std::string::npos) << output;
    EXPECT_EQ(output.find("DUP"), std::string::npos) << output;
}

TEST_F(BottleTest, distant_wire_takes_its_time) {
    Bottle bottle{{.distant = true}};
    address_the_wire();
    bottle.link().set({.delay = std::chrono::milliseconds{5}});
    const auto output  = run_tool({"ping", "-c", "3", "-q", "-i", "0.01", Bottle::remote_ipv4});
    const auto minimum = output.find(" = ");
    ASSERT_NE(minimum, std::string::npos) << output;
    EXPECT_GE(std::stod(output.substr(minimum + 3)), 10.0);
}

TEST_F(BottleTest, distant_wire_drops_what_its_queue_has_no_room_for) {
    Bottle bottle{{.distant = true}};
    address_the_wire();
    EXPECT_EQ(ping(5), 5U);
    // 98 bytes take 8 ms: one is on its way, three fit behind it.
    bottle.link().set({.bits_per_second = 100'000, .queue = std::chrono::milliseconds{20}});
    Child::execute({"ping", "-q", "-c", "20", "-l", "20", "-W", "1", Bottle::remote_ipv4}).wait();
    EXPECT_GT(bottle.link().counts().crowded, 0U);
    EXPECT_EQ(bottle.link().counts().lost, 0U);
}

TEST_F(BottleTest, router_passes_what_fits_and_tells_of_what_does_not) {
    const Bottle bottle{{.routed = true}};
    address_the_wire();
    const auto ping_with = [](unsigned packet_bytes) {
        const std::string payload = std::to_string(packet_bytes - 28);
        return Child::execute(
                   {"ping", "-c", "1", "-W", "1", "-M", "do", "-s", payload, Bottle::remote_ipv4})
            .wait();
    };
    EXPECT_TRUE(ping_with(1500).ok());
    bottle.router().set_mtu(1400);
    EXPECT_TRUE(ping_with(1400).ok());
    bottle.router().tell(false);
    const auto untold = ping_with(1401);
    EXPECT_FALSE(untold.ok());
    EXPECT_EQ(untold.output.find("mtu"), std::string::npos) << untold.output;
    bottle.router().tell(true);
    const auto told = ping_with(1401);
    EXPECT_NE(told.output.find("mtu = 1400"), std::string::npos) << told.output;
}

TEST_F(BottleTest, capture_shows_both_directions_of_a_refused_connection) {
    const Bottle bottle;
    address_the_wire();
    Capture capture{bottle.remote(), Bottle::far_end};
    const Descriptor socket = owned(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    const auto from         = address(Bottle::host_ipv4, 4000);
    const auto to           = address(Bottle::remote_ipv4, 81);
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&from), sizeof from), 0);
    ASSERT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), -1);
    EXPECT_EQ(errno, ECONNREFUSED);

    const auto segments = of_flow(capture.segments(), 4000, 81);
    ASSERT_EQ(segments.size(), 2U);
    EXPECT_EQ(segments[0].direction, Direction::to_remote);
    EXPECT_TRUE(segments[0].has(wire::tcp_syn));
    EXPECT_EQ(segments[1].direction, Direction::from_remote);
    EXPECT_TRUE(segments[1].has(wire::tcp_rst));
    EXPECT_EQ(capture.dropped(), 0U);
}

}  // namespace
}  // namespace flue::testbed

int main(int argc, char** argv) {
    flue::testbed::enter_bottle();
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
