#include "base/timer_wheel.hpp"

#include <gtest/gtest.h>
#include <map>
#include <vector>

#include "base/prng.hpp"

namespace flue {

namespace {

/// A wheel with its timers, beside a plain sorted map that says what must happen.
struct Timers {
    explicit Timers(uint32_t count, uint32_t start)
        : links(count), due(count), armed(count), now(start) {}

    TimerLink& timer_link(uint32_t index) { return links[index]; }

    [[nodiscard]] uint32_t timer_due(uint32_t index) const { return due[index]; }

    void add(uint32_t index, uint32_t ahead) {
        due[index]   = now + ahead;
        armed[index] = true;
        wheel.add(*this, now, index);
    }

    void remove(uint32_t index) {
        armed[index] = false;
        wheel.remove(*this, index);
    }

    std::vector<uint32_t> advance(uint32_t to) {
        std::vector<uint32_t> fired;
        wheel.advance(*this, to, [&](uint32_t index) {
            EXPECT_TRUE(armed[index]);
            armed[index] = false;
            fired.push_back(index);
        });
        now = to;
        return fired;
    }

    std::vector<TimerLink> links;
    std::vector<uint32_t> due;
    std::vector<bool> armed;
    uint32_t now;
    TimerWheel wheel;
};

}  // namespace

TEST(TimerWheel, a_timer_fires_at_its_tick_and_not_before) {
    for (const uint32_t ahead :
         {1U, 2U, 255U, 256U, 257U, 65'535U, 65'536U, 70'000U, 16'777'216U, 2'147'483'647U}) {
        for (const uint32_t start :
             {0U, 1U, 255U, 256U, 65'535U, 0x7fff'ffffU, 0xffff'ff00U, 0xffff'ffffU}) {
            Timers timers(1, start);
            timers.add(0, ahead);
            EXPECT_TRUE(timers.advance(start + ahead - 1).empty()) << ahead << " from " << start;
            EXPECT_EQ(timers.advance(start + ahead).size(), 1u) << ahead << " from " << start;
            EXPECT_TRUE(timers.wheel.empty());
        }
    }
}

TEST(TimerWheel, a_tick_that_has_passed_is_taken_by_the_next_advance) {
    Timers timers(2, 1000);
    timers.add(0, 0);
    timers.add(1, static_cast<uint32_t>(-5));
    EXPECT_EQ(timers.advance(1001).size(), 2u);
}

TEST(TimerWheel, a_removed_timer_does_not_fire_and_its_neighbours_do) {
    for (uint32_t removed = 0; removed < 3; ++removed) {
        Timers timers(3, 0);
        timers.add(0, 700);
        timers.add(1, 700);
        timers.add(2, 700);
        timers.remove(removed);
        EXPECT_EQ(timers.advance(700).size(), 2u);
    }
}

TEST(TimerWheel, a_timer_may_be_added_again_from_its_own_expiry) {
    Timers timers(1, 10);
    timers.add(0, 5);
    uint32_t fired = 0;
    timers.wheel.advance(timers, 10'000, [&](uint32_t index) {
        ++fired;
        timers.due[index] = 10'000 + 256 + 15;  // the slot that is just being emptied
        timers.wheel.add(timers, 10'000, index);
    });
    EXPECT_EQ(fired, 1u);
    EXPECT_EQ(timers.advance(10'000 + 256 + 14).size(), 0u);
    timers.armed[0] = true;
    EXPECT_EQ(timers.advance(10'000 + 256 + 15).size(), 1u);
}

TEST(TimerWheel, next_tick_is_never_after_the_first_timer_and_reaches_it_in_few_steps) {
    Timers timers(1, 12'345);
    timers.add(0, 20'000'000);
    uint32_t steps = 0;
    while (!timers.wheel.empty()) {
        const uint32_t next = timers.wheel.next_tick();
        ASSERT_LE(next - 12'345, 20'000'000u);
        timers.advance(next);
        ASSERT_LE(++steps, 4u);
    }
    EXPECT_EQ(timers.now, 12'345u + 20'000'000u);
}

TEST(TimerWheel, random_timers_fire_exactly_when_a_sorted_map_says) {
    for (uint64_t seed = 1; seed <= 40; ++seed) {
        Prng prng(seed);
        const uint32_t start = static_cast<uint32_t>(prng.next());
        Timers timers(64, start);
        std::multimap<uint64_t, uint32_t> expected;
        uint64_t elapsed = 0;
        for (uint32_t step = 0; step < 400; ++step) {
            const uint32_t index = prng.below(64);
            if (timers.armed[index]) {
                timers.remove(index);
                std::erase_if(expected, [&](const auto& entry) { return entry.second == index; });
            } else {
                const uint32_t magnitude = prng.below(24);
                const uint32_t ahead     = 1 + prng.below(1U << magnitude);
                timers.add(index, ahead);
                expected.emplace(elapsed + ahead, index);
            }
            const uint32_t magnitude = prng.below(20);
            elapsed += prng.below(1U << magnitude);
            std::vector<uint32_t> fired = timers.advance(start + static_cast<uint32_t>(elapsed));
            std::vector<uint32_t> wanted;
            while (!expected.empty() && expected.begin()->first <= elapsed) {
                wanted.push_back(expected.begin()->second);
                expected.erase(expected.begin());
            }
            std::sort(fired.begin(), fired.end());
            std::sort(wanted.begin(), wanted.end());
            ASSERT_EQ(fired, wanted) << "seed " << seed << " step " << step;
            ASSERT_EQ(timers.wheel.count(), expected.size());
        }
    }
}

TEST(TimerWheel, timer_as_far_ahead_as_may_be_waits_though_the_wheel_lags_behind_the_clock) {
    constexpr uint32_t lag = 10'000;
    Timers timers(2, 7);
    timers.add(0, 2 * lag);  // keeps the wheel where it is
    timers.now += lag;
    timers.add(1, INT32_MAX);
    EXPECT_TRUE(timers.advance(timers.now).empty());
    EXPECT_EQ(timers.advance(timers.now + lag), std::vector<uint32_t>{0});
    EXPECT_EQ(timers.advance(timers.now + (INT32_MAX - lag)), std::vector<uint32_t>{1});
}

}  // namespace flue
