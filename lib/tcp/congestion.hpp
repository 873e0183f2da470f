#pragma once

#include <cstdint>

#include "tcp/tcb.hpp"

namespace flue::tcp::congestion {

/// What recovery asks of a congestion control: how cwnd and ssthresh answer to what happened.  One
/// implementation links today, NewReno; another one is another file with these five functions.

constexpr uint32_t cwnd_max = 1U << 30;

/// initial_window is what a connection starts with that has no cwnd yet.  Spec: RFC 6928
[[nodiscard]] uint32_t initial_window(const Tcb& tcb);

/// acknowledged: `bytes` of new data were acknowledged outside of fast recovery; `flight_bytes`
/// were outstanding before.
void acknowledged(Tcb& tcb, uint32_t bytes, uint32_t flight_bytes);

/// lost: duplicate ACKs tell of a loss.  Sets ssthresh; the window during recovery is recovery's
/// business.
void lost(Tcb& tcb);

/// timed_out: the retransmission timer fired; `first` for this segment.
void timed_out(Tcb& tcb, bool first);

/// idled: nothing was sent for longer than a retransmission timeout.  Spec: RFC 5681 §4.1
void idled(Tcb& tcb);

}  // namespace flue::tcp::congestion
