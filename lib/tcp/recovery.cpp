#include <algorithm>

#include "tcp/congestion.hpp"
#include "tcp/impl.hpp"
#include "tcp/rtt.hpp"

// Loss recovery: fast retransmit and NewReno's fast recovery (RFC 5681 §3.2, RFC 6582),
// retransmission timeouts (RFC 6298) and window probes (RFC 9293 §3.8.6.1).

namespace flue::tcp {

namespace {

constexpr uint8_t duplicate_ack_threshold = 3;  ///< RFC 5681 §3.2

void increment(uint8_t& count) {
    count = static_cast<uint8_t>(count + (count < UINT8_MAX ? 1 : 0));
}

/// What is outstanding was sent before the last loss was repaired: its duplicate ACKs may be echoes
/// of the repair. RFC 6582 §3.2 step 1
bool repaired_already(const Tcb& tcb, const TcbCold& cold) {
    return bytes_between(tcb.snd_una, cold.recover) <= tcb.flight_size();
}

}  // namespace

void Engine::Impl::duplicate_ack(Conn c) {
    Tcb& tcb = c.tcb;
    increment(tcb.dup_ack_count);
    queue_ready(c);  // the first two may let new data out: RFC 3042
    if (tcb.is(flag_recovery)) {
        tcb.cwnd = std::min(tcb.cwnd + tcb.smss(), congestion::cwnd_max);
        return;
    }
    if (tcb.dup_ack_count != duplicate_ack_threshold || repaired_already(tcb, c.cold)) {
        return;
    }
    congestion::lost(tcb);
    tcb.cwnd       = tcb.ssthresh + duplicate_ack_threshold * tcb.smss();
    c.cold.recover = tcb.snd_max;
    tcb.set(flag_recovery);
    tcb.clear(flag_partial_ack);
    tcb.clear(flag_rtt_timing);
    queue_urgent(c, pending_retransmit);
    start_retransmit_timer(c);
    ++counters.fast_retransmits;
}

/// Spec: RFC 6582 §3.2 step 3
bool Engine::Impl::recovery_ack(Conn c, uint32_t bytes) {
    Tcb& tcb            = c.tcb;
    const uint32_t smss = tcb.smss();
    if (tcb.snd_una >= c.cold.recover) {
        tcb.cwnd = std::min(tcb.ssthresh, std::max(tcb.flight_size(), smss) + smss);
        tcb.clear(flag_recovery);
        tcb.dup_ack_count = 0;
        return true;
    }
    const bool first = !tcb.is(flag_partial_ack);
    tcb.set(flag_partial_ack);
    tcb.cwnd = tcb.cwnd - std::min(bytes, tcb.cwnd) + (bytes >= smss ? smss : 0);
    tcb.cwnd = std::max(tcb.cwnd, smss);
    queue_urgent(c, pending_retransmit);
    return first;
}

bool Engine::Impl::retransmits_exhausted(Conn c) const {
    const uint32_t count = c.tcb.retransmit_count;
    if (c.cold.max_rt_ms == UINT32_MAX) {
        return false;
    }
    if (c.cold.max_rt_ms != 0) {
        return count > 0 && tick - c.cold.retransmit_since >= c.cold.max_rt_ms;
    }
    return count >= options.retransmits_max;
}

/// Spec: RFC 6298 (5.4) to (5.6), RFC 5681 §3.1
void Engine::Impl::retransmit_timed_out(Conn c) {
    Tcb& tcb = c.tcb;
    if (tcb.is(flag_window_probe) || (tcb.snd_wnd == 0 && tcb.snd_una < tcb.snd_max)) {
        window_probe_timed_out(c);
        return;
    }
    if (tcb.snd_una == tcb.snd_max) {
        return;
    }
    if (retransmits_exhausted(c)) {
        give_up(c);
        return;
    }
    ++counters.timeouts;
    const bool first = tcb.retransmit_count == 0;
    if (first) {
        c.cold.retransmit_since = tick;
    }
    congestion::timed_out(tcb, first);
    tcb.clear(flag_recovery);
    tcb.clear(flag_rtt_timing);
    tcb.settle(pending_retransmit);
    tcb.dup_ack_count = 0;
    c.cold.recover    = tcb.snd_max;
    tcb.snd_nxt       = tcb.snd_una;
    increment(tcb.retransmit_count);
    // Karn's backoff outlives progress until a round trip is measured, but grows no further with
    // each new segment lost: where nothing new is left to be sent and timed, it would never come
    // down again.
    c.cold.backoff = std::max(c.cold.backoff, tcb.retransmit_count);
    start_retransmit_timer(c);
    queue_ready(c);
}

/// Spec: RFC 9293 §3.8.6.1, MUST-36, MUST-37, R90
void Engine::Impl::window_probe_timed_out(Conn c) {
    Tcb& tcb = c.tcb;
    if (!tcb.is(flag_window_probe)) {  // the window was shut over data in flight
        tcb.set(flag_window_probe);
        tcb.clear(flag_recovery);
        tcb.dup_ack_count    = 0;
        tcb.retransmit_count = 0;
    }
    tcb.clear(flag_rtt_timing);
    tcb.snd_nxt = tcb.snd_una;
    if (!wants_to_send(tcb) && tcb.snd_una == tcb.snd_max) {
        tcb.clear(flag_window_probe);
        return;
    }
    if (tcb.retransmit_count >= options.window_probes_max) {
        give_up(c);
        return;
    }
    increment(tcb.retransmit_count);
    increment(c.cold.backoff);
    queue_urgent(c, pending_probe);
    start_retransmit_timer(c);
}

}  // namespace flue::tcp
