#include <algorithm>

#include "tcp/congestion.hpp"
#include "tcp/impl.hpp"
#include "tcp/rtt.hpp"

// Loss recovery: from when something is thought lost until all that was in flight then is
// acknowledged.  What is lost, rack.cpp says, for peers with SACK; without, three duplicate ACKs
// (RFC 5681 §3.2) and partial ACKs (RFC 6582).  How much may be sent meanwhile: RFC 6937. Timeouts:
// RFC 6298, RFC 5682.  Window probes: RFC 9293 §3.8.6.1.

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

/// A duplicate ACK of a peer without SACK stands for a segment that has left the network.
void Engine::Impl::duplicate_ack(Conn c) {
    Tcb& tcb = c.tcb;
    increment(tcb.dup_ack_count);
    if (tcb.is(flag_timeout)) {
        tcb.set(loss_frto, false);  // RFC 5682 §2.1 steps 2a and 3a
        queue_ready(c);
        return;
    }
    TcbLoss& loss       = c.know();
    const uint32_t smss = tcb.smss();
    const uint32_t most = tcb.flight_size() - std::min(tcb.flight_size(), smss);
    Delivery d;
    d.bytes           = std::min(smss, most - std::min(most, loss.sacked_bytes));
    loss.sacked_bytes = std::min(loss.sacked_bytes + smss, most);
    count_fates(c);
    if (!tcb.is(flag_recovery) && tcb.dup_ack_count == duplicate_ack_threshold &&
        !repaired_already(tcb, c.cold)) {
        mark_front_lost(c, smss);
        d.lost = true;
        enter_recovery(c);
    }
    if (tcb.is(flag_recovery)) {
        reduce_proportionally(c, d);
    }
    queue_ready(c);  // before the third, new data: RFC 3042
}

void Engine::Impl::recover_after_ack(Conn c, Delivery& d) {
    Tcb& tcb        = c.tcb;
    const bool open = !tcb.is(flag_recovery) && !tcb.is(flag_timeout);
    if (tcb.has(loss_frto)) {
        detect_spurious_timeout(c, d);
    }
    const bool reduced = tcb.has(loss_tail_probe) && tail_probe_ack(c, d);
    const bool over    = !open && tcb.snd_una >= c.cold.recover;
    if (over && tcb.is(flag_timeout)) {
        grow_window(c, d);  // the last ACK of the repair is slow start's, too
    }
    if (over) {
        leave_recovery(c);
    }
    if (tcb.is(flag_sack)) {
        note_delivery(c, d);
        detect_lost(c, d);
    } else if (tcb.is(flag_recovery) && d.acked > 0) {
        partial_ack(c, d);
    }
    const bool repairs = tcb.is(flag_recovery) || tcb.is(flag_timeout);
    if (!repairs && tcb.has(loss_marked) && (d.lost || over)) {
        enter_recovery(c);
    }
    if (tcb.is(flag_recovery)) {
        reduce_proportionally(c, d);
    } else if (!over && !reduced) {
        grow_window(c, d);
    }
    if (!tcb.is(flag_recovery) && d.acked > 0) {
        tcb.dup_ack_count = 0;
        if (!tcb.is(flag_sack) && tcb.has(loss_sacked)) {
            c.loss.sacked_bytes = 0;
            count_fates(c);
        }
    }
    if (!tcb.troubled() && tcb.has(loss_known)) {
        c.loss.rack_rtt_us = 0;
    }
    queue_ready(c);
}

/// The peer lacks what is first now, too.  Spec: RFC 6582 §3.2 step 3
void Engine::Impl::partial_ack(Conn c, Delivery& d) {
    TcbLoss& loss       = c.know();
    const uint32_t smss = c.tcb.smss();
    const uint32_t held = std::min(d.acked - std::min(d.acked, smss), loss.sacked_bytes);
    loss.sacked_bytes -= held;
    d.bytes -= std::min(d.bytes, held);  // these were counted when they came
    d.lost = true;
    mark_front_lost(c, smss);
}

