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
    c.cold.sack_recent = a.seq;
    uint32_t before    = no_index;
    uint32_t after     = c.tcb.reassembly_first;
    while (after != no_index && chunks[after].start <= a.seq) {
        before = after;
        after  = chunks[after].next;
    }
    if (before != no_index && chunks[before].end() > a.seq) {
        const Seq covered = chunks[before].end();
        if (covered >= a.end() && !(a.fin && covered == a.end())) {
            return Drop::none;  // nothing new
        }
        cut_front(a, covered);
    }
    after = cut_to_gap(c, a, before, after);
    if (a.bytes == 0 && !a.fin) {
        return Drop::none;
    }
    if (c.cold.reassembly_count >= options.limits.reassembly_chunks_per_connection) {
        return Drop::reassembly_full;
    }
    if (chunks.free_count() <= reassembly_reserve) {
        return Drop::no_chunk;
    }
    const uint32_t chunk           = take_chunk(a);
    chunks[chunk].next             = after;
    reassembly_link(c.tcb, before) = chunk;
    ++c.cold.reassembly_count;
    return Drop::none;
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
    while (c.tcb.reassembly_first != no_index) {
        const uint32_t index   = c.tcb.reassembly_first;
        c.tcb.reassembly_first = chunks[index].next;
        release_chunk(index);
    }
    c.cold.reassembly_count = 0;
}

/// The range with the latest segment comes first, the others by sequence number.  Spec: RFC 2018 §4
uint8_t Engine::Impl::sack_ranges(const Tcb& tcb,
                                  const TcbCold& cold,
                                  std::span<wire::SackRange> out) const {
    uint32_t count = 1;
    bool recent    = false;
    uint32_t index = tcb.reassembly_first;
    while (index != no_index) {
        wire::SackRange range{chunks[index].start, chunks[index].end()};
        index = chunks[index].next;
        while (index != no_index && chunks[index].start == range.end) {
            range.end = chunks[index].end();
            index     = chunks[index].next;
        }
        if (range.start == range.end) {
            continue;  // a FIN alone
        }
        if (range.start <= cold.sack_recent && cold.sack_recent < range.end) {
            out[0] = range;
            recent = true;
        } else if (count < out.size()) {
            out[count++] = range;
        }
    }
    if (recent) {
        return static_cast<uint8_t>(count);
    }
    for (uint32_t i = 1; i < count; ++i) {
        out[i - 1] = out[i];
    }
    return static_cast<uint8_t>(count - 1);
}

}  // namespace flue::tcp
