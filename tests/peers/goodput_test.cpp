#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <string>

#include "fleet.hpp"
#include "peer.hpp"
#include "testbed/process.hpp"

/// How fast a drain is on a long path with losses, beside the kernel's TCP on a path that is the
/// same in all: two TAPs and a thread between them with this delay, rate, queue and loss; the
/// remote, a kernel in a namespace of its own, has the same settings.  The contestants take turns.
namespace flue::peers {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr testbed::LinkQuality path{
    .delay = 10ms, .bits_per_second = 200'000'000, .queue = 20ms, .late_by = 0us};

struct Round {
    unsigned loss_permille;
    unsigned connections;  ///< at a time, few enough that losses and not the rate hold them back
    uint64_t bytes;        ///< each
    unsigned turns;        ///< of each contestant, before anybody looks
    double ratio_least;    ///< of flue's median to that of the kernel's cubic
};

constexpr std::array rounds{Round{0, 1, 30'000'000, 1, 0.8},
                            Round{1, 4, 8'000'000, 3, 0.9},
                            Round{10, 12, 2'000'000, 1, 0.9},
                            Round{50, 16, 500'000, 1, 0.9}};

constexpr unsigned looks_max = 3;

/// Of the time that flued takes for its drains.  Each wait is one more delay on the path, which the
/// kernel does not have: it works while others wait.  Beyond this the figures say nothing.
constexpr double waiting_max = 0.1;

/// FLUE_GOODPUT_TURNS=5 in the environment makes each look five times as thorough.
unsigned turns_of(const Round& round) {
    const char* wanted = std::getenv("FLUE_GOODPUT_TURNS");
    return round.turns * (wanted != nullptr ? static_cast<unsigned>(std::stoul(wanted)) : 1);
}

double megabits_per_second(uint64_t bytes, Clock::duration took) {
    return static_cast<double>(bytes) * 8 / 1e6 / std::chrono::duration<double>(took).count();
}

/// How long a thread has been ready to run without a CPU to run on.
std::chrono::nanoseconds waited(pid_t thread) {
    std::ifstream statistics("/proc/" + std::to_string(thread) + "/schedstat");
    int64_t ran_ns    = 0;
    int64_t waited_ns = 0;
    statistics >> ran_ns >> waited_ns;
    return std::chrono::nanoseconds{waited_ns};
}

double median(std::vector<double> samples) {
    std::ranges::sort(samples);
    const size_t middle = samples.size() / 2;
    return samples.size() % 2 != 0 ? samples[middle] : (samples[middle - 1] + samples[middle]) / 2;
}

/// What the kernel learnt of a path on one connection shall not help the next one.
void forget_metrics(const testbed::Namespace& place) {
    testbed::inside(place, [] { testbed::set_sysctl("net/ipv4/tcp_no_metrics_save", "1"); });
}

/// Two kernels and a Link between them.
class KernelPair {
  public:
    KernelPair() {
        set_up(host_, "plain0", testbed::Bottle::host_ipv4);
        set_up(remote_, "plain1", testbed::Bottle::remote_ipv4);
    }

    [[nodiscard]] const testbed::Namespace& host() const { return host_; }

    [[nodiscard]] const testbed::Namespace& remote() const { return remote_; }

    [[nodiscard]] testbed::Link& link() { return link_; }

  private:
    static void set_up(const testbed::Namespace& place,
                       const std::string& interface,
                       const std::string& address) {
        testbed::inside(place, [&] {
            testbed::disable_offloads(interface);
            testbed::run_tool({"ip", "address", "add", address + "/24", "dev", interface});
            testbed::run_tool({"ip", "link", "set", interface, "up"});
        });
    }

    testbed::Namespace host_   = testbed::Namespace::create();
    testbed::Namespace remote_ = testbed::Namespace::create();
    testbed::Link link_{{host_, "plain0"}, {remote_, "plain1"}, 1};
};

}  // namespace

class Goodput : public testing::Test {
  protected:
    Goodput() {
        for (const auto* place : {&rig_.bottle().host(),
                                  &rig_.bottle().remote(),
                                  &kernels_.host(),
                                  &kernels_.remote()}) {
            forget_metrics(*place);
        }
    }

    /// Each adds a sample a connection.
    void run_flue(const Round& round, std::vector<double>& samples);
    void run_kernel(const Round& round, const char* control, std::vector<double>& samples);

    static void set(testbed::Link& link, const Round& round) {
        testbed::LinkQuality quality = path;
        quality.loss_permille        = round.loss_permille;
        link.set(quality);
    }

    Clock::duration drained_{};  ///< how long flued was at it, and waited for a CPU meanwhile
    Clock::duration waited_{};
    e2e::Rig rig_{testbed::BottleOptions{.distant = true}, modest_target()};
    KernelPair kernels_;
    const e2e::Pattern pattern_{1};
};

void Goodput::run_flue(const Round& round, std::vector<double>& samples) {
    Fleet fleet(rig_, pattern_, pattern_, round.connections);
    std::vector<e2e::SocketPair> pairs;
    for (unsigned i = 0; i < round.connections; ++i) {
        pairs.push_back(e2e::connect_pair(rig_.bottle().host(), rig_.bottle().remote(), false));
    }
    set(rig_.bottle().link(), round);
    std::vector<std::unique_ptr<e2e::KernelPeer>> peers;
    std::vector<Clock::time_point> began;
    const auto waited_before = waited(rig_.flued().pid());
    for (auto& pair : pairs) {
        peers.push_back(std::make_unique<e2e::KernelPeer>(
            std::move(pair.remote), pattern_, pattern_, e2e::PeerPlan{}));
        began.push_back(Clock::now());
        fleet.start(std::move(pair.host), {.bytes_to_send = round.bytes});
    }
    for (unsigned i = 0; i < round.connections; ++i) {
        EXPECT_EQ(fleet.finish(i).disconnect, FLUE_SUCCESS);
        const auto seen = peers[i]->finish();
        EXPECT_EQ(seen.bytes_received, round.bytes);
        EXPECT_TRUE(seen.bytes_right);
        samples.push_back(megabits_per_second(round.bytes, seen.fin_at - began[i]));
    }
    drained_ += Clock::now() - began.front();
    waited_ += waited(rig_.flued().pid()) - waited_before;
    rig_.bottle().link().set({});
}

void Goodput::run_kernel(const Round& round, const char* control, std::vector<double>& samples) {
    std::vector<e2e::SocketPair> pairs;
    for (unsigned i = 0; i < round.connections; ++i) {
        pairs.push_back(e2e::connect_pair(
            kernels_.host(), kernels_.remote(), false, false, {.host_congestion = control}));
    }
    set(kernels_.link(), round);
    std::vector<std::unique_ptr<e2e::KernelPeer>> peers;
    std::vector<Clock::time_point> began;
    for (auto& [host, remote] : pairs) {
        peers.push_back(std::make_unique<e2e::KernelPeer>(
            std::move(remote), pattern_, pattern_, e2e::PeerPlan{}));
        began.push_back(Clock::now());
        peers.push_back(std::make_unique<e2e::KernelPeer>(
            std::move(host),
            pattern_,
            pattern_,
            e2e::PeerPlan{.bytes_to_send = round.bytes, .close_first = true}));
    }
    for (unsigned i = 0; i < round.connections; ++i) {
        const auto seen = peers[size_t{2} * i]->finish();
        EXPECT_EQ(peers[size_t{2} * i + 1]->finish().error, 0);
        EXPECT_EQ(seen.bytes_received, round.bytes);
        EXPECT_TRUE(seen.bytes_right);
        samples.push_back(megabits_per_second(round.bytes, seen.fin_at - began[i]));
    }
    kernels_.link().set({});
}

TEST_F(Goodput, a_drain_keeps_up_with_the_kernel) {
    std::printf("goodput of a connection, median, Mb/s; round trip 20 ms, 200 Mb/s, queue 20 ms\n");
    std::printf(
        "   loss     flue   kernel cubic   kernel reno   flue/cubic   samples each   flued "
        "waited\n");
    bool judged = true;
    for (const Round& round : rounds) {
        std::vector<double> flue;
        std::vector<double> cubic;
        std::vector<double> reno;
        double ratio = 0;
        drained_ = waited_ = {};
        for (unsigned look = 0; look < looks_max && ratio < round.ratio_least; ++look) {
            for (unsigned i = 0; i < turns_of(round); ++i) {
                run_flue(round, flue);
                run_kernel(round, "cubic", cubic);
                run_kernel(round, "reno", reno);
            }
            ratio = median(flue) / median(cubic);
        }
        const double waiting = std::chrono::duration<double>(waited_) / drained_;
        std::printf("%5.1f %% %8.1f %14.1f %13.1f %12.2f %14zu %12.1f %%%s\n",
                    round.loss_permille / 10.0,
                    median(flue),
                    median(cubic),
                    median(reno),
                    ratio,
                    flue.size(),
                    waiting * 100,
                    waiting > waiting_max ? ", too much to judge" : "");
        std::fflush(stdout);
        if (waiting <= waiting_max) {
            EXPECT_GE(ratio, round.ratio_least) << round.loss_permille << " permille";
        } else if (ratio < round.ratio_least) {
            judged = false;
        }
    }
    if (!judged) {
        GTEST_SKIP() << "a ratio is below its bound, but flued had to wait for a CPU: this machine "
                        "is too busy to tell";
    }
}

}  // namespace flue::peers