void Engine::Impl::enter_recovery(Conn c) {
    Tcb& tcb      = c.tcb;
    TcbLoss& loss = c.know();
    remember_window(c);
    loss.recover_fs    = std::max(tcb.flight_size(), 1U);
    loss.prr_delivered = 0;
    loss.prr_out       = 0;
    c.cold.recover     = tcb.snd_max;
    pay_for_loss(c, tcb.flight_size());
    tcb.set(flag_recovery);
    tcb.set(loss_tail_probe, false);
    start_retransmit_timer(c);
    ++counters.fast_retransmits;
}

void Engine::Impl::leave_recovery(Conn c) {
    Tcb& tcb = c.tcb;
    if (tcb.is(flag_recovery)) {
        tcb.cwnd = tcb.ssthresh;
        if (c.loss.reorder_persist > 0 && --c.loss.reorder_persist == 0) {
            c.loss.reorder_steps = 1;  // RFC 8985 §6.2 step 4
        }
    }
    tcb.clear(flag_recovery);
    tcb.clear(flag_timeout);
    tcb.set(loss_frto, false);
    tcb.dup_ack_count = 0;
    if (!tcb.is(flag_sack)) {
        c.know().sacked_bytes = 0;
        count_fates(c);
    }
    end_mss_trial(c);
}

/// Proportional Rate Reduction with the slow start bound for what RFC 9937 calls a safe ACK, and
/// RFC 6937 §3's conservative bound for the others.
void Engine::Impl::reduce_proportionally(Conn c, const Delivery& d) {
    Tcb& tcb      = c.tcb;
    TcbLoss& loss = c.loss;
    loss.prr_delivered += d.bytes;
    const uint32_t in_pipe = pipe(c);
    const uint32_t smss    = tcb.smss();
    int64_t allowed        = 0;
    if (in_pipe > tcb.ssthresh) {
        const uint64_t share = uint64_t{loss.prr_delivered} * tcb.ssthresh + loss.recover_fs - 1;
        allowed              = static_cast<int64_t>(share / loss.recover_fs) - loss.prr_out;
    } else {
        const int64_t owed = int64_t{loss.prr_delivered} - loss.prr_out;
        const bool safe    = d.acked > 0 && !d.lost;
        const int64_t most = safe ? std::max<int64_t>(owed, d.bytes) + smss : owed;
        allowed            = std::min<int64_t>(int64_t{tcb.ssthresh} - in_pipe, most);
    }
    // The fast retransmit, and after a partial ACK the next one: RFC 6582 §3.2 step 3
    const bool at_once = loss.prr_out == 0 || (d.acked > 0 && !tcb.is(flag_sack));
    allowed            = std::max<int64_t>(allowed, at_once ? smss : 0);
    tcb.cwnd =
        static_cast<uint32_t>(std::clamp<int64_t>(in_pipe + allowed, smss, congestion::cwnd_max));
}

/// A window that was not even half used has not been tried: it says nothing about the path.  RFC
/// 7661 §4.1.  What counts is how full it was when it was last filled: of ACKs that come in a burst
/// the later ones find less in flight.  An ACK that tells of marks is no reason either.  RFC 3168
/// §6.1.2
void Engine::Impl::grow_window(Conn c, const Delivery& d) {
    Tcb& tcb        = c.tcb;
    const bool used = d.flight_before >= tcb.cwnd / 2 || tcb.has(loss_cwnd_used);
    if (d.acked == 0 || d.marked || (!used && !tcb.is(flag_timeout))) {
        return;
    }
    if (tcb.cwnd < tcb.ssthresh) {
        // An ACK of the repair may be of data that had arrived before the timeout.  RFC 3465 §2.3
        congestion::slow_start(tcb, tcb.is(flag_timeout) ? std::min(d.acked, tcb.smss()) : d.acked);
    } else {
        congestion::control_of(tcb).acked(tcb, c.know(), {.bytes = d.acked, .now_ms = tick});
    }
}

/// For a loss that is repaired already, which the tail loss probe has found.
void Engine::Impl::reduce_at_once(Conn c, const Delivery& d) {
    pay_for_loss(c, d.flight_before);
    c.tcb.cwnd = std::min(c.tcb.cwnd, c.tcb.ssthresh);
}

void Engine::Impl::remember_window(Conn c) {
    TcbLoss& loss       = c.know();
    loss.prior_cwnd     = c.tcb.cwnd;
    loss.prior_ssthresh = c.tcb.ssthresh;
    loss.undo_segments  = 0;
    c.tcb.set(loss_undo, true);
}

