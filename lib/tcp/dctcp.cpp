#include <algorithm>
#include <bit>

#include "tcp/congestion.hpp"

// DCTCP: the window shrinks by how much of it was marked.  RFC 8257

namespace flue::tcp::congestion {

namespace {

constexpr uint32_t alpha_one  = 1024;
constexpr uint32_t gain_shift = 4;  ///< g = 1/16.  RFC 8257 §4.2

struct Memory {
    uint32_t alpha_complement;  ///< 1 - alpha, times 1024: zeroes mean the alpha of 1 that §4.2
                                ///< begins with
    uint32_t acked_bytes;
    uint32_t marked_bytes;
    uint32_t window_end;
    uint32_t started;
    uint32_t unused;
};

static_assert(sizeof(Memory) == sizeof(TcbLoss::memory));

Memory memory_of(const TcbLoss& loss) {
    return std::bit_cast<Memory>(loss.memory);
}

void store(TcbLoss& loss, const Memory& memory) {
    loss.memory = std::bit_cast<decltype(loss.memory)>(memory);
}

/// RFC 8257 §3.3, steps 1 to 7.  SND.UNA has not moved yet.
void echoed(const Tcb& tcb, TcbLoss& loss, uint32_t bytes, bool marked) {
    Memory m = memory_of(loss);
    m.acked_bytes += bytes;
    m.marked_bytes += marked ? bytes : 0;
    if (m.started == 0) {
        m.started    = 1;
        m.window_end = tcb.snd_una.value;
    }
    if (tcb.snd_una + bytes > Seq{m.window_end}) {
        const uint64_t total = std::max(m.acked_bytes, 1U);
        const auto fraction  = static_cast<uint32_t>(uint64_t{alpha_one} * m.marked_bytes / total);
        const uint32_t alpha = alpha_one - m.alpha_complement;
        const uint32_t next  = alpha - (alpha >> gain_shift) + (fraction >> gain_shift);
        m.alpha_complement   = alpha_one - std::min(next, alpha_one);
        m.acked_bytes        = 0;
        m.marked_bytes       = 0;
        m.window_end         = tcb.snd_max.value;
    }
    store(loss, m);
}

/// RFC 8257 §3.3 step 9
uint32_t marked(const Tcb& tcb, TcbLoss& loss, uint32_t /*flight_bytes*/) {
    const uint32_t alpha = alpha_one - memory_of(loss).alpha_complement;
    const uint64_t cut   = uint64_t{tcb.cwnd} * alpha / (2 * alpha_one);
    return std::max(tcb.cwnd - static_cast<uint32_t>(cut), 2 * tcb.smss());
}

/// RFC 8257 §3.5: as any TCP.
uint32_t lost(const Tcb& tcb, TcbLoss& loss, uint32_t flight_bytes) {
    return newreno.lost(tcb, loss, flight_bytes);
}

void acked(Tcb& tcb, TcbLoss& loss, const Acked& acked) {
    newreno.acked(tcb, loss, acked);
}

}  // namespace

const Control dctcp{
    .name = "dctcp", .acked = acked, .lost = lost, .marked = marked, .echoed = echoed};

}  // namespace flue::tcp::congestion
