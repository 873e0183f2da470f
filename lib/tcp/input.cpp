#include "tcp/impl.hpp"
#include "tcp/window.hpp"

namespace flue::tcp {

namespace {

using enum State;

constexpr uint32_t syn_challenge_interval_ms = 3'000;    ///< contract 2.12
constexpr uint32_t blind_check_delay_ms      = 300'000;  ///< contract 2.12

bool has_flag(const Arrival& a, uint32_t flag) {
    return (a.segment.tcp.flags & flag) != 0;
}

/// The segment that a connection in the middle of a transfer expects: the next data in order, or an
/// ACK of new data, nothing else going on.  Whatever it does not take, segment_arrives does.
bool predicted(const Tcb& tcb, const Segment& segment) {
    const wire::TcpFields& fields = segment.tcp;
    constexpr uint32_t busy =
        flag_stopped | flag_challenged | flag_blind_check | flag_window_probe | flag_ts_unknown;
    constexpr uint32_t ack_or_psh = wire::tcp_ack | wire::tcp_psh;

    const bool quiet = tcb.state == established && (tcb.flags & busy) == 0 && !tcb.has(ecn_ce) &&
                       tcb.reassembly_first == no_index;
    const bool plain = (fields.flags & ~ack_or_psh) == 0 && (fields.flags & wire::tcp_ack) != 0 &&
                       !fields.congestion_experienced && fields.sack_count == 0;
    const bool in_line = fields.seq == tcb.rcv_nxt && segment.payload.length <= tcb.rcv_wnd() &&
                         tcb.snd_una <= fields.ack && fields.ack <= tcb.snd_max;
    const bool news   = segment.payload.length > 0 || tcb.snd_una < fields.ack;
    const bool window = uint32_t{fields.window} << tcb.snd_wind_shift() == tcb.snd_wnd;
    const bool times  = fields.has_timestamps == tcb.is(flag_timestamps) &&
                       (!fields.has_timestamps || !before(fields.ts_val, tcb.ts_recent));
    return quiet && plain && in_line && news && window && times;
}

}  // namespace

Engine::Outcome Engine::Impl::on_segment(Conn c, const Segment& segment) {
    ++counters.segments_in;
    Arrival a{.segment = segment,
              .seq     = segment.tcp.seq,
              .bytes   = segment.payload.length,
              .fin     = (segment.tcp.flags & wire::tcp_fin) != 0};
    const Drop drop = predicted(c.tcb, segment) ? receive_predicted(c, a) : segment_arrives(c, a);
    if (drop != Drop::none) {
        ++counters.drops[static_cast<uint32_t>(drop)];
    }
    return {.drop = drop, .payload_kept = a.kept, .out_of_order = a.late};
}

Drop Engine::Impl::receive_predicted(Conn c, Arrival& a) {
    const wire::TcpFields& fields = a.segment.tcp;
    record_timestamp(c, a);
    c.tcb.last_received = tick;
    c.tcb.snd_wl1       = fields.seq;
    if (c.tcb.snd_una < fields.ack) {
        new_ack(c, fields);
    }
    return a.bytes > 0 ? receive_in_order(c, a) : Drop::none;
}

/// Spec: RFC 9293 §3.10.7.4 with RFC 5961 and RFC 7323 §5.3
Drop Engine::Impl::segment_arrives(Conn c, Arrival& a) {
    if (const Verdict v = check_open(c, a); v != proceed) {
        return *v;
    }
    if (const Verdict v = check_timestamps(c, a); v != proceed) {
        return *v;
    }
    if (const Verdict v = check_sequence(c, a); v != proceed) {
        return *v;
    }  // first
    if (const Verdict v = check_rst(c, a); v != proceed) {
        return *v;
    }  // second; third is security
    if (const Verdict v = check_syn(c, a); v != proceed) {
        return *v;
    }  // fourth
    if (const Verdict v = check_ack(c, a); v != proceed) {
        return *v;
    }  // fifth
    if (const Verdict v = check_urgent(c, a); v != proceed) {
        return *v;
    }                           // sixth
    return process_text(c, a);  // seventh and eighth
}

Verdict Engine::Impl::check_open(Conn c, const Arrival& a) {
    if (c.tcb.state == closed) {
        reset_again(c, a);
        return Drop::connection_closed;
    }
    if (c.tcb.is(flag_stopped)) {
        return Drop::connection_stopped;
    }
    if (c.tcb.state == time_wait && has_flag(a, wire::tcp_syn)) {
        return Drop::connection_closed;  // a new incarnation is the host's business.  R88
    }
    return proceed;
}

/// Spec: RFC 7323 §5.3 R1.  TS.Recent of 0 is unknown: Linux does not tell it when it gives a
/// socket away.  A segment without the option is taken, as Linux does, against the SHOULD of §3.2.
Verdict Engine::Impl::check_timestamps(Conn c, const Arrival& a) {
    const wire::TcpFields& fields = a.segment.tcp;
    if (!c.tcb.is(flag_timestamps) || !fields.has_timestamps || has_flag(a, wire::tcp_rst)) {
        return proceed;
    }
    if (tick - c.tcb.last_received > ts_recent_valid_ms) {
        c.tcb.set(flag_ts_unknown);
    }
    if (c.tcb.is(flag_ts_unknown) || !before(fields.ts_val, c.tcb.ts_recent)) {
        return proceed;
    }
    answer_unacceptable(c, a);
    return Drop::paws;
}

Verdict Engine::Impl::check_sequence(Conn c, Arrival& a) {
    Tcb& tcb            = c.tcb;
    const uint32_t len  = a.bytes + (a.fin ? 1 : 0) + (has_flag(a, wire::tcp_syn) ? 1 : 0);
    const bool at_front = a.seq == tcb.rcv_nxt;  // "special allowance" when the window is zero
    if (has_flag(a, wire::tcp_rst)) {
        const bool inside = at_front || acceptable(tcb.rcv_nxt, tcb.rcv_wnd(), a.seq, 0);
        return inside ? proceed : Verdict{Drop::rst_outside_window};
    }
    if (!at_front && !acceptable(tcb.rcv_nxt, tcb.rcv_wnd(), a.seq, len)) {
        if (tcb.state == time_wait && a.fin) {
            start_timer(c, timer_retransmit, tick + ticks_of_us(options.time_wait_us));
        }
        if (a.bytes > 0 && a.seq < tcb.rcv_nxt) {
            report_duplicate(c, a.seq, min(a.end(), tcb.rcv_nxt));  // what was cut off never came
        }
        answer_unacceptable(c, a);
        return Drop::outside_window;
    }
    if (a.seq < tcb.rcv_nxt) {
        const uint32_t old_bytes = bytes_between(a.seq, tcb.rcv_nxt);
        a.skip                   = old_bytes < a.bytes ? old_bytes : a.bytes;
        a.bytes -= a.skip;
        a.seq = tcb.rcv_nxt;
    }
    if (a.end() > tcb.rcv_adv) {
        const uint32_t beyond = bytes_between(tcb.rcv_adv, a.end());
        a.bytes -= beyond < a.bytes ? beyond : a.bytes;
        a.fin = false;
        a.cut = true;
    }
    return proceed;
}

/// Spec: RFC 5961 §3.2, R84, R86
Verdict Engine::Impl::check_rst(Conn c, const Arrival& a) {
    if (!has_flag(a, wire::tcp_rst)) {
        return proceed;
    }
    if (a.segment.tcp.seq != c.tcb.rcv_nxt) {
        if (!c.tcb.is(flag_challenged)) {
            c.tcb.set(flag_challenged);
            challenge(c, 0);
            start_blind_check(c);
        }
        return Drop::rst_challenged;
    }
    ++counters.resets_in;
    const bool was_time_wait = c.tcb.state == time_wait;
    close(c);
    if (!was_time_wait) {
        notify(c, notice_reset);
    }
    return Drop::none;
}

/// Spec: RFC 5961 §4.2, R87
Verdict Engine::Impl::check_syn(Conn c, const Arrival& a) {
    if (!has_flag(a, wire::tcp_syn)) {
        return proceed;
    }
    if (a.segment.tcp.seq == c.tcb.rcv_nxt) {
        close(c);
        request_upload(c, UploadReason::upload_requested);
        return Drop::none;
    }
    challenge(c, syn_challenge_interval_ms);
    start_blind_check(c);
    return Drop::syn_challenged;
}

/// Spec: R97
Verdict Engine::Impl::check_urgent(Conn c, const Arrival& a) {
    if (!has_flag(a, wire::tcp_urg) || !peer_may_send(c.tcb.state)) {
        return proceed;
    }
    request_upload(c, UploadReason::received_urgent_data);
    stop(c);
    return Drop::urgent;
}

/// Spec: RFC 7323 §4.3
void Engine::Impl::record_timestamp(Conn c, const Arrival& a) {
    const wire::TcpFields& fields = a.segment.tcp;
    const bool due                = c.tcb.is(flag_ts_unknown) || fields.seq <= c.tcb.last_ack_sent;
    if (c.tcb.is(flag_timestamps) && fields.has_timestamps && due) {
        c.tcb.ts_recent = fields.ts_val;
        c.tcb.clear(flag_ts_unknown);
    }
}

void Engine::Impl::answer_unacceptable(Conn c, const Arrival& a) {
    const bool has_text =
        a.segment.payload.length > 0 || has_flag(a, wire::tcp_fin | wire::tcp_syn);
    if (!has_text) {
        const bool too_soon = tick - c.cold.challenge_time < ack_answer_interval_ms;
        if (too_soon) {
            return;
        }
        c.cold.challenge_time = tick;
    }
    acknowledge_now(c);
}

void Engine::Impl::challenge(Conn c, uint32_t interval_ms) {
    if (tick - c.cold.challenge_time < interval_ms) {
        return;
    }
    c.cold.challenge_time = tick;
    ++counters.challenge_acks;
    acknowledge_now(c);
}

void Engine::Impl::start_blind_check(Conn c) {
    if (c.tcb.runs(timer_keep_alive) || c.tcb.state == time_wait) {
        return;
    }
    c.tcb.set(flag_blind_check);
    c.cold.ka_unanswered = 0;
    start_timer(c, timer_keep_alive, tick + blind_check_delay_ms);
}

void Engine::Impl::segment_accepted(Conn c, const Arrival& a) {
    Tcb& tcb = c.tcb;
    record_timestamp(c, a);
    note_mark(c, a);
    tcb.last_received = tick;
    tcb.clear(flag_challenged);
    if (tcb.is(flag_blind_check)) {
        tcb.clear(flag_blind_check);
        tcb.timer_off(timer_keep_alive);
    }
    if (tcb.state == fin_wait_2) {
        start_timer(c, timer_retransmit, tick + ticks_of_us(options.fin_wait_2_us));  // R91
    }
}

}  // namespace flue::tcp
