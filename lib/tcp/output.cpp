#include <algorithm>

#include "tcp/congestion.hpp"
#include "tcp/impl.hpp"
#include "tcp/rtt.hpp"

namespace flue::tcp {

namespace {

constexpr uint32_t header_options_max = 40;
constexpr uint32_t window_field_max   = UINT16_MAX;

constexpr uint32_t sack_option_bytes(uint32_t ranges) {
    return ranges == 0 ? 0 : 4 + 8 * ranges;  // with two NOPs before it
}

/// SACK ranges that fit beside the other options.
uint32_t sack_room(const Tcb& tcb) {
    const uint32_t used = tcb.is(flag_timestamps) ? timestamp_option_bytes : 0;
    return std::min((header_options_max - used - 4) / 8, wire::sack_ranges_max);
}

bool reports_sack(const Tcb& tcb) {
    return tcb.is(flag_sack) && (tcb.reassembly_first != no_index || tcb.has(loss_dsack));
}

/// Payload that fits into the next segment.
uint32_t payload_max(const Tcb& tcb) {
    const uint32_t options = reports_sack(tcb) ? sack_option_bytes(sack_room(tcb)) : 0;
    return tcb.smss() > options ? tcb.smss() - options : 1;
}

uint32_t room_until(Seq from, Seq to) {
    return from < to ? bytes_between(from, to) : 0;
}

/// The sequence number of a segment without data: the peer takes it only from inside its window,
/// whose edge the field may tell almost a unit short (RFC 7323 §2.4).  What went out before it did,
/// the peer has taken, and a lower number would look old to it.
Seq bare_seq(const Tcb& tcb) {
    const Seq edge    = tcb.snd_una + tcb.snd_wnd;
    const bool inside = tcb.snd_max < edge + (1U << tcb.snd_wind_shift());
    return inside ? tcb.snd_max : edge;
}

Repeats repeats_of(Seq seq, Seq end, Seq snd_max) {
    if (end <= snd_max) {
        return Repeats::everything;
    }
    return seq < snd_max ? Repeats::something : Repeats::nothing;
}

}  // namespace

uint32_t Engine::Impl::transmit(std::span<TxSegment> out) {
    Batch batch{.out = out};
    while (!batch.full() && !urgent.empty()) {
        const Conn c = at(urgent.pop_front(colds.get()));
        if (send_pending(c, batch)) {
            urgent.push_back(colds.get(), c.index);
        }
    }
    while (!batch.full() && !ready.empty()) {
        const Conn c = at(ready.pop_front(tcbs.get()));
        if (send_data(c, batch)) {
            queue_ready(c);
        }
    }
    counters.segments_out += batch.count;
    return batch.count;
}

bool Engine::Impl::send_pending(Conn c, Batch& batch) {
    Tcb& tcb = c.tcb;
    if (tcb.has(pending_reset)) {
        send_reset(c, batch);
        return false;
    }
    if (tcb.frozen()) {
        return false;
    }
    if (tcb.has(pending_tail_probe)) {
        send_tail_probe(c, batch);
    }
    if (tcb.has(pending_probe) && !batch.full()) {
        send_window_probe(c, batch);
    }
    if (tcb.has(pending_keep_alive) && !batch.full()) {
        tcb.settle(pending_keep_alive);
        send_control(c, batch, tcb.snd_una - 1, 0);
    }
    Seq seq;
    const bool data_follows =
        decltype(ready)::listed(tcb) && (plan_data(c, false).any() || plan_lost(c, seq).any());
    if (tcb.has(pending_ack) && !data_follows && !batch.full()) {
        send_control(c, batch, bare_seq(tcb), 0);
    }
    watch_output(c, false);
    return tcb.pending != 0 && batch.full();
}

bool Engine::Impl::send_data(Conn c, Batch& batch) {
    Tcb& tcb = c.tcb;
    if (tcb.frozen()) {
        return false;
    }
    if (tcb.snd_una == tcb.snd_max && now_us32() - tcb.sent_us > rto_us(tcb)) {
        congestion::idled(tcb);
    }
    const bool opened = tcb.is(flag_window_probe) && tcb.snd_wnd > 0;
    if (opened && (tcb.snd_una < tcb.snd_max || plan_data(c, false).any())) {
        end_window_probe(c);
    }
    const Seq max_before = tcb.snd_max;
    uint32_t sent_bytes  = 0;
    bool more            = true;
    bool cut             = false;
    while (more && sent_bytes < options.quantum_bytes && !batch.full()) {
        uint32_t used = send_lost(c, batch);
        if (used == 0) {
            used = send_new(c, batch, cut);
        }
        more = used > 0;
        sent_bytes += used;
    }
    more = more && !tcb.runs(timer_pace);
    if (tcb.has(pending_ack) && !more && !batch.full()) {
        send_control(c, batch, bare_seq(tcb), 0);
    }
    watch_output(c, tcb.snd_max > max_before);
    return more || tcb.has(pending_ack);
}

/// send_lost sends a segment of what is lost again and returns how much it was.
uint32_t Engine::Impl::send_lost(Conn c, Batch& batch) {
    Tcb& tcb = c.tcb;
    Seq seq;
    const Plan plan = plan_lost(c, seq);
    if (!plan.any() || (tcb.has(loss_frto) && c.loss.frto_new_data) || !may_send_now(c)) {
        return 0;
    }
    return emit_data(c, batch, seq, plan);
}

/// send_new sends a segment of new data; `cut`: the last one was short because it had no room for
/// more of many small sends, which is not Nagle's kind of small segment.
uint32_t Engine::Impl::send_new(Conn c, Batch& batch, bool& cut) {
    Tcb& tcb        = c.tcb;
    const Plan plan = plan_data(c, cut);
    if (!plan.any()) {
        const bool try_lost = tcb.has(loss_frto) && c.loss.frto_new_data && !c.loss.frto_sent;
        tcb.set(loss_frto, tcb.has(loss_frto) && !try_lost);
        return try_lost ? send_lost(c, batch) : 0;  // RFC 5682 step 2b: there is nothing new
    }
    if (!may_send_now(c)) {
        return 0;
    }
    const uint32_t used = emit_data(c, batch, tcb.snd_max, plan);
    cut                 = used < plan.bytes;
    if (tcb.has(loss_frto)) {
        c.loss.frto_sent = true;
    }
    return used;
}

/// may_send_now: whether pacing lets a segment go; if not, it will with the next tick.
bool Engine::Impl::may_send_now(Conn c) {
    if (pace_room(c) > 0) {
        return true;
    }
    start_timer(c, timer_pace, tick + 1);
    return false;
}

uint32_t Engine::Impl::cwnd_room(Conn c) {
    const uint32_t in_pipe = pipe(c);
    return c.tcb.cwnd - std::min(c.tcb.cwnd, in_pipe);
}

/// Spec: RFC 9293 §3.8.6.2.1 (sender's SWS avoidance), §3.7.4 (Nagle), R66, R67
Plan Engine::Impl::plan_data(Conn c, bool forced) const {
    const Tcb& tcb        = c.tcb;
    const Seq limit       = send_limit(tcb);
    const uint32_t window = room_until(tcb.snd_max, tcb.snd_una + tcb.snd_wnd);
    if (limit <= tcb.snd_max || window == 0 || !may_append_span(tcb)) {
        return {};
    }
    const uint32_t data = room_until(tcb.snd_max, tcb.snd_end);
    const uint32_t full = payload_max(tcb);

    Plan plan;
    plan.bytes = std::min({data, full, window, cwnd_room(c)});
    plan.fin   = plan.bytes == data && limit > tcb.snd_end &&
               window > plan.bytes;  // cwnd does not hold a FIN back

    const bool idle       = tcb.snd_una == tcb.snd_max;
    const bool last       = plan.bytes == data && (plan.fin || idle || !tcb.is(flag_nagle));
    const bool worthwhile = plan.bytes == full || last || plan.bytes >= c.cold.max_snd_wnd / 2;
    return worthwhile || forced ? plan : Plan{};
}

/// What is lost need not fit into cwnd as a whole: a segment's worth of it is not too much.
Plan Engine::Impl::plan_lost(Conn c, Seq& seq) const {
    if (!c.tcb.has(loss_marked) || cwnd_room(c) == 0) {
        return {};
    }
    Seq end;
    seq = find_lost(c, end);
    return plan_again(c, seq, end);
}

Plan Engine::Impl::plan_again(Conn c, Seq seq, Seq end) const {
    const Tcb& tcb        = c.tcb;
    const uint32_t window = room_until(seq, tcb.snd_una + tcb.snd_wnd);
    if (window == 0) {
        return {};
    }
    // What is sent again from the very end takes new data along, as far as cwnd lets it.
    const bool extends  = end == tcb.snd_max && may_append_span(tcb);
    const uint32_t lost = room_until(seq, min(end, tcb.snd_end));
    const uint32_t data = extends ? room_until(seq, tcb.snd_end) : lost;
    const uint32_t most = std::max(lost, std::min(data, cwnd_room(c)));
    Plan plan;
    plan.bytes = std::min({most, window, payload_max(tcb)});
    plan.fin   = plan.bytes == data && send_limit(tcb) > tcb.snd_end &&
               (end > tcb.snd_end || (extends && window > plan.bytes));
    return plan;
}

uint32_t Engine::Impl::emit_data(Conn c, Batch& batch, Seq seq, Plan plan) {
    Tcb& tcb             = c.tcb;
    TxSegment& tx        = batch.out[batch.count++];
    tx                   = TxSegment{.conn = c.index};
    const uint32_t bytes = fill_slices(tcb, tx, seq, plan.bytes);
    const bool fin       = plan.fin && bytes == plan.bytes;
    const bool push      = bytes > 0 && seq + bytes == tcb.snd_end;
    const Seq end        = seq + bytes + (fin ? 1 : 0);
    FLUE_ASSERT(seq < end);
    tx.payload_bytes = bytes;
    tx.repeats       = repeats_of(seq, end, tcb.snd_max);
    uint32_t flags   = 0;
    flags |= fin ? uint32_t{wire::tcp_fin} : 0;
    flags |= push ? uint32_t{wire::tcp_psh} : 0;
    fill_header(c, tx, seq, flags);
    counters.bytes_out += bytes;
    if (fin && !fin_was_sent(tcb.state)) {
        fin_sent(c);
    }
    sent(c, seq, end);
    return bytes_between(seq, end);
}

/// Notes that [seq, end) is on its way.
void Engine::Impl::sent(Conn c, Seq seq, Seq end) {
    Tcb& tcb = c.tcb;
    if (seq < tcb.snd_max) {
        ++counters.segments_retransmitted;
        c.cold.retransmits =
            static_cast<uint16_t>(c.cold.retransmits + (c.cold.retransmits < UINT16_MAX ? 1 : 0));
        sent_again(c, seq, min(end, tcb.snd_max));
        if (tcb.has(loss_undo) && c.loss.undo_segments < UINT16_MAX) {
            ++c.loss.undo_segments;
        }
    }
    if (end > tcb.snd_max) {
        append_span(c, end);
        tcb.snd_max = end;
        tcb.set(loss_cwnd_used, tcb.flight_size() >= tcb.cwnd / 2);
    }
    if (tcb.is(flag_recovery)) {
        c.loss.prr_out += bytes_between(seq, end);
    }
    paced(c, bytes_between(seq, end));
    tcb.sent_us = now_us32();
}

/// Spec: RFC 8985 §7.3: new data if there is any, even beyond cwnd; else the last segment again.
void Engine::Impl::send_tail_probe(Conn c, Batch& batch) {
    Tcb& tcb = c.tcb;
    tcb.settle(pending_tail_probe);
    if (tcb.troubled() || tcb.snd_una == tcb.snd_max) {
        return;
    }
    const uint32_t window = room_until(tcb.snd_max, tcb.snd_una + tcb.snd_wnd);
    const uint32_t data   = room_until(tcb.snd_max, tcb.snd_end);
    const uint32_t bytes  = std::min({data, window, payload_max(tcb)});
    const bool fresh      = bytes > 0 && may_append_span(tcb);
    const Seq last        = tcb.snd_max - std::min(tcb.flight_size(), payload_max(tcb));
    const Plan again      = fresh ? Plan{} : plan_again(c, last, tcb.snd_max);
    if (!fresh && !again.any()) {
        return;
    }
    emit_data(c, batch, fresh ? tcb.snd_max : last, fresh ? Plan{.bytes = bytes} : again);
    TcbLoss& loss         = c.know();
    loss.tail_probe_end   = tcb.snd_max;
    loss.tail_probe_again = !fresh;
    tcb.set(loss_tail_probe, true);
    ++counters.tail_probes;
}

/// A shut window gets one byte, or the FIN; a window that is merely small gets what it takes. Spec:
/// RFC 9293 §3.8.6.1, §3.8.6.2.1
void Engine::Impl::send_window_probe(Conn c, Batch& batch) {
    Tcb& tcb = c.tcb;
    tcb.settle(pending_probe);
    if (tcb.snd_wnd > 0 && tcb.snd_una < tcb.snd_max) {
        end_window_probe(c);
        return;
    }
    if (const Plan plan = plan_data(c, true); tcb.snd_una == tcb.snd_max && plan.any()) {
        end_window_probe(c);
        emit_data(c, batch, tcb.snd_max, plan);
        return;
    }
    const Seq seq = tcb.snd_una;  // of what is in flight, or of what waits
    if (send_limit(tcb) > seq) {
        const bool data = seq < tcb.snd_end;
        emit_data(c, batch, seq, Plan{.bytes = data ? 1U : 0U, .fin = !data});
    }
}

/// Spec: R74, R77
void Engine::Impl::send_reset(Conn c, Batch& batch) {
    Tcb& tcb = c.tcb;
    send_control(c, batch, c.cold.recover, wire::tcp_rst);
    tcb.settle(pending_reset);
    ++counters.resets_out;
    notify(c, notice_rst_sent);
}

void Engine::Impl::send_control(Conn c, Batch& batch, Seq seq, uint32_t flags) {
    TxSegment& tx = batch.out[batch.count++];
    tx            = TxSegment{.conn = c.index};
    fill_header(c, tx, seq, flags);
}

/// Every segment carries the ACK, so every segment settles what is owed of it.
void Engine::Impl::fill_header(Conn c, TxSegment& tx, Seq seq, uint32_t flags) {
    Tcb& tcb                = c.tcb;
    wire::TcpFields& fields = tx.tcp;
    fields.seq              = seq;
    fields.ack              = tcb.rcv_nxt;
    fields.flags            = static_cast<uint8_t>(flags | wire::tcp_ack);
    fields.window           = select_window(tcb);
    mark_segment(
        c,
        tx,
        tx.payload_bytes > 0 && tx.repeats == Repeats::nothing && !tcb.is(flag_window_probe));
    if (tcb.is(flag_timestamps)) {
        fields.has_timestamps = true;
        fields.ts_val         = timestamp_of(tcb);
        fields.ts_ecr         = tcb.ts_recent;
    }
    if (reports_sack(tcb)) {
        fields.sack_count = sack_ranges(c, std::span{fields.sack}.first(sack_room(tcb)));
        tcb.set(loss_dsack, false);
    }
    tcb.settle(pending_ack);
    tcb.timer_off(timer_delayed_ack);
    tcb.clear(flag_quick_ack);
    tcb.ack_segments  = 0;
    tcb.last_ack_sent = tcb.rcv_nxt;
}

/// Fills in up to slices_per_segment_max pieces of posted sends and returns how many bytes they
/// are.
uint32_t Engine::Impl::fill_slices(Tcb& tcb, TxSegment& tx, Seq seq, uint32_t bytes) const {
    ItemIndex index = tcb.item_cursor;
    if (index == no_item || items[index].start > seq) {
        index = first_item(tcb);
    }
    uint32_t filled = 0;
    while (filled < bytes && tx.slice_count < slices_per_segment_max) {
        const SendItem& item = items[index];
        if (item.end() <= seq + filled) {
            index = item.next;
            continue;
        }
        const uint32_t offset       = bytes_between(item.start, seq + filled);
        const uint32_t length       = std::min(item.ref.length - offset, bytes - filled);

        tx.slices[tx.slice_count++] = SendSlice{.item = index, .offset = offset, .length = length};
        filled += length;
    }
    if (seq + bytes > tcb.snd_max) {
        tcb.item_cursor = index;  // what is sent again must not send new data on a long way back
    }
    return filled;
}

void Engine::Impl::watch_output(Conn c, bool new_data) {
    Tcb& tcb = c.tcb;
    if (tcb.frozen()) {
        return;
    }
    if (new_data && tcb.runs(timer_is_probe)) {
        start_loss_timer(c);
    }
    if (tcb.runs(timer_retransmit)) {
        return;
    }
    if (tcb.snd_una < tcb.snd_max) {
        start_loss_timer(c);
    } else if (wants_to_send(tcb) && !tcb.runs(timer_pace)) {
        tcb.set(flag_window_probe);
        start_retransmit_timer(c);
    }
}

/// The window has opened: from here on it is retransmission again, and the probes did not get in.
void Engine::Impl::end_window_probe(Conn c) {
    c.tcb.clear(flag_window_probe);
    stop_retransmit_timer(c);
    c.tcb.retransmit_count = 0;
    c.cold.backoff         = 0;
    lose_outstanding(c, false);
}

/// SND.NXT as the RFC has it while a timeout is repaired.
Seq Engine::Impl::next_seq(Conn c) const {
    const bool repairs = c.tcb.is(flag_timeout) || c.tcb.is(flag_window_probe);
    Seq end;
    return repairs && c.tcb.has(loss_marked) ? find_lost(c, end) : c.tcb.snd_max;
}

/// The window that is really free, in units of the scale, when it has grown enough to be worth
/// telling (RFC 9293 §3.8.6.2.2); else the right edge as it was.  The field cannot express every
/// edge: it is rounded up, so that the edge does not move left, as long as an eighth more than the
/// window can be spared for it; after that down, with the edge itself still honoured (RFC 7323
/// §2.4).
uint16_t Engine::Impl::select_window(Tcb& tcb) const {
    const uint32_t shift = tcb.rcv_wind_shift();
    const uint32_t free  = tcb.rcv_wnd_max - std::min(tcb.rcv_wnd_max, tcb.readable);
    const uint32_t worth = std::min(tcb.rcv_wnd_max / 2, uint32_t{tcb.mss});
    const uint32_t grown = std::min(free >> shift, window_field_max);
    const Seq grown_edge = tcb.rcv_nxt + (grown << shift);
    if (grown_edge > tcb.rcv_adv && bytes_between(tcb.rcv_adv, grown_edge) >= worth) {
        tcb.rcv_adv = grown_edge;
        return static_cast<uint16_t>(grown);
    }
    const uint32_t up    = (tcb.rcv_wnd() + (1U << shift) - 1) >> shift;
    const uint32_t spare = free + tcb.rcv_wnd_max / 8;
    if (up <= window_field_max && up << shift <= spare) {
        tcb.rcv_adv = tcb.rcv_nxt + (up << shift);
        return static_cast<uint16_t>(up);
    }
    return static_cast<uint16_t>(std::min(tcb.rcv_wnd() >> shift, window_field_max));
}

/// A reader made room: worth an ACK of its own when at most half of the window was left and it now
/// doubles.
bool Engine::Impl::window_update_due(const Tcb& tcb) const {
    const uint32_t left  = tcb.rcv_wnd();
    const uint32_t free  = tcb.rcv_wnd_max - std::min(tcb.rcv_wnd_max, tcb.readable);
    const uint32_t limit = std::min(tcb.rcv_wnd_max, window_field_max << tcb.rcv_wind_shift());
    const uint32_t given = std::min(free, limit) >> tcb.rcv_wind_shift() << tcb.rcv_wind_shift();
    const uint32_t worth = std::min(tcb.rcv_wnd_max / 2, uint32_t{tcb.mss});
    return left <= limit / 2 && given >= 2 * left && given >= left + worth;
}

}  // namespace flue::tcp
