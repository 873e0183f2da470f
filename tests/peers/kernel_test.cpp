#include <cstdlib>
#include <gtest/gtest.h>
#include <sstream>

#include "fleet.hpp"
#include "pairwise.hpp"
#include "peer.hpp"
#include "testbed/process.hpp"

/// The kernel's TCP as peer of a running target: who sends x loss x reordering x path MTU x small
/// windows x IP version x the kernel's congestion control.  Every byte is compared, and nothing is
/// left in the target.  As a rule a part of the product in which every two levels meet; with
/// FLUE_PEERS_ALL in the environment all of it, which takes an hour.
namespace flue::peers {

namespace {

using namespace std::chrono_literals;

enum class Sender : uint8_t { flue, kernel, both };
enum class Window : uint8_t { usual, small_at_kernel, small_at_flue };

constexpr std::array senders{Sender::flue, Sender::kernel, Sender::both};
constexpr std::array sender_names{"flue_sends", "kernel_sends", "both_send"};
constexpr std::array losses_permille{0U, 1U, 10U, 50U};
constexpr std::array lates_permille{0U, 20U};
constexpr std::array mtus{576U, 1280U, 1500U};
constexpr std::array windows{Window::usual, Window::small_at_kernel, Window::small_at_flue};
constexpr std::array window_names{"", "_small_kernel_window", "_small_flue_window"};
constexpr std::array controls{"cubic", "bbr", "reno"};

constexpr int small_receive_bytes = 4096;
constexpr auto one_way            = 1ms;
constexpr uint64_t ethernet_bytes = 14;

enum Factor { f_sender, f_loss, f_late, f_mtu, f_window, f_ipv6, f_control };

struct Case {
    Sender sender;
    unsigned loss_permille;
    unsigned late_permille;
    unsigned mtu;
    Window window;
    bool ipv6;
    const char* control;
};

Case case_of(const Choice& choice) {
    return {.sender        = senders[choice[f_sender]],
            .loss_permille = losses_permille[choice[f_loss]],
            .late_permille = lates_permille[choice[f_late]],
            .mtu           = mtus[choice[f_mtu]],
            .window        = windows[choice[f_window]],
            .ipv6          = choice[f_ipv6] != 0,
            .control       = controls[choice[f_control]]};
}

std::string name_of(const testing::TestParamInfo<Choice>& info) {
    const Case c = case_of(info.param);
    std::ostringstream out;
    out << sender_names[info.param[f_sender]] << "_loss" << c.loss_permille
        << (c.late_permille != 0 ? "_reordered" : "") << "_mtu" << c.mtu
        << window_names[info.param[f_window]] << (c.ipv6 ? "_ipv6_" : "_ipv4_") << c.control;
    return out.str();
}

std::vector<Choice> cases() {
    auto all = every_choice({senders.size(),
                             losses_permille.size(),
                             lates_permille.size(),
                             mtus.size(),
                             windows.size(),
                             2,
                             controls.size()});
    // IPv6 has no smaller MTU than 1280.
    std::erase_if(all, [](const Choice& choice) {
        return choice[f_ipv6] != 0 && mtus[choice[f_mtu]] < 1280;
    });
    return std::getenv("FLUE_PEERS_ALL") != nullptr ? all : pairwise(all);
}

/// Enough for slow start to end and for several losses, little enough to take a second or two.
uint64_t bytes_of(const Case& c) {
    const bool slow = c.window != Window::usual || c.mtu < 1500;
    return c.loss_permille >= 50 ? 500'000 : slow ? 1'000'000 : 10'000'000;
}

}  // namespace

class KernelPeers : public testing::TestWithParam<Choice> {
  protected:
    static void SetUpTestSuite() {
        rig_ = std::make_unique<e2e::Rig>(testbed::BottleOptions{.distant = true}, modest_target());
        base_ = rig_->usage();
    }

    static void TearDownTestSuite() { rig_.reset(); }

