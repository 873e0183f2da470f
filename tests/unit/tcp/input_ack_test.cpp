#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

TEST(TcpAck, segment_without_ack_is_dropped) {
    Rig rig;
    rig.reach(established);
    Segment s   = rig.segment(0, 10, 0, rig.seen);
    s.tcp.flags = wire::tcp_psh;
    EXPECT_EQ(rig.receive(s), Drop::no_ack);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 0u);
}

TEST(TcpAck, ack_of_what_was_never_sent_is_challenged_and_dropped) {
    Rig rig;
    rig.reach(established);
    EXPECT_EQ(rig.receive(rig.segment(0, 10, 0, Rig::local(1))), Drop::ack_of_unsent);
    EXPECT_EQ(rig.sent().size(), 1u);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 0u);
    EXPECT_EQ(rig.engine.counters().challenge_acks, 1u);
}

TEST(TcpAck, ack_older_than_the_largest_window_is_challenged_and_dropped) {
    Rig rig;
    rig.reach(established);
    EXPECT_EQ(rig.receive(rig.segment(0, 10, 0, Rig::local(0) - Rig::window)), Drop::none);
    rig.advance(1'000);
    rig.sent();
    EXPECT_EQ(rig.receive(rig.segment(10, 10, 0, Rig::local(0) - (Rig::window + 1))),
              Drop::ack_too_old);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.consume(10);
}

TEST(TcpAck, R38_send_is_acknowledged_only_with_its_last_byte) {
    Rig rig;
    rig.reach(established);
    const ItemIndex item = rig.post(1'500);
    rig.sent();
    rig.ack(1'499);
    EXPECT_EQ(rig.engine.acked_bytes(Rig::conn, item), 1'499u);
    EXPECT_FALSE(rig.engine.fully_acked(Rig::conn, item));
    EXPECT_EQ(rig.notices() & notice_acked, 0);
    rig.ack(1'500);
    EXPECT_TRUE(rig.engine.fully_acked(Rig::conn, item));
    EXPECT_EQ(rig.notices() & notice_acked, notice_acked);
    rig.engine.pop_item(Rig::conn, item);
    EXPECT_EQ(rig.engine.front_item(Rig::conn), no_item);
}

TEST(TcpAck, R69_send_with_a_fin_is_acknowledged_only_with_the_fin) {
    Rig rig;
    rig.reach(established);
    const ItemIndex item = rig.post(500, true);
    rig.sent();
    rig.ack(500);
    EXPECT_EQ(rig.engine.acked_bytes(Rig::conn, item), 500u);
    EXPECT_FALSE(rig.engine.fully_acked(Rig::conn, item));
    rig.ack(501);
    EXPECT_TRUE(rig.engine.fully_acked(Rig::conn, item));
    EXPECT_EQ(rig.engine.acked_bytes(Rig::conn, item), 500u) << "a FIN is no byte.  R71";
}

TEST(TcpAck, one_ack_may_complete_many_sends_in_posting_order) {
    Rig rig;
    rig.reach(established);
    const ItemIndex first  = rig.post(100);
    const ItemIndex second = rig.post(0);
    const ItemIndex third  = rig.post(300);
    rig.sent();
    rig.ack(400);
    for (const ItemIndex item : {first, second, third}) {
        EXPECT_EQ(rig.engine.front_item(Rig::conn), item);
        ASSERT_TRUE(rig.engine.fully_acked(Rig::conn, item));
        rig.engine.pop_item(Rig::conn, item);
    }
}

TEST(TcpAck, send_of_no_bytes_is_complete_when_what_is_before_it_is) {
    Rig rig;
    rig.reach(established);
    const ItemIndex empty = rig.post(0);
    EXPECT_TRUE(rig.engine.fully_acked(Rig::conn, empty));
    EXPECT_EQ(rig.notices() & notice_acked, notice_acked);
    EXPECT_TRUE(rig.sent().empty());
}

TEST(TcpAck, window_is_taken_from_newer_segments_only) {
    Rig rig;
    rig.reach(established);
    rig.data(0, 10);
    rig.peer_window = 5'000;
    rig.receive(rig.segment(10, 10, 0, rig.seen));
    EXPECT_EQ(rig.engine.info(Rig::conn).snd_wnd, 5'000u);
    rig.peer_window = 40'000;
    rig.receive(rig.segment(5, 10, 0, rig.seen));  // older than SND.WL1
    EXPECT_EQ(rig.engine.info(Rig::conn).snd_wnd, 5'000u);
    rig.consume(20);
}

TEST(TcpAck, new_data_is_acknowledged_with_a_window_even_by_a_retransmission) {
    Rig rig;
    rig.reach(established);
    rig.post(3'000);
    rig.sent();
    rig.receive(rig.segment(100, 100, 0, Rig::local(0)));  // has overtaken what follows
    rig.peer_window = 2'000;
    rig.receive(rig.segment(0, 100, 0, Rig::local(3'000)));
    rig.post(5'000);
    uint32_t bytes = 0;
    for (const TxSegment& tx : rig.sent()) {
        bytes += tx.payload_bytes;
    }
    EXPECT_EQ(bytes, 2'000u);
    rig.consume(200);
}

TEST(TcpAck, windows_are_scaled_both_ways) {
    Rig rig;
    rig.parameters.snd_wind_shift = 3;
    rig.parameters.rcv_wind_shift = 5;
    rig.parameters.rcv_wnd_max    = 1'000'000;
    rig.peer_window               = 400'000;
    rig.reach(established);
    rig.ack(0);
    EXPECT_EQ(rig.engine.info(Rig::conn).snd_wnd, 400'000u);
    rig.data(0, 10);
    EXPECT_EQ(rig.sent()[0].tcp.window, (1'000'000 - 10) >> 5);
    rig.consume(10);
}

TEST(TcpAck, round_trip_is_measured_on_new_data_and_sets_the_timeout) {
    Rig rig;
    rig.state.srtt_us_x8 = 0;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    rig.advance(300);
    rig.ack(100);
    EXPECT_EQ(rig.engine.info(Rig::conn).srtt_us, 300'000u);
    EXPECT_EQ(rig.engine.info(Rig::conn).rto_us, 900'000u);
}

TEST(TcpAck, round_trip_is_not_measured_on_a_retransmission) {
    Rig rig;
    rig.state.srtt_us_x8 = 0;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    rig.advance(1'000);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.advance(5);
    rig.ack(100);
    EXPECT_EQ(rig.engine.info(Rig::conn).srtt_us, 0u);
}

TEST(TcpAck, with_timestamps_it_is_measured_on_a_retransmission_too) {
    Rig rig;
    rig.parameters.timestamps = true;
    rig.state.srtt_us_x8      = 0;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    rig.advance(1'000);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.advance(5);
    rig.ack(100);
    EXPECT_EQ(rig.engine.info(Rig::conn).srtt_us, 5'000u);
}

}  // namespace flue::tcp::test
