#include <algorithm>

#include "tcp/congestion.hpp"
#include "tcp/impl.hpp"

// Explicit Congestion Notification: RFC 3168 §6.1, for DCTCP RFC 8257 §3.2

namespace flue::tcp {

namespace {

constexpr uint32_t ack_flags_matter = wire::tcp_rst | wire::tcp_syn;

}  // namespace

/// The receiver: a mark is told in every ACK until the sender says that it has heard; DCTCP's
/// receiver tells it of each segment.
void Engine::Impl::note_mark(Conn c, const Arrival& a) {
    Tcb& tcb = c.tcb;
    if (!tcb.is(flag_ecn) || (a.segment.tcp.flags & ack_flags_matter) != 0) {
        return;
    }
    const bool marked = a.segment.tcp.congestion_experienced;
    if (congestion::kind_of(tcb) == CongestionControl::dctcp) {
        if (marked != tcb.has(ecn_ce) && a.segment.payload.length > 0) {
            tcb.set(ecn_ce, marked);
            tcb.set(ecn_echo, marked);
            acknowledge_now(c);
        }
        return;
    }
    if ((a.segment.tcp.flags & wire::tcp_cwr) != 0) {
        tcb.set(ecn_echo, false);
    }
    if (marked && a.segment.payload.length > 0) {
        tcb.set(ecn_echo, true);
    }
}

/// Whether the window was reduced already for marks of the window of data that `seq` lies in.
bool Engine::Impl::marks_have_cost(Conn c, Seq seq) const {
    return c.tcb.has(loss_known) && c.loss.ecn_reacted && seq < c.loss.ecn_end;
}

/// The sender: at most one reduction in each window of data.  RFC 3168 §6.1.2
bool Engine::Impl::note_echo(Conn c, const wire::TcpFields& fields, uint32_t acked) {
    Tcb& tcb = c.tcb;
    if (!tcb.is(flag_ecn)) {
        return false;
    }
    const bool marked  = (fields.flags & wire::tcp_ece) != 0;
    const auto& method = congestion::control_of(tcb);
    if (method.echoed != nullptr && acked > 0) {
        method.echoed(tcb, c.know(), acked, marked);
    }
    const bool repairs = tcb.is(flag_recovery) || tcb.is(flag_timeout);
    const bool reacted = marks_have_cost(c, max(fields.ack, tcb.snd_una) - 1);
    if (!reacted && tcb.has(loss_known)) {
        c.loss.ecn_reacted = false;  // ecn_end is left behind, and would lie ahead again one day
    }
    if (!marked || repairs || reacted) {
        return marked;
    }
    TcbLoss& loss    = c.know();
    loss.ecn_end     = tcb.snd_max;
    loss.ecn_reacted = true;
    tcb.ssthresh     = method.marked(tcb, loss, tcb.flight_size());
    tcb.cwnd         = std::min(tcb.cwnd, tcb.ssthresh);
    tcb.set(ecn_cwr, true);
    ++counters.congestion_marks;
    return true;
}

/// A loss costs a part of the window, unless marks of the same window of data have, and the peer
/// hears of it in both cases.  RFC 3168 §6.1.2
void Engine::Impl::pay_for_loss(Conn c, uint32_t flight_bytes) {
    Tcb& tcb = c.tcb;
    if (!marks_have_cost(c, tcb.snd_una)) {
        tcb.ssthresh = congestion::control_of(tcb).lost(tcb, c.know(), flight_bytes);
        tcb.set(ecn_cwr, tcb.is(flag_ecn));
    }
}

/// New data is ECN-capable and tells of the reduction; what is sent again, probes and bare ACKs are
/// not.  RFC 3168 §6.1.4 to §6.1.6
void Engine::Impl::mark_segment(Conn c, TxSegment& tx, bool new_data) {
    Tcb& tcb = c.tcb;
    if (!tcb.is(flag_ecn)) {
        return;
    }
    uint32_t flags = tcb.has(ecn_echo) ? uint32_t{wire::tcp_ece} : 0;
    if (new_data) {
        tx.tcp.ecn_capable = true;
        flags |= tcb.has(ecn_cwr) ? uint32_t{wire::tcp_cwr} : 0;
        tcb.set(ecn_cwr, false);
    }
    tx.tcp.flags = static_cast<uint8_t>(tx.tcp.flags | flags);
}

}  // namespace flue::tcp
