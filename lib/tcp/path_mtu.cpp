#include <algorithm>

#include "tcp/impl.hpp"

// What is learned of the path's MTU while the host believes in another one: from routers (RFC 1191,
// RFC 8201), believed as RFC 5927 has it, and where these say nothing from segments that vanish
// (RFC 4821 §7.7).  Only ever downwards: what a host says next replaces it.

namespace flue::tcp {

namespace {

/// What a path that drops large segments nearly always lets through; the base MTU of Linux's
/// tcp_mtu_probing, too.
constexpr uint16_t mss_base = 1024;

/// Below this nobody is believed: IPv4 packets of 552 bytes, as Linux's min_pmtu, IPv6 ones of
/// 1280. RFC 5927 §7.2, RFC 8201 §4
constexpr uint16_t mss_floor(wire::Family family) {
    return family == wire::Family::ipv6 ? 1220 : 512;
}

/// What is tried next when `bytes` of payload vanish; not less than that = nothing is.
constexpr uint16_t mss_below(uint32_t bytes, wire::Family family) {
    const uint16_t floor = mss_floor(family);
    const uint16_t base  = std::max(mss_base, floor);
    return bytes > base ? base : floor;
}

}  // namespace

bool Engine::Impl::packet_too_big(Conn c, Seq seq, uint16_t mss) {
    Tcb& tcb             = c.tcb;
    const bool in_flight = tcb.snd_una <= seq && seq < tcb.snd_max;  // RFC 5927 §4.1
    if (tcb.frozen() || !in_flight || mss < mss_floor(c.cold.family)) {
        ++counters.too_big_refused;
        return false;
    }
    if (mss >= tcb.mss) {
        ++counters.too_big_known;  // of another segment that was in flight with the first
        return false;
    }
    ++counters.too_big_heeded;
    lower_mss(c, mss);
    c.loss.mss_trial = MssTrial::none;
    send_again_smaller(c);
    return true;
}

void Engine::Impl::set_mss(Conn c, uint16_t mss) {
    Tcb& tcb     = c.tcb;
    tcb.mss      = std::max(mss, mss_min);
    tcb.cwnd     = std::max(tcb.cwnd, tcb.smss());
    tcb.ssthresh = std::max(tcb.ssthresh, 2 * tcb.smss());
}

void Engine::Impl::lower_mss(Conn c, uint16_t mss) {
    TcbLoss& loss = c.know();
    loss.mss_told = loss.mss_told == 0 ? c.tcb.mss : loss.mss_told;
    set_mss(c, mss);
}

/// The host says what it said before: then the path has the last word.
void Engine::Impl::update_mss(Conn c, uint16_t mss) {
    if (c.tcb.has(loss_known)) {
        if (c.loss.mss_told == std::max(mss, mss_min)) {
            return;
        }
        c.loss.mss_told  = 0;
        c.loss.mss_trial = MssTrial::none;
    }
    set_mss(c, mss);
}

/// What is in flight did not get through, and will not: that says nothing of congestion, so cwnd
/// stays.  Without this, a timeout would find it out.  RFC 1191 §6.4
void Engine::Impl::send_again_smaller(Conn c) {
    Tcb& tcb = c.tcb;
    if (tcb.is(flag_window_probe)) {
        return;  // its probes are small
    }
    leave_recovery(c);
    tcb.set(flag_timeout);
    tcb.set(loss_undo, false);
    tcb.set(loss_tail_probe, false);
    c.cold.recover = tcb.snd_max;
    lose_outstanding(c, false);
    start_retransmit_timer(c);
}

/// Large segments have timed out twice in a row: perhaps it is their size.  If smaller ones get
/// through, end_mss_trial tries the size once more, since any path that was down for a while looks
/// the same; if that fails too, the smaller size stays.  Before what timed out is sent again.
void Engine::Impl::step_down_mss(Conn c) {
    Tcb& tcb               = c.tcb;
    const uint32_t segment = std::min(tcb.smss(), tcb.flight_size()) + (tcb.mss - tcb.smss());
    const uint16_t mss     = mss_below(segment, c.cold.family);
    if (tcb.retransmit_count == 0 || mss >= segment) {
        return;
    }
    TcbLoss& loss = c.know();
    if (loss.mss_trial == MssTrial::raised && tcb.snd_una < loss.trial_end) {
        loss.mss_trial = MssTrial::none;
    } else if (loss.mss_trial != MssTrial::lowered) {
        loss.mss_trial   = MssTrial::lowered;
        c.cold.trial_mss = tcb.mss;
    }
    lower_mss(c, mss);
    ++counters.black_holes;
}

/// What had timed out got through.
void Engine::Impl::end_mss_trial(Conn c) {
    if (!c.tcb.has(loss_known) || c.loss.mss_trial != MssTrial::lowered) {
        return;
    }
    TcbLoss& loss  = c.loss;
    loss.mss_trial = MssTrial::raised;
    loss.trial_end = c.tcb.snd_max + c.cold.trial_mss;
    loss.mss_told  = loss.mss_told == c.cold.trial_mss ? uint16_t{0} : loss.mss_told;
    c.cold.backoff = 0;  // it was the size, not the path
    set_mss(c, c.cold.trial_mss);
}

}  // namespace flue::tcp
