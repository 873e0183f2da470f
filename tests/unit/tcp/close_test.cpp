#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

// ---------------------------------------------------------------- our FIN

TEST(TcpClose, R67_fin_rides_on_the_last_data_segment) {
    Rig rig;
    rig.reach(established);
    rig.post(1'500, true);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 2u);
    EXPECT_FALSE(has_fin(out[0]));
    EXPECT_TRUE(has_fin(out[1]));
    EXPECT_EQ(out[1].payload_bytes, 500u);
    EXPECT_EQ(rig.engine.state(Rig::conn), fin_wait_1);
}

TEST(TcpClose, R65_fin_follows_every_send_posted_before_it) {
    Rig rig;
    rig.reach(established);
    rig.post(700);
    rig.post(700);
    rig.post(0, true);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 2u);
    EXPECT_TRUE(has_fin(out[1]));
    EXPECT_EQ(out[1].tcp.seq + out[1].payload_bytes, Rig::local(1'400));
}

TEST(TcpClose, R66_fin_does_not_wait_for_acks_of_the_data) {
    Rig rig;
    rig.reach(established);
    rig.post(5'000);
    EXPECT_EQ(rig.sent().size(), 5u);
    rig.post(0, true);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has_fin(out[0]));
    EXPECT_EQ(out[0].payload_bytes, 0u);
}

TEST(TcpClose, fin_is_not_held_by_a_full_congestion_window) {
    Rig rig;
    rig.reach(established);
    rig.post(10'000);
    EXPECT_EQ(rig.sent().size(), 10u);
    rig.post(0, true);
    EXPECT_EQ(rig.sent().size(), 1u);
}

TEST(TcpClose, fin_queued_behind_data_changes_no_state_before_it_is_sent) {
    Rig rig;
    rig.reach(established);
    rig.post(20'000, true);
    rig.sent();
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
    rig.ack(10'000);
    rig.sent();
    EXPECT_EQ(rig.engine.state(Rig::conn), fin_wait_1);
}

TEST(TcpClose, second_fin_and_data_after_the_fin_are_refused) {
    Rig rig;
    rig.reach(established);
    rig.post(10, true);
    EXPECT_EQ(rig.post(0, true), no_item);
    EXPECT_EQ(rig.post(1), no_item);
    EXPECT_EQ(rig.engine.post_room(Rig::conn), 0u);
    rig.sent();
    EXPECT_EQ(rig.post(1), no_item);
}

TEST(TcpClose, lost_fin_is_sent_again) {
    Rig rig;
    rig.reach(fin_wait_1);
    rig.advance(rto_ms);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has_fin(out[0]));
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
}

TEST(TcpClose, lost_fin_after_data_is_sent_again_behind_what_is_missing) {
    Rig rig;
    rig.reach(established);
    rig.post(2'500, true);
    rig.sent();
    rig.ack(1'000);
    rig.advance(2 * rto_ms);
    rig.sent();
    rig.ack(2'000);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has_fin(out[0]));
    EXPECT_EQ(out[0].payload_bytes, 500u);
}

// ---------------------------------------------------------------- the ways to closed

TEST(TcpClose, this_side_first_goes_by_fin_wait_2_and_time_wait) {
    Rig rig;
    rig.reach(fin_wait_1);
    rig.ack(1);
    EXPECT_EQ(rig.engine.state(Rig::conn), fin_wait_2);
    rig.fin(0);
    EXPECT_EQ(rig.engine.state(Rig::conn), time_wait);
    EXPECT_EQ(rig.sent()[0].tcp.ack, Rig::remote(1));
}

TEST(TcpClose, fin_that_acknowledges_ours_goes_straight_to_time_wait) {
    Rig rig;
    rig.reach(fin_wait_1);
    rig.receive(rig.segment(0, 0, wire::tcp_fin, Rig::local(1)));
    EXPECT_EQ(rig.engine.state(Rig::conn), time_wait);
}

TEST(TcpClose, both_at_once_go_by_closing) {
    Rig rig;
    rig.reach(fin_wait_1);
    rig.receive(rig.segment(0, 0, wire::tcp_fin, Rig::local(0)));
    EXPECT_EQ(rig.engine.state(Rig::conn), closing);
    EXPECT_EQ(rig.sent().back().tcp.ack, Rig::remote(1));
    rig.peer_has_sent(1);
    rig.ack(1);
    EXPECT_EQ(rig.engine.state(Rig::conn), time_wait);
    rig.pop_acked();
    EXPECT_EQ(rig.engine.front_item(Rig::conn), no_item);
}

TEST(TcpClose, peer_first_goes_by_close_wait_and_last_ack) {
    Rig rig;
    rig.reach(close_wait);
    rig.post(100, true);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has_fin(out[0]));
    EXPECT_EQ(rig.engine.state(Rig::conn), last_ack);
    rig.peer_has_sent(1);
    rig.ack(101);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
    EXPECT_EQ(rig.notices() & (notice_acked | notice_upload), notice_acked);
    EXPECT_FALSE(rig.engine.next_deadline().is_set() && rig.engine.has_output());
}

// ---------------------------------------------------------------- half-close

TEST(TcpClose, R72_receive_half_works_after_our_fin) {
    for (const State state : {fin_wait_1, fin_wait_2}) {
        Rig rig;
        rig.reach(state);
        for (uint32_t i = 0; i < 10; ++i) {
            EXPECT_EQ(rig.data(i * 1'000, 1'000), Drop::none);
        }
        EXPECT_EQ(rig.engine.readable(Rig::conn), 10'000u);
        EXPECT_EQ(rig.sent().back().tcp.ack, Rig::remote(10'000));
        rig.consume(10'000);
    }
}

TEST(TcpClose, R82_send_half_works_after_the_peers_fin) {
    Rig rig;
    rig.reach(close_wait);
    rig.peer_has_sent(1);
    rig.post(5'000);
    EXPECT_EQ(rig.sent().size(), 5u);
    rig.ack(2'000);
    rig.advance(2 * rto_ms);
    EXPECT_EQ(rig.sent()[0].tcp.seq, Rig::local(2'000));
    rig.ack(5'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), close_wait);
    EXPECT_EQ(rig.engine.send_backlog(Rig::conn), 0u);
}

// ---------------------------------------------------------------- FIN-WAIT-2 and TIME-WAIT

TEST(TcpClose, R91_R92_fin_wait_2_ends_after_120_s_closed_with_an_upload_request) {
    Rig rig;
    rig.reach(fin_wait_2);
    rig.advance(119'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), fin_wait_2);
    rig.advance(1'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
    EXPECT_EQ(rig.notices(), notice_upload);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
    EXPECT_TRUE(rig.sent().empty());
}

TEST(TcpClose, R91_fin_wait_2_is_restarted_by_each_acceptable_segment_and_by_no_other) {
    Rig rig;
    rig.reach(fin_wait_2);
    rig.advance(100'000);
    rig.data(0, 10);
    rig.advance(100'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), fin_wait_2);
    rig.data(0, 10);  // old
    rig.advance(20'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
    rig.consume(10);
}

TEST(TcpClose, R93_time_wait_asks_for_upload_and_goes_on_answering) {
    Rig rig;
    rig.reach(fin_wait_2);
    rig.fin(0);
    EXPECT_EQ(rig.notices(), notice_upload | notice_peer_fin);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::upload_requested);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.fin(0);
    EXPECT_EQ(rig.sent().size(), 1u);
}

TEST(TcpClose, time_wait_lasts_2msl_from_the_last_fin) {
    Rig rig;
    rig.reach(time_wait);
    rig.advance(50'000);
    rig.fin(0);
    rig.sent();
    rig.advance(50'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), time_wait);
    rig.advance(10'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
}

// ---------------------------------------------------------------- abort

TEST(TcpAbort, R74_rst_goes_out_first_whatever_is_queued) {
    Rig rig;
    rig.reach(established);
    rig.post(3'000);
    rig.sent();
    rig.post(20'000);
    rig.data(0, 10);
    rig.engine.abort(rig.now, Rig::conn);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has_rst(out[0]));
    EXPECT_TRUE(has(out[0], wire::tcp_ack));
    EXPECT_EQ(out[0].tcp.seq, Rig::local(3'000));
    EXPECT_EQ(out[0].payload_bytes, 0u);
    EXPECT_EQ(rig.notices() & notice_rst_sent, notice_rst_sent);
    EXPECT_EQ(rig.engine.counters().resets_out, 1u);
    rig.consume(10);
}

TEST(TcpAbort, R76_after_it_nothing_is_processed_acknowledged_or_sent) {
    Rig rig;
    rig.reach(established);
    rig.post(3'000);
    rig.data(0, 10);
    rig.engine.abort(rig.now, Rig::conn);
    EXPECT_EQ(rig.data(10, 10), Drop::connection_closed);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.engine.flush_ack(Rig::conn);
    rig.consume(10);
    rig.advance(600'000);
    EXPECT_TRUE(rig.sent().empty());
}

TEST(TcpAbort, R76_who_lacks_what_was_sent_before_the_rst_gets_one_that_he_can_take) {
    Rig rig;
    rig.reach(established);
    rig.post(3'000);
    rig.sent();
    rig.engine.abort(rig.now, Rig::conn);
    EXPECT_EQ(rig.sent()[0].tcp.seq, Rig::local(3'000));
    EXPECT_EQ(rig.ack(1'000), Drop::connection_closed);  // a challenge ACK: RFC 5961 §3.2
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has_rst(out[0]));
    EXPECT_EQ(out[0].tcp.seq, Rig::local(1'000));
    rig.receive(rig.segment(0, 0, wire::tcp_rst, Rig::local(1'000)));
    rig.receive(rig.segment(0, 0, 0, Rig::local(3'001)));
    EXPECT_TRUE(rig.sent().empty()) << "an RST is not answered, nor what cannot be his";
}

TEST(TcpAbort, R78_a_connection_that_the_peer_has_reset_stays_silent) {
    Rig rig;
    rig.reach(established);
    rig.receive(rig.segment(0, 0, wire::tcp_rst, Rig::local(0)));
    rig.data(0, 10);
    EXPECT_TRUE(rig.sent().empty());
}

TEST(TcpAbort, R73_abort_after_a_graceful_close_is_honoured_in_every_state) {
    for (const State state :
         {established, fin_wait_1, fin_wait_2, close_wait, closing, last_ack, time_wait, closed}) {
        Rig rig;
        rig.reach(state);
        rig.sent();
        rig.engine.abort(rig.now, Rig::conn);
        rig.check();
        const auto out = rig.sent();
        ASSERT_EQ(out.size(), 1u) << to_string(state);
        EXPECT_TRUE(has_rst(out[0])) << to_string(state);
        EXPECT_EQ(rig.engine.state(Rig::conn), closed);
        EXPECT_EQ(rig.notices() & notice_rst_sent, notice_rst_sent);
    }
}

TEST(TcpAbort, rst_stays_inside_a_window_that_the_peer_has_shut) {
    Rig rig;
    rig.state.snd_wnd = 0;
    rig.peer_window   = 0;
    rig.reach(established);
    rig.post(100);
    rig.advance(rto_ms);
    rig.sent();
    rig.engine.abort(rig.now, Rig::conn);
    EXPECT_EQ(rig.sent()[0].tcp.seq, Rig::local(0));
}

TEST(TcpAbort, rst_waits_for_room_in_the_batch) {
    Rig rig;
    rig.reach(established);
    rig.engine.abort(rig.now, Rig::conn);
    EXPECT_TRUE(rig.sent(0).empty());
    EXPECT_EQ(rig.notices(), 0);
    EXPECT_EQ(rig.sent().size(), 1u);
}

TEST(TcpAbort, a_stopped_connection_can_still_be_aborted) {
    Rig rig;
    rig.reach(established);
    rig.engine.stop(Rig::conn);
    rig.engine.abort(rig.now, Rig::conn);
    EXPECT_EQ(rig.sent().size(), 1u);
}

TEST(TcpAbort, R78_nothing_but_abort_sends_an_rst) {
    for (const State state :
         {established, fin_wait_1, fin_wait_2, close_wait, closing, last_ack, time_wait, closed}) {
        Rig rig;
        rig.reach(state);
        rig.data(0, 100);
        rig.data(50'000, 100, wire::tcp_syn);
        rig.data(0, 0, wire::tcp_urg);
        rig.receive(rig.segment(5, 0, wire::tcp_rst, rig.seen));
        rig.receive(rig.segment(0, 10, 0, Rig::local(5'000)));
        for (uint32_t i = 0; i < 200; ++i) {
            for (const TxSegment& tx : rig.sent()) {
                EXPECT_FALSE(has_rst(tx)) << to_string(state);
            }
            rig.advance(10'000);
        }
        rig.consume(rig.engine.readable(Rig::conn));
    }
}

TEST(TcpClose, nothing_is_taken_behind_a_queued_fin_not_even_no_bytes) {
    Rig rig;
    rig.reach(State::established);
    ASSERT_NE(rig.post(10, true), no_item);
    EXPECT_EQ(rig.post(0), no_item);
    rig.sent();
    EXPECT_EQ(rig.post(0), no_item);
}

}  // namespace flue::tcp::test
