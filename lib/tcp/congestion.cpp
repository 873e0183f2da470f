#include "tcp/congestion.hpp"

#include <algorithm>
#include <array>

namespace flue::tcp::congestion {

namespace {

constexpr std::array<const Control*, 4> controls{&cubic, &cubic, &newreno, &dctcp};

uint32_t number_of(const Tcb& tcb) {
    return (uint32_t{tcb.ecn} & ecn_control) >> 4U;
}

}  // namespace

CongestionControl kind_of(const Tcb& tcb) {
    return static_cast<CongestionControl>(number_of(tcb));
}

const Control& control_of(const Tcb& tcb) {
    return *controls[number_of(tcb)];
}

uint32_t initial_window(const Tcb& tcb) {
    const uint32_t smss = tcb.smss();
    return std::min(10 * smss, std::max(2 * smss, 14'600U));
}

void slow_start(Tcb& tcb, uint32_t bytes) {
    tcb.cwnd = std::min(tcb.cwnd + std::min(bytes, 2 * tcb.smss()), cwnd_max);
}

void idled(Tcb& tcb) {
    tcb.cwnd = std::min(tcb.cwnd, initial_window(tcb));
}

}  // namespace flue::tcp::congestion
