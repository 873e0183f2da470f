#pragma once

#include <array>
#include <deque>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <vector>

#include "base/prng.hpp"
#include "tcp/engine.hpp"

namespace flue::tcp::test {

/// Everything that a World does differently from another one; drawn from the seed, printed when a
/// test fails.
struct Plot {
    uint64_t seed              = 1;

    uint32_t loss_percent      = 0;
    uint32_t duplicate_percent = 0;
    uint32_t reorder_percent   = 0;
    uint32_t delay_us          = 5'000;  ///< one way
    uint32_t jitter_us         = 2'000;
    uint32_t handover_percent  = 0;  ///< of steps after which one end moves to another engine
    bool flush_before_handover = false;

    struct Side {
        uint32_t bytes        = 100'000;  ///< to send before the FIN
        uint32_t send_max     = 20'000;   ///< largest single send
        uint32_t read_max     = 100'000;  ///< largest single read
        uint32_t read_percent = 100;      ///< of steps at which the reader reads
        uint32_t fin_rule =
            0;  ///< 0: with the last bytes, 1: a send of its own, 2: after the peer's FIN
        uint32_t rcv_wnd_max = 100'000;
        uint8_t wind_shift   = 0;
        uint32_t iss         = 1;
        uint32_t mss         = 1'000;
        bool nagle           = false;
    };

    std::array<Side, 2> sides;

