#include "tcp/engine.hpp"

#include <algorithm>

#include "tcp/congestion.hpp"
#include "tcp/impl.hpp"
#include "tcp/rtt.hpp"

namespace flue::tcp {

namespace {

LossArray untouched_losses(uint32_t count) {
    void* memory = std::aligned_alloc(alignof(TcbLoss), count * sizeof(TcbLoss));
    FLUE_ASSERT(memory != nullptr || count == 0);
    return LossArray(static_cast<TcbLoss*>(memory));
}

}  // namespace

Engine::Impl::Impl(const Options& options_in)
    : options(options_in),
      tcbs(std::make_unique<Tcb[]>(options.limits.connections)),
      colds(std::make_unique<TcbCold[]>(options.limits.connections)),
      losses(untouched_losses(options.limits.connections)),
      items(options.limits.send_items),
      chunks(options.limits.receive_chunks),
      spans(options.limits.spans + 2 * options.limits.connections),
      span_reserve(2 * options.limits.connections),
      reassembly_reserve(std::max(options.limits.receive_chunks / 8, 1U)),
      reader_reserve(options.limits.receive_chunks / 16) {
    FLUE_ASSERT(options.limits.connections < no_index / 2);
}

Conn Engine::Impl::at(ConnIndex index) const {
    FLUE_ASSERT(index < options.limits.connections);
    return Conn{index, tcbs[index], colds[index], losses[index]};
}

void Engine::Impl::clock(Instant present) {
    now  = std::max(now, present);
    tick = static_cast<uint32_t>(now.us / 1000);
}

// ---------------------------------------------------------------- lists

void Engine::Impl::queue_ready(Conn c) {
    if (!decltype(ready)::listed(c.tcb)) {
        ready.push_back(tcbs.get(), c.index);
    }
}

void Engine::Impl::queue_urgent(Conn c, Pending what) {
    c.tcb.request(what);
    if (decltype(urgent)::listed(c.cold)) {
        return;
    }
    if (what == pending_reset) {
        urgent.push_front(colds.get(), c.index);
    } else {
        urgent.push_back(colds.get(), c.index);
    }
}

void Engine::Impl::notify(Conn c, uint32_t notices) {
    c.tcb.notices = static_cast<uint8_t>(c.tcb.notices | notices);
    if (!decltype(notified)::listed(c.cold)) {
        notified.push_back(colds.get(), c.index);
    }
}

void Engine::Impl::release_chunk(uint32_t chunk) {
    if (chunks[chunk].ref.length == 0) {
        chunks.give(chunk);
        return;
    }
    chunks[chunk].next = released_first;
    released_first     = chunk;
}

// ---------------------------------------------------------------- sending

ItemIndex Engine::Impl::first_item(const Tcb& tcb) const {
    return tcb.item_last == no_item ? no_item : items[tcb.item_last].next;
}

uint32_t Engine::Impl::post_room(const Tcb& tcb) const {
    return tcb.is(flag_fin_queued) ? missing_bytes(tcb) : send_backlog_max - backlog(tcb);
}

/// A FIN can be queued while bytes are missing only if the giver had sent it: then snd_max counts
/// it.
uint32_t Engine::Impl::missing_bytes(const Tcb& tcb) {
    const uint32_t fin = tcb.is(flag_fin_queued) ? 1 : 0;
    return tcb.snd_end + fin < tcb.snd_max ? bytes_between(tcb.snd_end + fin, tcb.snd_max) : 0;
}

/// A FIN may be posted once, not before the missing bytes; one that the giver had sent may be given
/// an item, together with the last of them.
bool Engine::Impl::may_have_fin(const Tcb& tcb, uint32_t bytes) {
    if (!tcb.is(flag_fin_queued)) {
        return bytes >= missing_bytes(tcb);
    }
    return bytes == missing_bytes(tcb) && tcb.snd_end + bytes + 1 == tcb.snd_max;
}

ItemIndex Engine::Impl::post_send(Conn c, const ByteRef& ref, bool fin) {
    Tcb& tcb = c.tcb;
    FLUE_ASSERT(tcb.is(flag_in_use));
    const bool behind_a_fin = tcb.item_last != no_item && items[tcb.item_last].fin;
    const bool is_refused   = behind_a_fin || (fin && !may_have_fin(tcb, ref.length));
    if (ref.length > post_room(tcb) || is_refused) {
        return no_item;
    }
    const ItemIndex index = items.take();
    items[index]          = SendItem{.ref = ref, .start = tcb.snd_end, .next = index, .fin = fin};
    if (tcb.item_last != no_item) {
        items[index].next         = items[tcb.item_last].next;
        items[tcb.item_last].next = index;
    }
    tcb.item_last = index;
    tcb.snd_end += ref.length;
    if (fin) {
        tcb.set(flag_fin_queued);
    }
    notify_acked(c);
    if (has_work(tcb)) {
        queue_ready(c);
    }
    return index;
}

void Engine::Impl::pop_item(Conn c, ItemIndex item) {
    Tcb& tcb = c.tcb;
    FLUE_ASSERT(item == first_item(tcb));
    if (tcb.item_cursor == item) {
        tcb.item_cursor = no_item;
    }
    if (tcb.item_last == item) {
        tcb.item_last = no_item;
    } else {
        items[tcb.item_last].next = items[item].next;
    }
    items.give(item);
}

// ---------------------------------------------------------------- receiving

void Engine::Impl::consume(Conn c, uint32_t bytes) {
    Tcb& tcb = c.tcb;
    FLUE_ASSERT(bytes <= tcb.readable);
    tcb.readable -= bytes;
    while (bytes > 0) {
        Chunk& chunk         = chunks[tcb.chunk_first];
        const uint32_t taken = std::min<uint32_t>(bytes, chunk.kept_bytes);
        bytes -= taken;
        if (taken < chunk.kept_bytes) {
            chunk.skip += taken;
            chunk.start += taken;
            chunk.kept_bytes = (chunk.kept_bytes - taken) & chunk_bytes_max;
            break;
        }
        const uint32_t index = tcb.chunk_first;
        tcb.chunk_first      = chunk.next;
        --c.cold.chunk_count;
        release_chunk(index);
    }
    if (!tcb.frozen() && peer_may_send(tcb.state) && window_update_due(tcb)) {
        acknowledge_now(c);
    }
}

bool Engine::Impl::add_readable(Conn c, const ByteRef& ref) {
    FLUE_ASSERT(ref.length <= chunk_bytes_max);
    // What a connection brings along leaves the others something to receive with.
    if (chunks.free_count() <= reader_reserve) {
        return false;
    }
    const uint32_t index = chunks.take();
    Chunk& chunk         = chunks[index];
    chunk                = Chunk{};
    chunk.ref            = ref;
    chunk.kept_bytes     = ref.length & chunk_bytes_max;
    link_readable(c, index);
    notify(c, notice_received);
    return true;
}

/// Appends a chunk to what can be read.
void Engine::Impl::link_readable(Conn c, uint32_t chunk) {
    Tcb& tcb           = c.tcb;
    chunks[chunk].next = no_index;
    if (tcb.chunk_first == no_index) {
        tcb.chunk_first = chunk;
    } else {
        chunks[tcb.chunk_last].next = chunk;
    }
    tcb.chunk_last = chunk;
    tcb.readable += chunks[chunk].kept_bytes;
    ++c.cold.chunk_count;
}

// ---------------------------------------------------------------- the calls

Engine::Engine(const Options& options) : impl_(std::make_unique<Impl>(options)) {
}

Engine::~Engine() = default;

Engine::Refusal Engine::adopt(Instant now,
                              ConnIndex index,
                              const Parameters& parameters,
                              const Delegated& state) {
    impl_->clock(now);
    return impl_->adopt(index, parameters, state);
}

void Engine::update(Instant now, ConnIndex index, const Parameters& parameters, uint8_t flags) {
    impl_->clock(now);
    impl_->update(impl_->at(index), parameters, flags);
}

bool Engine::packet_too_big(Instant now, ConnIndex index, Seq seq, uint16_t mss) {
    impl_->clock(now);
    return impl_->packet_too_big(impl_->at(index), seq, mss);
}

void Engine::snapshot(Instant now, ConnIndex index, Delegated& state) const {
    impl_->snapshot(now, index, state);
}

void Engine::forget(ConnIndex index) {
    impl_->forget(impl_->at(index));
}

void Engine::prefetch(ConnIndex index) const {
    const auto* tcb = reinterpret_cast<const char*>(&impl_->tcbs[index]);
    __builtin_prefetch(tcb);
    __builtin_prefetch(tcb + 64);
    __builtin_prefetch(&impl_->colds[index]);
}

State Engine::state(ConnIndex index) const {
    return impl_->at(index).tcb.state;
}

UploadReason Engine::upload_reason(ConnIndex index) const {
    return static_cast<UploadReason>(impl_->at(index).cold.upload_reason);
}

Seq Engine::snd_una(ConnIndex index) const {
    return impl_->at(index).tcb.snd_una;
}

uint32_t Engine::free_items() const {
    return impl_->items.free_count();
}

uint32_t Engine::post_room(ConnIndex index) const {
    return impl_->post_room(impl_->at(index).tcb);
}

ItemIndex Engine::post_send(Instant now, ConnIndex index, const ByteRef& ref, bool fin) {
    impl_->clock(now);
    return impl_->post_send(impl_->at(index), ref, fin);
}

uint32_t Engine::missing_bytes(ConnIndex index) const {
    return impl_->missing_bytes(impl_->at(index).tcb);
}

bool Engine::forgo_missing(ConnIndex index) {
    Tcb& tcb = impl_->at(index).tcb;
    if (tcb.snd_una < tcb.snd_max) {
        return false;
    }
    tcb.snd_end += Impl::missing_bytes(tcb);
    return true;
}

void Engine::abort(Instant now, ConnIndex index) {
    impl_->clock(now);
    impl_->abort(impl_->at(index));
}

void Engine::stop(ConnIndex index) {
    impl_->stop(impl_->at(index));
}

void Engine::invalidate(ConnIndex index) {
    const Conn c = impl_->at(index);
    if (c.cold.upload_reason == static_cast<uint8_t>(UploadReason::none)) {
        impl_->request_upload(c, UploadReason::invalid_state);
    }
    impl_->stop(c);
}

ItemIndex Engine::front_item(ConnIndex index) const {
    return impl_->first_item(impl_->at(index).tcb);
}

uint32_t Engine::acked_bytes(ConnIndex index, ItemIndex item) const {
    const Seq una        = impl_->at(index).tcb.snd_una;
    const SendItem& sent = impl_->items[item];
    return una <= sent.start ? 0 : std::min(bytes_between(sent.start, una), sent.ref.length);
}

bool Engine::fully_acked(ConnIndex index, ItemIndex item) const {
    return impl_->fully_acked(impl_->at(index).tcb, item);
}

const ByteRef& Engine::item_ref(ItemIndex item) const {
    return impl_->items[item].ref;
}

void Engine::pop_item(ConnIndex index, ItemIndex item) {
    const Conn c = impl_->at(index);
    FLUE_ASSERT(c.tcb.frozen() || impl_->fully_acked(c.tcb, item));
    impl_->pop_item(c, item);
}

uint32_t Engine::usable_window(ConnIndex index) const {
    const Tcb& tcb = impl_->at(index).tcb;
    const bool cut = tcb.is(flag_recovery);  // then cwnd is what the next ACK lets out
    return std::min(cut ? std::max(tcb.cwnd, tcb.ssthresh) : tcb.cwnd, tcb.snd_wnd);
}

uint32_t Engine::send_backlog(ConnIndex index) const {
    return backlog(impl_->at(index).tcb);
}

Engine::Outcome Engine::on_segment(Instant now, ConnIndex index, const Segment& segment) {
    impl_->clock(now);
    return impl_->on_segment(impl_->at(index), segment);
}

uint32_t Engine::readable(ConnIndex index) const {
    return impl_->at(index).tcb.readable;
}

ByteRef Engine::front_chunk(ConnIndex index) const {
    const uint32_t first = impl_->at(index).tcb.chunk_first;
    if (first == no_index) {
        return {};
    }
    const Chunk& chunk = impl_->chunks[first];
    return {.region = chunk.ref.region,
            .offset = chunk.ref.offset + chunk.skip,
            .length = chunk.kept_bytes};
}

void Engine::consume(Instant now, ConnIndex index, uint32_t bytes) {
    impl_->clock(now);
    impl_->consume(impl_->at(index), bytes);
}

bool Engine::add_readable(ConnIndex index, const ByteRef& ref) {
    return impl_->add_readable(impl_->at(index), ref);
}

bool Engine::peer_fin_received(ConnIndex index) const {
    return impl_->at(index).tcb.is(flag_peer_fin);
}

void Engine::flush_ack(ConnIndex index) {
    const Conn c = impl_->at(index);
    if (!c.tcb.frozen() && c.tcb.ack_segments > 0) {
        impl_->acknowledge_now(c);
    }
}

bool Engine::ack_owed(ConnIndex index) const {
    return impl_->at(index).tcb.has(pending_ack);
}

Parameters Engine::parameters(ConnIndex index) const {
    const Conn c = impl_->at(index);
    return {.timestamps     = c.tcb.is(flag_timestamps),
            .sack           = c.tcb.is(flag_sack),
            .nagle          = c.tcb.is(flag_nagle),
            .keep_alive     = c.tcb.is(flag_keep_alive),
            .ecn            = c.tcb.is(flag_ecn),
            .congestion     = congestion::kind_of(c.tcb),
            .snd_wind_shift = static_cast<uint8_t>(c.tcb.snd_wind_shift()),
            .rcv_wind_shift = static_cast<uint8_t>(c.tcb.rcv_wind_shift()),
            .ka_probe_count = c.cold.ka_probe_count,
            .mss            = c.tcb.mss,
            .rcv_wnd_max    = c.tcb.rcv_wnd_max,
            .ka_timeout_ms  = c.cold.ka_timeout_ms,
            .ka_interval_ms = c.cold.ka_interval_ms,
            .max_rt_ms      = c.cold.max_rt_ms,
            .group          = c.cold.group,
            .family         = c.cold.family};
}

uint32_t Engine::transmit(Instant now, std::span<TxSegment> out) {
    impl_->clock(now);
    return impl_->transmit(out);
}

bool Engine::has_output() const {
    return !impl_->urgent.empty() || !impl_->ready.empty();
}

void Engine::on_time(Instant now) {
    impl_->clock(now);
    impl_->on_time();
}

Instant Engine::next_deadline() const {
    return impl_->next_deadline();
}

uint32_t Engine::take_notified(std::span<Notified> out) {
    uint32_t count = 0;
    while (count < out.size() && !impl_->notified.empty()) {
        const Conn c          = impl_->at(impl_->notified.pop_front(impl_->colds.get()));
        const uint8_t notices = c.tcb.notices;
        c.tcb.notices         = 0;
        if (notices != 0) {  // else forgotten since
            out[count++] = {.conn = c.index, .notices = notices};
        }
    }
    return count;
}

void Engine::notify(ConnIndex index, uint8_t notices) {
    impl_->notify(impl_->at(index), notices);
}

uint32_t Engine::take_released(std::span<ByteRef> out) {
    uint32_t count = 0;
    while (count < out.size() && impl_->released_first != no_index) {
        const uint32_t index  = impl_->released_first;
        impl_->released_first = impl_->chunks[index].next;
        out[count++]          = impl_->chunks[index].ref;
        impl_->chunks.give(index);
    }
    return count;
}

const Engine::Counters& Engine::counters() const {
    return impl_->counters;
}

const Engine::Group& Engine::group(uint32_t group) const {
    return impl_->groups.at(group);
}

Engine::Info Engine::info(ConnIndex index) const {
    const Conn c = impl_->at(index);
    return {.state    = c.tcb.state,
            .cwnd     = c.tcb.cwnd,
            .ssthresh = c.tcb.ssthresh,
            .srtt_us  = c.tcb.srtt_us_x8 / 8,
            .rto_us =
                rtt::backed_off_us(impl_->rto_us(c.tcb), c.cold.backoff, impl_->options.rto_max_us),
            .snd_wnd     = c.tcb.snd_wnd,
            .rcv_wnd     = c.tcb.rcv_wnd(),
            .unacked     = c.tcb.flight_size(),
            .backlog     = backlog(c.tcb),
            .readable    = c.tcb.readable,
            .mss         = c.tcb.mss,
            .retransmits = c.cold.retransmits,
            .sacked      = c.tcb.has(loss_sacked) ? c.loss.sacked_bytes : 0,
            .lost        = c.tcb.has(loss_marked) ? c.loss.lost_bytes : 0,
            .recovering  = c.tcb.is(flag_recovery) || c.tcb.is(flag_timeout),
            .ecn         = c.tcb.is(flag_ecn),
            .congestion  = congestion::kind_of(c.tcb)};
}

Engine::Usage Engine::usage() const {
    return {.connections    = impl_->connection_count,
            .send_items     = impl_->items.used_count(),
            .receive_chunks = impl_->chunks.used_count(),
            .spans          = impl_->spans.used_count()};
}

void Engine::check_invariants(ConnIndex index) const {
    impl_->check_invariants(index);
}

}  // namespace flue::tcp
