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

TEST(Congestion, acks_of_one_burst_open_the_window_as_far_as_one_by_one) {
    Rig spread;
    Rig burst;
    for (Rig* rig : {&spread, &burst}) {
        rig->reach(established);
        rig->post(50'000);
        EXPECT_EQ(rig->sent().size(), 10u);
        for (uint32_t offset = 1'000; offset <= 10'000; offset += 1'000) {
            rig->ack(offset);
            if (rig == &spread) {
                rig->sent();
            }
        }
    }
    EXPECT_EQ(spread.engine.info(Rig::conn).cwnd, 20'000u);
    EXPECT_EQ(burst.engine.info(Rig::conn).cwnd, 20'000u);
    EXPECT_EQ(burst.sent().size(), 20u);
}

TEST(Congestion, what_is_sent_into_a_wide_window_opens_it_no_further) {
    Rig rig;
    rig.reach(established);
    rig.post(10'000);
    rig.sent();
    rig.ack(10'000);
    const uint32_t cwnd = rig.engine.info(Rig::conn).cwnd;
    for (uint32_t acked = 11'000; acked < 30'000; acked += 1'000) {
        rig.post(1'000);
        rig.sent();
        rig.ack(acked);
    }
    EXPECT_EQ(rig.engine.info(Rig::conn).cwnd, cwnd);
}

}  // namespace flue::tcp::test
