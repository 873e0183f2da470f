#include <algorithm>

#include "base/prng.hpp"
#include "tcp/support.hpp"

// Peers that want more of us than a transfer is worth: memory, work, bandwidth.

namespace flue::tcp::test {

using enum State;

namespace {

constexpr uint32_t small_chunks_max = 64 + Rig::rcv_space / 512;

uint32_t chunks_of(const Rig& rig) {
    return rig.engine.usage().receive_chunks;
}

uint64_t drops_of(const Rig& rig, Drop drop) {
    return rig.engine.counters().drops[static_cast<uint32_t>(drop)];
}

struct Memory : ::testing::Test {
    Memory() { rig.reach(established); }

    ~Memory() override { rig.consume(rig.engine.readable(Rig::conn)); }

    Rig rig;
};

}  // namespace

// ---------------------------------------------------------------- tiny segments

TEST_F(Memory, bytes_sent_one_by_one_take_no_more_chunks_than_the_window_is_worth) {
    uint32_t taken = 0;
    while (rig.data(taken, 1) == Drop::none && taken < Rig::rcv_space) {
        ++taken;
    }
    EXPECT_EQ(taken, small_chunks_max);
    EXPECT_EQ(chunks_of(rig), small_chunks_max);
    EXPECT_EQ(drops_of(rig, Drop::too_fragmented), 1u);
    EXPECT_EQ(rig.data(taken, 512), Drop::none) << "put together they are taken";
    rig.consume(1);
    rig.take_released();
    EXPECT_EQ(rig.data(taken + 512, 1), Drop::too_fragmented);
    rig.consume(1);
    EXPECT_EQ(rig.data(taken + 512, 1), Drop::none) << "there is room again";
}

TEST_F(Memory, reader_that_keeps_up_with_small_segments_loses_none) {
    for (uint32_t i = 0; i < 20'000; ++i) {
        ASSERT_EQ(rig.data(i, 1), Drop::none);
        rig.consume(1);
        rig.take_released();
        rig.sent();
    }
}

TEST_F(Memory, full_segments_fill_the_whole_window) {
    for (uint32_t at = 0; at + 512 <= Rig::rcv_space; at += 512) {
        ASSERT_EQ(rig.data(at, 512), Drop::none);
    }
}

TEST_F(Memory, bytes_that_come_in_order_through_gaps_are_bounded_too) {
    constexpr uint32_t behind = 200;
    uint32_t at               = 0;
    for (uint32_t round = 0; round < 50; ++round) {
        for (uint32_t i = 1; i <= behind; ++i) {
            rig.data(at + i, 1);
        }
        rig.data(at, 1);
        at = rig.engine.readable(Rig::conn);
        ASSERT_LE(chunks_of(rig), 3 * small_chunks_max);
    }
}

// ---------------------------------------------------------------- out of order

namespace {

struct Sparse : ::testing::Test {
    Sparse() {
        rig.parameters.sack = true;
        rig.reach(established);
    }

    ~Sparse() override { rig.consume(rig.engine.readable(Rig::conn)); }

    static Options three_chunks() {
        Options options;
        options.limits.reassembly_blocks_per_connection = 3;
        return options;
    }

