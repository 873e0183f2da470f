#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

namespace {

Options one_ack_each_second_segment() {
    Options options;
    options.delayed_ack_us = 40'000;
    return options;
}

/// A connection that has sent its quick ACK.
void settle(Rig& rig) {
    rig.data(0, 1);
    rig.sent();
    rig.consume(1);
    rig.take_released();
}

}  // namespace

TEST(TcpText, first_data_after_adopt_is_acknowledged_at_once) {
    Rig rig(one_ack_each_second_segment());
    rig.reach(established);
    rig.data(0, 10);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.data(10, 10);
    EXPECT_TRUE(rig.sent().empty());
    rig.consume(20);
}

TEST(TcpText, every_second_segment_is_acknowledged) {
    Rig rig;
    rig.reach(established);
    settle(rig);
    rig.data(1, 500);
    EXPECT_TRUE(rig.sent().empty());
    rig.data(501, 500);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.ack, Rig::remote(1'001));
    rig.consume(1'000);
}

TEST(TcpText, a_single_segment_is_acknowledged_after_the_delay) {
    Rig rig;
    rig.reach(established);
    settle(rig);
    rig.data(1, 500);
    rig.advance(39);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(1);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.advance(1'000);
    EXPECT_TRUE(rig.sent().empty());
    rig.consume(500);
}

TEST(TcpText, data_takes_the_owed_ack_along) {
    Rig rig;
    rig.reach(established);
    settle(rig);
    rig.data(1, 500);
    rig.post(10);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.ack, Rig::remote(501));
    rig.peer_has_sent(501);
    rig.ack(10);
    rig.advance(1'000);
    EXPECT_TRUE(rig.sent().empty());
    rig.consume(500);
}

TEST(TcpText, data_that_is_ready_takes_an_immediate_ack_along) {
    Rig rig;
    rig.reach(established);
    rig.data(0, 10);
    rig.post(10);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].payload_bytes, 10u);
    EXPECT_EQ(out[0].tcp.ack, Rig::remote(10));
    rig.consume(10);
}

TEST(TcpText, R103_flush_ack_sends_what_is_owed) {
    Rig rig;
    rig.reach(established);
    settle(rig);
    rig.engine.flush_ack(Rig::conn);
    EXPECT_TRUE(rig.sent().empty());
    rig.data(1, 10);
    rig.engine.flush_ack(Rig::conn);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.consume(10);
}

TEST(TcpText, segment_past_a_gap_is_acknowledged_at_once_and_again_when_the_gap_closes) {
    Rig rig;
    rig.reach(established);
    settle(rig);
    rig.data(101, 100);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.ack, Rig::remote(1));
    rig.data(1, 100);
    out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.ack, Rig::remote(201));
    EXPECT_EQ(rig.engine.readable(Rig::conn), 200u);
    rig.consume(200);
}

TEST(TcpText, psh_is_told_when_the_data_is_in_order) {
    Rig rig;
    rig.reach(established);
    rig.data(100, 100, wire::tcp_psh);
    EXPECT_EQ(rig.notices(), 0);
    rig.data(0, 100);
    EXPECT_EQ(rig.notices(), notice_received | notice_pushed);
    rig.consume(200);
}

TEST(TcpText, consume_takes_bytes_from_the_front_and_gives_payloads_back_whole) {
    Rig rig;
    rig.reach(established);
    rig.data(0, 100);
    rig.data(100, 50);
    rig.consume(30);
    EXPECT_TRUE(rig.take_released().empty());
    EXPECT_EQ(rig.engine.front_chunk(Rig::conn).offset, 54u + 30);
    EXPECT_EQ(rig.engine.front_chunk(Rig::conn).length, 70u);
    rig.consume(90);
    const auto released = rig.take_released();
    ASSERT_EQ(released.size(), 1u);
    EXPECT_EQ(released[0].length, 100u);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 30u);
    rig.consume(30);
    EXPECT_EQ(rig.engine.front_chunk(Rig::conn).length, 0u);
}

// ---------------------------------------------------------------- the window