    bool timestamps = false;
    bool sack       = false;
};

inline std::ostream& operator<<(std::ostream& out, const Plot& p) {
    out << "seed " << p.seed << ": loss " << p.loss_percent << "% dup " << p.duplicate_percent
        << "% reorder " << p.reorder_percent << "% delay " << p.delay_us << " jitter "
        << p.jitter_us << " handover " << p.handover_percent << "% ts " << p.timestamps << " sack "
        << p.sack;
    for (const Plot::Side& side : p.sides) {
        out << "\n  bytes " << side.bytes << " send_max " << side.send_max << " read_max "
            << side.read_max << " read " << side.read_percent << "% fin_rule " << side.fin_rule
            << " window " << side.rcv_wnd_max << " shift " << int{side.wind_shift} << " iss "
            << side.iss << " mss " << side.mss << " nagle " << side.nagle;
    }
    return out;
}

/// draw makes a plot from a seed alone.
inline Plot draw(uint64_t seed) {
    Prng prng(seed);
    Plot plot;
    plot.seed = seed;
    if (prng.chance(3, 4)) {
        plot.loss_percent = prng.below(20);
    }
    if (prng.chance(1, 2)) {
        plot.duplicate_percent = prng.below(10);
    }
    if (prng.chance(1, 2)) {
        plot.reorder_percent = prng.below(30);
    }
    plot.delay_us   = 50 + prng.below(60'000);
    plot.jitter_us  = 1 + prng.below(10'000);
    plot.timestamps = prng.chance(1, 2);
    plot.sack       = prng.chance(1, 2);
    for (Plot::Side& side : plot.sides) {
        side.bytes        = prng.below(prng.chance(1, 4) ? 3 : 200'000);
        side.send_max     = 1 + prng.below(prng.chance(1, 4) ? 50 : 40'000);
        side.read_max     = 1 + prng.below(50'000);
        side.read_percent = prng.chance(1, 2) ? 100 : 1 + prng.below(99);
        side.fin_rule     = prng.below(3);
        side.rcv_wnd_max =
            prng.chance(1, 3) ? 500 + prng.below(5'000) : 20'000 + prng.below(300'000);
        side.wind_shift = static_cast<uint8_t>(prng.below(15));
        side.iss        = prng.chance(1, 2) ? 0xffff'ffff - prng.below(50'000)
                                            : static_cast<uint32_t>(prng.next());
        side.mss        = prng.chance(1, 4) ? 48 + prng.below(200) : 500 + prng.below(8'500);
        side.nagle      = prng.chance(1, 4);
        if (side.send_max < 200 || side.mss < 200) {
            side.bytes = std::min(side.bytes, 4'000U);  // else most of the time goes into these
        }
    }
    if (plot.sides[0].fin_rule == 2 && plot.sides[1].fin_rule == 2) {
        plot.sides[0].fin_rule = 0;
    }
    return plot;
}

/// A stream position that a packet's payload begins at.
struct Payload {
    uint32_t position = 0;
    uint32_t length   = 0;
    bool kept         = false;
};

/// World is two ends, each with its engines, and a link that loses, repeats and reorders, under one
/// virtual clock. Every byte is known by its place in its stream, so that identity and order are
/// checked for each one.
class World {
  public:
    explicit World(const Plot& plot) : plot_(plot), prng_(plot.seed ^ 0x5eed) {
        for (uint32_t i = 0; i < 2; ++i) {
            End& end = ends_[i];
            for (uint32_t e = 0; e < 2; ++e) {
                Options options;
                options.limits.connections    = 4;
                options.limits.send_items     = 4096;
                options.limits.receive_chunks = 2048;
                end.engines[e]                = std::make_unique<Engine>(options);
            }
            end.parameters.mss            = static_cast<uint16_t>(plot.sides[i].mss);
            end.parameters.rcv_wnd_max    = plot.sides[i].rcv_wnd_max;
            end.parameters.rcv_wind_shift = plot.sides[i].wind_shift;
            end.parameters.snd_wind_shift = plot.sides[1 - i].wind_shift;
            end.parameters.timestamps     = plot.timestamps;
            end.parameters.sack           = plot.sack;
            end.parameters.nagle          = plot.sides[i].nagle;
            Delegated state;
            state.rcv_nxt = Seq{plot.sides[1 - i].iss};
            state.rcv_wnd = first_window(i);
            state.snd_una = state.snd_nxt = state.snd_max = Seq{plot.sides[i].iss};
            state.snd_wnd = state.max_snd_wnd = first_window(1 - i);
            state.snd_wl1                     = state.rcv_nxt;
            state.recover                     = state.snd_una - 1;
            state.ts_recent                   = own_clock(1 - i);
            state.ts_time                     = own_clock(i);
            end.right_edge_seen               = Seq{plot.sides[1 - i].iss} + first_window(i);
            EXPECT_EQ(engine(i).adopt(engine_now(i), conn, end.parameters, state),
                      Engine::Refusal::none);
        }
    }

    /// run lets the conversation take its course until both ends are done, or `limit_s` virtual
    /// seconds have passed. Faults stop after `faults_s`.  Returns whether both ends are done.
    bool run(uint64_t faults_s, uint64_t limit_s) {
        const uint64_t start = now_us_;
        while (!done() && !::testing::Test::HasFatalFailure() &&
               !::testing::Test::HasNonfatalFailure()) {
            faults_ = now_us_ - start < faults_s * 1'000'000;
            if (now_us_ - start > limit_s * 1'000'000) {
                return false;
            }
            step();
            advance_clock();
        }
        return done();
    }

    /// finish waits out 2MSL, forgets the connections and checks that everything came back.
    void finish() {
        for (uint32_t i = 0; i < 2; ++i) {
            End& end = ends_[i];
            engine(i).forget(conn);
            take_released(end, i);
            for (const auto& each : end.engines) {
                EXPECT_EQ(each->usage().connections, 0u);
                EXPECT_EQ(each->usage().send_items, 0u);
                EXPECT_EQ(each->usage().receive_chunks, 0u);
            }
            for (const auto& [id, payload] : packets_[i]) {
                EXPECT_FALSE(payload.kept) << "payload " << id << " did not come back";
            }
        }
    }

    [[nodiscard]] bool done() const {
        for (uint32_t i = 0; i < 2; ++i) {
            const End& end    = ends_[i];
            const State state = engine(i).state(conn);
            const bool read   = end.read_position == plot_.sides[1 - i].bytes && end.peer_fin;
            const bool closed = state == State::closed || state == State::time_wait;
            if (!read || !closed || !(end.fin_acked || end.fin_unnamed)) {
                return false;
            }
        }
        return true;
    }

    [[nodiscard]] const Engine& engine(uint32_t i) const {
        return *ends_[i].engines[ends_[i].active];
    }

    [[nodiscard]] Engine& engine(uint32_t i) { return *ends_[i].engines[ends_[i].active]; }

    [[nodiscard]] uint64_t now_us() const { return now_us_; }

    [[nodiscard]] uint32_t handovers(State state) const {
        return handovers_[static_cast<uint32_t>(state)];
    }

    [[nodiscard]] bool was_upload_timeout() const { return upload_timeout_; }

    static constexpr ConnIndex conn = 1;

    std::string describe() const {
        std::string text;
        for (uint32_t i = 0; i < 2; ++i) {
            const Engine::Info info = engine(i).info(conn);
            text += "end " + std::to_string(i) + ": " + to_string(info.state) + " posted " +
                    std::to_string(ends_[i].posted) + " read " +
                    std::to_string(ends_[i].read_position) + " backlog " +
                    std::to_string(info.backlog) + " unacked " + std::to_string(info.unacked) +
                    " cwnd " + std::to_string(info.cwnd) + " snd_wnd " +
                    std::to_string(info.snd_wnd) + " rcv_wnd " + std::to_string(info.rcv_wnd) +
                    " readable " + std::to_string(info.readable) + " reason " +
                    std::to_string(static_cast<int>(engine(i).upload_reason(conn))) + "\n";
        }
        return text + "at " + std::to_string(now_us_) + " us, on the wire " +
               std::to_string(wire_.size());
    }

  private:
    struct End {
        std::array<std::unique_ptr<Engine>, 2> engines;
        uint32_t active = 0;
        Parameters parameters;
        uint32_t posted        = 0;
        uint32_t read_position = 0;
        bool fin_posted        = false;
        bool fin_acked         = false;
        bool peer_fin          = false;
        bool fin_unnamed = false;  ///< sent by the engine before a hand-over: no item stands for it
        std::deque<std::pair<ItemIndex, bool>> items;  ///< posted and not popped; bool: has the FIN
        Seq right_edge_seen;                           ///< of the window that this end advertised
    };

    struct Packet {
        uint32_t to = 0;
        Segment segment;
    };

    static constexpr uint64_t clock_skew_us =
        3'600'000'000;  ///< of every second engine: timestamps must go on

    [[nodiscard]] Instant engine_now(uint32_t i) const {
        return Instant{now_us_ + ends_[i].active * clock_skew_us};
    }

    [[nodiscard]] uint32_t first_window(uint32_t i) const {
        const uint32_t field =
            std::min<uint32_t>(plot_.sides[i].rcv_wnd_max >> plot_.sides[i].wind_shift, UINT16_MAX);
        return field << plot_.sides[i].wind_shift;
    }

    [[nodiscard]] static uint32_t own_clock(uint32_t i) { return 0xffff'f000U + i * 1'000'000; }

    void step() {
        for (uint32_t i = 0; i < 2; ++i) {
            host(i);
            engine(i).on_time(engine_now(i));
            send(i);
            take_notices(i);
            take_released(ends_[i], i);
            engine(i).check_invariants(conn);
            if (plot_.handover_percent > 0 && prng_.chance(plot_.handover_percent, 100)) {
                hand_over(i);
            }
        }
    }

    void host(uint32_t i) {
        End& end               = ends_[i];
        const Plot::Side& side = plot_.sides[i];
        while (end.posted < side.bytes && engine(i).free_items() > 0 &&
               engine(i).send_backlog(conn) < 300'000) {
            const uint32_t draw   = 1 + prng_.below(side.send_max);
            const uint32_t length = std::min(draw, side.bytes - end.posted);
            const bool last       = end.posted + length == side.bytes;
            post(i, length, last && side.fin_rule == 0);
        }
        const bool may_close = side.fin_rule != 2 || end.peer_fin;
        if (end.posted == side.bytes && !end.fin_posted && may_close) {
            post(i, 0, true);
        }
        const uint32_t readable = engine(i).readable(conn);
        if (readable > 0 && prng_.chance(side.read_percent, 100)) {
            const uint32_t wanted = 1 + prng_.below(side.read_max);
            read(i, std::min(wanted, readable));
        }
        if (engine(i).peer_fin_received(conn) && engine(i).readable(conn) == 0) {
            end.peer_fin = true;
        }
    }

    void post(uint32_t i, uint32_t length, bool fin) {
        End& end             = ends_[i];
        const ItemIndex item = engine(i).post_send(
            engine_now(i), conn, {.region = i, .offset = end.posted, .length = length}, fin);
        ASSERT_NE(item, no_item);
        end.items.emplace_back(item, fin);
        end.posted += length;
        end.fin_posted = end.fin_posted || fin;
    }

    void read(uint32_t i, uint32_t bytes) {
        End& end = ends_[i];
        while (bytes > 0) {
            const ByteRef ref = engine(i).front_chunk(conn);
            ASSERT_GT(ref.length, 0u);
            const Payload& payload = packets_[i].at(ref.region);
            ASSERT_GE(ref.offset, headers);
            ASSERT_LE(ref.offset - headers + ref.length, payload.length);
            ASSERT_EQ(payload.position + ref.offset - headers, end.read_position)
                << "bytes out of order";
            const uint32_t taken = std::min(bytes, ref.length);
            engine(i).consume(engine_now(i), conn, taken);
            end.read_position += taken;
            bytes -= taken;
        }
    }

    void send(uint32_t i) {
        std::array<TxSegment, 16> batch;
        const auto size = 1 + prng_.below(16);
        for (uint32_t turn = 0; turn < 4; ++turn) {
            const uint32_t count = engine(i).transmit(engine_now(i), std::span{batch}.first(size));
            for (uint32_t n = 0; n < count; ++n) {
                check_sent(i, batch[n]);
                put_on_wire(i, batch[n]);
            }
            engine(i).check_invariants(conn);
        }
    }

    void check_sent(uint32_t i, const TxSegment& tx) {
        End& end               = ends_[i];
        const Plot::Side& side = plot_.sides[i];
        EXPECT_EQ(tx.conn, conn);
        EXPECT_EQ(tx.tcp.flags & wire::tcp_rst, 0);
        const uint32_t options = (tx.tcp.has_timestamps ? 12U : 0) +
                                 (tx.tcp.sack_count > 0 ? 4 + 8U * tx.tcp.sack_count : 0);
        EXPECT_LE(options, 40u);
        EXPECT_LE(tx.payload_bytes + (tx.payload_bytes > 0 ? options : 0), side.mss);
        const Seq edge     = tx.tcp.ack + (uint32_t{tx.tcp.window} << side.wind_shift);
        const uint32_t ulp = (1U << side.wind_shift) - 1;
        EXPECT_GE(edge + ulp, end.right_edge_seen) << "the right edge of the window moved left";
        end.right_edge_seen = max(end.right_edge_seen, edge);
        for (uint32_t r = 0; r < tx.tcp.sack_count; ++r) {
            const wire::SackRange& range = tx.tcp.sack[r];
            const bool old               = r == 0 && range.end <= tx.tcp.ack;  // RFC 2883 §4
            EXPECT_LT(range.start, range.end);
            EXPECT_TRUE(old || range.start > tx.tcp.ack);
        }
        uint32_t total = 0;
        for (uint32_t s = 0; s < tx.slice_count; ++s) {
            total += tx.slices[s].length;
        }
        EXPECT_EQ(total, tx.payload_bytes);
    }

    void put_on_wire(uint32_t i, const TxSegment& tx) {
        Packet packet;
        packet.to              = 1 - i;
        packet.segment.tcp     = tx.tcp;
        packet.segment.payload = {
            .region = next_packet_++, .offset = headers, .length = tx.payload_bytes};
        if (tx.payload_bytes > 0) {
            const ByteRef& first = engine(i).item_ref(tx.slices[0].item);
            Payload payload{.position = first.offset + tx.slices[0].offset, .length = 0};
            for (uint32_t s = 0; s < tx.slice_count; ++s) {
                const ByteRef& ref = engine(i).item_ref(tx.slices[s].item);
                ASSERT_EQ(ref.region, i);
                ASSERT_LE(tx.slices[s].offset + tx.slices[s].length, ref.length);
                ASSERT_EQ(ref.offset + tx.slices[s].offset, payload.position + payload.length);
                payload.length += tx.slices[s].length;
            }
            ASSERT_EQ(tx.tcp.seq, Seq{plot_.sides[i].iss} + payload.position)
                << "bytes under a wrong number";
            packets_[1 - i].emplace(packet.segment.payload.region, payload);
        }
        if (faults_ && prng_.chance(plot_.loss_percent, 100)) {
            return;
        }
        schedule(packet);
        if (faults_ && prng_.chance(plot_.duplicate_percent, 100)) {
            Packet copy = packet;
            if (tx.payload_bytes > 0) {
                copy.segment.payload.region = next_packet_++;
                packets_[1 - i].emplace(copy.segment.payload.region,
                                        packets_[1 - i].at(packet.segment.payload.region));
            }
            schedule(copy);
        }
    }

    void schedule(const Packet& packet) {
        uint64_t& last   = last_arrival_[packet.to];
        uint64_t arrival = now_us_ + plot_.delay_us + prng_.below(plot_.jitter_us);
        if (faults_ && prng_.chance(plot_.reorder_percent, 100)) {
            arrival += prng_.below(plot_.jitter_us * 5);
        } else {
            arrival = std::max(arrival, last);
            last    = arrival;
        }
        wire_.emplace(std::pair{arrival, order_++}, packet);
    }

    void deliver(const Packet& packet) {
        const uint32_t i              = packet.to;
        const Engine::Outcome outcome = engine(i).on_segment(engine_now(i), conn, packet.segment);
        if (outcome.payload_kept) {
            packets_[i].at(packet.segment.payload.region).kept = true;
        }
        engine(i).check_invariants(conn);
    }

    void take_notices(uint32_t i) {
        End& end = ends_[i];
        std::array<Engine::Notified, 2> out;
        while (engine(i).take_notified(out) > 0) {
            EXPECT_EQ(out[0].conn, conn);
            EXPECT_EQ(out[0].notices & (notice_reset | notice_rst_sent), 0);
            if ((out[0].notices & notice_upload) != 0) {
                upload_timeout_ = engine(i).upload_reason(conn) != UploadReason::upload_requested;
            }
            for (ItemIndex item = engine(i).front_item(conn);
                 item != no_item && engine(i).fully_acked(conn, item);
                 item = engine(i).front_item(conn)) {
                ASSERT_EQ(item, end.items.front().first) << "completions out of order";
                ASSERT_EQ(engine(i).acked_bytes(conn, item), engine(i).item_ref(item).length);
                end.fin_acked = end.fin_acked || end.items.front().second;
                engine(i).pop_item(conn, item);
                end.items.pop_front();
            }
        }
    }

    void take_released(End& end, uint32_t i) {
        std::array<ByteRef, 32> out;
        for (const auto& each : end.engines) {
            for (uint32_t count = each->take_released(out); count > 0;
                 count          = each->take_released(out)) {
                for (uint32_t n = 0; n < count; ++n) {
                    Payload& payload = packets_[i].at(out[n].region);
                    EXPECT_TRUE(payload.kept) << "given back twice";
                    payload.kept = false;
                }
            }
        }
    }

    /// Moves an end's connection to its other engine: what TERMINATE and OFFLOAD do between them.
    void hand_over(uint32_t i) {
        End& end          = ends_[i];
        const State state = engine(i).state(conn);
        if (state == State::closed || state == State::time_wait ||
            engine(i).upload_reason(conn) != UploadReason::none) {
            return;
        }
        if (plot_.flush_before_handover) {
            engine(i).flush_ack(conn);
            send(i);
        }
        Delegated delegated;
        engine(i).stop(conn);
        engine(i).snapshot(engine_now(i), conn, delegated);

        std::vector<std::pair<ByteRef, bool>> unsent;
        for (const auto& [item, fin] : end.items) {
            ByteRef ref          = engine(i).item_ref(item);
            const uint32_t acked = engine(i).acked_bytes(conn, item);
            ref.offset += acked;
            ref.length -= acked;
            const bool is_named = !fin_is_outstanding(delegated.state) || prng_.chance(3, 4);
            const bool fin_left = fin && is_named && delegated.state != State::fin_wait_2;
            unsent.emplace_back(ref, fin_left);
        }
        const bool fin_known = end.fin_posted;
        std::vector<ByteRef> unread;
        for (uint32_t left = engine(i).readable(conn); left > 0;) {
            const ByteRef ref      = engine(i).front_chunk(conn);
            const Payload& payload = packets_[i].at(ref.region);
            const uint64_t id      = next_packet_++;
            packets_[i].emplace(id,
                                Payload{.position = payload.position + ref.offset - headers,
                                        .length   = ref.length,
                                        .kept     = true});
            unread.push_back({.region = id, .offset = headers, .length = ref.length});
            engine(i).consume(engine_now(i), conn, ref.length);
            left -= ref.length;
        }
        engine(i).forget(conn);
        take_released(end, i);
        take_notices_of_nobody(i);

        end.active = 1 - end.active;
        ++handovers_[static_cast<uint32_t>(state)];
        ASSERT_EQ(engine(i).adopt(engine_now(i), conn, end.parameters, delegated),
                  Engine::Refusal::none);
        for (const ByteRef& ref : unread) {
            ASSERT_TRUE(engine(i).add_readable(conn, ref));
        }
        end.items.clear();
        end.fin_posted = fin_known;
        bool fin_named = false;
        for (const auto& [ref, fin] : unsent) {
            const ItemIndex item = engine(i).post_send(engine_now(i), conn, ref, fin);
            ASSERT_NE(item, no_item);
            end.items.emplace_back(item, fin);
            fin_named = fin_named || fin;
        }
        if (end.fin_posted && !fin_named) {
            end.fin_unnamed = true;
        }
        engine(i).check_invariants(conn);
    }

    void take_notices_of_nobody(uint32_t i) {
        std::array<Engine::Notified, 2> out;
        EXPECT_EQ(engine(i).take_notified(out), 0u);
    }

    void advance_clock() {
        uint64_t next = now_us_ + 1'000'000;
        if (!wire_.empty()) {
            next = std::min(next, wire_.begin()->first.first);
        }
        for (uint32_t i = 0; i < 2; ++i) {
            const Instant deadline = engine(i).next_deadline();
            if (deadline.is_set()) {
                next = std::min(next, deadline.us - ends_[i].active * clock_skew_us);
            }
            if (engine(i).has_output() || engine(i).readable(conn) > 0) {
                next = std::min(next, now_us_ + 500);
            }
        }
        now_us_ = std::max(next, now_us_ + 1);
        while (!wire_.empty() && wire_.begin()->first.first <= now_us_) {
            const Packet packet = wire_.begin()->second;
            wire_.erase(wire_.begin());
            deliver(packet);
        }
    }

    static constexpr uint32_t headers = 54;

    Plot plot_;
    Prng prng_;
    std::array<End, 2> ends_;
    std::array<std::map<uint64_t, Payload>, 2> packets_;  ///< by receiver
    std::map<std::pair<uint64_t, uint64_t>, Packet> wire_;
    std::array<uint64_t, 2> last_arrival_{};
    uint64_t now_us_      = 1'000'000'000'000;
    uint64_t order_       = 0;
    uint64_t next_packet_ = 1;
    std::array<uint32_t, state_count> handovers_{};
    bool faults_         = true;
    bool upload_timeout_ = false;
};

}  // namespace flue::tcp::test
