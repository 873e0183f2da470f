#include <algorithm>

#include "tcp/congestion.hpp"

namespace flue::tcp::congestion {

namespace {

/// RFC 5681 (4)
uint32_t half_of_flight(const Tcb& tcb) {
    return std::max(tcb.flight_size() / 2, 2 * tcb.smss());
}

}  // namespace

uint32_t initial_window(const Tcb& tcb) {
    const uint32_t smss = tcb.smss();
    return std::min(10 * smss, std::max(2 * smss, 14'600U));
}

void acknowledged(Tcb& tcb, uint32_t bytes, uint32_t flight_bytes) {
    // A window that was not even half used has not been tried: it says nothing about the path.  RFC
    // 7661 §4.1
    if (flight_bytes < tcb.cwnd / 2) {
        return;
    }
    const uint32_t smss = tcb.smss();
    uint32_t increase   = 0;
    if (tcb.cwnd < tcb.ssthresh) {
        increase = std::min(bytes, 2 * smss);  // RFC 3465 §2.2, L = 2
    } else {
        const uint64_t share = uint64_t{smss} * std::min(bytes, tcb.cwnd) / tcb.cwnd;
        increase = std::max(static_cast<uint32_t>(share), 1U);  // RFC 5681 (3), by bytes
    }
    tcb.cwnd = std::min(tcb.cwnd + increase, cwnd_max);
}

void lost(Tcb& tcb) {
    tcb.ssthresh = half_of_flight(tcb);
}

void timed_out(Tcb& tcb, bool first) {
    if (first) {
        tcb.ssthresh = half_of_flight(tcb);
    }
    tcb.cwnd = tcb.smss();  // the loss window, RFC 5681 §3.1
}

void idled(Tcb& tcb) {
    tcb.cwnd = std::min(tcb.cwnd, initial_window(tcb));
}

}  // namespace flue::tcp::congestion
