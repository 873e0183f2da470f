#pragma once

#include <bit>
#include <cstdint>

namespace flue {

/// Prng is xoshiro256** seeded through splitmix64: the same numbers on every compiler and machine.
/// Draw into named variables, never twice in one argument list: compilers evaluate those in
/// different orders.
class Prng {
  public:
    explicit constexpr Prng(uint64_t seed) {
        for (uint64_t& word : state_) {
            seed += 0x9e3779b97f4a7c15;
            uint64_t z = seed;
            z          = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
            z          = (z ^ (z >> 27)) * 0x94d049bb133111eb;
            word       = z ^ (z >> 31);
        }
    }

    constexpr uint64_t next() {
        const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
        const uint64_t t      = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= t;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }

    /// below returns a number in [0, bound).  Pre: bound > 0.
    constexpr uint32_t below(uint32_t bound) {
        return static_cast<uint32_t>(((next() >> 32) * bound) >> 32);
    }

    /// chance is true with probability numerator / denominator.
    constexpr bool chance(uint32_t numerator, uint32_t denominator) {
        return below(denominator) < numerator;
    }

  private:
    uint64_t state_[4]{};
};

}  // namespace flue
