#include <algorithm>

#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

TEST(Pacing, window_is_spread_over_the_round_trip) {
    Options options;
    options.pacing = true;
    Rig rig(options);
    rig.state.ssthresh = 100'000;
    rig.state.cwnd     = 50'000;  // 100 ms: a kilobyte each millisecond, in slow start
    rig.reach(established);
    rig.post(60'000);
    std::vector<size_t> each_ms;
    for (uint32_t ms = 0; ms < 60; ++ms) {
        each_ms.push_back(rig.sent().size());
        rig.advance(1);
    }
    EXPECT_LE(*std::max_element(each_ms.begin(), each_ms.end()), 2u);
    size_t all = 0;
    for (const size_t segments : each_ms) {
        all += segments;
    }
    EXPECT_EQ(all, 50u) << "and nothing of it is left behind";
}

TEST(Pacing, off_it_leaves_at_once) {
    Rig rig;
    rig.state.cwnd = 50'000;
    rig.reach(established);
    rig.post(60'000);
    EXPECT_EQ(rig.sent().size(), 50u);
}

TEST(Pacing, ack_does_not_wait_for_the_next_share) {
    Options options;
    options.pacing = true;
    Rig rig(options);
    rig.reach(established);
    rig.post(30'000);
    rig.sent();
    rig.data(0, 10);
    rig.engine.flush_ack(Rig::conn);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(is_bare_ack(out[0]));
    rig.consume(10);
}

TEST(Pacing, fin_goes_out_with_the_last_share) {
    Options options;
    options.pacing = true;
    Rig rig(options);
    rig.reach(established);
    rig.post(5'000, true);
    bool fin = false;
    for (uint32_t ms = 0; ms < 100; ++ms) {
        for (const TxSegment& tx : rig.sent()) {
            fin = fin || has_fin(tx);
        }
        rig.advance(1);
    }
    EXPECT_TRUE(fin);
    EXPECT_EQ(rig.engine.state(Rig::conn), fin_wait_1);
}

}  // namespace flue::tcp::test
