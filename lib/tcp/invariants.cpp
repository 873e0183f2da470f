#include "tcp/impl.hpp"

namespace flue::tcp {

namespace {

void check_sequence_space(const Tcb& tcb) {
    FLUE_ASSERT(tcb.snd_una <= tcb.snd_nxt);
    FLUE_ASSERT(tcb.snd_nxt <= tcb.snd_max);
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
    for (uint32_t i = tcb.chunk_first; i != no_index; i = chunks[i].next) {
        FLUE_ASSERT(chunks[i].skip + chunks[i].kept_bytes <= chunks[i].ref.length);
        readable += chunks[i].kept_bytes;
    }
    FLUE_ASSERT(readable == tcb.readable);

    uint32_t count = 0;
    Seq end        = tcb.rcv_nxt;
    for (uint32_t i = tcb.reassembly_first; i != no_index; i = chunks[i].next) {
        FLUE_ASSERT(count == 0 ? end < chunks[i].start : end <= chunks[i].start);
        FLUE_ASSERT(chunks[i].end() <= tcb.rcv_adv);
        end = chunks[i].end();
        ++count;
    }
    FLUE_ASSERT(count == cold.reassembly_count);
    FLUE_ASSERT(count <= options.limits.reassembly_chunks_per_connection);

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

    if (tcb.frozen()) {
        FLUE_ASSERT((tcb.pending & ~pending_reset) == 0);
        return;
    }
    FLUE_ASSERT(tcb.snd_una == tcb.snd_max || tcb.runs(timer_retransmit));
    // An ACK may wait for the data that it can travel with, where another connection filled a
    // batch.
    const bool with_data = tcb.pending == pending_ack && decltype(ready)::listed(tcb);
    FLUE_ASSERT(tcb.pending == 0 || with_data || decltype(urgent)::listed(cold));
    FLUE_ASSERT((tcb.timers & ~timer_in_wheel) == 0 || tcb.runs(timer_in_wheel));
    const bool waits = wants_to_send(tcb) && tcb.snd_una == tcb.snd_max;
    FLUE_ASSERT(!waits || tcb.runs(timer_retransmit) || decltype(ready)::listed(tcb));
}

}  // namespace flue::tcp
