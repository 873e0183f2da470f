#include <algorithm>

#include "tcp/impl.hpp"
#include "tcp/rtt.hpp"

// A connection has one slot in the wheel, for the earliest of its timers or earlier: a timer that
// moves away is not re-armed before the slot comes up.

namespace flue::tcp {

namespace {

constexpr uint8_t probe_count_default = 10;  ///< where the host configured none.  Contract 2.12

bool due(const Tcb& tcb, Timer timer, uint32_t at, uint32_t tick) {
    return tcb.runs(timer) && !before(tick, at);
}

}  // namespace

void Engine::Impl::on_time() {
    wheel.advance(*this, tick, [this](uint32_t index) {
        const Conn c = at(index);
        c.tcb.timer_off(timer_in_wheel);
        run_timers(c);
    });
}

Instant Engine::Impl::next_deadline() const {
    if (wheel.empty()) {
        return Instant{};
    }
    const uint32_t next       = wheel.next_tick();
    const uint32_t ahead_ms   = before(next, tick) ? 0 : next - tick;
    const uint64_t present_ms = now.us / 1000;
    return Instant{std::max((present_ms + ahead_ms) * 1000, now.us)};
}

void Engine::Impl::run_timers(Conn c) {
    Tcb& tcb = c.tcb;
    if (tcb.frozen()) {
        return;
    }
    if (due(tcb, timer_delayed_ack, tcb.delayed_ack_due, tick)) {
        tcb.timer_off(timer_delayed_ack);
        acknowledge_now(c);
    }
    if (due(tcb, timer_retransmit, tcb.retransmit_due, tick)) {
        const bool probe   = tcb.runs(timer_is_probe);
        const bool reorder = tcb.runs(timer_is_reorder);
        stop_retransmit_timer(c);
        if (probe) {
            tail_probe_timed_out(c);
        } else if (reorder) {
            reorder_timed_out(c);
        } else {
            run_state_timer(c);
        }
    }
    if (tcb.runs(timer_pace) && !before(tick, c.loss.paced_tick + 1)) {
        tcb.timer_off(timer_pace);
        queue_ready(c);
    }
    if (!tcb.frozen() && due(tcb, timer_keep_alive, c.cold.keep_alive_due, tick)) {
        keep_alive_timed_out(c);
    }
    if (tcb.frozen()) {
        return;
    }
    if (tcb.runs(timer_delayed_ack)) {
        arm_wheel(c, tcb.delayed_ack_due);
    }
    if (tcb.runs(timer_retransmit)) {
        arm_wheel(c, tcb.retransmit_due);
    }
    if (tcb.runs(timer_keep_alive)) {
        arm_wheel(c, c.cold.keep_alive_due);
    }
    if (tcb.runs(timer_pace)) {
        arm_wheel(c, c.loss.paced_tick + 1);
    }
}

/// What the timer that retransmission, persist, FIN-WAIT-2 and 2MSL share means in this state.
void Engine::Impl::run_state_timer(Conn c) {
    if (c.tcb.state == State::time_wait) {
        close(c);
    } else if (c.tcb.state == State::fin_wait_2) {
        close(c);
        request_upload(c, UploadReason::timeout_expiration);  // R92
    } else {
        retransmit_timed_out(c);
    }
}

void Engine::Impl::start_timer(Conn c, Timer timer, uint32_t at_tick) {
    if (timer == timer_delayed_ack) {
        c.tcb.delayed_ack_due = at_tick;
    } else if (timer == timer_keep_alive) {
        c.cold.keep_alive_due = at_tick;
    } else if (timer == timer_retransmit) {
        stop_retransmit_timer(c);
        c.tcb.retransmit_due = at_tick;
    }
    c.tcb.timer_on(timer);
    arm_wheel(c, at_tick);
}

void Engine::Impl::start_retransmit_timer(Conn c) {
    const uint32_t timeout_us =
        rtt::backed_off_us(rto_us(c.tcb), c.cold.backoff, options.rto_max_us);
    start_timer(c, timer_retransmit, tick + ticks_of_us(timeout_us));
}

void Engine::Impl::start_retransmit_timer(Conn c, Timer kind, uint32_t delay_us) {
    start_timer(c, timer_retransmit, tick + ticks_of_us(delay_us));
    c.tcb.timer_on(kind);
}

void Engine::Impl::stop_retransmit_timer(Conn c) {
    c.tcb.timer_off(timer_retransmit);
    c.tcb.timer_off(timer_is_probe);
    c.tcb.timer_off(timer_is_reorder);
}

/// arm_wheel sees to it that the connection's slot comes up at `due_tick` or before.
void Engine::Impl::arm_wheel(Conn c, uint32_t due_tick) {
    Tcb& tcb = c.tcb;
    if (tcb.runs(timer_in_wheel)) {
        if (!before(due_tick, tcb.wheel_due)) {
            return;
        }
        wheel.remove(*this, c.index);
    }
    tcb.wheel_due = due_tick;
    tcb.timer_on(timer_in_wheel);
    wheel.add(*this, tick, c.index);
}

/// Spec: RFC 9293 §3.8.4, contract 2.12
void Engine::Impl::keep_alive_timed_out(Conn c) {
    Tcb& tcb                   = c.tcb;
    const bool blind           = tcb.is(flag_blind_check);
    const uint32_t interval_ms = keep_alive_interval_ms(c.cold);
    const uint32_t probe_count =
        c.cold.ka_probe_count != 0 ? c.cold.ka_probe_count : probe_count_default;
    const uint32_t idle_ms   = tick - tcb.last_received;
    const uint32_t probed_at = c.cold.keep_alive_due - interval_ms;

    const bool answered      = c.cold.ka_unanswered > 0 && !before(tcb.last_received, probed_at);
    if (answered || (c.cold.ka_unanswered == 0 && !blind && idle_ms < c.cold.ka_timeout_ms)) {
        c.cold.ka_unanswered = 0;
        start_timer(c, timer_keep_alive, tcb.last_received + c.cold.ka_timeout_ms);
        return;
    }
    if (tcb.snd_una < tcb.snd_max) {  // retransmission finds out by itself
        start_timer(c, timer_keep_alive, tick + c.cold.ka_timeout_ms);
        return;
    }
    if (c.cold.ka_unanswered >= probe_count) {
        close(c);
        request_upload(c, UploadReason::timeout_expiration);
        return;
    }
    ++c.cold.ka_unanswered;
    start_timer(c, timer_keep_alive, tick + interval_ms);
    queue_urgent(c, pending_keep_alive);
}

uint32_t Engine::Impl::rto_us(const Tcb& tcb) const {
    return rtt::rto_us(tcb, options.rto_min_us, options.rto_max_us);
}

}  // namespace flue::tcp
