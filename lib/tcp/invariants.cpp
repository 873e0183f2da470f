#include "tcp/impl.hpp"

namespace flue::tcp {

namespace {

void check_sequence_space(const Tcb& tcb) {
    FLUE_ASSERT(tcb.snd_una <= tcb.snd_max);
    FLUE_ASSERT(tcb.rcv_nxt <= tcb.rcv_adv);
    FLUE_ASSERT(tcb.last_ack_sent <= tcb.rcv_nxt);
    FLUE_ASSERT(tcb.flight_size() <= send_backlog_max + 1);
    if (tcb.state != State::closed && fin_was_sent(tcb.state)) {
        FLUE_ASSERT(tcb.is(flag_fin_queued));
        FLUE_ASSERT(tcb.snd_end + 1 <= tcb.snd_max);
    }
    if (tcb.state == State::fin_wait_2 || tcb.state == State::time_wait) {
        FLUE_ASSERT(tcb.snd_una == tcb.snd_max);
    }
    if (fin_is_outstanding(tcb.state)) {
        FLUE_ASSERT(tcb.snd_una < tcb.snd_max);
    }
    if (tcb.state == State::established || tcb.state == State::fin_wait_1 ||
        tcb.state == State::fin_wait_2) {
        FLUE_ASSERT(!tcb.is(flag_peer_fin));
    }
    if (tcb.is(flag_recovery)) {
        FLUE_ASSERT(tcb.snd_una < tcb.snd_max);
    }
}

}  // namespace

void Engine::Impl::check_invariants(ConnIndex index) const {
    const Tcb& tcb      = tcbs[index];
    const TcbCold& cold = colds[index];
    FLUE_ASSERT(tcb.is(flag_in_use));
    check_sequence_space(tcb);

    uint32_t readable = 0;
    uint32_t in_order = 0;
    for (uint32_t i = tcb.chunk_first; i != no_index; i = chunks[i].next) {
        FLUE_ASSERT(chunks[i].skip + chunks[i].kept_bytes <= chunks[i].ref.length);
        readable += chunks[i].kept_bytes;
        ++in_order;
    }
    FLUE_ASSERT(in_order == cold.chunk_count);
    FLUE_ASSERT(readable == tcb.readable);

    check_reassembly(tcb, cold);

    const ItemIndex first = first_item(tcb);
    ItemIndex item        = first;
    Seq posted            = first == no_item ? tcb.snd_end : items[first].start;
    // Bytes that were forgone lie between two items, or behind the last, and are acknowledged.
    const auto follows = [&](Seq next) {
        return next == posted || (posted < next && next <= tcb.snd_una);
    };
    while (item != no_item) {
        FLUE_ASSERT(follows(items[item].start));
        FLUE_ASSERT(!items[item].fin || item == tcb.item_last);
        posted = items[item].end();
        item   = item == tcb.item_last ? no_item : items[item].next;
    }
    FLUE_ASSERT(follows(tcb.snd_end));

    if (tcb.state != State::closed) {
        check_scoreboard(at(index));
    }
    if (tcb.frozen()) {
        FLUE_ASSERT((tcb.pending & ~(pending_reset | pending_answer)) == 0);
        return;
    }
    FLUE_ASSERT(tcb.snd_una == tcb.snd_max || tcb.runs(timer_retransmit));
    // An ACK may wait for the data that it can travel with, where another connection filled a
    // batch.
    const bool with_data = tcb.pending == pending_ack && decltype(ready)::listed(tcb);
    FLUE_ASSERT(tcb.pending == 0 || with_data || decltype(urgent)::listed(cold));
    FLUE_ASSERT((tcb.timers & ~timer_in_wheel) == 0 || tcb.runs(timer_in_wheel));
    const bool waits = wants_to_send(tcb) && tcb.snd_una == tcb.snd_max;
    FLUE_ASSERT(!waits || tcb.runs(timer_retransmit) || tcb.runs(timer_pace) ||
                decltype(ready)::listed(tcb));
}

/// Blocks have gaps before them, chunks in a block have none.
void Engine::Impl::check_reassembly(const Tcb& tcb, const TcbCold& cold) const {
    uint32_t count  = 0;
    uint32_t blocks = 0;
    Seq end         = tcb.rcv_nxt;
    for (uint32_t first = tcb.reassembly_first; first != no_index; ++blocks) {
        FLUE_ASSERT(end < chunks[first].start);
        const uint32_t last = chunks[first].block_last;
        end                 = chunks[first].end();
        for (uint32_t i = first; i != last; end = chunks[i].end()) {
            i = chunks[i].next;
            FLUE_ASSERT(chunks[i].start == end);
            ++count;
        }
        FLUE_ASSERT(end <= tcb.rcv_adv);
        first = chunks[last].next;
        ++count;
    }
    FLUE_ASSERT(count == cold.reassembly_count);
    FLUE_ASSERT(blocks <= options.limits.reassembly_blocks_per_connection);
}

/// The spans cover what is in flight, and their fates add up.
void Engine::Impl::check_scoreboard(Conn c) const {
    const Tcb& tcb  = c.tcb;
    uint32_t sacked = 0;
    uint32_t lost   = 0;
    uint32_t index  = tcb.span_last;
    Seq start       = tcb.snd_una;
    for (uint32_t i = 0; i < tcb.span_count; ++i) {
        index            = spans[index].next;
        const Span& span = spans[index];
        FLUE_ASSERT(start < span.end);
        FLUE_ASSERT(!span.is(span_sacked) || !span.is(span_lost));
        sacked += span.is(span_sacked) ? bytes_between(start, span.end) : 0;
        lost += span.is(span_lost) ? bytes_between(start, span.end) : 0;
        start = span.end;
    }
    FLUE_ASSERT(start == tcb.snd_max);
    FLUE_ASSERT(index == tcb.span_last);
    const bool virtual_sacks = !tcb.is(flag_sack);
    FLUE_ASSERT(virtual_sacks || sacked == (tcb.has(loss_sacked) ? c.loss.sacked_bytes : 0));
    FLUE_ASSERT(lost == (tcb.has(loss_marked) ? c.loss.lost_bytes : 0));
}

}  // namespace flue::tcp
