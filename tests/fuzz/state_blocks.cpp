// A flue_state of any bytes: what read_state_block takes, the engine adopts and lives with, and
// what is written of it is read, adopted and written again as the same.

#include <array>
#include <bit>
#include <memory>
#include <vector>

#include "base/assert.hpp"
#include "base/crc32c.hpp"
#include "chimney/state_block.hpp"
#include "input.hpp"

namespace {

using namespace flue;
using namespace flue::chimney;
using fuzz::Input;

constexpr uint32_t rcv_wnd_limit = 1 << 20;
constexpr uint32_t steps_max     = 64;
constexpr uint32_t not_known_ms  = 24U * 24 * 3600 * 1000 + 1;  ///< an age of ts_recent
constexpr tcp::ConnIndex conn    = 0;

tcp::Options options() {
    tcp::Options options;
    options.limits = {.connections                      = 1,
                      .send_items                       = 4,
                      .receive_chunks                   = 8,
                      .reassembly_blocks_per_connection = 3};
    return options;
}

flue_state ordinary_block() {
    flue_state block{};
    block.version             = FLUE_STATE_VERSION;
    block.size                = sizeof(block);
    block.family              = 4;
    block.const_flags         = FLUE_CONST_WINDOW_SCALING;
    block.snd_wind_shift      = 7;
    block.rcv_wind_shift      = 7;
    block.remote_mss          = 1460;
    block.path_mtu            = 1500;
    block.ttl                 = 64;
    block.rcv_wnd_max         = 65536;
    block.tcp_state           = FLUE_TCP_ESTABLISHED;
    block.rcv_nxt             = 5000;
    block.rcv_wnd             = 65536;
    block.snd_una             = 9000;
    block.snd_nxt             = 9000;
    block.snd_max             = 9000;
    block.snd_wnd             = 65536;
    block.max_snd_wnd         = 65536;
    block.snd_wl1             = 5000;
    block.cwnd                = 65536;
    block.ssthresh            = UINT32_MAX;
    block.ka_delta_ms         = -1;
    block.retransmit_delta_ms = -1;
    return block;
}

void seal(flue_state& block) {
    block.checksum = 0;
    block.checksum = crc32c(std::as_bytes(std::span(&block, 1)));
}

/// An ordinary block with some of its bytes changed, or one of any bytes.
flue_state any_block(Input& in) {
    flue_state block      = ordinary_block();
    const uint8_t changes = in.byte();
    if (changes == 255) {
        in.fill(block);
    }
    for (uint32_t i = 0; i < changes % 32; ++i) {
        const uint8_t at                       = in.below(sizeof(block));
        reinterpret_cast<uint8_t*>(&block)[at] = in.byte();
    }
    if (changes < 250) {
        block.version = FLUE_STATE_VERSION;
        block.size    = sizeof(block);
        seal(block);
    }
    return block;
}

/// One engine with one connection, that of a block.
struct Taker {
    explicit Taker(Instant at) : now(at) {}

    bool take(const StateBlock& block) {
        flow = block.flow;
        return engine.adopt(now, conn, block.parameters, block.delegated) ==
               tcp::Engine::Refusal::none;
    }

    /// What QUERY would write.
    flue_state write() const {
        flue_state block;
        tcp::Delegated state;
        engine.snapshot(now, conn, state);
        write_constant_and_cached(flow, engine.parameters(conn), block);
        write_delegated(state, engine.send_backlog(conn), engine.readable(conn), block);
        return block;
    }

    void segment(Input& in) {
        tcp::Delegated s;
        engine.snapshot(now, conn, s);
        const uint8_t shape = in.byte();
        tcp::Segment segment;
        segment.tcp.seq    = (shape & 1) != 0 ? s.rcv_nxt + s.rcv_wnd : s.rcv_nxt;
        segment.tcp.ack    = (shape & 2) != 0 ? s.snd_max : s.snd_una;
        segment.tcp.flags  = static_cast<uint8_t>(wire::tcp_ack | ((shape >> 2) & 1));
        segment.tcp.window = in.pick<uint16_t>({512, 0, UINT16_MAX});
        if ((shape & 8) != 0) {
            segment.tcp.seq += in.near();
            segment.tcp.ack += in.near();
            segment.tcp.flags = static_cast<uint8_t>(segment.tcp.flags ^ in.byte());
        }
        segment.tcp.has_timestamps = (shape & 16) != 0;
        segment.tcp.ts_val         = s.ts_recent + in.near();
        segment.payload            = {.region = 1, .offset = 0, .length = in.pick({0U, 1U, 1460U})};
        (void)engine.on_segment(now, conn, segment);
    }