/// Nothing was lost: back to how it was.
void Engine::Impl::undo_reduction(Conn c) {
    Tcb& tcb      = c.tcb;
    TcbLoss& loss = c.loss;
    tcb.cwnd      = std::max(tcb.cwnd, loss.prior_cwnd);
    tcb.ssthresh  = std::max(tcb.ssthresh, loss.prior_ssthresh);
    tcb.clear(flag_recovery);
    tcb.clear(flag_timeout);
    tcb.set(loss_frto, false);
    tcb.set(loss_undo, false);
    tcb.dup_ack_count = 0;
    c.cold.recover    = tcb.snd_una - 1;
    c.cold.backoff    = 0;
    find_nothing_lost(c);
    ++counters.spurious_recoveries;
}

/// With SACK, what had not been sent again and is now reported was under way all the time; without,
/// only the second ACK tells it from what had arrived out of order.  Spec: RFC 5682 §2.1, §3.1
void Engine::Impl::detect_spurious_timeout(Conn c, const Delivery& d) {
    Tcb& tcb        = c.tcb;
    const bool told = tcb.is(flag_sack) || c.loss.frto_sent;
    if (tcb.snd_una >= c.cold.recover) {
        tcb.set(loss_frto, false);
    } else if (d.original && told) {
        undo_reduction(c);
    } else if (d.acked > 0 && !c.loss.frto_new_data) {
        c.loss.frto_new_data = true;
    } else {
        tcb.set(loss_frto, false);
    }
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
    Tcb& tcb             = c.tcb;
    const bool in_flight = tcb.snd_una < tcb.snd_max;
    if (tcb.is(flag_window_probe) && in_flight && tcb.snd_wnd > 0) {
        end_window_probe(c);  // it has opened, and the port took nothing since then
        start_loss_timer(c);
        return;
    }
    if (tcb.is(flag_window_probe) || (tcb.snd_wnd == 0 && in_flight)) {
        window_probe_timed_out(c);
        return;
    }
    if (!in_flight) {
        return;
    }
    if (retransmits_exhausted(c)) {
        give_up(c);
        return;
    }
    ++counters.timeouts;
    step_down_mss(c);
    TcbLoss& loss    = c.know();
    const bool first = tcb.retransmit_count == 0;
    const bool fresh = first && !tcb.is(flag_recovery) && !tcb.is(flag_timeout);
    if (first) {
        c.cold.retransmit_since = tick;
        remember_window(c);
        pay_for_loss(c, tcb.flight_size());
    }
    if (const auto& method = congestion::control_of(tcb); method.timed_out != nullptr) {
        method.timed_out(loss);
    }
    tcb.cwnd = tcb.smss();  // the loss window, RFC 5681 §3.1
    tcb.clear(flag_recovery);
    tcb.set(flag_timeout);
    tcb.set(loss_undo, fresh);
    tcb.set(loss_frto, fresh);
    tcb.set(loss_tail_probe, false);
    loss.frto_new_data = false;
    loss.frto_sent     = false;
    tcb.dup_ack_count  = 0;
    c.cold.recover     = tcb.snd_max;
    // A second one for the same segment: perhaps the peer has thrown away what it had reported.
    // RFC 2018 §8
    lose_outstanding(c, !first || !tcb.is(flag_sack) || has_renounced(c));
    increment(tcb.retransmit_count);
    // Karn's backoff outlives progress until a round trip is measured, but grows no further with
    // each new segment lost: where nothing new is left to be sent and timed, it would never come
    // down again.
    c.cold.backoff = std::max(c.cold.backoff, tcb.retransmit_count);
    start_retransmit_timer(c);
}

/// Spec: RFC 9293 §3.8.6.1, MUST-36, MUST-37, R90
void Engine::Impl::window_probe_timed_out(Conn c) {
    Tcb& tcb = c.tcb;
    if (!tcb.is(flag_window_probe)) {  // the window was shut over data in flight
        tcb.set(flag_window_probe);
        tcb.clear(flag_recovery);
        tcb.clear(flag_timeout);
        tcb.set(loss_frto, false);
        tcb.dup_ack_count    = 0;
        tcb.retransmit_count = 0;
    }
    lose_outstanding(c, true);
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
