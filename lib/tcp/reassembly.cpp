#include <algorithm>

#include "tcp/impl.hpp"

// Data out of order: a list of chunks sorted by sequence number that do not overlap, as many as the
// options allow. What is there is kept and a newcomer is cut to the gaps, unless it covers an older
// chunk as a whole.

namespace flue::tcp {

namespace {

void cut_front(Arrival& a, Seq to) {
    const uint32_t bytes = bytes_between(a.seq, to);
    FLUE_ASSERT(bytes <= a.bytes);
    a.skip += bytes;
    a.bytes -= bytes;
    a.seq = to;
}

}  // namespace

uint32_t Engine::Impl::take_chunk(Arrival& a) {
    FLUE_ASSERT(a.bytes <= chunk_bytes_max);
    const uint32_t index = chunks.take();
    Chunk& chunk         = chunks[index];
    chunk.ref            = a.bytes > 0 ? a.segment.payload : ByteRef{};
    chunk.skip           = a.skip;
    chunk.kept_bytes     = a.bytes & chunk_bytes_max;
    chunk.psh            = (a.segment.tcp.flags & wire::tcp_psh) != 0;
    chunk.fin            = a.fin;
    chunk.start          = a.seq;
    chunk.next           = no_index;
    a.kept               = a.bytes > 0;
    return index;
}

Drop Engine::Impl::keep_out_of_order(Conn c, Arrival& a) {
    uint32_t before = no_index;
    uint32_t after  = c.tcb.reassembly_first;
    while (after != no_index && chunks[after].start <= a.seq) {
        before = after;
        after  = chunks[after].next;
    }
    const bool overlaps = before != no_index && chunks[before].end() > a.seq;
    report_overlap(c, a, overlaps ? before : after);
    if (overlaps) {
        const Seq covered = chunks[before].end();
        if (covered >= a.end() && !(a.fin && covered == a.end())) {
            note_recent(c, a.seq);
            return Drop::none;  // nothing new
        }
        cut_front(a, covered);
    }
    const bool fin_known = before != no_index && chunks[before].fin != 0;
    if (fin_known && (a.bytes > 0 || a.seq > chunks[before].end())) {
        return Drop::text_after_fin;
    }
    if (fin_known) {
        return Drop::none;
    }
    if (chunks.free_count() <= reassembly_reserve) {
        return Drop::no_chunk;
    }
    after = cut_to_gap(c, a, before, after);
    if (a.bytes == 0 && !a.fin) {
        return Drop::none;
    }
    if (c.cold.reassembly_count >= options.limits.reassembly_chunks_per_connection) {
        const uint32_t evicted = evict_farthest(c, a.seq);
        if (evicted == no_index) {
            return Drop::reassembly_full;
        }
        after = after == evicted ? no_index : after;
    }
    const uint32_t chunk           = take_chunk(a);
    chunks[chunk].next             = after;
    reassembly_link(c.tcb, before) = chunk;
    ++c.cold.reassembly_count;
    note_recent(c, a.seq);
    return Drop::none;
}

/// What is nearer is needed sooner.  What was reported and goes, its sender still has: RFC 2018 §8.
uint32_t Engine::Impl::evict_farthest(Conn c, Seq seq) {
    uint32_t before = no_index;
    uint32_t last   = c.tcb.reassembly_first;
    while (last != no_index && chunks[last].next != no_index) {
        before = last;
        last   = chunks[last].next;
    }
    if (last == no_index || chunks[last].start <= seq) {
        return no_index;
    }
    forget_duplicate(c, chunks[last].start);
    reassembly_link(c.tcb, before) = no_index;
    --c.cold.reassembly_count;
    ++counters.chunks_evicted;
    release_chunk(last);
    return last;
}

/// Makes room for an arrival between two chunks: older ones that it covers go, at one that reaches
/// further it ends. Returns the chunk that now follows it.
uint32_t Engine::Impl::cut_to_gap(Conn c, Arrival& a, uint32_t before, uint32_t after) {
    while (after != no_index && chunks[after].start < a.end()) {
        const Chunk& older = chunks[after];
        if (older.end() > a.end() || (older.fin != 0 && !a.fin)) {
            a.bytes = bytes_between(a.seq, older.start);
            a.fin   = false;
            break;
        }
        const uint32_t covered         = after;
        after                          = older.next;
        reassembly_link(c.tcb, before) = after;
        --c.cold.reassembly_count;
        release_chunk(covered);
    }
    return after;
}

/// What points to the chunk after `before`.
uint32_t& Engine::Impl::reassembly_link(Tcb& tcb, uint32_t before) {
    return before == no_index ? tcb.reassembly_first : chunks[before].next;
}

bool Engine::Impl::pull_in_order(Conn c) {
    Tcb& tcb = c.tcb;
    while (tcb.reassembly_first != no_index && chunks[tcb.reassembly_first].start <= tcb.rcv_nxt) {
        const uint32_t index = tcb.reassembly_first;
        Chunk& chunk         = chunks[index];
        tcb.reassembly_first = chunk.next;
        --c.cold.reassembly_count;

        const bool fin     = chunk.fin != 0 && chunk.end() >= tcb.rcv_nxt;
        const uint32_t old = bytes_between(chunk.start, tcb.rcv_nxt);
        report_duplicate(c, chunk.start, min(chunk.end(), tcb.rcv_nxt));
        if (old >= chunk.kept_bytes) {
            release_chunk(index);
        } else {
            chunk.skip += old;
            chunk.kept_bytes = (chunk.kept_bytes - old) & chunk_bytes_max;
            chunk.start      = tcb.rcv_nxt;
            append_in_order(c, index);
        }
        if (fin) {
            return true;
        }
    }
    return false;
}

void Engine::Impl::drop_reassembly(Conn c) {
    forget_duplicate(c, c.tcb.rcv_nxt);
    while (c.tcb.reassembly_first != no_index) {
        const uint32_t index   = c.tcb.reassembly_first;
        c.tcb.reassembly_first = chunks[index].next;
        release_chunk(index);
    }
    c.cold.reassembly_count = 0;
}

// ---------------------------------------------------------------- what is reported

wire::SackRange Engine::Impl::block_at(uint32_t& index) const {
    wire::SackRange block{chunks[index].start, chunks[index].end()};
    index = chunks[index].next;
    while (index != no_index && chunks[index].start == block.end) {
        block.end = chunks[index].end();
        index     = chunks[index].next;
    }
    return block;
}

/// `seq` is in the list.
void Engine::Impl::note_recent(Conn c, Seq seq) {
    if (!c.tcb.is(flag_sack)) {
        return;
    }
    auto& recent          = c.know().sack_recent;
    uint32_t index        = c.tcb.reassembly_first;
    wire::SackRange block = block_at(index);
    while (index != no_index && block.end <= seq) {
        block = block_at(index);
    }
    // The one that is pushed out is of this block, or the oldest.
    size_t place = 0;
    while (place + 1 < recent.size() &&
           !(block.start <= recent[place] && recent[place] < block.end)) {
        ++place;
    }
    for (; place > 0; --place) {
        recent[place] = recent[place - 1];
    }
    recent[0] = seq;
}

/// The first stretch of an arrival that is here already; `chunk` is the first that ends behind
/// where it begins.  Spec: RFC 2883 §4.2
void Engine::Impl::report_overlap(Conn c, const Arrival& a, uint32_t chunk) {
    if (chunk == no_index || chunks[chunk].start >= a.end()) {
        return;
    }
    const wire::SackRange block = block_at(chunk);
    report_duplicate(c, max(block.start, a.seq), min(block.end, a.end()));
}

/// One report an ACK: of several the first, with what adjoins it.  Spec: RFC 2883 §4
void Engine::Impl::report_duplicate(Conn c, Seq start, Seq end) {
    if (start >= end) {
        return;
    }
    ++counters.duplicates_received;
    if (!c.tcb.is(flag_sack)) {
        return;
    }
    TcbLoss& loss = c.know();
    if (!c.tcb.has(loss_dsack)) {
        loss.dsack_start = start;
        loss.dsack_end   = end;
        c.tcb.set(loss_dsack, true);
    } else if (start <= loss.dsack_end && loss.dsack_start <= end) {
        loss.dsack_start = min(loss.dsack_start, start);
        loss.dsack_end   = max(loss.dsack_end, end);
    }
}

/// What goes is not reported as here.
void Engine::Impl::forget_duplicate(Conn c, Seq beyond) {
    if (c.tcb.has(loss_dsack) && c.loss.dsack_end > beyond) {
        c.tcb.set(loss_dsack, false);
    }
}

/// A duplicate and the block that it is in, then the blocks that the last segments are in, the
/// latest first, then the others by sequence number.  Spec: RFC 2018 §4, RFC 2883 §4
uint8_t Engine::Impl::sack_ranges(Conn c, std::span<wire::SackRange> out) const {
    constexpr size_t ranks = wire::sack_ranges_max + 1;
    std::array<Seq, ranks> marks{};
    std::ranges::copy(c.loss.sack_recent, marks.begin() + 1);
    marks[0] = c.tcb.has(loss_dsack) ? c.loss.dsack_start : marks[1];
    std::array<wire::SackRange, 2 * ranks> found{};
    size_t others = ranks;
    for (uint32_t index = c.tcb.reassembly_first; index != no_index;) {
        const wire::SackRange block = block_at(index);
        size_t rank                 = 0;
        while (rank < ranks && !(block.start <= marks[rank] && marks[rank] < block.end)) {
            ++rank;
        }
        if (rank < ranks) {
            found[rank] = block;
        } else if (block.start < block.end && others < found.size()) {
            found[others++] = block;
        }
    }
    uint8_t count = 0;
    if (c.tcb.has(loss_dsack)) {
        out[count++] = {c.loss.dsack_start, c.loss.dsack_end};
    }
    for (const wire::SackRange& block : found) {
        if (block.start < block.end && count < out.size()) {
            out[count++] = block;
        }
    }
    return count;
}

}  // namespace flue::tcp
