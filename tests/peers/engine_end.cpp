#include "engine_end.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace flue::peers {

namespace {

constexpr uint32_t item_bytes_max  = 64 * 1024;
constexpr uint32_t items_posted    = 8;
constexpr uint8_t our_wind_shift   = 3;
constexpr uint8_t their_wind_shift = 1;  ///< of Debian's build of lwIP
constexpr uint16_t mss             = 1440;
constexpr uint32_t syn_wnd         = 0xffff;

tcp::Options options_of(uint64_t seed) {
    tcp::Options options;
    options.limits = {.connections = 1, .send_items = 64, .receive_chunks = 1024};
    options.seed   = seed;
    return options;
}

}  // namespace

EngineEnd::EngineEnd(const e2e::Pattern& sends,
                     const e2e::Pattern& expects,
                     const Plan& plan,
                     Output output)
    : sends_(sends),
      expects_(expects),
      plan_(plan),
      output_(std::move(output)),
      engine_(options_of(plan.seed)),
      iss_(Seq{static_cast<uint32_t>(plan.seed * 2654435761U)}) {
}

// ---------------------------------------------------------------- the handshake

/// A SYN has options that no header of a synchronized connection has: they are built as payload,
/// and the data offset, with the checksum, is moved behind them.
void EngineEnd::answer_syn(const wire::Frame& syn) {
    flow_.key                            = syn.key;
    const std::array<uint8_t, 8> options = {2, 4, mss >> 8, mss & 0xff, 3, 3, our_wind_shift, 1};
    wire::TcpFields tcp;
    tcp.seq    = iss_;
    tcp.ack    = syn.tcp.seq + 1;
    tcp.flags  = wire::tcp_syn | wire::tcp_ack;
    tcp.window = syn_wnd;
    std::vector<std::byte> frame(wire::header_bytes_max);
    const auto payload = std::as_bytes(std::span(options));
    const auto lengths = wire::build_headers(flow_,
                                             tcp,
                                             options.size(),
                                             0x8000,
                                             wire::TxChecksum::full,
                                             wire::sum_bytes(payload),
                                             frame);
    frame.resize(lengths.total());
    frame.insert(frame.end(), payload.begin(), payload.end());
    std::byte* header     = frame.data() + lengths.l2 + lengths.l3;
    const uint32_t longer = options.size() / 4 << 12;
    const auto old_checksum =
        std::to_integer<uint32_t>(header[16]) << 8 | std::to_integer<uint32_t>(header[17]);
    header[12]              = std::byte{(5 + 2) << 4};
    const uint16_t checksum = wire::fold_checksum((~old_checksum & 0xffff) + longer);
    header[16]              = static_cast<std::byte>(checksum >> 8);
    header[17]              = static_cast<std::byte>(checksum & 0xff);
    output_(std::move(frame));
}

void EngineEnd::adopt(Instant now, const wire::Frame& ack) {
    tcp::Parameters parameters;
    parameters.snd_wind_shift = their_wind_shift;
    parameters.rcv_wind_shift = our_wind_shift;
    parameters.mss            = mss;
    tcp::Delegated state;
    state.rcv_nxt = ack.tcp.seq;
    state.rcv_wnd = syn_wnd;
    state.snd_una = state.snd_nxt = state.snd_max = iss_ + 1;
    state.snd_wnd = state.max_snd_wnd = uint32_t{ack.tcp.window} << their_wind_shift;
    state.snd_wl1                     = ack.tcp.seq;
    connected_ = engine_.adopt(now, conn, parameters, state) == tcp::Engine::Refusal::none;
}

// ---------------------------------------------------------------- in

void EngineEnd::receive(Instant now, std::span<const std::byte> bytes) {
    wire::Frame frame;
    if (wire::parse_frame(bytes, wire::Checksum::verify, frame) != wire::ParseResult::tcp) {
        return;
    }
    if ((frame.tcp.flags & wire::tcp_syn) != 0) {
        return answer_syn(frame);
    }
    if (!connected_) {
        adopt(now, frame);
    }
    if (!connected_) {
        return;
    }
    tcp::Segment segment{.tcp = frame.tcp, .payload = {}};
    const uint64_t number = ++frames_;
    if (frame.payload_bytes > 0) {
        segment.payload = {
            .region = number, .offset = frame.payload_offset, .length = frame.payload_bytes};
        kept_[number].assign(bytes.begin(), bytes.end());
    }
    if (!engine_.on_segment(now, conn, segment).payload_kept) {
        kept_.erase(number);
    }
    work(now);
}

void EngineEnd::on_time(Instant now) {
    engine_.on_time(now);
    work(now);
}

