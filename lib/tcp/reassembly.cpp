#include <algorithm>

#include "tcp/impl.hpp"

// Data out of order: a list of chunks sorted by sequence number that do not overlap.  Chunks
// without gaps between them are a block, and blocks are what is walked: a connection has as many as
// the options allow.  What is there is kept and a newcomer is cut to the gap before it, unless it
// covers a block as a whole.

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
    chunk.block_last     = index;
    a.kept               = a.bytes > 0;
    return index;
}

Drop Engine::Impl::keep_out_of_order(Conn c, Arrival& a) {
    uint32_t before = no_index;
    uint32_t after  = c.tcb.reassembly_first;
    while (after != no_index && chunks[after].start <= a.seq) {
        before = after;
        after  = block_behind(after);
    }
    const bool joins = before != no_index && block_end(before) >= a.seq;
    report_overlap(c, a, joins && block_end(before) > a.seq ? before : after);
    const bool fin_known = before != no_index && chunks[chunks[before].block_last].fin != 0;
    if (joins) {
        const Seq covered = block_end(before);
        if (covered >= a.end() && !(a.fin && covered == a.end() && !fin_known)) {
            note_recent(c, a.seq);
            return Drop::none;  // nothing new
        }
        cut_front(a, covered);
    }
    if (fin_known) {
        return Drop::text_after_fin;
    }
    if (chunks.free_count() <= reassembly_reserve) {
        return Drop::no_chunk;
    }
    if (!room_out_of_order(c, a, !joins)) {
        return Drop::reassembly_full;
    }
    cut_to_gap(c, a, before);
    insert_chunk(c, before, take_chunk(a), joins);
    note_recent(c, a.seq);
    return Drop::none;
}

/// Makes room for an arrival behind block `before`: blocks that it covers go, at one that reaches
/// further it ends.
void Engine::Impl::cut_to_gap(Conn c, Arrival& a, uint32_t before) {
    for (;;) {
        const uint32_t after = reassembly_link(c.tcb, before);
        if (after == no_index || chunks[after].start >= a.end()) {
            return;
        }
        const bool ends = chunks[chunks[after].block_last].fin != 0;
        if (block_end(after) > a.end() || (ends && !a.fin)) {
            a.bytes = bytes_between(a.seq, chunks[after].start);
            a.fin   = false;
            return;
        }
        release_block(c, before);
    }
}

/// Of small payloads no more are kept than of those in order.
bool Engine::Impl::room_out_of_order(Conn c, const Arrival& a, bool new_block) {
    const uint32_t most = is_small(a.bytes) ? small_chunks_max(c.tcb) : UINT16_MAX;
    const bool many     = c.cold.reassembly_count >= std::min<uint32_t>(most, UINT16_MAX);
    uint32_t blocks     = 0;
    for (uint32_t i = c.tcb.reassembly_first; new_block && i != no_index; i = block_behind(i)) {
        ++blocks;
    }
    const bool full = blocks >= options.limits.reassembly_blocks_per_connection;
    return !(many || full) || evict_farthest(c, a.seq);
}

/// Puts a chunk behind block `before`, which it `joins` or does not, and joins it with the block
/// behind it where there is no gap left.
void Engine::Impl::insert_chunk(Conn c, uint32_t before, uint32_t chunk, bool joins) {
    uint32_t& link           = reassembly_link(c.tcb, before);
    const uint32_t after     = link;
    const uint32_t block     = joins ? before : chunk;
    chunks[chunk].next       = after;
    link                     = chunk;
    const bool meets         = after != no_index && chunks[after].start == chunks[chunk].end();
    chunks[block].block_last = meets ? chunks[after].block_last : chunk;
    ++c.cold.reassembly_count;
}

/// Gives the block behind block `before` back.
void Engine::Impl::release_block(Conn c, uint32_t before) {
    uint32_t& link      = reassembly_link(c.tcb, before);
    const uint32_t last = chunks[link].block_last;
    for (bool done = false; !done;) {
        const uint32_t index = link;
        done                 = index == last;
        link                 = chunks[index].next;
        --c.cold.reassembly_count;
        release_chunk(index);
    }
}

/// What is nearer is needed sooner.  What was reported and goes, its sender still has: RFC 2018 §8.
bool Engine::Impl::evict_farthest(Conn c, Seq seq) {
    uint32_t before = no_index;
    uint32_t block  = c.tcb.reassembly_first;
    while (block != no_index && block_behind(block) != no_index) {
        before = block;
        block  = block_behind(block);
    }
    if (block == no_index || chunks[block].start <= seq) {
        return false;
    }
    forget_duplicate(c, chunks[block].start);
    const uint32_t count = c.cold.reassembly_count;
    release_block(c, before);
    counters.chunks_evicted += count - c.cold.reassembly_count;
    return true;
}

uint32_t& Engine::Impl::reassembly_link(Tcb& tcb, uint32_t before) {
    return before == no_index ? tcb.reassembly_first : chunks[chunks[before].block_last].next;
}

bool Engine::Impl::pull_in_order(Conn c) {
    Tcb& tcb = c.tcb;
    while (tcb.reassembly_first != no_index && chunks[tcb.reassembly_first].start <= tcb.rcv_nxt) {
        const uint32_t index = tcb.reassembly_first;
        Chunk& chunk         = chunks[index];
        tcb.reassembly_first = chunk.next;
        --c.cold.reassembly_count;
        if (chunk.block_last != index) {
            chunks[chunk.next].block_last = chunk.block_last;
        }
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

/// `seq` is in the list.
void Engine::Impl::note_recent(Conn c, Seq seq) {
    if (!c.tcb.is(flag_sack)) {
        return;
    }
    auto& recent   = c.know().sack_recent;
    uint32_t block = c.tcb.reassembly_first;
    while (block_end(block) <= seq && block_behind(block) != no_index) {
        block = block_behind(block);
    }
    const Seq start = chunks[block].start;
    const Seq end   = block_end(block);
    // The one that is pushed out is of this block, or the oldest.
    size_t place = 0;
    while (place + 1 < recent.size() && !(start <= recent[place] && recent[place] < end)) {
        ++place;
    }
    for (; place > 0; --place) {
        recent[place] = recent[place - 1];
    }
    recent[0] = seq;
}

/// The first stretch of an arrival that is here already; `block` is the first that does not end
/// before it.  Spec: RFC 2883 §4.2
void Engine::Impl::report_overlap(Conn c, const Arrival& a, uint32_t block) {
    if (block != no_index) {
        report_duplicate(c, max(chunks[block].start, a.seq), min(block_end(block), a.end()));
    }
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
    for (uint32_t i = c.tcb.reassembly_first; i != no_index; i = block_behind(i)) {
        const wire::SackRange block{chunks[i].start, block_end(i)};
        size_t rank = 0;
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
