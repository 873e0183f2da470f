#include "support.hpp"

namespace flue::tcp::test {

using enum State;

TEST(TcpFigures, R119_established_and_close_wait_count_as_established) {
    for (const State state :
         {established, close_wait, fin_wait_1, fin_wait_2, closing, last_ack, time_wait, closed}) {
        SCOPED_TRACE(to_string(state));
        Rig rig;
        rig.parameters.group = 5;
        rig.reach(state);
        const bool counts = state == established || state == close_wait;
        EXPECT_EQ(rig.engine.group(5).established, counts ? 1u : 0u);
        EXPECT_EQ(rig.engine.group(0).established, 0u);
        EXPECT_EQ(rig.engine.group(5).established_reset, 0u);
        rig.engine.forget(Rig::conn);
        rig.adopted = false;
        EXPECT_EQ(rig.engine.group(5).established, 0u);
    }
}

TEST(TcpFigures, R119_only_a_direct_move_to_closed_counts_as_a_reset) {
    for (const State state : {established, close_wait, fin_wait_1, closing, last_ack}) {
        SCOPED_TRACE(to_string(state));
        Rig rig;
        rig.reach(state);
        rig.engine.abort(rig.now, Rig::conn);
        rig.sent();
        const bool counts = state == established || state == close_wait;
        EXPECT_EQ(rig.engine.group(0).established_reset, counts ? 1u : 0u);
        EXPECT_EQ(rig.engine.group(0).established, 0u);
    }
}

TEST(TcpFigures, R119_segments_say_whether_they_repeat) {
    Rig rig;
    rig.reach(established);
    rig.post(Rig::mss);
    const auto first = rig.sent();
    ASSERT_EQ(first.size(), 1u);
    EXPECT_EQ(first[0].repeats, Repeats::nothing);
    rig.advance(2'000);
    const auto again = rig.sent();
    ASSERT_EQ(again.size(), 1u);
    EXPECT_EQ(again[0].repeats, Repeats::everything);
}

}  // namespace flue::tcp::test
