#include <algorithm>

#include "tcp/impl.hpp"

// What a host changes of a connection while the target has it.

namespace flue::tcp {

void Engine::Impl::update(Conn c, const Parameters& parameters, uint8_t flags) {
    Tcb& tcb = c.tcb;
    FLUE_ASSERT(tcb.is(flag_in_use));
    parameters.nagle ? tcb.set(flag_nagle) : tcb.clear(flag_nagle);
    update_mss(c, parameters.mss);
    update_keep_alive(c, parameters, (flags & update_restart_keep_alive) != 0);
    update_window(c, parameters.rcv_wnd_max, (flags & update_tell_window) != 0);
    c.cold.max_rt_ms = parameters.max_rt_ms;
    if ((flags & update_restart_max_rt) != 0) {
        c.cold.retransmit_since = tick;  // R30
    }
    if (!tcb.frozen() && wants_to_send(tcb)) {
        queue_ready(c);  // a small segment may have become one that need not wait
    }
}

void Engine::Impl::update_keep_alive(Conn c, const Parameters& parameters, bool restart) {
    Tcb& tcb                  = c.tcb;
    TcbCold& cold             = c.cold;
    const bool was_on         = tcb.is(flag_keep_alive);
    const uint32_t old_idle   = cold.ka_timeout_ms;
    const uint32_t old_repeat = keep_alive_interval_ms(cold);
    cold.ka_timeout_ms        = keep_alive_timeout_ms(parameters);
    cold.ka_interval_ms       = std::min(parameters.ka_interval_ms, timer_ms_max);
    cold.ka_probe_count       = parameters.ka_probe_count;
    parameters.keep_alive ? tcb.set(flag_keep_alive) : tcb.clear(flag_keep_alive);
    if (tcb.frozen() || tcb.state == State::time_wait) {
        return;
    }
    if (!parameters.keep_alive) {
        if (!tcb.is(flag_blind_check)) {
            tcb.timer_off(timer_keep_alive);
            cold.ka_unanswered = 0;
        }
        return;
    }
    const uint32_t repeat = keep_alive_interval_ms(cold);
    if (restart || !was_on) {
        tcb.clear(flag_blind_check);
        cold.ka_unanswered = 0;
        start_timer(c, timer_keep_alive, tick + cold.ka_timeout_ms);
    } else if (cold.ka_unanswered > 0) {
        start_timer(c, timer_keep_alive, cold.keep_alive_due - old_repeat + repeat);
    } else if (cold.ka_timeout_ms != old_idle) {
        const uint32_t due = tcb.last_received + cold.ka_timeout_ms;
        start_timer(c, timer_keep_alive, before(due, tick) ? tick : due);
    }
}

void Engine::Impl::update_window(Conn c, uint32_t rcv_wnd_max, bool tell) {
    Tcb& tcb        = c.tcb;
    tcb.rcv_wnd_max = receive_window_of(rcv_wnd_max, tcb.rcv_wind_shift());
    if (tell && !tcb.frozen() && peer_may_send(tcb.state) && tcb.rcv_wnd() != tcb.rcv_wnd_max) {
        acknowledge_now(c);  // R29
    }
}

}  // namespace flue::tcp
