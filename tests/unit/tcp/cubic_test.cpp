#include "tcp/window_samples.hpp"

namespace flue::tcp::test {

namespace {

/// Lets a window's worth of ACKs come in each of `rounds` round trips of 100 ms.
void run(const congestion::Control& control,
         Tcb& tcb,
         TcbLoss& loss,
         uint32_t& now_ms,
         uint32_t rounds) {
    for (uint32_t round = 0; round < rounds; ++round) {
        for (uint32_t acked = 0; acked < tcb.cwnd; acked += 2'000) {
            control.acked(tcb, loss, {.bytes = 2'000, .now_ms = now_ms});
        }
        now_ms += 100;
    }
}

}  // namespace

TEST(Cubic, loss_leaves_seven_tenths_of_the_window) {
    TcbLoss loss{};
    EXPECT_EQ(congestion::cubic.lost(tcb_with(100'000, 100'000), loss, 100'000), 70'000u);
    EXPECT_EQ(congestion::cubic.lost(tcb_with(100'000, 10'000), loss, 10'000), 7'000u)
        << "of what was used";
    EXPECT_EQ(congestion::cubic.lost(tcb_with(1'000, 1'000), loss, 1'000), 2'000u);
}

TEST(Cubic, window_comes_back_to_where_it_was_in_the_time_that_the_formula_gives) {
    TcbLoss loss{};
    Tcb tcb         = tcb_with(1'000'000, 1'000'000);
    tcb.ssthresh    = congestion::cubic.lost(tcb, loss, tcb.flight_size());
    tcb.cwnd        = tcb.ssthresh;
    uint32_t now_ms = 5;
    // K = cbrt(300 segments / 0.4) = 9.086 s
    run(congestion::cubic, tcb, loss, now_ms, 60);
    EXPECT_LT(tcb.cwnd, 1'000'000u);
    EXPECT_GT(tcb.cwnd, 960'000u) << "the curve is flat near W_max";
    run(congestion::cubic, tcb, loss, now_ms, 32);
    EXPECT_NEAR(tcb.cwnd, 1'000'000, 10'000);
    run(congestion::cubic, tcb, loss, now_ms, 60);
    EXPECT_GT(tcb.cwnd, 1'060'000u) << "and steep far from it";
}

TEST(Cubic, small_windows_grow_as_reno_does) {
    TcbLoss loss{};
    Tcb tcb         = tcb_with(10'000, 10'000);
    tcb.ssthresh    = congestion::cubic.lost(tcb, loss, tcb.flight_size());
    tcb.cwnd        = tcb.ssthresh;
    uint32_t now_ms = 5;
    run(congestion::cubic, tcb, loss, now_ms, 10);
    // 0.53 segments a round trip until W_max, then one; here an eighth more is acknowledged.
    // RFC 9438 §4.3
    EXPECT_NEAR(tcb.cwnd, 15'500, 700);
}

TEST(Cubic, second_loss_below_the_last_maximum_lets_go_of_more) {
    TcbLoss loss{};
    Tcb tcb = tcb_with(100'000, 100'000);
    (void)congestion::cubic.lost(tcb, loss, tcb.flight_size());
    EXPECT_EQ(loss.memory[0], 100'000u);
    tcb = tcb_with(80'000, 80'000);
    (void)congestion::cubic.lost(tcb, loss, tcb.flight_size());
    EXPECT_EQ(loss.memory[0], 68'000u) << "RFC 9438 §4.7";
}

TEST(Cubic, curve_stands_still_while_nothing_is_sent) {
    TcbLoss loss{};
    Tcb tcb         = tcb_with(1'000'000, 1'000'000);
    tcb.cwnd        = congestion::cubic.lost(tcb, loss, tcb.flight_size());
    uint32_t now_ms = 5;
    run(congestion::cubic, tcb, loss, now_ms, 10);
    const uint32_t before = tcb.cwnd;
    now_ms += 60'000;
    run(congestion::cubic, tcb, loss, now_ms, 1);
    EXPECT_LT(tcb.cwnd, before + 30'000) << "RFC 9438 §5.8";
}

}  // namespace flue::tcp::test
