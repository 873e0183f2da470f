#include <algorithm>

#include "tcp/congestion.hpp"
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
        new_ack(c, fields.ack, fields);
    } else if (is_duplicate(tcb, a)) {
        duplicate_ack(c);
    } else {
        update_send_window(c, a);
    }
    if (wants_to_send(tcb)) {
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
void Engine::Impl::new_ack(Conn c, Seq ack, const wire::TcpFields& fields) {
    Tcb& tcb = c.tcb;
    FLUE_ASSERT(tcb.snd_una < ack);
    FLUE_ASSERT(ack <= tcb.snd_max);
    measure_rtt(c, ack, fields);

    const uint32_t flight = tcb.flight_size();
    const uint32_t bytes  = bytes_between(tcb.snd_una, ack);
    tcb.snd_una           = ack;
    tcb.snd_nxt           = max(tcb.snd_nxt, ack);
    tcb.retransmit_count  = 0;
    tcb.settle(pending_retransmit);
    tcb.clear(flag_window_probe);

    bool restart = true;
    if (tcb.is(flag_recovery)) {
        restart = recovery_ack(c, bytes);
    } else {
        tcb.dup_ack_count = 0;
        congestion::acknowledged(tcb, bytes, flight);
    }
    if (tcb.snd_una == tcb.snd_max) {
        tcb.timer_off(timer_retransmit);  // RFC 6298 (5.2)
    } else if (restart) {
        start_retransmit_timer(c);  // RFC 6298 (5.3)
    }
    notify_acked(c);
    if (tcb.snd_una == tcb.snd_max && fin_is_outstanding(tcb.state)) {
        fin_acknowledged(c);
    }
    if (wants_to_send(tcb)) {
        queue_ready(c);
    }
}

/// One segment is timed at a time (RFC 6298 §3); after a retransmission, which may not be timed,
/// timestamps say what the round trip is (RFC 7323 §4.1).
void Engine::Impl::measure_rtt(Conn c, Seq ack, const wire::TcpFields& fields) {
    Tcb& tcb = c.tcb;
    if (tcb.is(flag_rtt_timing)) {
        if (ack < tcb.rtt_seq) {
            return;
        }
        tcb.clear(flag_rtt_timing);
        rtt::sample(tcb, now_us32() - tcb.rtt_time_us);
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
