#include <chrono>
#include <csignal>
#include <cstdlib>
#include <gtest/gtest.h>
#include <memory>
#include <netinet/tcp.h>
#include <thread>

#include "base/prng.hpp"
#include "host.hpp"
#include "onlooker.hpp"
#include "peer.hpp"
#include "rig.hpp"

/// Each step of a connection's life x each policy: the host is killed there, then the kernel peer
/// has seen what the policy promises, and all that the target used is free again.
///
/// FLUE_KILL_LOOPS=N in the environment repeats each case N times.
namespace flue::killed {

using testbed::Child;
using testbed::Report;

namespace {

enum class Fate : uint8_t { drained, aborted, expired, taken_up };

struct Case {
    Step step;
    Fate fate;
};

constexpr std::array step_names{"held",
                                "frozen",
                                "offloaded",
                                "sending",
                                "posting",
                                "receiving",
                                "full_completion",
                                "deregistering",
                                "disconnecting",
                                "fin_wait_2",
                                "close_wait",
                                "terminating",
                                "kept_held"};
constexpr std::array fate_names{"drained", "aborted", "expired", "taken_up"};
constexpr uint64_t taken_up_bytes = uint64_t{pieces_max} * piece_bytes;
constexpr auto patience           = std::chrono::seconds{20};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (uint8_t step = 0; step < step_names.size(); ++step) {
        for (uint8_t fate = 0; fate < fate_names.size(); ++fate) {
            // After TERMINATE there is nothing left to take up.
            if (Step{step} != Step::terminating || Fate{fate} != Fate::taken_up) {
                cases.push_back({Step{step}, Fate{fate}});
            }
        }
    }
    return cases;
}

std::string name_of(const testing::TestParamInfo<Case>& info) {
    return std::string(step_names.at(static_cast<size_t>(info.param.step))) + "_" +
           fate_names.at(static_cast<size_t>(info.param.fate));
}

/// The kernel's socket has died with its process, and the target does not have the connection.
bool is_nobodys(Step step) {
    return step == Step::frozen || step == Step::terminating || step == Step::kept_held;
}

End end_of(const Case& c) {
    const bool is_aborted =
        c.fate == Fate::aborted && c.step != Step::held;  // the kernel's own FIN
    return is_nobodys(c.step) || is_aborted ? End::reset : End::fin;
}

/// How many bytes the peer has seen, in [first, second].
std::pair<uint64_t, uint64_t> bytes_of(const Case& c) {
    uint64_t posted = 0;
    switch (c.step) {
        case Step::held:
        case Step::frozen:
        case Step::kept_held:
            return {0, 0};
        case Step::offloaded:
        case Step::receiving:
        case Step::deregistering:
        case Step::close_wait:
            break;
        case Step::terminating:
            return {0, sending_bytes};
        case Step::posting:
            return {c.fate == Fate::taken_up ? taken_up_bytes : 0, taken_up_bytes};
        case Step::fin_wait_2:
            return {piece_bytes, piece_bytes};
        case Step::disconnecting:
            return {c.fate == Fate::aborted ? 0 : sending_bytes, sending_bytes};
        case Step::sending:
            posted = sending_bytes;
            break;
        case Step::full_completion:
            posted = full_bytes;
            break;
    }
    if (c.fate == Fate::taken_up) {
        return {taken_up_bytes, taken_up_bytes};
    }
    return {c.fate == Fate::aborted ? 0 : posted, posted};
}

int loops() {
    const char* text = std::getenv("FLUE_KILL_LOOPS");
    return text != nullptr ? std::atoi(text) : 1;
}

}  // namespace

class Killed : public testing::TestWithParam<Case> {
  protected:
    static void SetUpTestSuite() {
        testbed::FluedOptions options;
        options.flued_options = {"--time-wait-ms", "100"};
        rig_                  = std::make_unique<e2e::Rig>(testbed::BottleOptions{}, options);
    }

    static void TearDownTestSuite() { rig_.reset(); }

    void run_once();
    /// Returns the token of the host's session.
    std::string await_step(Child& host, const Onlooker& peer) const;
    void kill(Child& host) const;

