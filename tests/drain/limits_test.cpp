#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "peer.hpp"
#include "sender.hpp"
#include "testbed/process.hpp"

namespace flue::drain {

using e2e::KernelPeer;
using e2e::Pattern;
using e2e::SocketPair;
using testbed::Descriptor;

namespace {

constexpr uint64_t much = 64 << 20;
const Pattern pattern(1);

struct HandedOver {
    SocketPair pair;
    uint64_t bytes = 0;
};

/// A connection whose peer has not read anything yet, in the target's hands.
HandedOver hand_over(DrainRig& rig) {
    HandedOver handed{rig.connect()};
    handed.bytes = fill_socket(handed.pair.host.get(), pattern, much);
    EXPECT_EQ(ask(handed.pair.host.get()), (Answer{FLUE_DRAIN_OK, 0}));
    return handed;
}

void expect_all_arrives(HandedOver& handed) {
    KernelPeer peer(std::move(handed.pair.remote), pattern, pattern, {});
    const KernelPeer::Result result = peer.finish();
    EXPECT_EQ(result.bytes_received, handed.bytes);
    EXPECT_TRUE(result.bytes_right && result.saw_fin);
}

}  // namespace

TEST(DrainLimits, who_may_not_open_sessions_may_not_have_anything_drained) {
    DrainRig rig({"--allow-uid", "4711"});
    HandedOver refused{rig.connect()};
    refused.bytes = fill_socket(refused.pair.host.get(), pattern, much);
    EXPECT_EQ(ask(refused.pair.host.get()), (Answer{FLUE_DRAIN_NOT_PERMITTED, 0}));
    EXPECT_EQ(rig.count("accepted"), 0u);
    refused.pair.host = testbed::Descriptor{};  // the kernel sends the rest and the FIN
    expect_all_arrives(refused);
}

TEST(DrainLimits, a_users_share_bounds_what_is_drained_for_him_at_a_time) {
    DrainRig rig({"--drains-per-uid", "2"});
    HandedOver first  = hand_over(rig);
    HandedOver second = hand_over(rig);
    HandedOver third{rig.connect()};
    third.bytes = fill_socket(third.pair.host.get(), pattern, much);
    EXPECT_EQ(ask(third.pair.host.get()), (Answer{FLUE_DRAIN_BUSY, 0}));
    EXPECT_EQ(rig.count("refused_busy"), 1u);
    expect_all_arrives(first);
    ASSERT_TRUE(rig.reaches("completed", 1));
    ASSERT_TRUE(wait_until([&] { return rig.count("under_way") == 1; }));
    EXPECT_EQ(ask(third.pair.host.get()), (Answer{FLUE_DRAIN_OK, 0}));
    expect_all_arrives(second);
    expect_all_arrives(third);
    ASSERT_TRUE(rig.reaches("completed", 3));
    rig.expect_settled();
}

TEST(DrainLimits, memory_that_is_lent_to_others_comes_back_to_those_who_try_again) {
    DrainRig rig({"--drain-bytes", std::to_string(16 << 20)});
    std::vector<HandedOver> handed;
    HandedOver late{rig.connect()};
    late.bytes    = fill_socket(late.pair.host.get(), pattern, much);
    Answer answer = ask(late.pair.host.get());
    while (answer.status == FLUE_DRAIN_OK && handed.size() < 100) {
        handed.push_back(std::move(late));
        late       = HandedOver{rig.connect()};
        late.bytes = fill_socket(late.pair.host.get(), pattern, much);
        answer     = ask(late.pair.host.get());
    }
    EXPECT_EQ(answer, (Answer{FLUE_DRAIN_BUSY, 0}));
    ASSERT_FALSE(handed.empty());
    for (HandedOver& one : handed) {
        expect_all_arrives(one);
    }
    ASSERT_TRUE(wait_until([&] { return rig.count("under_way") == 0; }));
    EXPECT_EQ(ask(late.pair.host.get()), (Answer{FLUE_DRAIN_OK, 0}));
    expect_all_arrives(late);
    ASSERT_TRUE(rig.reaches("completed", handed.size() + 1));
    rig.expect_settled();
}

TEST(DrainLimits, a_target_that_drains_nothing_says_so) {
    testbed::FluedOptions none;
    none.flued_options = {"--drains", "0"};
    e2e::Rig rig({}, none);
    SocketPair pair = e2e::connect_pair(rig.bottle().host(), rig.bottle().remote(), false);
    EXPECT_EQ(ask(pair.host.get()), (Answer{FLUE_DRAIN_NOT_PERMITTED, 0}));
    EXPECT_EQ(::send(pair.host.get(), "x", 1, 0), 1);
    EXPECT_NE(testbed::run_tool({e2e::flue_program, "--file-prefix", rig.file_prefix(), "stats"}),
              "");
    EXPECT_TRUE(rig.flued().stop(SIGTERM).ok());
}

TEST(DrainEnd, a_target_that_is_to_end_drains_first_and_takes_no_more) {
    DrainRig rig({"--drain-end-ms", "20000"});
    HandedOver handed = hand_over(rig);
    SocketPair late   = rig.connect();
    rig.rig().flued().signal(SIGTERM);
    EXPECT_TRUE(wait_until(
        [&] { return rig.rig().flued().log().find("asked to end") != std::string::npos; }));
    EXPECT_EQ(ask(late.host.get()), (Answer{FLUE_DRAIN_SHUTTING_DOWN, 0}));
    expect_all_arrives(handed);
    EXPECT_TRUE(rig.rig().flued().wait().ok());
}

TEST(DrainEnd, R77_what_is_not_drained_in_time_is_reset) {
    DrainRig rig({"--drain-end-ms", "100"});
    HandedOver handed = hand_over(rig);
    EXPECT_TRUE(rig.rig().flued().stop(SIGTERM).ok());
    KernelPeer peer(std::move(handed.pair.remote), pattern, pattern, {});
    const KernelPeer::Result result = peer.finish();
    EXPECT_EQ(result.error, ECONNRESET);
    EXPECT_LT(result.bytes_received, handed.bytes);
}

TEST(DrainEnd, a_second_signal_does_not_wait) {
    DrainRig rig({"--drain-end-ms", "600000"});
    HandedOver handed = hand_over(rig);
    rig.rig().flued().signal(SIGTERM);
    EXPECT_TRUE(wait_until(
        [&] { return rig.rig().flued().log().find("asked to end") != std::string::npos; }));
    EXPECT_TRUE(rig.rig().flued().stop(SIGTERM).ok());
}

}  // namespace flue::drain
