#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

TEST(TcpOutput, data_goes_out_in_full_segments_and_a_last_one_with_psh) {
    Rig rig;
    rig.reach(established);
    rig.post(2'500);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 3u);
    EXPECT_EQ(out[0].payload_bytes, 1'000u);
    EXPECT_EQ(out[1].tcp.seq, Rig::local(1'000));
    EXPECT_EQ(out[2].payload_bytes, 500u);
    EXPECT_FALSE(has(out[1], wire::tcp_psh));
    EXPECT_TRUE(has(out[2], wire::tcp_psh));
    EXPECT_TRUE(has(out[0], wire::tcp_ack));
}

TEST(TcpOutput, R37_small_sends_share_a_segment_in_posting_order) {
    Rig rig;
    rig.reach(established);
    const ItemIndex a = rig.post(100);
    const ItemIndex b = rig.post(0);
    const ItemIndex c = rig.post(200);
    const auto out    = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    ASSERT_EQ(out[0].slice_count, 2);
    EXPECT_EQ(out[0].slices[0].item, a);
    EXPECT_EQ(out[0].slices[0].length, 100u);
    EXPECT_EQ(out[0].slices[1].item, c);
    EXPECT_EQ(out[0].slices[1].length, 200u);
    EXPECT_EQ(out[0].payload_bytes, 300u);
    (void)b;
}

TEST(TcpOutput, segment_crosses_from_one_send_into_the_next) {
    Rig rig;
    rig.reach(established);
    const ItemIndex a = rig.post(1'300);
    const ItemIndex b = rig.post(700);
    const auto out    = rig.sent();
    ASSERT_EQ(out.size(), 2u);
    ASSERT_EQ(out[1].slice_count, 2);
    EXPECT_EQ(out[1].slices[0].item, a);
    EXPECT_EQ(out[1].slices[0].offset, 1'000u);
    EXPECT_EQ(out[1].slices[0].length, 300u);
    EXPECT_EQ(out[1].slices[1].item, b);
    EXPECT_EQ(out[1].slices[1].offset, 0u);
}

TEST(TcpOutput, more_sends_than_slices_make_more_segments) {
    Rig rig;
    rig.reach(established);
    for (uint32_t i = 0; i < slices_per_segment_max + 1; ++i) {
        rig.post(10);
    }
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 2u);
    EXPECT_EQ(out[0].payload_bytes, slices_per_segment_max * 10);
    EXPECT_EQ(out[1].payload_bytes, 10u);
}

TEST(TcpOutput, congestion_window_limits_what_is_in_flight) {
    Rig rig;
    rig.fill_pipe();
    EXPECT_TRUE(rig.sent().empty());
    rig.ack(2'000);
    EXPECT_EQ(rig.sent().size(), 4u) << "slow start: two acknowledged, two more";
}

TEST(TcpOutput, send_window_limits_what_is_in_flight) {
    Rig rig;
    rig.state.snd_wnd = 3'500;
    rig.peer_window   = 3'500;
    rig.reach(established);
    rig.post(50'000);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 3u) << "the last 500 wait: SWS avoidance";
    EXPECT_EQ(out[2].payload_bytes, 1'000u);
}

TEST(TcpOutput, half_of_the_largest_window_is_worth_a_segment) {
    Rig rig;
    rig.state.snd_wnd     = 800;
    rig.state.max_snd_wnd = 800;
    rig.peer_window       = 800;
    rig.reach(established);
    rig.post(5'000);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].payload_bytes, 800u);
}

TEST(TcpOutput, a_full_batch_continues_with_the_next_call) {
    Rig rig;
    rig.reach(established);
    rig.post(5'000);
    EXPECT_EQ(rig.sent(2).size(), 2u);
    EXPECT_TRUE(rig.engine.has_output());
    EXPECT_EQ(rig.sent(1).size(), 1u);
    EXPECT_EQ(rig.sent(0).size(), 0u);
    const auto rest = rig.sent();
    ASSERT_EQ(rest.size(), 2u);
    EXPECT_EQ(rest[0].tcp.seq, Rig::local(3'000));
    EXPECT_FALSE(rig.engine.has_output());
}

TEST(TcpOutput, ack_waits_for_room_in_the_batch) {
    Rig rig;
    rig.reach(established);
    rig.data(0, 10);
    EXPECT_EQ(rig.sent(0).size(), 0u);
    EXPECT_TRUE(rig.engine.has_output());
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.consume(10);
}

TEST(TcpOutput, nagle_holds_a_small_segment_while_data_is_outstanding) {
    Rig rig;
    rig.parameters.nagle = true;
    rig.reach(established);
    rig.post(100);
    EXPECT_EQ(rig.sent().size(), 1u);
    rig.post(100);
    EXPECT_TRUE(rig.sent().empty());
    rig.post(1'000);
    EXPECT_EQ(rig.sent().size(), 1u) << "a full one goes";
    rig.ack(1'100);
    EXPECT_EQ(rig.sent()[0].payload_bytes, 100u);
}

TEST(TcpOutput, nagle_does_not_hold_the_last_data_before_a_fin) {
    Rig rig;
    rig.parameters.nagle = true;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    rig.post(100, true);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has_fin(out[0]));
}

TEST(TcpOutput, ready_connections_take_turns_of_a_quantum) {
    Options options;
    options.quantum_bytes = 2'000;
    Engine engine(options);
    Parameters parameters = Rig::plain();
    const Instant now{1'000'000};
    for (ConnIndex c = 0; c < 3; ++c) {
        ASSERT_EQ(engine.adopt(now, c, parameters, Rig::established()), Engine::Refusal::none);
        ASSERT_NE(engine.post_send(now, c, {.region = c, .offset = 0, .length = 4'000}, false),
                  no_item);
    }
    std::array<TxSegment, 32> out;
    ASSERT_EQ(engine.transmit(now, out), 12u);
    std::string order;
    for (uint32_t i = 0; i < 12; ++i) {
        order += static_cast<char>('0' + out[i].conn);
    }
    EXPECT_EQ(order, "001122001122");
}

TEST(TcpOutput, control_segments_pass_bulk_data_of_others) {
    Options options;
    Engine engine(options);
    const Instant now{1'000'000};
    for (ConnIndex c = 0; c < 3; ++c) {
        ASSERT_EQ(engine.adopt(now, c, Rig::plain(), Rig::established()), Engine::Refusal::none);
        ASSERT_NE(engine.post_send(now, c, {.region = c, .offset = 0, .length = 50'000}, false),
                  no_item);
    }
    engine.abort(now, 2);
    std::array<TxSegment, 4> out;
    ASSERT_EQ(engine.transmit(now, out), 4u);
    EXPECT_EQ(out[0].conn, 2u);
    EXPECT_TRUE(has_rst(out[0]));
    EXPECT_EQ(out[1].conn, 0u);
}

TEST(TcpOutput, after_a_pause_the_congestion_window_starts_again_from_the_initial_one) {
    Rig rig;
    rig.state.cwnd = 40'000;
    rig.reach(established);
    rig.advance(1'000);
    rig.post(50'000);
    EXPECT_EQ(rig.sent().size(), 10u);
}

TEST(TcpOutput, post_room_keeps_sequence_numbers_comparable) {
    Rig rig;
    rig.reach(established);
    const uint32_t room = rig.engine.post_room(Rig::conn);
    EXPECT_EQ(room, 1U << 30);
    EXPECT_EQ(rig.post(room + 1), no_item);
    EXPECT_NE(rig.post(room), no_item);
    EXPECT_EQ(rig.engine.post_room(Rig::conn), 0u);
    EXPECT_EQ(rig.post(1), no_item);
}

// ---------------------------------------------------------------- window probes

namespace {

/// A connection whose peer has shut its window, with data waiting.
void shut_window(Rig& rig) {
    rig.state.snd_wnd = 0;
    rig.peer_window   = 0;
    rig.reach(established);
    rig.post(3'000);
    EXPECT_TRUE(rig.sent().empty());
}

}  // namespace

TEST(WindowProbe, MUST_36_zero_window_is_probed_with_one_byte_at_growing_intervals) {
    Rig rig;
    shut_window(rig);
    rig.advance(rto_ms - 1);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(1);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].payload_bytes, 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
    rig.ack(0);
    rig.advance(2 * rto_ms - 1);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(1);
    EXPECT_EQ(rig.sent().size(), 1u);
}

TEST(WindowProbe, MUST_37_window_may_stay_shut_for_ever_while_probes_are_answered) {
    Rig rig;
    shut_window(rig);
    uint32_t probes = 0;
    for (uint32_t minute = 0; minute < 120; ++minute) {
        rig.advance(60'000);
        for (const TxSegment& tx : rig.sent()) {
            EXPECT_EQ(tx.payload_bytes, 1u);
            ++probes;
            rig.ack(0);
        }
    }
    EXPECT_GT(probes, 100u);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::none);
}

TEST(WindowProbe, R90_unanswered_probes_end_in_an_upload_request) {
    Rig rig;
    shut_window(rig);
    uint32_t probes = 0;
    for (uint32_t i = 0; i < 18'000; ++i) {
        rig.advance(200);
        probes += static_cast<uint32_t>(rig.sent().size());
    }
    EXPECT_EQ(probes, Options{}.window_probes_max);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
    EXPECT_EQ(rig.engine.state(Rig::conn), established);
    EXPECT_EQ(rig.engine.counters().resets_out, 0u);
}

TEST(WindowProbe, opened_window_lets_data_flow_at_once_from_the_byte_that_was_probed) {
    Rig rig;
    shut_window(rig);
    rig.advance(rto_ms);
    rig.sent();
    rig.peer_window = 10'000;
    rig.ack(0);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 3u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
    EXPECT_EQ(out[0].payload_bytes, 1'000u);
}

TEST(WindowProbe, accepted_probe_moves_on) {
    Rig rig;
    shut_window(rig);
    rig.advance(rto_ms);
    rig.sent();
    rig.ack(1);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(10 * rto_ms);
    const auto out = rig.sent();
    ASSERT_GE(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(1));
    EXPECT_EQ(out[0].payload_bytes, 1u);
}

TEST(WindowProbe, fin_alone_is_probed_with_the_fin) {
    Rig rig;
    rig.state.snd_wnd = 0;
    rig.peer_window   = 0;
    rig.reach(established);
    rig.post(0, true);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(rto_ms);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has_fin(out[0]));
    rig.ack(1);
    EXPECT_EQ(rig.engine.state(Rig::conn), fin_wait_2);
}

TEST(WindowProbe, window_shut_over_data_in_flight_turns_retransmission_into_probing) {
    Rig rig;
    rig.reach(established);
    rig.post(3'000);
    rig.sent();
    rig.peer_window = 0;
    rig.ack(1'000);
    rig.advance(5 * rto_ms);
    const auto out = rig.sent();
    ASSERT_FALSE(out.empty());
    EXPECT_EQ(out.back().tcp.seq, Rig::local(1'000));
    EXPECT_EQ(out.back().payload_bytes, 1u);
}

TEST(WindowProbe, a_small_window_gets_what_it_takes_after_the_override_time) {
    Rig rig;
    rig.reach(established);
    rig.peer_window = 300;
    rig.ack(0);
    rig.post(5'000);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(rto_ms);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].payload_bytes, 300u);
}

}  // namespace flue::tcp::test
