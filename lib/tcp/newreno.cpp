#include <algorithm>

#include "tcp/congestion.hpp"

namespace flue::tcp::congestion {

namespace {

/// RFC 5681 (3), by bytes: a segment each round trip.
void acked(Tcb& tcb, TcbLoss& /*loss*/, const Acked& acked) {
    const uint64_t share = uint64_t{tcb.smss()} * std::min(acked.bytes, tcb.cwnd) / tcb.cwnd;
    const uint32_t more  = std::max(static_cast<uint32_t>(share), least_growth(tcb, acked.bytes));
    tcb.cwnd             = std::min(tcb.cwnd + more, cwnd_max);
}

/// RFC 5681 (4)
uint32_t lost(const Tcb& tcb, TcbLoss& /*loss*/, uint32_t flight_bytes) {
    return std::max(flight_bytes / 2, 2 * tcb.smss());
}

}  // namespace

const Control newreno{
    .name = "newreno", .acked = acked, .lost = lost, .marked = lost, .echoed = nullptr};

}  // namespace flue::tcp::congestion
