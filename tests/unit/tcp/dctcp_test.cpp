#include "tcp/window_samples.hpp"

namespace flue::tcp::test {

TEST(Dctcp, window_shrinks_by_half_of_what_was_marked) {
    TcbLoss loss{};
    Tcb tcb = tcb_with(100'000, 100'000);
    EXPECT_EQ(congestion::dctcp.marked(tcb, loss, tcb.flight_size()), 50'000u)
        << "alpha begins at 1.  RFC 8257 §4.2";
    for (uint32_t window = 0; window < 200; ++window) {
        for (uint32_t i = 0; i < 10; ++i) {
            congestion::dctcp.echoed(tcb, loss, 10'000, i == 0);
            tcb.snd_una += 10'000;
            tcb.snd_max = tcb.snd_una + 100'000;
        }
    }
    EXPECT_NEAR(congestion::dctcp.marked(tcb, loss, tcb.flight_size()), 95'000, 2'000)
        << "a tenth of the bytes";
}

}  // namespace flue::tcp::test
