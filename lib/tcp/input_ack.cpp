#include <algorithm>

#include "tcp/impl.hpp"
#include "tcp/rtt.hpp"

namespace flue::tcp {

namespace {

/// Spec: RFC 5681 §2, "duplicate acknowledgment"
bool is_duplicate(const Tcb& tcb, const Arrival& a) {
    const wire::TcpFields& fields = a.segment.tcp;
    const bool bare        = a.segment.payload.length == 0 && (fields.flags & wire::tcp_fin) == 0;
    const bool same_window = uint32_t{fields.window} << tcb.snd_wind_shift() == tcb.snd_wnd;
    return bare && fields.ack == tcb.snd_una && same_window && tcb.snd_una < tcb.snd_max &&
           !tcb.is(flag_window_probe);
}

}  // namespace

/// Spec: RFC 9293 §3.10.7.4 fifth, RFC 5961 §5.2
Verdict Engine::Impl::check_ack(Conn c, const Arrival& a) {
    Tcb& tcb                      = c.tcb;
    const wire::TcpFields& fields = a.segment.tcp;
    if ((fields.flags & wire::tcp_ack) == 0) {
        return Drop::no_ack;
    }
    if (fields.ack > tcb.snd_max) {
        challenge(c, ack_answer_interval_ms);
        return Drop::ack_of_unsent;
    }
    if (fields.ack < tcb.snd_una - c.cold.max_snd_wnd) {
        challenge(c, ack_answer_interval_ms);
        return Drop::ack_too_old;
    }
    segment_accepted(c, a);
    if (tcb.is(flag_window_probe)) {
        tcb.retransmit_count =
            0;  // a peer that answers probes may keep its window shut for ever.  MUST-37
    }
    if (fields.ack > tcb.snd_una) {
        update_send_window(c, a);
        new_ack(c, fields);
    } else {
        old_ack(c, a);
    }
    if (has_work(tcb)) {
        queue_ready(c);
    }
    return tcb.state == State::closed ? Verdict{Drop::none} : proceed;
}

/// Spec: RFC 9293 §3.10.7.4 fifth.  SND.WL2 is not kept: an ACK that changed the window moved
/// SND.UNA at least as far.  An ACK of new data is news whatever its sequence number, as Linux has
/// it: in a retransmission that is old, and the window of before, counted from where SND.UNA is
/// now, would end where the peer never said.
void Engine::Impl::update_send_window(Conn c, const Arrival& a) {
    Tcb& tcb                      = c.tcb;
    const wire::TcpFields& fields = a.segment.tcp;
    const bool is_news            = fields.ack > tcb.snd_una || fields.seq >= tcb.snd_wl1;
    if (fields.ack < tcb.snd_una || !is_news) {
        return;
    }
    tcb.snd_wl1 = fields.seq;
    tcb.snd_wnd = uint32_t{fields.window} << tcb.snd_wind_shift();
    if (tcb.snd_wnd > c.cold.max_snd_wnd) {
        c.cold.max_snd_wnd = tcb.snd_wnd;
    }
}

/// Pre: snd_una < ack <= snd_max.
void Engine::Impl::new_ack(Conn c, const wire::TcpFields& fields) {
    Tcb& tcb = c.tcb;
    FLUE_ASSERT(tcb.snd_una < fields.ack);
    FLUE_ASSERT(fields.ack <= tcb.snd_max);
    Delivery d{.acked = bytes_between(tcb.snd_una, fields.ack), .flight_before = tcb.flight_size()};
    const bool was_troubled = tcb.troubled();
    d.marked                = note_echo(c, fields, d.acked);
    acknowledge_spans(c, fields.ack, d);
    measure_rtt(c, d, fields);
    tcb.retransmit_count = 0;
    tcb.settle(pending_tail_probe);
    tcb.clear(flag_window_probe);
    note_sacks(c, fields, d);
    if (was_troubled || tcb.troubled()) {
        recover_after_ack(c, d);
    } else {
        grow_window(c, d);
    }
    if (tcb.snd_una == tcb.snd_max) {
        stop_retransmit_timer(c);  // RFC 6298 (5.2)
    } else if (!tcb.runs(timer_is_reorder)) {
        start_loss_timer(c);  // RFC 6298 (5.3)
    }
    notify_acked(c);
    if (tcb.snd_una == tcb.snd_max && fin_is_outstanding(tcb.state)) {
        fin_acknowledged(c);
    }
    if (has_work(tcb)) {
        queue_ready(c);
    }
}

/// An ACK of nothing new may change the window, report what has arrived out of order, or just
/// repeat itself.
void Engine::Impl::old_ack(Conn c, const Arrival& a) {
    Tcb& tcb             = c.tcb;
    const bool duplicate = is_duplicate(tcb, a);
    update_send_window(c, a);
    note_echo(c, a.segment.tcp, 0);
    if (!tcb.is(flag_sack)) {
        if (duplicate) {
            duplicate_ack(c);
        }
        return;
    }
    Delivery d{.flight_before = tcb.flight_size()};
    note_sacks(c, a.segment.tcp, d);
    if (d.sacked || d.duplicate || (duplicate && tcb.troubled())) {
        recover_after_ack(c, d);
    }
}

/// A range that cannot be true is refused: it was never sent, or is what the ACK itself says is
/// missing.  Spec: RFC 2018 §5
void Engine::Impl::note_sacks(Conn c, const wire::TcpFields& fields, Delivery& d) {
    const Tcb& tcb = c.tcb;
    if (!tcb.is(flag_sack)) {
        return;
    }
    for (uint32_t i = 0; i < fields.sack_count; ++i) {
        const wire::SackRange& range = fields.sack[i];
        if (i == 0 && is_duplicate_report(c, fields)) {
            d.duplicate = true;
            note_duplicate(c);
        } else if (tcb.snd_una < range.start && range.start < range.end &&
                   range.end <= tcb.snd_max) {
            mark_sacked(c, range, d);
        } else if (range.end > tcb.snd_una || range.start >= range.end) {
            ++counters.sacks_refused;  // else it is old
        }
    }
}

/// Spec: RFC 2883 §4
bool Engine::Impl::is_duplicate_report(Conn c, const wire::TcpFields& fields) const {
    const wire::SackRange& first = fields.sack[0];
    const bool sane              = first.start < first.end &&
                      first.start >= c.tcb.snd_una - c.cold.max_snd_wnd &&
                      first.end <= c.tcb.snd_max;
    const bool below  = first.end <= fields.ack;
    const bool inside = fields.sack_count > 1 && fields.sack[1].start <= first.start &&
                        first.end <= fields.sack[1].end;
    return sane && (below || inside);
}

/// Segments sent once are timed (Karn, RFC 6298 §3), the oldest of those acknowledged together, but
/// none together with one that was sent again: it may have waited for that one at the peer's;
/// of others timestamps say what the round trip is (RFC 7323 §4.1).
void Engine::Impl::measure_rtt(Conn c, const Delivery& d, const wire::TcpFields& fields) {
    Tcb& tcb = c.tcb;
    if (d.oldest_rtt_us > 0 && !d.again) {
        rtt::sample(tcb, d.oldest_rtt_us);
        c.cold.backoff = 0;
        return;
    }
    if (!tcb.is(flag_timestamps) || !fields.has_timestamps || fields.ts_ecr == 0) {
        return;
    }
    const uint32_t elapsed_ms = timestamp_of(tcb) - fields.ts_ecr;
    if (elapsed_ms <= rtt::sample_max_us / 1000) {
        rtt::sample(tcb, elapsed_ms * 1000);
        c.cold.backoff = 0;
    }
}

void Engine::Impl::notify_acked(Conn c) {
    const ItemIndex first = first_item(c.tcb);
    if (first != no_item && fully_acked(c.tcb, first)) {
        notify(c, notice_acked);
    }
    if (c.tcb.snd_una == c.tcb.snd_max && missing_bytes(c.tcb) > 0) {
        notify(c, notice_unposted_acked);
    }
}

bool Engine::Impl::fully_acked(const Tcb& tcb, ItemIndex item) const {
    const Seq end = items[item].end() + (items[item].fin ? 1 : 0);
    return end <= tcb.snd_una;
}

}  // namespace flue::tcp
