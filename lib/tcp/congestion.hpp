#pragma once

#include <cstdint>

#include "tcp/engine.hpp"
#include "tcp/tcb.hpp"

namespace flue::tcp::congestion {

/// New data was acknowledged while the window was in use.
struct Acked {
    uint32_t bytes  = 0;
    uint32_t now_ms = 0;  ///< modulo 2^32
};

/// Control is a congestion control: how cwnd and ssthresh answer to what happened.  Slow start,
/// recovery and timeouts are everybody's; it is chosen for each connection at adopt, and keeps what
/// it needs in TcbLoss::memory.
struct Control {
    const char* name;
    /// acked: congestion avoidance.
    void (*acked)(Tcb& tcb, TcbLoss& loss, const Acked& acked);
    /// lost returns what ssthresh becomes; `flight_bytes` were outstanding.
    uint32_t (*lost)(const Tcb& tcb, TcbLoss& loss, uint32_t flight_bytes);
    /// marked likewise, when the peer says that packets were marked, once a window.
    uint32_t (*marked)(const Tcb& tcb, TcbLoss& loss, uint32_t flight_bytes);
    /// echoed, if not null, hears of each ACK of a connection with ECN whether it had ECE, before
    /// SND.UNA moves by `bytes`.
    void (*echoed)(const Tcb& tcb, TcbLoss& loss, uint32_t bytes, bool marked);
    /// timed_out, if not null, hears that nothing is known of the path any more.
    void (*timed_out)(TcbLoss& loss) = nullptr;
};

extern const Control cubic;    ///< RFC 9438
extern const Control newreno;  ///< RFC 5681
extern const Control dctcp;    ///< RFC 8257

[[nodiscard]] CongestionControl kind_of(const Tcb& tcb);
[[nodiscard]] const Control& control_of(const Tcb& tcb);

constexpr uint32_t cwnd_max = 1U << 30;

/// initial_window is what a connection starts with that has no cwnd yet.  Spec: RFC 6928
[[nodiscard]] uint32_t initial_window(const Tcb& tcb);

/// slow_start grows cwnd by at most two segments an ACK.  Spec: RFC 3465 §2.2
void slow_start(Tcb& tcb, uint32_t bytes);

/// least_growth: what an ACK is worth in congestion avoidance however large the window is, and
/// nothing where it was split: a peer must not make more of it by sending it in parts.
[[nodiscard]] inline uint32_t least_growth(const Tcb& tcb, uint32_t bytes) {
    return bytes >= tcb.smss() ? 1 : 0;
}

/// idled: nothing was sent for longer than a retransmission timeout.  Spec: RFC 5681 §4.1
void idled(Tcb& tcb);

}  // namespace flue::tcp::congestion
