#pragma once

#include <array>
#include <gtest/gtest.h>
#include <set>
#include <vector>

#include "tcp/engine.hpp"

namespace flue::tcp::test {

/// Rig is an engine with one connection, a clock that the test moves, and a peer that says what the
/// test says. Sequence numbers are counted from the connection's first: local_(0) is the first byte
/// that the engine sends, remote(0) the first that it receives.  After each step the engine's
/// invariants are checked, at the end that everything was given back.
class Rig {
  public:
    static constexpr uint32_t mss       = 1'000;
    static constexpr uint32_t window    = 60'000;
    static constexpr uint32_t rcv_space = 50'000;
    static constexpr ConnIndex conn     = 0;

    static constexpr Seq local(uint32_t offset) { return Seq{0xffff'f000} + offset; }

    static constexpr Seq remote(uint32_t offset) { return Seq{0x7fff'ff00} + offset; }

    explicit Rig(const Options& options = Options{}) : engine(options) {}

    Rig(const Rig&)            = delete;
    Rig& operator=(const Rig&) = delete;

    ~Rig() {
        if (adopted) {
            engine.forget(conn);
        }
        take_released();
        EXPECT_EQ(engine.usage().connections, 0u);
        EXPECT_EQ(engine.usage().send_items, 0u);
        EXPECT_EQ(engine.usage().receive_chunks, 0u);
        EXPECT_TRUE(kept.empty()) << "payloads that did not come back";
    }

    Engine::Refusal adopt() {
        const Engine::Refusal refusal = engine.adopt(now, conn, parameters, state);
        adopted                       = refusal == Engine::Refusal::none;
        check();
        return refusal;
    }

    /// reach brings a connection into a state the way peers and hosts do.
    Rig& reach(State wanted) {
        using enum State;
        adopt();
        if (wanted == close_wait || wanted == last_ack) {
            fin(0);
            sent();
        }
        if (wanted != established && wanted != close_wait) {
            post(0, true);
            sent();
        }
        if (wanted == closing) {
            receive(segment(0, 0, wire::tcp_fin, local(0)));
            sent();
        }
        if (wanted == fin_wait_2 || wanted == time_wait || wanted == closed) {
            ack(1);
        }
        if (wanted == time_wait || wanted == closed) {
            fin(0);
            sent();
        }
        if (wanted == closed) {
            advance(61'000);
        }
        EXPECT_EQ(engine.state(conn), wanted);
        notices();
        return *this;
    }

    /// A whole window is in flight, and more waits.
    void fill_pipe() {
        reach(State::established);
        post(50'000);
        EXPECT_EQ(sent().size(), 10u);
    }

    // -------------------------------------------------------- the host

    ItemIndex post(uint32_t bytes, bool with_fin = false) {
        const ItemIndex item =
            engine.post_send(now, conn, {.region = 7, .offset = posted, .length = bytes}, with_fin);
        if (item != no_item) {
            posted += bytes;
        }
        check();
        return item;
    }

    void pop_acked() {
        for (ItemIndex item = engine.front_item(conn);
             item != no_item && engine.fully_acked(conn, item);
             item = engine.front_item(conn)) {
            engine.pop_item(conn, item);
        }
    }

    void consume(uint32_t bytes) {
        engine.consume(now, conn, bytes);
        check();
    }

    uint8_t notices() {
        std::array<Engine::Notified, 4> out;
        uint8_t all = 0;
        for (uint32_t count = engine.take_notified(out); count > 0;
             count          = engine.take_notified(out)) {
            all = static_cast<uint8_t>(all | out[0].notices);
        }
        return all;
    }

    // -------------------------------------------------------- the peer

    /// A segment of the peer: `length` bytes from remote(offset), ACK of `acknowledged`.
    Segment segment(uint32_t offset, uint32_t length, uint32_t flags, Seq acknowledged) {
        Segment s;
        s.tcp.seq    = remote(offset);
        s.tcp.ack    = acknowledged;
        s.tcp.flags  = static_cast<uint8_t>(flags | wire::tcp_ack);
        s.tcp.window = static_cast<uint16_t>(peer_window >> parameters.snd_wind_shift);
        if (parameters.timestamps) {
            s.tcp.has_timestamps = true;
            s.tcp.ts_val         = peer_clock_ms();
            s.tcp.ts_ecr         = last_ts_val;
        }
        s.payload = {.region = next_region++, .offset = 54, .length = length};
        return s;
    }

    Drop receive(const Segment& s) {
        const Engine::Outcome outcome = engine.on_segment(now, conn, s);
        if (outcome.payload_kept) {
            EXPECT_GT(s.payload.length, 0u);
            kept.insert(s.payload.region);
        }
        check();
        return outcome.drop;
    }

    Drop data(uint32_t offset, uint32_t length, uint32_t flags = 0) {
        return receive(segment(offset, length, flags, seen));
    }

    Drop fin(uint32_t offset) { return data(offset, 0, wire::tcp_fin); }

    /// A bare ACK of everything before local(offset).
    Drop ack(uint32_t offset) { return receive(segment(peer_sent, 0, 0, local(offset))); }

    /// The same after the peer has sent `bytes`.
    void peer_has_sent(uint32_t bytes) { peer_sent = bytes; }

    // -------------------------------------------------------- wire and clock

    std::vector<TxSegment> sent(uint32_t max = 256) {
        std::vector<TxSegment> out(max);
        out.resize(engine.transmit(now, out));
        for (const TxSegment& tx : out) {
            const bool tx_fin = (tx.tcp.flags & wire::tcp_fin) != 0;
            seen              = flue::max(seen, tx.tcp.seq + tx.payload_bytes + (tx_fin ? 1 : 0));
            last_ts_val       = tx.tcp.ts_val;
        }
        check();
        return out;
    }

    /// advance lets time pass, with on_time at each deadline.
    void advance(uint64_t ms) {
        const Instant end = now + ms * 1000;
        for (Instant next = engine.next_deadline(); next.is_set() && next <= end;
             next         = engine.next_deadline()) {
            now = next;
            engine.on_time(now);
            check();
        }
        now = end;
        engine.on_time(now);
        check();
    }

    std::vector<ByteRef> take_released() {
        std::vector<ByteRef> out(4096);
        out.resize(engine.take_released(out));
        for (const ByteRef& ref : out) {
            EXPECT_EQ(kept.erase(ref.region), 1u) << "given back twice, or never kept";
            EXPECT_EQ(ref.offset, 54u);
        }
        return out;
    }

    [[nodiscard]] uint32_t peer_clock_ms() const {
        return static_cast<uint32_t>(now.us / 1000) + 77'000;
    }

    void check() const {
        if (adopted) {
            engine.check_invariants(conn);
        }
    }

    static Delegated established() {
        Delegated s;
        s.state        = State::established;
        s.rcv_nxt      = remote(0);
        s.rcv_wnd      = rcv_space;
        s.snd_una      = local(0);
        s.snd_nxt      = local(0);
        s.snd_max      = local(0);
        s.snd_wnd      = window;
        s.max_snd_wnd  = window;
        s.snd_wl1      = remote(0);
        s.cwnd         = 10 * mss;
        s.srtt_us_x8   = 100'000 * 8;
        s.rttvar_us_x4 = 10'000 * 4;  // RTO: 100 + 40 ms, so the minimum
        s.recover      = local(0) - 1;
        return s;
    }

    static Parameters plain() {
        Parameters p;
        p.mss         = mss;
        p.rcv_wnd_max = rcv_space;
        p.congestion  = CongestionControl::newreno;
        return p;
    }

    Engine engine;
    Instant now{5'000'000'000'000};
    Parameters parameters = plain();
    Delegated state       = established();
    uint32_t peer_window  = window;
    uint32_t posted       = 0;
    uint32_t peer_sent    = 0;
    uint32_t last_ts_val  = 0;
    uint64_t next_region  = 100;
    Seq seen              = local(0);
    bool adopted          = false;
    std::set<uint64_t> kept;
};

inline bool has(const TxSegment& tx, uint32_t flag) {
    return (tx.tcp.flags & flag) != 0;
}

inline bool has_fin(const TxSegment& tx) {
    return has(tx, wire::tcp_fin);
}

inline bool has_rst(const TxSegment& tx) {
    return has(tx, wire::tcp_rst);
}

/// A segment that only acknowledges.
inline bool is_bare_ack(const TxSegment& tx) {
    return tx.tcp.flags == wire::tcp_ack && tx.payload_bytes == 0;
}

constexpr uint32_t rto_ms = 200;  ///< of a Rig's connection: Options::rto_min_us

}  // namespace flue::tcp::test
