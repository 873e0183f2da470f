#pragma once

#include <cstdint>

namespace flue {

/// Seq is a TCP sequence number: comparison and distance are modulo 2^32.  RFC 9293 §3.4
struct Seq {
    uint32_t value = 0;

    friend constexpr bool operator==(Seq, Seq) = default;

    friend constexpr Seq operator+(Seq a, uint32_t bytes) { return Seq{a.value + bytes}; }
    friend constexpr Seq operator-(Seq a, uint32_t bytes) { return Seq{a.value - bytes}; }
    /// Distance from b to a, negative when a is before b.
    friend constexpr int32_t operator-(Seq a, Seq b) {
        return static_cast<int32_t>(a.value - b.value);
    }

    friend constexpr bool operator<(Seq a, Seq b) { return a - b < 0; }
    friend constexpr bool operator<=(Seq a, Seq b) { return a - b <= 0; }
    friend constexpr bool operator>(Seq a, Seq b) { return a - b > 0; }
    friend constexpr bool operator>=(Seq a, Seq b) { return a - b >= 0; }

    constexpr Seq& operator+=(uint32_t bytes) {
        value += bytes;
        return *this;
    }
};

/// bytes_between returns how many sequence numbers lie in [from, to).  Pre: from <= to.
constexpr uint32_t bytes_between(Seq from, Seq to) {
    return to.value - from.value;
}

constexpr Seq max(Seq a, Seq b) {
    return a < b ? b : a;
}

constexpr Seq min(Seq a, Seq b) {
    return a < b ? a : b;
}

}  // namespace flue