    void act(Input& in) {
        switch (in.below(6)) {
            case 0:
            case 1:
                return segment(in);
            case 2:
                now = now + uint64_t{in.pick({1U, 200U, 60'000U, 7'200'000U})} * 1000;
                return engine.on_time(now);
            case 3:
                if (engine.free_items() > 0) {
                    const uint32_t length = in.pick({0U, 1U, 5000U});
                    (void)engine.post_send(now, conn, {.length = length}, in.byte() > 200);
                }
                return;
            case 4:
                return engine.consume(now, conn, engine.readable(conn));
            default: {
                std::array<tcp::TxSegment, 4> batch;
                (void)engine.transmit(now, batch);
                return;
            }
        }
    }

    tcp::Engine engine{options()};
    wire::FlowHeader flow;
    Instant now;
};

/// What says the same in more than one way says it in one: a `recover` that recovers nothing, which
/// adopt takes for snd_max where something is to be sent again; an
/// SND.WL1 of data out of order, which adopt takes back to RCV.NXT; retransmission into a window
/// that was shut meanwhile, which adopt takes for probing; an age that is not known; and a
/// keepalive timer, which looks at that age when it comes up.
flue_state plain(flue_state block) {
    const uint32_t recovers = block.recover - block.snd_una;
    if (recovers == 0 || recovers > block.snd_max - block.snd_una) {
        block.recover = block.snd_nxt == block.snd_max ? block.snd_una : block.snd_max;
    }
    if (Seq{block.snd_wl1} > Seq{block.rcv_nxt}) {
        block.snd_wl1 = block.rcv_nxt;
    }
    block.total_rt_ms = block.snd_wnd == 0 ? 0 : block.total_rt_ms;
    block.snd_nxt     = block.snd_wnd == 0 ? block.snd_max : block.snd_nxt;
    if (block.ts_recent == 0 || block.ts_recent_age_ms > not_known_ms) {
        block.ts_recent_age_ms = not_known_ms;
    }
    if (block.ka_delta_ms < 0) {
        block.ka_probes_unanswered = 0;
    } else {
        block.ka_delta_ms      = 0;
        block.ts_recent_age_ms = 0;
    }
    return block;
}

bool same(const flue_state& a, const flue_state& b) {
    const auto left  = std::as_bytes(std::span(&a, 1));
    const auto right = std::as_bytes(std::span(&b, 1));
    for (size_t i = sizeof(a.version) + sizeof(a.size) + sizeof(a.checksum); i < sizeof(a); ++i) {
        if (left[i] != right[i]) {
            (void)std::fprintf(stderr, "byte %zu was given, but another taken\n", i);
            return false;
        }
    }
    return true;
}

/// What one engine gives away, another takes, and would give away the same.
void round_trip(const Taker& giver) {
    flue_state given = giver.write();
    if (given.tcp_state == FLUE_TCP_CLOSED || given.tcp_state == FLUE_TCP_TIME_WAIT) {
        return;
    }
    given.send_backlog_bytes    = 0;  // the bytes themselves do not travel here
    given.receive_backlog_bytes = 0;
    seal(given);
    const auto read = read_state_block(given, rcv_wnd_limit);
    FLUE_ASSERT(read.ok());
    Taker taker(giver.now);
    FLUE_ASSERT(taker.take(read.value()));
    taker.engine.check_invariants(conn);
    flue_state taken = taker.write();
    taken.snd_wnd += fuzz::canary && given.retransmit_count > 0 ? 1 : 0;
    const bool at_once = given.retransmit_delta_ms == 0 || given.ka_delta_ms == 0;  // R12
    FLUE_ASSERT(at_once || same(plain(given), plain(taken)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in({data, size});
    const flue_state block = any_block(in);
    (void)read_flow_key(block);
    const auto read = read_state_block(block, rcv_wnd_limit);
    Taker taker{Instant{5'000'000'000'000}};
    if (!read.ok() || !taker.take(read.value())) {
        return 0;
    }
    taker.engine.check_invariants(conn);
    round_trip(taker);
    for (uint32_t step = 0; step < steps_max && !in.empty(); ++step) {
        taker.act(in);
        taker.engine.check_invariants(conn);
    }
    round_trip(taker);
    return 0;
}