    static void set_path_mtu(const testbed::Namespace& place, const char* interface, unsigned mtu) {
        testbed::inside(place, [&] {
            for (const bool ipv6 : {false, true}) {
                testbed::run_tool({"ip",
                                   ipv6 ? "-6" : "-4",
                                   "route",
                                   "replace",
                                   ipv6 ? "fd09::/64" : "10.9.0.0/24",
                                   "dev",
                                   interface,
                                   "metric",
                                   ipv6 ? "256" : "0",
                                   "mtu",
                                   std::to_string(ipv6 ? std::max(mtu, 1280U) : mtu)});
            }
        });
    }

    static void set_path(const Case& c) {
        set_path_mtu(rig_->bottle().host(), "flue0", c.mtu);
        set_path_mtu(rig_->bottle().remote(), testbed::Bottle::far_end, c.mtu);
    }

    static inline std::unique_ptr<e2e::Rig> rig_;
    static inline nlohmann::json base_;
};

TEST_P(KernelPeers, every_byte_arrives_and_nothing_is_left) {
    const Case c = case_of(GetParam());
    const e2e::Pattern from_host{1};
    const e2e::Pattern from_peer{2};
    set_path(c);
    const e2e::PairTuning tuning{
        .host_receive_bytes   = c.window == Window::small_at_flue ? small_receive_bytes : 0,
        .remote_receive_bytes = c.window == Window::small_at_kernel ? small_receive_bytes : 0,
        .remote_congestion    = c.control};
    auto& link = rig_->bottle().link();
    link.set({.delay = one_way});
    auto pair = e2e::connect_pair(
        rig_->bottle().host(), rig_->bottle().remote(), c.ipv6, c.sender == Sender::kernel, tuning);
    link.set(
        {.delay = one_way, .loss_permille = c.loss_permille, .late_permille = c.late_permille});
    const uint64_t host_bytes = c.sender == Sender::kernel ? 0 : bytes_of(c);
    const uint64_t peer_bytes = c.sender == Sender::flue ? 0 : bytes_of(c);
    {
        e2e::KernelPeer peer(
            std::move(pair.remote),
            from_peer,
            from_host,
            {.bytes_to_send = peer_bytes, .close_first = c.sender == Sender::kernel});
        Fleet fleet(*rig_, from_host, from_peer, 1);
        const auto slot = fleet.start(
            std::move(pair.host),
            {.bytes_to_send = host_bytes,
             .ending      = c.sender == Sender::kernel ? Ending::closes_last : Ending::closes_first,
             .rcv_wnd_max = c.window == Window::small_at_flue ? small_receive_bytes : 0U});
        const HostResult mine                = fleet.finish(slot);
        const e2e::KernelPeer::Result theirs = peer.finish();
        EXPECT_EQ(theirs.error, 0);
        EXPECT_TRUE(theirs.saw_fin);
        EXPECT_TRUE(theirs.bytes_right);
        EXPECT_EQ(theirs.bytes_received, host_bytes);
        EXPECT_TRUE(mine.saw_fin);
        EXPECT_TRUE(mine.bytes_right);
        EXPECT_EQ(mine.bytes_received, peer_bytes);
        EXPECT_EQ(mine.disconnect, FLUE_SUCCESS);
        EXPECT_EQ(mine.wrong_statuses, 0u);
    }
    const auto counts = link.counts();
    EXPECT_EQ(counts.bytes_max, c.mtu + ethernet_bytes);
    EXPECT_TRUE(counts.lost > 0 || c.loss_permille < 10);
    EXPECT_TRUE(counts.late > 0 || c.late_permille == 0);
    link.set({});
    EXPECT_EQ(rig_->usage_after_settling(base_), base_);
}

INSTANTIATE_TEST_SUITE_P(Path, KernelPeers, testing::ValuesIn(cases()), name_of);

}  // namespace flue::peers
