#include "tcp/impl.hpp"

// Everything that ends a connection: FINs both ways, RST out, giving up, and the upload requests
// that go with it.

namespace flue::tcp {

using enum State;

void Engine::Impl::set_state(Conn c, State to) {
    FLUE_ASSERT(legal_move(c.tcb.state, to));
    if (counts_as_established(c.tcb.state) && !counts_as_established(to)) {
        Group& group = group_of(c);
        FLUE_ASSERT(group.established > 0);
        --group.established;
        group.established_reset += to == closed ? 1 : 0;
    }
    c.tcb.state = to;
}

/// close drops what a connection without a future does not need; posted sends and readable bytes
/// stay.  R80
void Engine::Impl::close(Conn c) {
    set_state(c, closed);
    c.tcb.timers_off();
    c.tcb.settle_all_but(pending_reset);
    drop_reassembly(c);
    drop_spans(c);
}

/// Spec: R74, R76, R78
void Engine::Impl::abort(Conn c) {
    c.cold.recover = min(next_seq(c), c.tcb.snd_una + c.tcb.snd_wnd);
    if (c.tcb.state != closed) {
        close(c);
    }
    c.tcb.request(pending_answer);
    queue_urgent(c, pending_reset);
}

/// A peer that lacks what was sent before our RST answers it with a challenge ACK (RFC 5961 §3.2):
/// that one gets an RST with the number that it says it waits for, as from any closed TCP.  What
/// was under way before our RST could be taken is not answered.
/// Spec: RFC 9293 §3.10.7.1
void Engine::Impl::reset_again(Conn c, const Arrival& a) {
    const wire::TcpFields& fields = a.segment.tcp;
    const bool answers = (fields.flags & wire::tcp_ack) != 0 && (fields.flags & wire::tcp_rst) == 0;
    if (c.tcb.has(pending_answer) && answers && fields.ack != c.cold.recover &&
        fields.ack <= c.tcb.snd_max && fields.ack >= c.tcb.snd_una - c.cold.max_snd_wnd) {
        c.cold.recover = fields.ack;
        queue_urgent(c, pending_reset);
    }
}

void Engine::Impl::stop(Conn c) {
    c.tcb.set(flag_stopped);
    c.tcb.settle_all_but(pending_reset);
    c.tcb.timer_off(timer_delayed_ack);
    c.tcb.ack_segments = 0;
    drop_reassembly(c);  // R105
}

/// Spec: R93
void Engine::Impl::enter_time_wait(Conn c) {
    set_state(c, time_wait);
    c.tcb.timer_off(timer_keep_alive);
    start_timer(c, timer_retransmit, tick + ticks_of_us(options.time_wait_us));
    request_upload(c, UploadReason::upload_requested);
}

/// Spec: RFC 9293 §3.10.7.4 eighth.  Pre: the FIN is at rcv_nxt.
void Engine::Impl::receive_fin(Conn c) {
    Tcb& tcb = c.tcb;
    FLUE_ASSERT(peer_may_send(tcb.state));
    tcb.rcv_nxt += 1;
    tcb.rcv_adv = max(tcb.rcv_adv, tcb.rcv_nxt);
    tcb.set(flag_peer_fin);
    drop_reassembly(c);
    acknowledge_now(c);
    notify(c, notice_peer_fin);
    switch (tcb.state) {
        case established:
            set_state(c, close_wait);
            break;
        case fin_wait_1:
            set_state(c, closing);
            break;
        case fin_wait_2:
            enter_time_wait(c);
            break;
        case close_wait:
        case closing:
        case last_ack:
        case time_wait:
        case closed:
            break;
    }
}

/// The FIN was put into a batch for the first time.
void Engine::Impl::fin_sent(Conn c) {
    FLUE_ASSERT(c.tcb.is(flag_fin_queued));
    set_state(c, c.tcb.state == close_wait ? last_ack : fin_wait_1);
}

/// Pre: fin_is_outstanding(state).
void Engine::Impl::fin_acknowledged(Conn c) {
    FLUE_ASSERT(fin_is_outstanding(c.tcb.state));
    if (c.tcb.state == fin_wait_1) {
        set_state(c, fin_wait_2);
        start_timer(c, timer_retransmit, tick + ticks_of_us(options.fin_wait_2_us));  // R91
    } else if (c.tcb.state == closing) {
        enter_time_wait(c);
    } else {
        close(c);
        notify(c, notice_acked);  // perhaps no item was there to say so
    }
}

void Engine::Impl::request_upload(Conn c, UploadReason reason) {
    c.cold.upload_reason = static_cast<uint8_t>(reason);
    notify(c, notice_upload);
}

void Engine::Impl::give_up(Conn c) {
    c.tcb.timer_on(timer_retransmit);  // is due, and is again for whoever takes over
    request_upload(c, UploadReason::timeout_expiration);
    stop(c);
}

}  // namespace flue::tcp