TEST(TcpWindow, advertised_window_is_what_is_free_and_its_right_edge_stands_still) {
    Rig rig;
    rig.reach(established);
    for (uint32_t i = 0; i < 10; ++i) {
        rig.data(i * 1'000, 1'000);
        for (const TxSegment& tx : rig.sent()) {
            EXPECT_EQ(tx.tcp.ack + tx.tcp.window, Rig::remote(Rig::rcv_space));
        }
    }
    EXPECT_EQ(rig.engine.info(Rig::conn).rcv_wnd, Rig::rcv_space - 10'000);
    rig.consume(10'000);
}

TEST(TcpWindow, a_little_room_does_not_open_a_shut_window) {
    Rig rig;
    rig.parameters.rcv_wnd_max = 10'000;
    rig.state.rcv_wnd          = 10'000;
    rig.reach(established);
    for (uint32_t i = 0; i < 10; ++i) {
        rig.data(i * 1'000, 1'000);
    }
    EXPECT_EQ(rig.sent().back().tcp.window, 0);
    rig.consume(999);
    EXPECT_TRUE(rig.sent().empty()) << "silly window";
    rig.consume(1);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.window, 1'000);
    rig.consume(9'000);
}

TEST(TcpWindow, a_fast_reader_causes_no_window_updates) {
    Rig rig;
    rig.reach(established);
    settle(rig);
    uint32_t segments = 0;
    for (uint32_t i = 0; i < 200; ++i) {
        rig.data(1 + i * 1'000, 1'000);
        rig.consume(1'000);
        segments += static_cast<uint32_t>(rig.sent().size());
        rig.take_released();
    }
    EXPECT_EQ(segments, 100u);
}

TEST(TcpWindow, scaled_window_does_not_move_left_for_want_of_units) {
    Rig rig;
    rig.parameters.rcv_wind_shift = 7;
    rig.parameters.rcv_wnd_max    = 50'000;
    rig.reach(established);
    Seq edge = Rig::remote(50'000 >> 7 << 7);
    for (uint32_t i = 0; i < 30; ++i) {
        rig.data(i * 777, 777);
        for (const TxSegment& tx : rig.sent()) {
            const Seq next = tx.tcp.ack + (uint32_t{tx.tcp.window} << 7);
            EXPECT_GE(next, edge) << i;
            edge = max(edge, next);
        }
    }
    EXPECT_LE(bytes_between(Rig::remote(0), edge), 50'000u + 50'000 / 8) << "nor does it run away";
    rig.consume(30 * 777);
}

TEST(TcpWindow, a_window_smaller_than_its_unit_still_opens) {
    Rig rig;
    rig.parameters.rcv_wind_shift = 14;
    rig.parameters.rcv_wnd_max    = 1'000;
    rig.state.rcv_wnd             = 0;
    rig.reach(established);
    rig.receive(rig.segment(0, 1, 0, rig.seen));
    EXPECT_EQ(rig.sent().back().tcp.window, 1);
}

// ---------------------------------------------------------------- FIN

TEST(TcpFin, established_fin_is_acknowledged_at_once_and_told) {
    Rig rig;
    rig.reach(established);
    rig.data(0, 10, wire::tcp_fin);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
    EXPECT_EQ(rig.notices(), notice_received | notice_peer_fin);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.ack, Rig::remote(11));
    EXPECT_TRUE(rig.engine.peer_fin_received(Rig::conn));
    EXPECT_EQ(rig.engine.readable(Rig::conn), 10u) << "not consumed yet.  R81";
    rig.consume(10);
}

TEST(TcpFin, fin_past_a_gap_waits_for_the_gap) {
    Rig rig;
    rig.reach(established);
    rig.data(100, 100, wire::tcp_fin);
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
    EXPECT_FALSE(rig.engine.peer_fin_received(Rig::conn));
    rig.data(0, 100);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
    EXPECT_EQ(rig.sent().back().tcp.ack, Rig::remote(201));
    rig.consume(200);
}

TEST(TcpFin, bare_fin_past_a_gap_is_remembered) {
    Rig rig;
    rig.reach(established);
    rig.fin(100);
    rig.data(0, 100);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
    rig.consume(100);
}

TEST(TcpFin, fin_is_accepted_when_the_window_is_shut) {
    Rig rig;
    rig.parameters.rcv_wnd_max = 100;
    rig.state.rcv_wnd          = 100;
    rig.reach(established);
    rig.data(0, 100);
    rig.fin(100);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
    rig.consume(100);
}

TEST(TcpFin, text_after_the_fin_is_ignored) {
    Rig rig;
    rig.reach(close_wait);
    EXPECT_EQ(rig.data(1, 10), Drop::text_after_fin);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 0u);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
}

TEST(TcpFin, repeated_fin_is_acknowledged_again_in_every_state) {
    for (const State state : {close_wait, closing, last_ack, time_wait}) {
        Rig rig;
        rig.reach(state);
        EXPECT_EQ(rig.fin(0), Drop::outside_window) << to_string(state);
        const auto out = rig.sent();
        ASSERT_EQ(out.size(), 1u) << to_string(state);
        EXPECT_EQ(out[0].tcp.ack, Rig::remote(1));
        EXPECT_EQ(rig.engine.state(Rig::conn), state);
        EXPECT_EQ(rig.notices() & notice_peer_fin, 0);
    }
}

TEST(TcpText, no_chunk_left_drops_data_in_order_without_an_ack) {
    Options options;
    options.limits.receive_chunks = 2;
    Rig rig(options);
    rig.reach(established);
    rig.data(0, 10);
    rig.data(10, 10);
    rig.sent();
    EXPECT_EQ(rig.data(20, 10), Drop::no_chunk);
    EXPECT_TRUE(rig.sent().empty());
    rig.consume(20);
    rig.take_released();
    EXPECT_EQ(rig.data(20, 10), Drop::none);
    rig.consume(10);
}

TEST(TcpText, a_slow_reader_leaves_chunks_to_connections_with_nothing_to_read) {
    Options options;
    options.limits.receive_chunks = 32;
    Rig rig(options);
    rig.reach(established);
    constexpr ConnIndex other = 1;
    ASSERT_EQ(rig.engine.adopt(rig.now, other, rig.parameters, rig.state), Engine::Refusal::none);
    uint32_t bytes = 0;
    while (rig.data(bytes, 1) == Drop::none) {
        ++bytes;
    }
    EXPECT_EQ(bytes, 30u);
    EXPECT_EQ(rig.engine.on_segment(rig.now, other, rig.segment(0, 10, 0, rig.seen)).drop,
              Drop::none);
    rig.kept.insert(rig.next_region - 1);
    rig.engine.forget(other);
    rig.consume(bytes);
}

}  // namespace flue::tcp::test
