#pragma once

#include <compare>
#include <cstdint>

namespace flue {

/// Instant is a point in time in microseconds since an arbitrary start that is never 0: zero means
/// "unset".
struct Instant {
    uint64_t us                                         = 0;

    friend constexpr auto operator<=>(Instant, Instant) = default;

    friend constexpr Instant operator+(Instant a, uint64_t delta_us) {
        return Instant{a.us + delta_us};
    }

    friend constexpr int64_t operator-(Instant a, Instant b) {
        return static_cast<int64_t>(a.us - b.us);
    }

    [[nodiscard]] constexpr bool is_set() const { return us != 0; }
};

/// ms_of returns milliseconds for clocks of 32 bits, which wrap after 49 days.
constexpr uint32_t ms_of(Instant now) {
    return static_cast<uint32_t>(now.us / 1000);
}

}  // namespace flue
