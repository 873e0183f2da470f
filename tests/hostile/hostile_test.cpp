#include <algorithm>
#include <cerrno>
#include <gtest/gtest.h>

#include "attacks.hpp"
#include "honest.hpp"
#include "peer.hpp"
#include "testbed/process.hpp"

/// Each attack runs as a process of its own against a live target that carries honest traffic.
namespace flue::hostile {

using namespace std::chrono_literals;

namespace {

constexpr auto gap_max = 500ms;  ///< without an honest byte

/// What an attack has in the target, and an honest stream that goes on has not.
nlohmann::json left_behind(const e2e::Rig& rig) {
    const nlohmann::json usage = rig.usage();
    nlohmann::json result;
    for (const char* name :
         {"sessions", "queues", "regions", "connections", "held", "worker_queues", "flows"}) {
        result[name] = usage.at(name);
    }
    return result;
}

nlohmann::json settled(const e2e::Rig& rig, const nlohmann::json& wanted) {
    nlohmann::json now = left_behind(rig);
    for (int i = 0; i < 200 && now != wanted; ++i) {
        std::this_thread::sleep_for(50ms);
        now = left_behind(rig);
    }
    return now;
}

}  // namespace

class Hostile : public testing::TestWithParam<Attack> {
  protected:
    static void TearDownTestSuite() { rig_.reset(); }

    /// One target for all attacks, one more for those by a host that needs no proof.
    static e2e::Rig& rig(bool raw) {
        if (!rig_ || raw_ != raw) {
            rig_.reset();
            testbed::FluedOptions options;
            options.flued_options = {"--session-held", "64"};
            if (!raw) {
                options.flued_options.insert(options.flued_options.end(), {"--raw-uid", "4711"});
            }
            rig_ = std::make_unique<e2e::Rig>(testbed::BottleOptions{}, options);
            raw_ = raw;
        }
        return *rig_;
    }

    static uint64_t counted(const e2e::Rig& rig) {
        return rig.ask("/flue/refusals").at(GetParam().counter).get<uint64_t>();
    }

    static inline std::unique_ptr<e2e::Rig> rig_;
    static inline bool raw_ = false;
};

TEST_P(Hostile, hits_only_itself) {
    e2e::Rig& target = rig(GetParam().raw);
    HonestStream honest(target);
    const nlohmann::json before = left_behind(target);
    const uint64_t counter      = counted(target);
    const auto quiet            = honest.pace(700ms);
    ASSERT_GT(quiet.bytes, 0u);

    testbed::Child attacker = testbed::Child::execute({hostile_program,
                                                       GetParam().name,
                                                       target.flued().options().socket_path,
                                                       std::to_string(honest.handle()),
                                                       std::to_string(honest.local_port()),
                                                       std::to_string(honest.remote_port())});
    EXPECT_EQ(attacker.line(60s).value_or("nothing"), "ready");
    auto attacked = honest.pace(1000ms);
    // The attack goes on all the time; what else the machine does may cost one look or two.
    for (int look = 1; look < 3 && attacked.longest_gap >= gap_max; ++look) {
        attacked = honest.pace(1000ms);
    }
    EXPECT_TRUE(target.flued().running());
    EXPECT_FALSE(attacker.ended());
    attacker.signal(SIGKILL);
    const testbed::ChildExit end = attacker.wait();
    EXPECT_EQ(end.signal, SIGKILL) << end.output;

    const double ratio =
        static_cast<double>(attacked.bytes) / 1000.0 / (static_cast<double>(quiet.bytes) / 700.0);
    std::printf("%s: honest throughput %.2f of before, longest gap %lld ms\n",
                GetParam().name,
                ratio,
                static_cast<long long>(attacked.longest_gap.count()));
    // The ratio also says who got the CPUs: it is for people.  Honest bytes keep coming, that
    // counts.
    EXPECT_GT(attacked.bytes, 0u);
    EXPECT_LT(attacked.longest_gap, gap_max);
    EXPECT_GT(counted(target), counter) << GetParam().counter;
    EXPECT_EQ(settled(target, before), before);
    const HonestStream::Result result = honest.finish();
    EXPECT_TRUE(result.bytes_right);
    EXPECT_TRUE(result.saw_fin);
    EXPECT_TRUE(result.terminated);
    EXPECT_NO_THROW(e2e::Session(target, 4096)) << "no session for the next host";
    EXPECT_TRUE(target.flued().running());
}

TEST(Permissions, a_user_who_is_not_listed_is_told_so) {
    testbed::FluedOptions options;
    options.flued_options = {"--allow-uid", "4711"};
    const e2e::Rig rig({}, options);
    EXPECT_EQ(flue_open(options.socket_path.c_str(), nullptr), nullptr);
    EXPECT_EQ(errno, EACCES) << flue_error_text();
    EXPECT_EQ(rig.ask("/flue/refusals").at("message_not_permitted"), 1);
}

TEST(Permissions, only_sockets_in_the_allowed_range_are_handed_over_and_others_go_on) {
    testbed::FluedOptions options;
    options.flued_options = {
        "--raw-uid", "4711", "--allow-claim", "10.9.0.1:1-1023", "--allow-claim", "[fd09::/16]"};
    const e2e::Rig rig({}, options);
    EXPECT_THROW(HonestStream{rig}, std::runtime_error);
    EXPECT_EQ(rig.ask("/flue/refusals").at("message_not_permitted"), 1);
    e2e::Session session(rig, 1 << 20);
    e2e::SocketPair pair = e2e::connect_pair(rig.bottle().host(), rig.bottle().remote(), true);
    flue_socket_offload_options lent{};
    lent.mr       = session.region();
    lent.mr_bytes = 1 << 20;
    EXPECT_EQ(flue_socket_offload(session.queue(), pair.host.release(), &lent, nullptr), 0)
        << flue_error_text();
    const nlohmann::json sessions = rig.ask("/flue/sessions");
    const auto ours               = std::ranges::find_if(sessions, [](const nlohmann::json& shown) {
        return shown.at("name") == "e2e" && shown.at("state") == "open";
    });
    ASSERT_NE(ours, sessions.end()) << sessions;
    EXPECT_EQ(ours->at("connections"), 1);
    EXPECT_EQ(ours->at("raw"), 0);
}

INSTANTIATE_TEST_SUITE_P(Attack,
                         Hostile,
                         testing::ValuesIn(all_attacks().begin(), all_attacks().end()),
                         [](const auto& attack) { return std::string(attack.param.name); });

}  // namespace flue::hostile
