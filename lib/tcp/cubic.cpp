#include <algorithm>
#include <bit>

#include "tcp/congestion.hpp"

// CUBIC: the window is a cubic function of the time since it was last reduced.  RFC 9438

namespace flue::tcp::congestion {

namespace {

/// What it knows, all zero at first.
struct Memory {
    uint32_t w_max;      ///< bytes: the window before the last reduction; 0 = there was none
    uint32_t origin;     ///< bytes: where the curve of this epoch is flat
    uint32_t epoch_ms;   ///< when congestion avoidance began
    uint32_t k_ms;       ///< from then on until the window is `origin` again
    uint32_t w_est;      ///< bytes: Reno's window, W_est of §4.3; 0 = no epoch has begun
    uint32_t growth_ms;  ///< when the window last grew
};

static_assert(sizeof(Memory) == sizeof(TcbLoss::memory));

constexpr uint32_t beta_x10    = 7;        ///< §4.6
constexpr uint64_t time_max    = 100'000;  ///< ms: the curve is steep enough by then
constexpr uint32_t alpha_x1000 = 529;      ///< 3 * (1 - beta) / (1 + beta), §4.3

Memory memory_of(const TcbLoss& loss) {
    return std::bit_cast<Memory>(loss.memory);
}

void store(TcbLoss& loss, const Memory& memory) {
    loss.memory = std::bit_cast<decltype(loss.memory)>(memory);
}

uint32_t cube_root(uint64_t value) {
    uint64_t root = 0;
    for (int bit = 20; bit >= 0; --bit) {
        const uint64_t next = root | (uint64_t{1} << static_cast<unsigned>(bit));
        root                = next * next * next <= value ? next : root;
    }
    return static_cast<uint32_t>(root);
}

/// K of §4.2, in ms: the cube root of (W_max - cwnd) / C with C = 0.4 segments per second cubed.
uint32_t time_to_origin_ms(uint32_t distance, uint32_t smss) {
    return cube_root(uint64_t{distance} * 2'500'000'000 / smss);
}

/// W_cubic(t) of §4.2, in bytes.
uint32_t window_at(const Memory& m, uint32_t since_ms, uint32_t smss) {
    const bool before = since_ms < m.k_ms;
    const uint64_t away =
        std::min<uint64_t>(before ? m.k_ms - since_ms : since_ms - m.k_ms, time_max);
    const uint64_t distance = away * away * away / 10'000 * smss * 4 / 1'000'000;
    if (before) {
        return m.origin - static_cast<uint32_t>(std::min<uint64_t>(distance, m.origin));
    }
    return static_cast<uint32_t>(std::min<uint64_t>(m.origin + distance, cwnd_max));
}

void begin_epoch(Memory& m, const Tcb& tcb, uint32_t now_ms) {
    m.epoch_ms = now_ms;
    m.w_est    = tcb.cwnd;
    m.origin   = std::max(m.w_max, tcb.cwnd);
    m.k_ms     = time_to_origin_ms(m.origin - tcb.cwnd, tcb.smss());
}

/// The curve stands still while the window is not used.  RFC 9438 §5.8
void leave_out_idle_time(Memory& m, const Tcb& tcb, uint32_t now_ms) {
    const uint32_t round_trip_ms = tcb.srtt_us_x8 / 8'000 + 1;
    const uint32_t pause_ms      = now_ms - m.growth_ms;
    if (pause_ms > 2 * round_trip_ms) {
        m.epoch_ms += pause_ms;
    }
}

/// RFC 9438 §4.3: what Reno would have.
void grow_estimate(Memory& m, const Tcb& tcb, uint32_t bytes) {
    const uint32_t alpha = m.w_est < m.w_max ? alpha_x1000 : 1'000;
    const uint64_t more =
        uint64_t{alpha} * tcb.smss() / 1'000 * std::min(bytes, tcb.cwnd) / tcb.cwnd;
    m.w_est = static_cast<uint32_t>(
        std::min<uint64_t>(m.w_est + std::max<uint64_t>(more, least_growth(tcb, bytes)), cwnd_max));
}

/// RFC 9438 §4.2 to §4.5
void acked(Tcb& tcb, TcbLoss& loss, const Acked& acked) {
    Memory m = memory_of(loss);
    if (m.w_est == 0) {
        begin_epoch(m, tcb, acked.now_ms);
    } else {
        leave_out_idle_time(m, tcb, acked.now_ms);
    }
    m.growth_ms = acked.now_ms;
    grow_estimate(m, tcb, acked.bytes);

    const uint32_t smss     = tcb.smss();
    const uint32_t since_ms = acked.now_ms - m.epoch_ms + tcb.srtt_us_x8 / 8'000;
    const uint32_t wanted   = window_at(m, since_ms, smss);
    const uint32_t target   = std::clamp(wanted, tcb.cwnd, tcb.cwnd + tcb.cwnd / 2);
    if (wanted < m.w_est) {
        tcb.cwnd = std::max(tcb.cwnd, m.w_est);
    } else {
        const uint64_t step =
            uint64_t{target - tcb.cwnd} * std::min(acked.bytes, tcb.cwnd) / tcb.cwnd;
        tcb.cwnd += static_cast<uint32_t>(step);
    }
    tcb.cwnd = std::min(tcb.cwnd, cwnd_max);
    store(loss, m);
}

/// RFC 9438 §4.6, §4.7
uint32_t lost(const Tcb& tcb, TcbLoss& loss, uint32_t flight_bytes) {
    Memory m            = memory_of(loss);
    const uint64_t used = std::min(tcb.cwnd, flight_bytes);  // an unused window proves nothing
    const bool less     = used < m.w_max;  // others want a share: let go of some.  §4.7
    m.w_max             = static_cast<uint32_t>(less ? used * (10 + beta_x10) / 20 : used);
    m.w_est             = 0;
    store(loss, m);
    const uint64_t share = used * beta_x10 / 10;
    return std::max(static_cast<uint32_t>(share), 2 * tcb.smss());
}

/// The next epoch begins where slow start ends.  RFC 9438 §4.8
void timed_out(TcbLoss& loss) {
    Memory m = memory_of(loss);
    m.w_max  = 0;
    store(loss, m);
}

}  // namespace

const Control cubic{.name      = "cubic",
                    .acked     = acked,
                    .lost      = lost,
                    .marked    = lost,
                    .echoed    = nullptr,
                    .timed_out = timed_out};

}  // namespace flue::tcp::congestion
