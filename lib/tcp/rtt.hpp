#pragma once

#include <algorithm>
#include <cstdint>

#include "tcp/tcb.hpp"

namespace flue::tcp {

/// RFC 6298 in integers: srtt is kept times 8, rttvar times 4, both in microseconds.
namespace rtt {

constexpr uint32_t sample_max_us  = 60'000'000;
constexpr uint32_t rto_initial_us = 1'000'000;  ///< RFC 6298 (2.1)
constexpr uint32_t granularity_us = 1'000;      ///< G of RFC 6298: the timer wheel's tick

/// sample takes one measured round trip.  Spec: RFC 6298 (2.2), (2.3)
inline void sample(Tcb& tcb, uint32_t measured_us) {
    const uint32_t r = std::clamp(measured_us, 1U, sample_max_us);
    if (tcb.srtt_us_x8 == 0) {
        tcb.srtt_us_x8   = r * 8;
        tcb.rttvar_us_x4 = r * 2;
        return;
    }
    const uint32_t srtt  = tcb.srtt_us_x8 / 8;
    const uint32_t error = r > srtt ? r - srtt : srtt - r;
    tcb.rttvar_us_x4     = tcb.rttvar_us_x4 - tcb.rttvar_us_x4 / 4 + error;
    tcb.srtt_us_x8       = std::max(tcb.srtt_us_x8 - srtt + r, 8U);
}

/// rto_us returns the retransmission timeout before any backoff.
inline uint32_t rto_us(const Tcb& tcb, uint32_t rto_min_us, uint32_t rto_max_us) {
    if (tcb.srtt_us_x8 == 0) {
        return std::clamp(rto_initial_us, rto_min_us, rto_max_us);
    }
    const uint32_t rto = tcb.srtt_us_x8 / 8 + std::max(granularity_us, tcb.rttvar_us_x4);
    return std::clamp(rto, rto_min_us, rto_max_us);
}

/// backed_off_us doubles `timeout_us` `doublings` times, up to rto_max_us.  Spec: RFC 6298 (5.5)
inline uint32_t backed_off_us(uint32_t timeout_us, uint32_t doublings, uint32_t rto_max_us) {
    const uint64_t timeout = uint64_t{timeout_us} << std::min(doublings, 31U);
    return static_cast<uint32_t>(std::min<uint64_t>(timeout, rto_max_us));
}

}  // namespace rtt
}  // namespace flue::tcp
