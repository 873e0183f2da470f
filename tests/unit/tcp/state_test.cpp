#include "tcp/state.hpp"

#include <gtest/gtest.h>
#include <string>

#include "tcp/drops.hpp"

namespace flue::tcp {

namespace {

using enum State;
constexpr State all_states[] = {
    closed, established, fin_wait_1, fin_wait_2, close_wait, closing, last_ack, time_wait};

}  // namespace

TEST(State, every_state_but_closed_may_be_closed_and_nothing_leaves_closed) {
    for (const State state : all_states) {
        EXPECT_EQ(legal_move(state, closed), state != closed) << to_string(state);
        EXPECT_FALSE(legal_move(closed, state));
        EXPECT_FALSE(legal_move(state, established));
    }
}

TEST(State, orderly_close_takes_the_ways_of_rfc_9293) {
    EXPECT_TRUE(legal_move(established, fin_wait_1));
    EXPECT_TRUE(legal_move(established, close_wait));
    EXPECT_TRUE(legal_move(fin_wait_1, fin_wait_2));
    EXPECT_TRUE(legal_move(fin_wait_1, closing));
    EXPECT_TRUE(legal_move(fin_wait_2, time_wait));
    EXPECT_TRUE(legal_move(close_wait, last_ack));
    EXPECT_TRUE(legal_move(closing, time_wait));
    EXPECT_FALSE(legal_move(last_ack, time_wait));
    EXPECT_FALSE(legal_move(fin_wait_2, closing));
    EXPECT_FALSE(legal_move(established, time_wait));
}

TEST(State, facts_of_a_state_are_those_of_the_diagram) {
    for (const State state : all_states) {
        const bool sent = state == fin_wait_1 || state == fin_wait_2 || state == closing ||
                          state == last_ack || state == time_wait;
        EXPECT_EQ(fin_was_sent(state), sent) << to_string(state);
        EXPECT_EQ(fin_is_outstanding(state),
                  state == fin_wait_1 || state == closing || state == last_ack);
        EXPECT_EQ(peer_may_send(state),
                  state == established || state == fin_wait_1 || state == fin_wait_2);
    }
}

TEST(Drops, every_reason_has_a_name_and_a_text) {
    for (uint32_t i = 0; i < drop_count; ++i) {
        const Drop drop = static_cast<Drop>(i);
        EXPECT_STRNE(to_string(drop), "");
        EXPECT_STRNE(text_of(drop), "");
        EXPECT_NE(specification_of(drop), nullptr);
    }
    EXPECT_STREQ(to_string(Drop::urgent), "urgent");
    EXPECT_STREQ(specification_of(Drop::urgent), "R97");
}

}  // namespace flue::tcp
