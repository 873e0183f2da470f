#include <gtest/gtest.h>

#include "tcp/world.hpp"

// Two engines talk over a bad link.  Whatever it does, every byte arrives once and in order, both
// FINs are exchanged, every send completes and everything that was lent is given back.

namespace flue::tcp::test {

namespace {

void play(const Plot& plot) {
    World world(plot);
    const bool done = world.run(60, 3'000);
    ASSERT_TRUE(done) << plot << "\n" << world.describe();
    EXPECT_FALSE(world.was_upload_timeout()) << plot;
    world.finish();
}

class Conversation : public ::testing::TestWithParam<uint64_t> {};

}  // namespace

TEST_P(Conversation, every_byte_arrives_in_order_and_both_ends_close) {
    for (uint64_t n = 0; n < 20; ++n) {
        const Plot plot = draw(GetParam() * 20 + n);
        SCOPED_TRACE(plot.seed);
        play(plot);
        if (HasFailure()) {
            FAIL() << plot;
        }
    }
}

TEST_P(Conversation, hand_over_in_the_middle_loses_nothing) {
    for (uint64_t n = 0; n < 20; ++n) {
        Plot plot                  = draw(GetParam() * 20 + n);
        plot.handover_percent      = 1 + static_cast<uint32_t>(n) % 5;
        plot.flush_before_handover = n % 2 == 0;
        SCOPED_TRACE(plot.seed);
        play(plot);
        if (HasFailure()) {
            FAIL() << plot;
        }
    }
}

/// Guards the tests above against testing nothing.
TEST(ConversationCoverage, seeds_hand_over_in_every_state_and_lose_segments) {
    std::array<uint32_t, state_count> handovers{};
    Engine::Counters sum;
    for (uint64_t seed = 1; seed <= 60; ++seed) {
        Plot plot             = draw(seed);
        plot.handover_percent = 10;
        World world(plot);
        ASSERT_TRUE(world.run(60, 3'000)) << plot << "\n" << world.describe();
        for (uint32_t state = 0; state < state_count; ++state) {
            handovers[state] += world.handovers(static_cast<State>(state));
        }
        for (uint32_t end = 0; end < 2; ++end) {
            const Engine::Counters& each = world.engine(end).counters();
            sum.timeouts += each.timeouts;
            sum.fast_retransmits += each.fast_retransmits;
            sum.drops[static_cast<uint32_t>(Drop::outside_window)] +=
                each.drops[static_cast<uint32_t>(Drop::outside_window)];
        }
        world.finish();
    }
    using enum State;
    for (const State state : {established, fin_wait_1, fin_wait_2, close_wait, closing, last_ack}) {
        EXPECT_GT(handovers[static_cast<uint32_t>(state)], 0u) << to_string(state);
    }
    EXPECT_GT(sum.timeouts, 0u);
    EXPECT_GT(sum.fast_retransmits, 0u);
    EXPECT_GT(sum.drops[static_cast<uint32_t>(Drop::outside_window)], 0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Conversation, ::testing::Range<uint64_t>(1, 16));

}  // namespace flue::tcp::test
