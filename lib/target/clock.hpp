#pragma once

#include <cstdint>

#include <rte_cycles.h>

#include "base/instant.hpp"

namespace flue::target {

/// Clock turns the time stamp counter into an Instant by one multiplication.
/// All workers of a process share the counter's zero, so their instants compare.
class Clock {
  public:
    explicit Clock(uint64_t tsc_hz) : us_per_cycle_q32_((uint64_t{1'000'000} << 32) / tsc_hz) {}

    [[nodiscard]] static uint64_t cycles() { return rte_rdtsc(); }

    [[nodiscard]] Instant at(uint64_t cycles) const {
        __extension__ using wide = unsigned __int128;
        return Instant{static_cast<uint64_t>((wide{cycles} * us_per_cycle_q32_) >> 32) + 1};
    }

  private:
    uint64_t us_per_cycle_q32_;  ///< fixed point, 32 fractional bits: 200 ppb of error at 2 GHz
};

}  // namespace flue::target