    static inline std::unique_ptr<e2e::Rig> rig_;
    static inline Prng prng_{1};
    const e2e::Pattern from_host_{host_seed};
    const e2e::Pattern from_peer_{peer_seed};
};

std::string Killed::await_step(Child& host, const Onlooker& peer) const {
    std::string token;
    while (true) {
        const auto line = host.line(patience);
        if (!line || *line == "ready") {
            EXPECT_TRUE(line) << "the host did not get there";
            return token;
        }
        if (line->starts_with("token ")) {
            token = line->substr(6);
        } else if (*line == "receiving") {
            peer.send(from_peer_, 0, received_bytes / 2);
        } else if (*line == "close") {
            peer.close_sending();
        } else {
            ADD_FAILURE() << "the host says: " << *line;
        }
    }
}

void Killed::kill(Child& host) const {
    if (GetParam().step == Step::posting) {
        std::this_thread::sleep_for(std::chrono::microseconds{prng_.below(10'000)});
    }
    host.signal(SIGKILL);
    EXPECT_EQ(host.wait().signal, SIGKILL);
}

void Killed::run_once() {
    const Case c              = GetParam();
    const nlohmann::json base = rig_->usage();
    const bool is_held        = c.fate == Fate::expired || c.fate == Fate::taken_up;
    const Plan plan{.step        = c.step,
                    .policy      = is_held                   ? FLUE_LOSS_HOLD
                                   : c.fate == Fate::aborted ? FLUE_LOSS_ABORT
                                                             : FLUE_LOSS_DRAIN,
                    .hold_ms     = c.fate == Fate::expired ? 300u : 0u,
                    .socket_path = rig_->flued().options().socket_path};
    e2e::SocketPair pair = e2e::connect_pair(rig_->bottle().host(), rig_->bottle().remote(), false);
    Child host           = Child::call(
        [&](const Report& report) { live_until_killed(plan, pair.host.get(), report); });
    pair.host = testbed::Descriptor{};
    Onlooker peer(std::move(pair.remote));
    const std::string token = await_step(host, peer);
    const int state         = peer.state();
    kill(host);

    std::optional<Child> next;
    if (is_held && c.step != Step::held && c.step != Step::terminating) {
        std::this_thread::sleep_for(std::chrono::milliseconds{50});
        // The ACK of the peer's own FIN may have come after the host was told of that.
        EXPECT_EQ(peer.state(), c.step == Step::close_wait ? TCP_FIN_WAIT2 : state)
            << "a held connection goes on as if nothing had happened";
    }
    if (c.fate == Fate::taken_up) {
        const uint64_t bytes = bytes_of(c).second;
        if (c.step == Step::receiving) {
            peer.send(from_peer_, received_bytes / 2, received_bytes);
        }
        next = Child::call([&](const Report& report) { take_up(plan, token, bytes, report); });
    }
    const Onlooker::Seen seen = peer.read_to_end(from_host_, end_of(c) == End::reset);
    EXPECT_EQ(seen.end, end_of(c));
    EXPECT_TRUE(seen.bytes_right);
    EXPECT_GE(seen.bytes, bytes_of(c).first);
    EXPECT_LE(seen.bytes, bytes_of(c).second);
    if (c.step == Step::posting && c.fate != Fate::aborted) {
        EXPECT_EQ(seen.bytes % piece_bytes, 0u) << "a request is posted altogether or not at all";
    }
    if (next) {
        EXPECT_EQ(next->line(patience), "done");
        EXPECT_TRUE(next->wait().ok());
    }
    EXPECT_EQ(rig_->usage_after_settling(base), base);
}

TEST_P(Killed, peer_sees_what_the_policy_promises_and_nothing_is_left) {
    for (int i = 0; i < loops() && !HasFailure(); ++i) {
        run_once();
    }
    EXPECT_TRUE(rig_->flued().running()) << rig_->flued().log_tail();
}

INSTANTIATE_TEST_SUITE_P(Step, Killed, testing::ValuesIn(all_cases()), name_of);

}  // namespace flue::killed
