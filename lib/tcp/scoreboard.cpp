#include <algorithm>

#include "tcp/impl.hpp"

// The scoreboard: what became of each byte in flight.  Its spans, a ring in order of sequence
// numbers, cover [snd_una, snd_max); a span is split where the fates of its bytes part.
// RFC 6675 §3, RFC 8985 §5.1

namespace flue::tcp {

namespace {

void mark(Span& span, uint8_t flag) {
    span.flags = static_cast<uint8_t>(span.flags | flag);
}

void unmark(Span& span, uint8_t flag) {
    span.flags = static_cast<uint8_t>(span.flags & ~flag);
}

/// [start, end) of a span as one walks.
uint32_t length_from(Seq start, const Span& span) {
    return bytes_between(start, span.end);
}

}  // namespace

/// Two spans are each connection's own, so that the front of what is lost can always be told from
/// the rest; of the others nobody has more than his share.
bool Engine::Impl::span_free(const Tcb& tcb) const {
    return tcb.span_count < 2 || (spans.free_count() > span_reserve &&
                                  tcb.span_count < options.limits.spans_per_connection);
}

bool Engine::Impl::may_append_span(const Tcb& tcb) const {
    return span_free(tcb) || !spans[tcb.span_last].is(span_sacked | span_lost);
}

/// insert_span puts a new span behind `before`, or makes it the only one.
uint32_t Engine::Impl::insert_span(Conn c, uint32_t before) {
    FLUE_ASSERT(span_free(c.tcb));
    const uint32_t index = spans.take();
    ++c.tcb.span_count;
    spans[index] = Span{.next = index};
    if (before != no_index) {
        spans[index].next  = spans[before].next;
        spans[before].next = index;
    }
    return index;
}

/// remove_span gives the span behind `before` back.
void Engine::Impl::remove_span(Conn c, uint32_t before) {
    Tcb& tcb             = c.tcb;
    const uint32_t index = spans[before].next;
    spans[before].next   = spans[index].next;
    if (tcb.span_last == index) {
        tcb.span_last = before == index ? no_index : before;
    }
    --tcb.span_count;
    spans.give(index);
}

/// [snd_max, end) goes out for the first time.  Pre: may_append_span.
void Engine::Impl::append_span(Conn c, Seq end) {
    Tcb& tcb = c.tcb;
    if (tcb.span_last != no_index) {
        Span& last       = spans[tcb.span_last];
        const bool equal = last.flags == 0 && last.sent_us == now_us32();
        if (equal || !span_free(tcb)) {
            last.end     = end;
            last.sent_us = now_us32();
            return;
        }
    }
    tcb.span_last                = insert_span(c, tcb.span_last);
    spans[tcb.span_last].end     = end;
    spans[tcb.span_last].sent_us = now_us32();
}

/// split_span makes [start, at) a span of its own in front of the rest of the span behind `before`.
/// Returns whether one was free.
bool Engine::Impl::split_span(Conn c, uint32_t before, Seq at) {
    if (!span_free(c.tcb)) {
        return false;
    }
    const uint32_t rest  = spans[before].next;
    const uint32_t front = insert_span(c, before);
    spans[front].sent_us = spans[rest].sent_us;
    spans[front].flags   = spans[rest].flags;
    spans[front].end     = at;
    return true;
}

void Engine::Impl::drop_spans(Conn c) {
    while (c.tcb.span_last != no_index) {
        remove_span(c, c.tcb.span_last);
    }
    c.tcb.set(loss_sacked, false);
    c.tcb.set(loss_marked, false);
}

void Engine::Impl::count_fates(Conn c) {
    if (c.tcb.has(loss_known)) {
        c.tcb.set(loss_sacked, c.loss.sacked_bytes > 0);
        c.tcb.set(loss_marked, c.loss.lost_bytes > 0);
    }
}

/// pipe of RFC 6675 §4: what is thought to be in the network.
uint32_t Engine::Impl::pipe(Conn c) {
    uint32_t bytes = c.tcb.flight_size();
    if (c.tcb.has(loss_sacked)) {
        bytes -= std::min(bytes, c.loss.sacked_bytes);
    }
    if (c.tcb.has(loss_marked)) {
        bytes -= std::min(bytes, c.loss.lost_bytes);
    }
    return bytes;
}

/// deliver notes that `bytes` of a span have arrived, which was not known before.
void Engine::Impl::deliver(Conn c, const Span& span, Seq end, uint32_t bytes, Delivery& d) const {
    d.bytes += bytes;
    d.again                = d.again || span.is(span_again);
    const uint32_t took_us = now_us32() - span.sent_us;
    if (!span.is(span_again)) {
        d.oldest_rtt_us = std::max({d.oldest_rtt_us, took_us, 1U});
        d.original      = d.original || span.is(span_lost);
        d.reordered     = d.reordered ||
                      (c.tcb.has(loss_known) && c.loss.rack_rtt_us != 0 && end < c.loss.rack_fack);
    } else if (c.tcb.has(loss_known) && took_us < c.loss.min_rtt_us) {
        return;  // it was the first one that arrived.  RFC 8985 §6.2 step 2
    }
    const bool later = !d.any || static_cast<int32_t>(span.sent_us - d.sent_us) > 0 ||
                       (span.sent_us == d.sent_us && end > d.end);
    if (later) {
        d.any     = true;
        d.sent_us = span.sent_us;
        d.end     = end;
    }
}

/// acknowledge_spans moves snd_una.
void Engine::Impl::acknowledge_spans(Conn c, Seq ack, Delivery& d) {
    Tcb& tcb = c.tcb;
    while (tcb.snd_una < ack) {
        const Span& first    = spans[spans[tcb.span_last].next];
        const Seq end        = min(first.end, ack);
        const uint32_t bytes = bytes_between(tcb.snd_una, end);
        if (first.is(span_sacked)) {
            c.loss.sacked_bytes -= bytes;
        } else {
            deliver(c, first, end, bytes, d);
        }
        if (first.is(span_lost)) {
            c.loss.lost_bytes -= bytes;
        }
        tcb.snd_una = end;
        if (end == first.end) {
            remove_span(c, tcb.span_last);
        }
    }
    count_fates(c);
}

/// mark_sacked notes that the peer holds `range`.  Pre: snd_una <= start < end <= snd_max.
void Engine::Impl::mark_sacked(Conn c, const wire::SackRange& range, Delivery& d) {
    Tcb& tcb        = c.tcb;
    TcbLoss& loss   = c.know();
    uint32_t before = tcb.span_last;
    Seq start       = tcb.snd_una;
    while (start < range.end) {
        const uint32_t index = spans[before].next;
        const bool news      = spans[index].end > range.start && !spans[index].is(span_sacked);
        if (news && start < range.start) {
            if (!split_span(c, before, range.start)) {
                return;
            }
        } else if (news) {
            if (spans[index].end > range.end && !split_span(c, before, range.end)) {
                return;
            }
            Span& span           = spans[spans[before].next];
            const uint32_t bytes = length_from(start, span);
            deliver(c, span, span.end, bytes, d);
            d.sacked = true;
            loss.lost_bytes -= span.is(span_lost) ? bytes : 0;
            loss.sacked_bytes += bytes;
            unmark(span, span_lost);
            mark(span, span_sacked);
        }
        const uint32_t done = spans[before].next;
        const bool first    = start == tcb.snd_una;
        start               = spans[done].end;
        if (!first && spans[done].is(span_sacked) && spans[before].is(span_sacked)) {
            spans[before].end = start;
            remove_span(c, before);
        } else {
            before = done;
        }
    }
    count_fates(c);
}

/// Marks [start, start + bytes) of the first span lost, for peers without SACK.
void Engine::Impl::mark_front_lost(Conn c, uint32_t bytes) {
    Tcb& tcb = c.tcb;
    if (tcb.snd_una == tcb.snd_max) {
        return;
    }
    TcbLoss& loss       = c.know();
    const uint32_t last = tcb.span_last;
    const Seq end       = min(tcb.snd_una + bytes, tcb.snd_max);
    if (spans[spans[last].next].end > end) {
        split_span(c, last, end);
    }
    Span& front = spans[spans[last].next];
    if (!front.is(span_lost | span_sacked)) {
        mark(front, span_lost);
        loss.lost_bytes += length_from(tcb.snd_una, front);
    }
    count_fates(c);
}

/// lose_outstanding takes everything in flight that the peer did not report for lost: after a
/// timeout, while the window was shut, when the path has become narrower.
void Engine::Impl::lose_outstanding(Conn c, bool forget_sacks) {
    Tcb& tcb = c.tcb;
    if (tcb.span_last == no_index) {
        return;
    }
    TcbLoss& loss     = c.know();
    loss.lost_bytes   = 0;
    loss.sacked_bytes = 0;
    uint32_t before   = tcb.span_last;
    Seq start         = tcb.snd_una;
    while (start < tcb.snd_max) {
        const uint32_t index = spans[before].next;
        Span& span           = spans[index];
        const uint32_t bytes = length_from(start, span);
        if (forget_sacks && span.is(span_sacked)) {
            ++counters.sacks_renounced;
            unmark(span, span_sacked);
        }
        (span.is(span_sacked) ? loss.sacked_bytes : loss.lost_bytes) += bytes;
        if (!span.is(span_sacked)) {
            mark(span, span_lost);
        }
        const bool first = start == tcb.snd_una;
        start            = span.end;
        if (!first && spans[before].flags == span.flags) {
            spans[before].end = start;
            remove_span(c, before);
        } else {
            before = index;
        }
    }
    count_fates(c);
    queue_ready(c);
}

/// find_lost returns where what is to be sent again first begins, and in `end` where it ends.  Pre:
/// loss_marked.
Seq Engine::Impl::find_lost(Conn c, Seq& end) const {
    uint32_t index = spans[c.tcb.span_last].next;
    Seq start      = c.tcb.snd_una;
    while (!spans[index].is(span_lost)) {
        start = spans[index].end;
        index = spans[index].next;
        FLUE_ASSERT(start < c.tcb.snd_max);
    }
    end = spans[index].end;
    while (end < c.tcb.snd_max && spans[spans[index].next].is(span_lost)) {
        index = spans[index].next;
        end   = spans[index].end;
    }
    return start;
}

/// [seq, end) is sent again.
void Engine::Impl::sent_again(Conn c, Seq seq, Seq end) {
    Tcb& tcb        = c.tcb;
    TcbLoss& loss   = c.know();
    uint32_t before = tcb.span_last;
    Seq start       = tcb.snd_una;
    while (start < end) {
        const uint32_t index = spans[before].next;
        if (spans[index].end > seq && start < seq && split_span(c, before, seq)) {
            start  = seq;
            before = spans[before].next;
            continue;
        }
        if (spans[index].end > end && end > start) {
            split_span(c, before, end);
        }
        const uint32_t here = spans[before].next;
        Span& span          = spans[here];
        const Seq begin     = start;
        start               = span.end;
        if (span.end <= seq || span.is(span_sacked)) {
            before = here;
            continue;
        }
        loss.lost_bytes -= span.is(span_lost) ? length_from(begin, span) : 0;
        span.flags   = span_again;
        span.sent_us = now_us32();
        if (begin != tcb.snd_una && spans[before].flags == span_again &&
            spans[before].sent_us == span.sent_us) {
            spans[before].end = start;
            remove_span(c, before);
        } else {
            before = here;
        }
    }
    count_fates(c);
}

/// find_nothing_lost takes back that anything was.
void Engine::Impl::find_nothing_lost(Conn c) {
    Tcb& tcb = c.tcb;
    if (!tcb.has(loss_marked)) {
        return;
    }
    uint32_t index = tcb.span_last;
    for (uint32_t i = 0; i < tcb.span_count; ++i) {
        unmark(spans[index], span_lost);
        index = spans[index].next;
    }
    c.loss.lost_bytes = 0;
    count_fates(c);
}

/// The peer had reported what comes next, and yet waits for it.  RFC 2018 §8
bool Engine::Impl::has_renounced(Conn c) const {
    const Tcb& tcb = c.tcb;
    return tcb.span_last != no_index && spans[spans[tcb.span_last].next].is(span_sacked);
}

/// What the peer has reported, from the lowest sequence number on; adjacent spans are one range.
uint8_t Engine::Impl::sacked_ranges(const Tcb& tcb, std::span<wire::SackRange> out) const {
    if (!tcb.has(loss_sacked) || !tcb.is(flag_sack)) {
        return 0;
    }
    uint32_t count = 0;
    uint32_t index = spans[tcb.span_last].next;
    for (Seq start = tcb.snd_una; start < tcb.snd_max && count < out.size();
         index     = spans[index].next) {
        if (spans[index].is(span_sacked) && start > tcb.snd_una) {
            out[count++] = {.start = start, .end = spans[index].end};
        }
        start = spans[index].end;
    }
    return static_cast<uint8_t>(count);
}

}  // namespace flue::tcp