    Rig rig{three_chunks()};
};

}  // namespace

TEST_F(Sparse, nearer_data_takes_the_place_of_the_farthest) {
    for (const uint32_t at : {40'000U, 30'000U, 20'000U}) {
        EXPECT_EQ(rig.data(at, 100), Drop::none);
    }
    EXPECT_EQ(rig.data(35'000, 100), Drop::none);
    EXPECT_EQ(rig.engine.counters().chunks_evicted, 1u);
    EXPECT_EQ(rig.take_released().size(), 1u);
    EXPECT_EQ(rig.data(40'000, 100), Drop::reassembly_full) << "farther than all that is here";
    const auto tcp = rig.sent().back().tcp;
    for (uint32_t i = 0; i < tcp.sack_count; ++i) {
        EXPECT_LE(tcp.sack[i].end, Rig::remote(35'100)) << "what has gone is not reported";
    }
    EXPECT_EQ(chunks_of(rig), 3u);
}

TEST_F(Sparse, front_of_the_stream_always_gets_through) {
    Prng prng(1);
    constexpr uint32_t end = 20'000;
    while (rig.engine.readable(Rig::conn) < end) {
        const uint32_t front = rig.engine.readable(Rig::conn);
        for (uint32_t i = 0; i < 5; ++i) {
            rig.data(front + 1 + prng.below(Rig::rcv_space - end), 1 + prng.below(50));
        }
        EXPECT_EQ(rig.data(front, 700), Drop::none);
        ASSERT_GE(rig.engine.readable(Rig::conn), front + 700);
        ASSERT_LE(rig.engine.usage().receive_chunks, 3 + end / 10);
        rig.take_released();
    }
}

TEST(SparseLarge, one_segment_lost_of_a_large_window_is_all_that_must_be_sent_again) {
    Rig rig;
    rig.parameters.rcv_wind_shift = 4;
    rig.parameters.rcv_wnd_max    = 500'000;
    rig.state.rcv_wnd             = 500'000;
    rig.parameters.sack           = true;
    rig.reach(established);
    for (uint32_t at = 1'000; at < 500'000; at += 1'000) {
        ASSERT_EQ(rig.data(at, 1'000), Drop::none);
    }
    const auto tcp = rig.sent().back().tcp;
    ASSERT_EQ(tcp.sack_count, 1);
    EXPECT_EQ(tcp.sack[0], (wire::SackRange{Rig::remote(1'000), Rig::remote(500'000)}));
    rig.data(0, 1'000);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 500'000u);
    rig.consume(500'000);
}

TEST(SparseLarge, small_payloads_out_of_order_are_no_more_than_those_in_order) {
    Rig rig;
    rig.reach(established);
    uint32_t kept = 0;
    while (rig.data(1 + kept, 1) == Drop::none) {
        ++kept;
    }
    EXPECT_EQ(kept, small_chunks_max);
    EXPECT_EQ(rig.data(1 + kept, 512), Drop::none);
}

TEST(SparsePool, data_in_order_that_finds_no_chunk_makes_what_lies_beyond_a_gap_go) {
    Options options;
    options.limits.receive_chunks = 16;
    Rig rig(options);
    rig.reach(established);
    while (rig.data(1'000 + 100 * chunks_of(rig), 50) == Drop::none) {
    }
    uint32_t at = 0;
    while (rig.data(at, 10) == Drop::none) {
        at += 10;
    }
    EXPECT_EQ(rig.engine.counters().chunks_evicted, 1u);
    rig.take_released();
    EXPECT_EQ(rig.data(at, 10), Drop::none) << "sent again it is taken";
    rig.consume(rig.engine.readable(Rig::conn));
}

// ---------------------------------------------------------------- FIN and windows

TEST_F(Memory, data_beyond_a_fin_that_waits_behind_a_gap_is_refused) {
    rig.data(100, 100, wire::tcp_fin);
    EXPECT_EQ(rig.data(200, 100), Drop::text_after_fin);
    EXPECT_EQ(rig.data(150, 100), Drop::text_after_fin);
    EXPECT_EQ(rig.data(300, 0, wire::tcp_fin), Drop::text_after_fin) << "it has ended before";
    EXPECT_EQ(rig.data(200, 0, wire::tcp_fin), Drop::none) << "the same again";
    EXPECT_EQ(chunks_of(rig), 1u);
    rig.data(0, 100);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 200u);
}

TEST_F(Memory, of_fins_at_different_places_the_first_in_order_counts) {
    rig.data(300, 100, wire::tcp_fin);
    EXPECT_EQ(rig.data(100, 100, wire::tcp_fin), Drop::none);
    rig.data(0, 100);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 200u);
    EXPECT_EQ(rig.data(201, 100), Drop::text_after_fin);
    EXPECT_EQ(rig.data(300, 100, wire::tcp_fin), Drop::text_after_fin);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 200u);
}

TEST_F(Memory, fin_inside_data_that_is_here_is_not_believed) {
    rig.data(100, 100);
    rig.data(120, 30, wire::tcp_fin);
    rig.data(0, 100);
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 200u);
}

TEST_F(Memory, nothing_beyond_a_window_that_has_become_smaller_is_accepted) {
    rig.parameters.rcv_wnd_max = 5'000;
    rig.engine.update(rig.now, Rig::conn, rig.parameters, update_tell_window);
    rig.sent();
    for (uint32_t at = 0; at < Rig::rcv_space; at += 1'000) {
        EXPECT_EQ(rig.data(at, 1'000), Drop::none) << "it was promised";
    }
    rig.sent();
    EXPECT_EQ(rig.data(Rig::rcv_space, 1'000), Drop::receive_window_full);
    EXPECT_EQ(rig.data(Rig::rcv_space + 1'000, 1'000), Drop::outside_window);
    EXPECT_EQ(rig.engine.readable(Rig::conn), Rig::rcv_space);
    rig.consume(46'000);
    rig.sent();
    rig.data(Rig::rcv_space, 5'000);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 5'000u) << "the buffer is no larger than that";
}

// ---------------------------------------------------------------- ACKs

namespace {

/// Two segments, with an ACK for each and with one for each byte.
void acknowledge(Rig& whole, Rig& split) {
    for (Rig* rig : {&whole, &split}) {
        rig->fill_pipe();
    }
    for (uint32_t at = 1; at <= 2'000; ++at) {
        split.ack(at);
    }
    whole.ack(1'000);
    whole.ack(2'000);
}

}  // namespace

TEST(AckAttack, splitting_an_ack_into_bytes_gains_nothing) {
    Rig whole;
    Rig split;
    acknowledge(whole, split);
    EXPECT_EQ(whole.engine.info(Rig::conn).cwnd, 12'000u);
    EXPECT_LE(split.engine.info(Rig::conn).cwnd, 12'000u);
}

TEST(AckAttack, splitting_an_ack_gains_nothing_in_congestion_avoidance) {
    for (const auto control :
         {CongestionControl::newreno, CongestionControl::cubic, CongestionControl::dctcp}) {
        Rig whole;
        Rig split;
        for (Rig* rig : {&whole, &split}) {
            rig->parameters.congestion = control;
            rig->parameters.ecn        = true;
            rig->state.ssthresh        = 10 * Rig::mss;
        }
        acknowledge(whole, split);
        EXPECT_GT(whole.engine.info(Rig::conn).cwnd, 10'000u);
        EXPECT_LE(split.engine.info(Rig::conn).cwnd, whole.engine.info(Rig::conn).cwnd)
            << "RFC 3465 §2.1, control " << static_cast<uint32_t>(control);
    }
}

TEST(AckAttack, one_ack_of_many_segments_is_worth_two) {
    Rig rig;
    rig.reach(established);
    rig.post(100'000);
    rig.sent();
    rig.ack(10'000);
    EXPECT_LE(rig.engine.info(Rig::conn).cwnd, 12'000u) << "RFC 3465 §2.3: L = 2";
}

TEST(AckAttack, window_taken_back_over_data_in_flight_stops_everything_beyond_it) {
    for (const bool sack : {false, true}) {
        Rig rig;
        rig.parameters.sack = sack;
        rig.reach(established);
        rig.post(20'000);
        EXPECT_EQ(rig.sent().size(), 10u);
        rig.peer_window = 1'000;
        rig.ack(2'000);
        for (uint32_t i = 0; i < 20; ++i) {
            rig.advance(150);
            for (const TxSegment& tx : rig.sent()) {
                EXPECT_LE(tx.tcp.seq + tx.payload_bytes, Rig::local(3'000));
            }
        }
        rig.peer_window = 0;
        rig.ack(2'000);
        uint32_t probes = 0;
        for (uint32_t i = 0; i < 100; ++i) {
            rig.advance(500);
            for (const TxSegment& tx : rig.sent()) {
                EXPECT_LE(tx.tcp.seq + tx.payload_bytes, Rig::local(2'001));
                probes += tx.payload_bytes;
            }
        }
        EXPECT_GE(probes, 3u);
        rig.peer_window = Rig::window;
        for (uint32_t i = 0; i < 100; ++i) {
            rig.ack(bytes_between(Rig::local(0), rig.engine.snd_una(Rig::conn)));
            rig.advance(300);
            rig.sent();
            rig.ack(bytes_between(Rig::local(0), rig.seen));
        }
        EXPECT_EQ(rig.engine.snd_una(Rig::conn), Rig::local(20'000));
        rig.pop_acked();
    }
}

namespace {

/// A receiver that keeps in mind what has come, and says anything at all in its SACK options.
struct Liar {
    explicit Liar(uint64_t seed) : prng(seed), arrived(total) {}

    void take(const TxSegment& tx) {
        const uint32_t from = bytes_between(Rig::local(0), tx.tcp.seq);
        if (prng.chance(1, 10)) {
            return;  // lost
        }
        std::fill_n(arrived.begin() + from, std::min(tx.payload_bytes, total - from), true);
        while (front < total && arrived[front]) {
            ++front;
        }
    }

    wire::SackRange range(const Rig& rig) {
        const uint32_t sent = bytes_between(Rig::local(0), rig.seen);
        const Seq a         = Rig::local(prng.below(sent + 2'000));
        switch (prng.below(6)) {
            case 0:
                return {a, a + 1};
            case 1:
                return {a, a - 1 - prng.below(5'000)};  // inverted
            case 2:
                return {a, a + 0x7000'0000};
            case 3:
                return {Seq{static_cast<uint32_t>(prng.next())}, a};
            case 4:
                return {a, a};
            default:
                return {a, a + prng.below(5'000)};
        }
    }

    void answer(Rig& rig) {
        Segment s        = rig.segment(0, 0, 0, Rig::local(front));
        s.tcp.sack_count = static_cast<uint8_t>(prng.below(wire::sack_ranges_max + 1));
        for (uint32_t i = 0; i < s.tcp.sack_count; ++i) {
            s.tcp.sack[i] = range(rig);
        }
        rig.receive(s);
    }

    static constexpr uint32_t total = 60'000;
    Prng prng;
    std::vector<bool> arrived;
    uint32_t front = 0;
};

}  // namespace

TEST(SackAttack, ten_thousand_lies_cost_a_bounded_memory_and_no_byte) {
    Options options;
    options.limits.spans_per_connection = 100;
    for (const auto control :
         {CongestionControl::newreno, CongestionControl::cubic, CongestionControl::dctcp}) {
        Rig rig(options);
        rig.parameters.sack       = true;
        rig.parameters.congestion = control;
        rig.reach(established);
        rig.post(Liar::total);
        Liar liar(static_cast<uint64_t>(control));
        for (uint32_t i = 0; i < 10'000; ++i) {
            for (const TxSegment& tx : rig.sent()) {
                liar.take(tx);
            }
            liar.answer(rig);
            rig.advance(i % 16 == 0 ? 50 : 1);
            ASSERT_LE(rig.engine.usage().spans, 101u);
        }
        for (uint32_t i = 0; i < 2'000 && liar.front < Liar::total; ++i) {
            for (const TxSegment& tx : rig.sent()) {
                liar.take(tx);
            }
            rig.ack(liar.front);
            rig.advance(500);
        }
        EXPECT_EQ(liar.front, Liar::total);
        rig.ack(liar.front);
        EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::none);
        EXPECT_GT(rig.engine.counters().sacks_refused, 0u);
        rig.pop_acked();
    }
}

TEST(SackAttack, peer_that_renounces_all_it_reported_gets_it_all_again) {
    Rig rig;
    rig.parameters.sack = true;
    rig.reach(established);
    rig.post(10'000);
    EXPECT_EQ(rig.sent().size(), 10u);
    rig.advance(40);
    Segment s        = rig.segment(0, 0, 0, Rig::local(0));
    s.tcp.sack_count = 1;
    s.tcp.sack[0]    = {Rig::local(1'000), Rig::local(10'000)};
    rig.receive(s);
    std::vector<bool> arrived(10);
    uint32_t front = 0;
    for (uint32_t i = 0; i < 100 && front < 10; ++i) {
        for (const TxSegment& tx : rig.sent()) {
            const uint32_t from = bytes_between(Rig::local(0), tx.tcp.seq);
            std::fill_n(arrived.begin() + from / 1'000, tx.payload_bytes / 1'000, true);
        }
        while (front < 10 && arrived[front]) {
            ++front;
        }
        rig.ack(front * 1'000);
        rig.advance(200);
    }
    EXPECT_EQ(front, 10u);
    EXPECT_GT(rig.engine.counters().sacks_renounced, 0u);
    rig.pop_acked();
}

}  // namespace flue::tcp::test
