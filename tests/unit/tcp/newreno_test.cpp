#include "tcp/window_samples.hpp"

namespace flue::tcp::test {

using enum State;

TEST(NewReno, loss_leaves_half_of_what_was_in_flight) {
    TcbLoss loss{};
    EXPECT_EQ(congestion::newreno.lost(tcb_with(100'000, 60'000), loss, 60'000), 30'000u);
    EXPECT_EQ(congestion::newreno.lost(tcb_with(100'000, 1'000), loss, 1'000), 2'000u);
}

TEST(NewReno, slow_start_grows_by_what_is_acknowledged_up_to_two_segments) {
    Rig rig;
    rig.fill_pipe();
    rig.ack(1'000);
    EXPECT_EQ(rig.engine.info(Rig::conn).cwnd, 11'000u);
    rig.ack(10'000);
    EXPECT_EQ(rig.engine.info(Rig::conn).cwnd, 13'000u);
}

TEST(NewReno, congestion_avoidance_grows_by_a_segment_each_round_trip) {
    Rig rig;
    rig.state.ssthresh = 10'000;
    rig.fill_pipe();
    for (uint32_t i = 1; i <= 10; ++i) {
        rig.ack(i * 1'000);
        rig.sent();
    }
    EXPECT_NEAR(rig.engine.info(Rig::conn).cwnd, 11'000, 60);
}

TEST(NewReno, a_window_that_is_not_used_does_not_grow) {
    Rig rig;
    rig.reach(established);
    rig.post(1'000);
    rig.sent();
    rig.ack(1'000);
    EXPECT_EQ(rig.engine.info(Rig::conn).cwnd, 10'000u);
}

TEST(NewReno, connection_without_a_window_starts_with_the_initial_one) {
    Rig rig;
    rig.state.cwnd = 0;
    rig.reach(established);
    EXPECT_EQ(rig.engine.info(Rig::conn).cwnd, 10'000u);
    Rig large;
    large.state.cwnd     = 0;
    large.parameters.mss = 8'960;
    large.reach(established);
    EXPECT_EQ(large.engine.info(Rig::conn).cwnd, 17'920u);
}

}  // namespace flue::tcp::test
