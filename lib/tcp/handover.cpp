#include <algorithm>

#include "tcp/congestion.hpp"
#include "tcp/impl.hpp"
#include "tcp/rtt.hpp"

// Hand-over: a connection comes with adopt and leaves with snapshot and forget.

namespace flue::tcp {

namespace {

constexpr uint8_t wind_shift_max = 14;  ///< RFC 7323 §2.3

bool adoptable_state(State state) {
    return state != State::closed && state != State::time_wait;
}

/// R15, and numbers that no TCP can have arrived at.
bool plausible(const Parameters& parameters, const Delegated& state) {
    const uint32_t flight = bytes_between(state.snd_una, state.snd_max);
    const bool ordered    = bytes_between(state.snd_una, state.snd_nxt) <= flight;
    const bool near       = flight <= send_backlog_max;
    const bool windows    = state.rcv_wnd <= window_max && state.snd_wnd <= window_max &&
                         parameters.rcv_wnd_max <= window_max;
    const bool shifts =
        parameters.snd_wind_shift <= wind_shift_max && parameters.rcv_wind_shift <= wind_shift_max;
    const bool fin_fits = !fin_is_outstanding(state.state) || state.snd_una < state.snd_max;
    const bool fin_done = state.state != State::fin_wait_2 || state.snd_una == state.snd_max;
    return adoptable_state(state.state) && ordered && near && windows && shifts && fin_fits &&
           fin_done;
}

void set_flags(Tcb& tcb, const Parameters& parameters, const Delegated& given) {
    const auto set_if = [&tcb](bool condition, Flag flag) {
        if (condition) {
            tcb.set(flag);
        }
    };
    tcb.set(flag_in_use);
    tcb.set(flag_quick_ack);
    set_if(parameters.timestamps, flag_timestamps);
    set_if(parameters.sack, flag_sack);
    set_if(parameters.nagle, flag_nagle);
    set_if(parameters.ecn, flag_ecn);
    set_if(parameters.keep_alive, flag_keep_alive);
    set_if(fin_was_sent(given.state), flag_fin_queued);
    set_if(!peer_may_send(given.state), flag_peer_fin);
    set_if(given.ts_recent == 0 || given.ts_recent_age_ms > ts_recent_valid_ms, flag_ts_unknown);
}

int32_t remaining_ms(bool running, uint32_t due, uint32_t tick) {
    if (!running) {
        return -1;
    }
    return std::max(static_cast<int32_t>(due - tick), 0);
}

/// The timer of an idle connection does not move with each segment: it looks when it comes up.
uint32_t keep_alive_expiry(const Tcb& tcb, const TcbCold& cold) {
    const uint32_t idle = tcb.last_received + cold.ka_timeout_ms;
    const bool probing  = cold.ka_unanswered > 0 || tcb.is(flag_blind_check);
    return probing || before(idle, cold.keep_alive_due) ? cold.keep_alive_due : idle;
}

uint32_t timer_ms(int32_t delta_ms) {
    return static_cast<uint32_t>(std::max(delta_ms, 0));
}

/// Everything but the place on the list of connections to be served, which outlives the connection.
void reset(Tcb& tcb) {
    const uint32_t ready_next = tcb.ready_next;
    tcb                       = Tcb{};
    tcb.ready_next            = ready_next;
}

/// SND.WL1 in the future would keep every window update out.
Seq last_window_update(const Delegated& state) {
    return bytes_between(state.snd_wl1, state.rcv_nxt) <= window_max ? state.snd_wl1
                                                                     : state.rcv_nxt;
}

/// Any number may come as `recover`: it counts only where it can be true, as the end of fast
/// recovery or of what a timeout has sent again.
bool recovers_something(const Delegated& state) {
    const uint32_t ahead = bytes_between(state.snd_una, state.recover);
    return ahead > 0 && ahead <= bytes_between(state.snd_una, state.snd_max);
}

}  // namespace

Engine::Refusal Engine::Impl::adopt(ConnIndex index,
                                    const Parameters& parameters,
                                    const Delegated& state) {
    const Conn c = at(index);
    FLUE_ASSERT(!c.tcb.is(flag_in_use));
    FLUE_ASSERT(parameters.group < groups_max);
    if (!plausible(parameters, state)) {
        return Refusal::state;
    }
    Tcb& tcb = c.tcb;
    reset(tcb);
    set_flags(tcb, parameters, state);
    tcb.state = state.state;

    tcb.mss   = std::max(parameters.mss, mss_min);
    tcb.wind_shifts =
        static_cast<uint8_t>(parameters.snd_wind_shift | (parameters.rcv_wind_shift << 4));
    tcb.snd_una      = state.snd_una;
    tcb.snd_max      = state.snd_max;
    tcb.snd_end      = state.state == State::fin_wait_2 ? state.snd_una - 1 : state.snd_una;
    tcb.snd_wnd      = state.snd_wnd;
    tcb.snd_wl1      = last_window_update(state);
    tcb.srtt_us_x8   = state.srtt_us_x8;
    tcb.rttvar_us_x4 = state.rttvar_us_x4;
    tcb.ssthresh     = std::max(state.ssthresh, 2 * tcb.smss());
    tcb.cwnd         = std::clamp(state.cwnd, tcb.smss(), congestion::cwnd_max);
    tcb.ecn          = static_cast<uint8_t>(static_cast<uint32_t>(control_for(parameters)) << 4U);
    if (state.cwnd == 0) {
        tcb.cwnd = congestion::initial_window(tcb);
    }
    tcb.rcv_nxt     = state.rcv_nxt;
    tcb.rcv_wnd_max = receive_window_of(parameters.rcv_wnd_max, parameters.rcv_wind_shift);
    tcb.rcv_adv =
        state.rcv_nxt + std::min(state.rcv_wnd, uint32_t{UINT16_MAX} << parameters.rcv_wind_shift);
    tcb.last_ack_sent = state.rcv_nxt;
    tcb.ts_recent     = state.ts_recent;
    tcb.ts_offset     = state.ts_time - tick;
    tcb.sent_us       = now_us32();

    TcbCold cold;
    cold.urgent_next    = c.cold.urgent_next;
    cold.notify_next    = c.cold.notify_next;
    cold.recover        = recovers_something(state) ? state.recover : state.snd_una - 1;
    cold.max_snd_wnd    = std::max(state.max_snd_wnd, state.snd_wnd);
    cold.max_rt_ms      = parameters.max_rt_ms;
    cold.ka_timeout_ms  = keep_alive_timeout_ms(parameters);
    cold.ka_interval_ms = std::min(parameters.ka_interval_ms, timer_ms_max);
    cold.ka_probe_count = parameters.ka_probe_count;
    cold.group          = parameters.group;
    cold.family         = parameters.family;
    cold.challenge_time = tick - timer_ms_max;
    c.cold              = cold;
    group_of(c).established += counts_as_established(tcb.state) ? 1u : 0u;
    adopt_recovery(c, state);
    adopt_timers(c, state);
    ++connection_count;
    return Refusal::none;
}

/// DCTCP is nothing without marks.  RFC 8257 §3
CongestionControl Engine::Impl::control_for(const Parameters& parameters) const {
    const bool chosen              = parameters.congestion != CongestionControl::unspecified;
    const CongestionControl wanted = chosen ? parameters.congestion : options.congestion;
    const bool blind               = wanted == CongestionControl::dctcp && !parameters.ecn;
    const bool open                = wanted == CongestionControl::unspecified;
    return blind || open ? CongestionControl::cubic : wanted;
}

/// Goes on where the giver was in repairing a loss: what it has sent again is not told from the
/// rest, so no round trip is measured on it.
void Engine::Impl::adopt_recovery(Conn c, const Delegated& state) {
    Tcb& tcb                = c.tcb;
    tcb.dup_ack_count       = state.dup_ack_count;
    tcb.retransmit_count    = state.retransmit_count;
    c.cold.backoff          = std::max(state.backoff, state.retransmit_count);
    c.cold.retransmit_since = tick - state.total_rt_ms;
    if (tcb.snd_una == tcb.snd_max) {
        return;
    }
    adopt_scoreboard(c, state);
    if (state.recovery && recovers_something(state)) {
        TcbLoss& loss   = c.know();
        loss.recover_fs = tcb.flight_size();
        tcb.set(flag_recovery);
        adopt_holes(c, state);
    } else if (state.snd_nxt < state.snd_max && tcb.snd_wnd > 0) {
        c.cold.recover = recovers_something(state) ? state.recover : state.snd_max;
        tcb.set(flag_timeout);
    }
    if (tcb.has(loss_marked)) {
        queue_ready(c);
    }
}

void Engine::Impl::adopt_scoreboard(Conn c, const Delegated& state) {
    Tcb& tcb = c.tcb;
    if (state.snd_nxt > tcb.snd_una) {
        append_span(c, state.snd_nxt);
        spans[tcb.span_last].flags = span_again;
    }
    if (state.snd_nxt < tcb.snd_max) {
        tcb.span_last        = insert_span(c, tcb.span_last);
        spans[tcb.span_last] = Span{.end     = tcb.snd_max,
                                    .sent_us = now_us32(),
                                    .next    = spans[tcb.span_last].next,
                                    .flags   = span_lost | span_again};
        c.know().lost_bytes  = bytes_between(state.snd_nxt, tcb.snd_max);
        count_fates(c);
    }
    for (uint32_t i = 0; tcb.is(flag_sack) && i < state.sack_count; ++i) {
        const wire::SackRange& range = state.sack.at(i);
        if (tcb.snd_una < range.start && range.start < range.end && range.end <= tcb.snd_max) {
            Delivery d;
            mark_sacked(c, range, d);
        }
    }
}

/// In recovery the first hole is lost, and with SACK all that end below what the peer has reported.
void Engine::Impl::adopt_holes(Conn c, const Delegated& state) {
    Seq highest = c.tcb.snd_una;
    for (uint32_t i = 0; i < state.sack_count; ++i) {
        highest = max(highest, state.sack.at(i).start);
    }
    if (!c.tcb.has(loss_sacked)) {
        mark_front_lost(c, c.tcb.smss());
        return;
    }
    uint32_t index = c.tcb.span_last;
    Seq start      = c.tcb.snd_una;
    while (start < highest) {
        index      = spans[index].next;
        Span& span = spans[index];
        if (!span.is(span_sacked | span_lost) && span.end <= highest) {
            span.flags = static_cast<uint8_t>(span.flags | span_lost);
            c.loss.lost_bytes += bytes_between(start, span.end);
        }
        start = span.end;
    }
    count_fates(c);
}

void Engine::Impl::adopt_timers(Conn c, const Delegated& state) {
    Tcb& tcb               = c.tcb;
    const bool running     = state.retransmit_delta_ms >= 0;
    const uint32_t carried = tick + timer_ms(state.retransmit_delta_ms);
    const bool heard       = state.ts_recent_age_ms <= ts_recent_valid_ms;  // else: not known when
    tcb.last_received      = heard ? tick - state.ts_recent_age_ms : tick;
    if (tcb.state == State::fin_wait_2) {
        start_timer(
            c, timer_retransmit, running ? carried : tick + ticks_of_us(options.fin_wait_2_us));
    } else if (running) {
        start_timer(c, timer_retransmit, carried);
    } else if (tcb.snd_una < tcb.snd_max) {
        start_retransmit_timer(c);
    }
    const bool persists = tcb.snd_wnd == 0 || tcb.snd_una == tcb.snd_max;
    if (persists && tcb.state != State::fin_wait_2 && tcb.runs(timer_retransmit)) {
        tcb.set(flag_window_probe);
    }
    if (!tcb.is(flag_keep_alive) && state.ka_delta_ms >= 0) {
        tcb.set(flag_blind_check);  // contract 2.12
    }
    if (tcb.is(flag_keep_alive) || tcb.is(flag_blind_check)) {
        adopt_keep_alive(c, state);
    }
    if (running && state.retransmit_delta_ms == 0) {
        run_timers(c);  // R12: at once
    }
}

/// The keepalive timer looks at when the peer was last heard, so that has to agree with the time
/// that is left.
void Engine::Impl::adopt_keep_alive(Conn c, const Delegated& state) {
    Tcb& tcb             = c.tcb;
    const uint32_t delta = timer_ms(state.ka_delta_ms);
    if (state.ka_delta_ms < 0) {
        start_timer(c, timer_keep_alive, tick + c.cold.ka_timeout_ms);
        return;
    }
    start_timer(c, timer_keep_alive, tick + delta);
    c.cold.ka_unanswered    = state.ka_probes_unanswered;
    const uint32_t probing  = keep_alive_interval_ms(c.cold) + 1;
    const uint32_t idle     = c.cold.ka_unanswered > 0 ? probing : c.cold.ka_timeout_ms;
    const uint32_t heard_at = tick + std::min(delta, idle) - idle;
    tcb.last_received       = before(heard_at, tcb.last_received) ? heard_at : tcb.last_received;
}

/// When the retransmission timer would expire, also while its slot serves a shorter purpose: an RTO
/// after the oldest segment in flight was sent.
uint32_t Engine::Impl::timeout_due(const Tcb& tcb) const {
    if (!tcb.runs(timer_is_probe) && !tcb.runs(timer_is_reorder)) {
        return tcb.retransmit_due;
    }
    const uint32_t age_us  = now_us32() - spans[spans[tcb.span_last].next].sent_us;
    const uint32_t left_us = rto_us(tcb) - std::min(rto_us(tcb), age_us);
    return tick + ticks_of_us(left_us);
}

/// Spec: R11, R12, R13
void Engine::Impl::snapshot(Instant at_time, ConnIndex index, Delegated& state) const {
    const Tcb& tcb           = tcbs[index];
    const TcbCold& cold      = colds[index];
    const uint32_t tick_then = static_cast<uint32_t>(at_time.us / 1000);
    const bool timer_travels = tcb.runs(timer_retransmit) && tcb.state != State::time_wait;
    const bool repairing     = tcb.retransmit_count > 0 && !tcb.is(flag_window_probe);
    state                    = Delegated{};
    state.state              = tcb.state;
    state.rcv_nxt            = tcb.rcv_nxt;
    state.rcv_wnd            = tcb.rcv_wnd();
    state.snd_una            = tcb.snd_una;
    state.snd_nxt            = next_seq(Conn{index, tcbs[index], colds[index], losses[index]});
    state.snd_max            = tcb.snd_max;
    state.snd_wnd            = tcb.snd_wnd;
    state.max_snd_wnd        = cold.max_snd_wnd;
    state.snd_wl1            = tcb.snd_wl1;
    state.cwnd               = tcb.cwnd;
    state.ssthresh           = tcb.ssthresh;
    state.srtt_us_x8         = tcb.srtt_us_x8;
    state.rttvar_us_x4       = tcb.rttvar_us_x4;
    state.ts_recent          = tcb.ts_recent;
    state.ts_recent_age_ms   = tcb.is(flag_ts_unknown) ? UINT32_MAX : tick_then - tcb.last_received;
    state.ts_time            = tick_then + tcb.ts_offset;
    state.total_rt_ms        = repairing ? tick_then - cold.retransmit_since : 0;
    state.dup_ack_count      = tcb.dup_ack_count;
    state.retransmit_count   = tcb.retransmit_count;
    state.backoff            = cold.backoff;
    state.recovery           = tcb.is(flag_recovery);
    state.ka_probes_unanswered = cold.ka_unanswered;
    state.ka_delta_ms =
        remaining_ms(tcb.runs(timer_keep_alive), keep_alive_expiry(tcb, cold), tick_then);
    state.retransmit_delta_ms = remaining_ms(timer_travels, timeout_due(tcb), tick_then);
    state.sack_count          = sacked_ranges(tcb, state.sack);
    state.recover             = cold.recover;
}

void Engine::Impl::forget(Conn c) {
    Tcb& tcb = c.tcb;
    FLUE_ASSERT(tcb.is(flag_in_use));
    if (tcb.runs(timer_in_wheel)) {
        wheel.remove(*this, c.index);
    }
    drop_reassembly(c);
    consume(c, tcb.readable);
    drop_spans(c);
    while (tcb.item_last != no_item) {
        pop_item(c, first_item(tcb));
    }
    group_of(c).established -= counts_as_established(tcb.state) ? 1u : 0u;
    reset(tcb);
    --connection_count;
}

}  // namespace flue::tcp
