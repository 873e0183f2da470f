#include "tcp/window_samples.hpp"

namespace flue::tcp::test {

using enum State;

TEST(Congestion, each_connection_has_its_own) {
    for (const auto wanted :
         {CongestionControl::cubic, CongestionControl::newreno, CongestionControl::dctcp}) {
        Rig rig;
        rig.parameters.congestion = wanted;
        rig.parameters.ecn        = true;
        rig.reach(established);
        EXPECT_EQ(rig.engine.info(Rig::conn).congestion, wanted);
    }
}

TEST(Congestion, without_a_choice_it_is_the_options) {
    Options options;
    options.congestion = CongestionControl::newreno;
    Rig rig(options);
    rig.parameters.congestion = CongestionControl::unspecified;
    rig.reach(established);
    EXPECT_EQ(rig.engine.info(Rig::conn).congestion, CongestionControl::newreno);
    EXPECT_EQ(Options{}.congestion, CongestionControl::cubic);
}

TEST(Congestion, dctcp_without_marks_is_cubic) {
    Rig rig;
    rig.parameters.congestion = CongestionControl::dctcp;
    rig.reach(established);
    EXPECT_EQ(rig.engine.info(Rig::conn).congestion, CongestionControl::cubic);
}

TEST(Congestion, many_small_acks_of_a_window_open_it_no_further_than_one) {
    Rig whole;
    Rig split;
    for (Rig* rig : {&whole, &split}) {
        rig->reach(established);
        rig->post(50'000);
        rig->sent();
    }
    for (uint32_t offset = 2'000; offset <= 10'000; offset += 2'000) {
        whole.ack(offset);
    }
    for (uint32_t offset = 10; offset <= 10'000; offset += 10) {
        split.ack(offset);
    }
    EXPECT_LE(split.engine.info(Rig::conn).cwnd, whole.engine.info(Rig::conn).cwnd) << "RFC 3465";
}

}  // namespace flue::tcp::test
