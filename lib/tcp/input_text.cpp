#include "tcp/impl.hpp"

namespace flue::tcp {

/// Spec: RFC 9293 §3.10.7.4 seventh and eighth
Drop Engine::Impl::process_text(Conn c, Arrival& a) {
    Tcb& tcb = c.tcb;
    if (a.bytes == 0 && !a.fin) {
        if (a.cut) {
            acknowledge_now(c);
            return Drop::receive_window_full;
        }
        return Drop::none;
    }
    if (!peer_may_send(tcb.state)) {
        acknowledge_now(c);
        return Drop::text_after_fin;
    }
    if (a.skip > 0) {
        report_duplicate(c, a.seq - a.skip, a.seq);
    }
    if (a.seq == tcb.rcv_nxt) {
        return receive_in_order(c, a);
    }
    a.late = true;
    acknowledge_now(c);  // RFC 5681 §4.2: a duplicate ACK at once
    return keep_out_of_order(c, a);
}

Drop Engine::Impl::receive_in_order(Conn c, Arrival& a) {
    Tcb& tcb          = c.tcb;
    const bool filled = tcb.reassembly_first != no_index;
    if (a.bytes > 0) {
        if (const Drop drop = room_in_order(c, a); drop != Drop::none) {
            return drop;
        }
        append_in_order(c, take_chunk(a));
    }
    const bool fin = filled ? pull_in_order(c) || a.fin : a.fin;
    owe_ack(c, filled || fin || a.cut);
    if (fin) {
        receive_fin(c);
    }
    return Drop::none;
}

/// Of small payloads a connection has only so many: what they take is not worth much more memory
/// than its window is bytes.  Large ones are always taken, and so are those of a sender that puts
/// together what it sends again.  What lies beyond a gap goes when there is no chunk for what comes
/// next.
Drop Engine::Impl::room_in_order(Conn c, const Arrival& a) {
    const Tcb& tcb = c.tcb;
    if (is_small(a.bytes) && c.cold.chunk_count >= small_chunks_max(tcb)) {
        return Drop::too_fragmented;
    }
    const uint32_t reserve = tcb.readable > 0 ? reader_reserve : 0;
    if (chunks.free_count() <= reserve) {
        evict_farthest(c, a.seq);
        return Drop::no_chunk;
    }
    return Drop::none;
}

/// Pre: the chunk starts at rcv_nxt.
void Engine::Impl::append_in_order(Conn c, uint32_t chunk) {
    Tcb& tcb        = c.tcb;
    Chunk& received = chunks[chunk];
    FLUE_ASSERT(received.start == tcb.rcv_nxt);
    link_readable(c, chunk);
    tcb.rcv_nxt += received.kept_bytes;
    counters.bytes_in += received.kept_bytes;
    notify(c, received.psh ? notice_received | notice_pushed : notice_received);
}

/// Spec: RFC 9293 §3.8.6.3, RFC 5681 §4.2
void Engine::Impl::owe_ack(Conn c, bool at_once) {
    Tcb& tcb = c.tcb;
    ++tcb.ack_segments;
    if (at_once || tcb.is(flag_quick_ack) || tcb.ack_segments >= options.ack_every_segments) {
        acknowledge_now(c);
    } else if (!tcb.runs(timer_delayed_ack)) {
        start_timer(c, timer_delayed_ack, tick + ticks_of_us(options.delayed_ack_us));
    }
}

void Engine::Impl::acknowledge_now(Conn c) {
    queue_urgent(c, pending_ack);
}

}  // namespace flue::tcp
