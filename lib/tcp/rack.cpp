#include <algorithm>

#include "tcp/congestion.hpp"
#include "tcp/impl.hpp"
#include "tcp/rtt.hpp"

// RACK-TLP: a segment is lost when one that was sent sufficiently later has arrived, and where
// nothing is sent later any more, a probe is.  RFC 8985

namespace flue::tcp {

namespace {

constexpr uint32_t duplicate_threshold  = 3;        ///< segments.  RFC 8985 §6.2 step 4
constexpr uint32_t ack_delay_max_us     = 200'000;  ///< of the peer.  RFC 8985 §7.2
constexpr uint8_t reorder_persist_limit = 16;       ///< recoveries.  RFC 8985 §6.2 step 4
constexpr uint8_t reorder_steps_max     = 20;  ///< four round trips at least, below srtt anyway

/// RACK_sent_after of RFC 8985 §6.2
bool sent_after(uint32_t us1, Seq end1, uint32_t us2, Seq end2) {
    const auto later = static_cast<int32_t>(us1 - us2);
    return later > 0 || (later == 0 && end1 > end2);
}

}  // namespace

/// Spec: RFC 8985 §6.2 steps 1 to 3.  Of an earlier trouble nothing is left: its times may be from
/// before the clock went round.
void Engine::Impl::note_delivery(Conn c, const Delivery& d) {
    if (!d.any) {
        return;
    }
    TcbLoss& loss         = c.know();
    const uint32_t rtt_us = std::max(now_us32() - d.sent_us, 1U);
    const bool first      = loss.rack_rtt_us == 0;
    loss.min_rtt_us       = std::min(loss.min_rtt_us, rtt_us);
    loss.reordering_seen  = loss.reordering_seen || d.reordered;
    if (first || sent_after(d.sent_us, d.end, loss.rack_sent_us, loss.rack_end)) {
        loss.rack_sent_us = d.sent_us;
        loss.rack_end     = d.end;
        loss.rack_rtt_us  = rtt_us;
    }
    loss.rack_fack = first ? d.end : max(loss.rack_fack, d.end);
}

/// Spec: RFC 8985 §6.2 step 4
uint32_t Engine::Impl::reorder_window_us(Conn c) const {
    const Tcb& tcb      = c.tcb;
    const TcbLoss& loss = c.loss;
    const bool repairs  = tcb.is(flag_recovery) || tcb.is(flag_timeout);
    const bool sure     = loss.sacked_bytes >= duplicate_threshold * tcb.smss();
    if (!loss.reordering_seen && (repairs || sure)) {
        return 0;
    }
    const uint64_t window = uint64_t{loss.reorder_steps} * (loss.min_rtt_us / 4);
    return static_cast<uint32_t>(std::min<uint64_t>(window, tcb.srtt_us_x8 / 8));
}

/// Spec: RFC 8985 §6.2 step 5
void Engine::Impl::detect_lost(Conn c, Delivery& d) {
    Tcb& tcb = c.tcb;
    if (tcb.snd_una == tcb.snd_max || !tcb.has(loss_known) || c.loss.rack_rtt_us == 0) {
        return;
    }
    TcbLoss& loss             = c.loss;
    const uint32_t allowed_us = loss.rack_rtt_us + reorder_window_us(c);
    int32_t wait_us           = 0;
    uint32_t index            = spans[tcb.span_last].next;
    for (Seq start = tcb.snd_una; start < tcb.snd_max; index = spans[index].next) {
        Span& span     = spans[index];
        const Seq from = start;
        start          = span.end;
        if (span.is(span_sacked | span_lost) ||
            !sent_after(loss.rack_sent_us, loss.rack_end, span.sent_us, span.end)) {
            continue;
        }
        const auto left_us = static_cast<int32_t>(span.sent_us + allowed_us - now_us32());
        if (left_us > 0) {
            wait_us = std::max(wait_us, left_us);
            continue;
        }
        span.flags = static_cast<uint8_t>(span.flags | span_lost);
        loss.lost_bytes += bytes_between(from, span.end);
        d.lost = true;
    }
    count_fates(c);
    if (wait_us > 0) {
        start_retransmit_timer(c, timer_is_reorder, static_cast<uint32_t>(wait_us));
    } else if (c.tcb.runs(timer_is_reorder)) {
        start_retransmit_timer(c);
    }
}

void Engine::Impl::reorder_timed_out(Conn c) {
    Delivery d;
    start_retransmit_timer(c);
    detect_lost(c, d);
    if (!d.lost) {
        return;
    }
    if (!c.tcb.is(flag_recovery) && !c.tcb.is(flag_timeout)) {
        enter_recovery(c);
    }
    if (c.tcb.is(flag_recovery)) {
        reduce_proportionally(c, d);
    }
    queue_ready(c);
}

/// The peer had it already: reordering looked like loss.  Spec: RFC 8985 §6.2 step 4; undo: RFC
/// 3708 §3
void Engine::Impl::note_duplicate(Conn c) {
    ++counters.duplicates_reported;
    Tcb& tcb      = c.tcb;
    TcbLoss& loss = c.know();
    if (loss.reorder_persist == 0 || tcb.snd_una >= loss.dsack_round) {
        loss.dsack_round = tcb.snd_max;
        loss.reorder_steps =
            static_cast<uint8_t>(std::min<uint32_t>(loss.reorder_steps + 1U, reorder_steps_max));
        loss.reorder_persist = reorder_persist_limit;
    }
    if (tcb.has(loss_undo) && loss.undo_segments > 0 && --loss.undo_segments == 0) {
        undo_reduction(c);
    }
}

/// start_loss_timer starts the timer of what is in flight: the probe timeout where a tail loss
/// probe may go out, else the retransmission timeout.  Spec: RFC 8985 §7.2
void Engine::Impl::start_loss_timer(Conn c) {
    const Tcb& tcb       = c.tcb;
    const bool may_probe = tcb.is(flag_sack) && !tcb.troubled() && tcb.srtt_us_x8 != 0 &&
                           !tcb.is(flag_window_probe) && c.cold.backoff == 0;
    const uint32_t single   = tcb.flight_size() <= tcb.smss() ? ack_delay_max_us : 0;
    const uint32_t probe_us = tcb.srtt_us_x8 / 4 + single;
    if (!may_probe || probe_us >= rto_us(tcb)) {
        start_retransmit_timer(c);
        return;
    }
    // The timeout counts from when the oldest was sent, whatever is sent after it.
    const uint32_t age_us  = now_us32() - spans[spans[tcb.span_last].next].sent_us;
    const uint32_t left_us = rto_us(tcb) - std::min(rto_us(tcb), age_us);
    start_retransmit_timer(c, timer_is_probe, std::min(probe_us, left_us));
}

/// Spec: RFC 8985 §7.3
void Engine::Impl::tail_probe_timed_out(Conn c) {
    start_retransmit_timer(c);
    if (c.tcb.snd_wnd > 0 && c.tcb.snd_una < c.tcb.snd_max) {
        queue_urgent(c, pending_tail_probe);
    }
}

/// A probe that was sent before and is acknowledged without a report of a duplicate has repaired a
/// loss, which nothing else will tell of.  Spec: RFC 8985 §7.4.2
bool Engine::Impl::tail_probe_ack(Conn c, const Delivery& d) {
    Tcb& tcb            = c.tcb;
    const TcbLoss& loss = c.loss;
    if (tcb.snd_una < loss.tail_probe_end) {
        return false;
    }
    if (!loss.tail_probe_again || d.duplicate) {
        tcb.set(loss_tail_probe, false);
    } else if (tcb.snd_una > loss.tail_probe_end) {
        tcb.set(loss_tail_probe, false);
        reduce_at_once(c, d);
        return true;
    } else if (d.acked == 0 && !d.sacked) {
        tcb.set(loss_tail_probe, false);
    }
    return false;
}

}  // namespace flue::tcp