void EngineEnd::work(Instant now) {
    if (!connected_) {
        return;
    }
    std::array<tcp::Engine::Notified, 1> notified;
    while (engine_.take_notified(notified) > 0) {
        const uint8_t notices = notified[0].notices;
        seen_.reset           = seen_.reset || (notices & tcp::notice_reset) != 0;
        const bool expected   = engine_.state(conn) == tcp::State::time_wait;
        seen_.uploaded = seen_.uploaded || ((notices & tcp::notice_upload) != 0 && !expected);
    }
    seen_.fins_crossed = seen_.fins_crossed || engine_.state(conn) == tcp::State::closing;
    pop_acked();
    take_data(now);
    post_sends(now);
    transmit(now);
    release();
    engine_.check_invariants(conn);
}

void EngineEnd::take_data(Instant now) {
    while (!paused_ && engine_.readable(conn) > 0 && !seen_.aborted) {
        const tcp::ByteRef chunk = engine_.front_chunk(conn);
        const auto* bytes =
            reinterpret_cast<const uint8_t*>(kept_.at(chunk.region).data()) + chunk.offset;
        seen_.bytes_right =
            seen_.bytes_right && expects_.matches(seen_.bytes_received, {bytes, chunk.length});
        seen_.bytes_received += chunk.length;
        engine_.consume(now, conn, chunk.length);
        paused_     = !has_paused_ && seen_.bytes_received >= plan_.pause_after_bytes;
        has_paused_ = has_paused_ || paused_;
        if (seen_.bytes_received >= plan_.abort_after_bytes) {
            seen_.aborted = true;
            engine_.abort(now, conn);
        }
    }
    seen_.fin = seen_.fin || (engine_.peer_fin_received(conn) && engine_.readable(conn) == 0);
}

// ---------------------------------------------------------------- out

void EngineEnd::post_sends(Instant now) {
    const auto backlog_max = uint64_t{items_posted} * item_bytes_max;
    while (posted_ < plan_.bytes_to_send && engine_.send_backlog(conn) < backlog_max &&
           engine_.post_room(conn) >= item_bytes_max) {
        const auto bytes = static_cast<uint32_t>(
            std::min<uint64_t>(item_bytes_max, plan_.bytes_to_send - posted_));
        const tcp::ByteRef ref{
            .region = 1, .offset = static_cast<uint32_t>(posted_), .length = bytes};
        if (engine_.post_send(now, conn, ref, false) == tcp::no_item) {
            return;
        }
        posted_ += bytes;
    }
    if (closing_ && posted_ == plan_.bytes_to_send &&
        engine_.post_send(now, conn, {}, true) != tcp::no_item) {
        closing_ = false;
    }
}

void EngineEnd::pop_acked() {
    const auto state   = engine_.state(conn);
    const bool stopped = seen_.reset || seen_.aborted || state == tcp::State::closed;
    for (auto item = engine_.front_item(conn);
         item != tcp::no_item && (stopped || engine_.fully_acked(conn, item));
         item = engine_.front_item(conn)) {
        seen_.bytes_acked += engine_.acked_bytes(conn, item);
        engine_.pop_item(conn, item);
    }
}

void EngineEnd::transmit(Instant now) {
    std::array<tcp::TxSegment, 8> batch;
    for (uint32_t count = engine_.transmit(now, batch); count > 0;
         count          = engine_.transmit(now, batch)) {
        for (const tcp::TxSegment& segment : std::span(batch).first(count)) {
            std::vector<uint8_t> payload(segment.payload_bytes);
            size_t at = 0;
            for (const auto& slice : std::span(segment.slices).first(segment.slice_count)) {
                sends_.write(uint64_t{engine_.item_ref(slice.item).offset} + slice.offset,
                             std::span(payload).subspan(at, slice.length));
                at += slice.length;
            }
            build(segment.tcp, std::as_bytes(std::span(payload)));
        }
    }
}

void EngineEnd::build(const wire::TcpFields& tcp, std::span<const std::byte> payload) {
    std::vector<std::byte> frame(wire::header_bytes_max);
    const auto lengths = wire::build_headers(flow_,
                                             tcp,
                                             static_cast<uint32_t>(payload.size()),
                                             0x8000,
                                             wire::TxChecksum::full,
                                             wire::sum_bytes(payload),
                                             frame);
    frame.resize(lengths.total());
    frame.insert(frame.end(), payload.begin(), payload.end());
    output_(std::move(frame));
}

void EngineEnd::release() {
    std::array<tcp::ByteRef, 16> released;
    for (uint32_t count = engine_.take_released(released); count > 0;
         count          = engine_.take_released(released)) {
        for (const tcp::ByteRef& ref : std::span(released).first(count)) {
            kept_.erase(ref.region);
        }
    }
}

// ---------------------------------------------------------------- the end

void EngineEnd::close(Instant now) {
    closing_ = true;
    work(now);
}

void EngineEnd::resume(Instant now) {
    paused_ = false;
    work(now);
}

bool EngineEnd::over() const {
    const auto state = engine_.state(conn);
    return connected_ && (state == tcp::State::time_wait || state == tcp::State::closed);
}

void EngineEnd::forget() {
    pop_acked();
    engine_.forget(conn);
    release();
}

}  // namespace flue::peers
