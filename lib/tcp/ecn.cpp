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
    const bool reacted =
        tcb.has(loss_known) && c.loss.ecn_reacted && max(fields.ack, tcb.snd_una) <= c.loss.ecn_end;
    if (!marked || repairs || reacted) {
        return false;
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
