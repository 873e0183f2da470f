#include "population.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "wire/bytes.hpp"

namespace flue::bench {

namespace {

constexpr uint32_t tcp_checksum_offset = 14 + 20 + 16;
constexpr uint16_t window              = 512;
constexpr uint32_t peer_clock          = 77'000;

wire::FlowHeader flow_of(uint32_t index) {
    wire::FlowHeader flow;
    flow.key.family      = wire::Family::ipv4;
    flow.key.local       = {10, 0, 0, 1};
    flow.key.remote      = {10,
                            static_cast<uint8_t>(index >> 16),
                            static_cast<uint8_t>(index >> 8),
                            static_cast<uint8_t>(index)};
    flow.key.local_port  = 443;
    flow.key.remote_port = static_cast<uint16_t>(10'000 + index % 50'000);
    flow.source_mac      = {2, 0, 0, 0, 0, 1};
    flow.next_hop_mac    = {2, 0, 0, 0, 0, 2};
    return flow;
}

wire::FlowHeader reversed(wire::FlowHeader flow) {
    std::swap(flow.key.local, flow.key.remote);
    std::swap(flow.key.local_port, flow.key.remote_port);
    std::swap(flow.source_mac, flow.next_hop_mac);
    return flow;
}

}  // namespace

Population::Population(uint32_t connections)
    : size_(connections), peer_acks_(connections), peer_fins_(connections), copies_(connections) {
    tcp::Options options;
    options.limits.connections    = connections;
    options.limits.send_items     = connections;
    options.limits.receive_chunks = burst;
    engine_                       = std::make_unique<tcp::Engine>(options);
    for (uint32_t index = 0; index < size_; ++index) {
        flows_.push_back(flow_of(index));
        make_peer_frames(index);
    }
}

tcp::Delegated Population::established(uint32_t index) const {
    tcp::Delegated state;
    state.snd_una      = Seq{index * 2'654'435'761U};
    state.snd_nxt      = state.snd_una;
    state.snd_max      = state.snd_una;
    state.rcv_nxt      = Seq{~state.snd_una.value};
    state.snd_wl1      = state.rcv_nxt - 1;
    state.rcv_wnd      = 65'536;
    state.snd_wnd      = 65'536;
    state.max_snd_wnd  = 65'536;
    state.cwnd         = 14'600;
    state.srtt_us_x8   = 8 * 300;
    state.rttvar_us_x4 = 4 * 100;
    state.ts_recent    = peer_clock;
    state.ts_time      = index;
    return state;
}

void Population::make_peer_frames(uint32_t index) {
    const tcp::Delegated state  = established(index);
    const wire::FlowHeader peer = reversed(flow_of(index));
    wire::TcpFields fields;
    fields.seq            = state.rcv_nxt;
    fields.ack            = state.snd_max + 1;
    fields.window         = window;
    fields.has_timestamps = true;
    fields.ts_val         = peer_clock;
    fields.ts_ecr         = state.ts_time;
    for (PeerFrame* frame : {&peer_acks_[index], &peer_fins_[index]}) {
        const bool fin = frame == &peer_fins_[index];
        fields.flags   = static_cast<uint8_t>(wire::tcp_ack | (fin ? wire::tcp_fin : 0));
        wire::build_headers(peer, fields, 0, 0x8000, wire::TxChecksum::full, 0, headers_);
        std::memcpy(frame->data(), headers_.data(), frame_bytes);
    }
}

void Population::adopt() {
    tcp::Parameters parameters;
    parameters.timestamps     = true;
    parameters.sack           = true;
    parameters.snd_wind_shift = 7;
    parameters.rcv_wind_shift = 7;
    parameters.mss            = 1460;
    for (uint32_t index = 0; index < size_; ++index) {
        const auto refusal = engine_->adopt(now_, index, parameters, established(index));
        FLUE_ASSERT(refusal == tcp::Engine::Refusal::none);
    }
}

template <typename Step>
void Population::in_bursts(Step step) {
    for (uint32_t first = 0; first < size_; first += burst) {
        step(first, std::min(size_, first + burst));
    }
}

uint32_t Population::emit() {
    uint32_t emitted = 0;
    while (engine_->has_output()) {
        const uint32_t count = engine_->transmit(now_, batch_);
        for (const tcp::TxSegment& segment : std::span(batch_).first(count)) {
            const auto ip_id = static_cast<uint16_t>(0x8000 | (frames_++ & 0x7fff));
            wire::build_headers(flows_[segment.conn],
                                segment.tcp,
                                segment.payload_bytes,
                                ip_id,
                                wire::TxChecksum::full,
                                0,
                                headers_);
            hash_ = hash_ * 0x9e3779b97f4a7c15 + wire::load16(&headers_[tcp_checksum_offset]);
        }
        emitted += count;
    }
    return emitted;
}

void Population::receive(const PeerFrame& frame, uint32_t index) {
    wire::Frame parsed;
    const auto bytes  = std::span(frame).first(frame_bytes);
    const auto result = wire::parse_frame(bytes, wire::Checksum::trust, parsed);
    FLUE_ASSERT(result == wire::ParseResult::tcp);
    const auto outcome =
        engine_->on_segment(now_, index, tcp::Segment{.tcp = parsed.tcp, .payload = {}});
    FLUE_ASSERT(outcome.drop == tcp::Drop::none);
}

void Population::release_acknowledged() {
    std::array<tcp::Engine::Notified, burst> notified;
    while (const uint32_t count = engine_->take_notified(notified)) {
        for (const auto& [conn, notices] : std::span(notified).first(count)) {
            const tcp::ItemIndex item = engine_->front_item(conn);
            if (item != tcp::no_item && engine_->fully_acked(conn, item)) {
                engine_->pop_item(conn, item);
            }
        }
    }
}

void Population::abort() {
    uint32_t emitted = 0;
    in_bursts([&](uint32_t first, uint32_t end) {
        for (uint32_t index = first; index < end; ++index) {
            engine_->abort(now_, index);
        }
        emitted += emit();
        release_acknowledged();
    });
    FLUE_ASSERT(emitted == size_);
}

void Population::close_gracefully() {
    uint32_t emitted = 0;
    in_bursts([&](uint32_t first, uint32_t end) {
        for (uint32_t index = first; index < end; ++index) {
            engine_->post_send(now_, index, tcp::ByteRef{}, true);
        }
        emitted += emit();
    });
    in_bursts([&](uint32_t first, uint32_t end) {
        for (uint32_t index = first; index < end; ++index) {
            receive(peer_acks_[index], index);
        }
        release_acknowledged();
    });
    in_bursts([&](uint32_t first, uint32_t end) {
        for (uint32_t index = first; index < end; ++index) {
            receive(peer_fins_[index], index);
        }
        emitted += emit();
        release_acknowledged();
        for (uint32_t index = first; index < end; ++index) {
            FLUE_ASSERT(engine_->state(index) == tcp::State::time_wait);
            engine_->forget(index);
        }
    });
    FLUE_ASSERT(emitted == 2 * size_);
    FLUE_ASSERT(engine_->usage().send_items == 0);
}

void Population::forget() {
    for (uint32_t index = 0; index < size_; ++index) {
        engine_->forget(index);
    }
    FLUE_ASSERT(engine_->usage().connections == 0);
}

void Population::copy_headers() {
    for (uint32_t index = 0; index < size_; ++index) {
        std::memcpy(copies_[index].data(), peer_acks_[index].data(), frame_bytes);
        hash_ += std::to_integer<uint8_t>(copies_[index][tcp_checksum_offset]);
    }
}

}  // namespace flue::bench
