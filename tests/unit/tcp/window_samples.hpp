#pragma once

#include "tcp/congestion.hpp"
#include "tcp/support.hpp"

namespace flue::tcp::test {

/// A connection as far as a congestion control looks at it.  Round trips of 100 ms.
inline Tcb tcb_with(uint32_t cwnd, uint32_t flight) {
    Tcb tcb;
    tcb.mss        = 1'000;
    tcb.cwnd       = cwnd;
    tcb.snd_max    = tcb.snd_una + flight;
    tcb.srtt_us_x8 = 100'000 * 8;
    return tcb;
}

}  // namespace flue::tcp::test
