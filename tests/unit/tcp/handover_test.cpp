#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

TEST(Adopt, R15_states_that_may_not_be_offloaded_are_refused) {
    for (const State state : {closed, time_wait}) {
        Rig rig;
        rig.state.state = state;
        EXPECT_EQ(rig.adopt(), Engine::Refusal::state);
    }
    for (const State state : {established, fin_wait_2, close_wait}) {
        Rig rig;
        rig.state.state = state;
        EXPECT_EQ(rig.adopt(), Engine::Refusal::none) << to_string(state);
    }
    for (const State state : {fin_wait_1, closing, last_ack}) {
        Rig rig;
        rig.state.state = state;
        EXPECT_EQ(rig.adopt(), Engine::Refusal::state)
            << "no FIN outstanding in " << to_string(state);
        rig.state.snd_nxt = rig.state.snd_max = Rig::local(1);
        EXPECT_EQ(rig.adopt(), Engine::Refusal::none) << to_string(state);
    }
}

TEST(Adopt, numbers_that_cannot_be_are_refused) {
    const auto refused = [](auto change) {
        Rig rig;
        change(rig);
        return rig.adopt() == Engine::Refusal::state;
    };
    EXPECT_TRUE(refused([](Rig& rig) { rig.state.snd_nxt = Rig::local(0) - 1; }));
    EXPECT_TRUE(refused([](Rig& rig) { rig.state.snd_nxt = Rig::local(1); }));
    EXPECT_TRUE(refused([](Rig& rig) { rig.state.snd_nxt = Rig::local(0x8000'0000); }));
    EXPECT_TRUE(refused([](Rig& rig) { rig.state.snd_max = Rig::local(0) + 0x7fff'ffff; }));
    EXPECT_TRUE(refused([](Rig& rig) { rig.state.rcv_wnd = UINT32_MAX; }));
    EXPECT_TRUE(refused([](Rig& rig) { rig.state.snd_wnd = UINT32_MAX; }));
    EXPECT_TRUE(refused([](Rig& rig) { rig.parameters.snd_wind_shift = 15; }));
    EXPECT_TRUE(refused([](Rig& rig) { rig.parameters.rcv_wnd_max = UINT32_MAX; }));
    EXPECT_FALSE(refused([](Rig&) {}));
}

TEST(Adopt, any_other_numbers_are_survived) {
    Rig rig;
    rig.state.cwnd                = UINT32_MAX;
    rig.state.ssthresh            = 0;
    rig.state.srtt_us_x8          = UINT32_MAX;
    rig.state.rttvar_us_x4        = UINT32_MAX;
    rig.state.dup_ack_count       = 255;
    rig.state.retransmit_count    = 255;
    rig.state.ts_recent_age_ms    = UINT32_MAX;
    rig.state.total_rt_ms         = UINT32_MAX;
    rig.state.ka_delta_ms         = INT32_MAX;
    rig.state.retransmit_delta_ms = INT32_MAX;
    rig.state.recover             = Rig::local(0x8000'0000);
    rig.parameters.mss            = 0;
    rig.parameters.rcv_wnd_max    = 0;
    rig.parameters.keep_alive     = true;
    rig.parameters.ka_timeout_ms  = 0;
    rig.parameters.ka_interval_ms = UINT32_MAX;
    ASSERT_EQ(rig.adopt(), Engine::Refusal::none);
    rig.post(5'000, true);
    rig.data(0, 100);
    for (uint32_t i = 0; i < 100; ++i) {
        rig.sent();
        rig.advance(100'000);
    }
    rig.consume(rig.engine.readable(Rig::conn));
}

// ---------------------------------------------------------------- data that was in flight

TEST(Adopt, R20_what_the_giver_was_about_to_send_again_goes_first) {
    Rig rig;
    rig.state.snd_nxt = Rig::local(1'000);
    rig.state.snd_max = Rig::local(3'000);
    rig.reach(established);
    rig.post(5'000);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 4u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(1'000));
    EXPECT_EQ(out[0].slices[0].offset, 1'000u) << "the first item begins at snd_una";
    EXPECT_EQ(out[3].tcp.seq, Rig::local(4'000));
}

TEST(Adopt, R21_acks_of_what_the_giver_sent_are_processed_and_the_rest_is_retransmitted) {
    Rig rig;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(3'000);
    rig.reach(established);
    const ItemIndex item = rig.post(3'000);
    EXPECT_TRUE(rig.sent().empty());
    rig.ack(2'000);
    EXPECT_EQ(rig.engine.acked_bytes(Rig::conn, item), 2'000u);
    rig.advance(rto_ms);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(2'000));
}

TEST(Adopt, until_data_is_posted_up_to_snd_max_only_what_is_there_is_sent) {
    Rig rig;
    rig.state.snd_nxt = rig.state.snd_una;
    rig.state.snd_max = Rig::local(3'000);
    rig.reach(established);
    rig.advance(rto_ms);
    EXPECT_TRUE(rig.sent().empty());
    rig.post(1'000);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].payload_bytes, 1'000u);
    rig.post(2'000, true);
    rig.ack(1'000);
    out = rig.sent();
    ASSERT_EQ(out.size(), 2u);
    EXPECT_TRUE(has_fin(out[1]));
}

TEST(Adopt, ack_that_comes_before_the_data_is_posted_completes_it_when_it_is) {
    Rig rig;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(3'000);
    rig.reach(established);
    rig.ack(3'000);
    EXPECT_EQ(rig.notices() & notice_acked, 0);
    const ItemIndex item = rig.post(3'000);
    EXPECT_EQ(rig.notices() & notice_acked, notice_acked);
    EXPECT_TRUE(rig.engine.fully_acked(Rig::conn, item));
    rig.post(100);
    EXPECT_EQ(rig.sent()[0].tcp.seq, Rig::local(3'000));
}

TEST(Adopt, a_fin_in_the_middle_of_what_was_sent_is_never_sent) {
    Rig rig;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(3'000);
    rig.reach(established);
    rig.post(1'000, true);  // a host that does not keep its word
    rig.advance(100'000);
    for (const TxSegment& tx : rig.sent()) {
        EXPECT_FALSE(has_fin(tx));
    }
}

// ---------------------------------------------------------------- a FIN that was in flight

TEST(Adopt, fin_wait_1_with_nothing_before_the_fin_sends_it_again) {
    Rig rig;
    rig.state.state   = fin_wait_1;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(1);
    rig.adopt();
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(rto_ms);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has_fin(out[0]));
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
    rig.ack(1);
    EXPECT_EQ(rig.engine.state(Rig::conn), fin_wait_2);
}

TEST(Adopt, fin_wait_1_with_data_before_the_fin_takes_it_up_to_the_fin_and_no_more) {
    Rig rig;
    rig.state.state   = fin_wait_1;
    rig.state.snd_nxt = rig.state.snd_una;
    rig.state.snd_max = Rig::local(1'501);
    rig.adopt();
    EXPECT_EQ(rig.engine.post_room(Rig::conn), 1'500u);
    EXPECT_EQ(rig.post(1'501), no_item);
    EXPECT_EQ(rig.post(10, true), no_item);
    rig.post(600);
    EXPECT_EQ(rig.engine.post_room(Rig::conn), 900u);
    rig.post(900);
    EXPECT_EQ(rig.engine.post_room(Rig::conn), 0u);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 2u);
    EXPECT_FALSE(has_fin(out[0]));
    EXPECT_TRUE(has_fin(out[1]));
    EXPECT_EQ(out[1].payload_bytes, 500u);
    rig.ack(1'501);
    EXPECT_EQ(rig.engine.state(Rig::conn), fin_wait_2);
    rig.pop_acked();
    EXPECT_EQ(rig.engine.front_item(Rig::conn), no_item);
}

TEST(Adopt, fin_is_not_sent_again_before_the_data_is_there) {
    Rig rig;
    rig.state.state   = last_ack;
    rig.state.snd_nxt = rig.state.snd_una;
    rig.state.snd_max = Rig::local(1'001);
    rig.adopt();
    rig.post(500);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_FALSE(has_fin(out[0]));
}

TEST(Adopt, ack_of_the_fin_that_comes_before_the_data_is_posted_counts) {
    Rig rig;
    rig.state.state   = fin_wait_1;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(501);
    rig.adopt();
    rig.ack(501);
    EXPECT_EQ(rig.engine.state(Rig::conn), fin_wait_2);
    const ItemIndex item = rig.post(500);
    ASSERT_NE(item, no_item);
    EXPECT_TRUE(rig.engine.fully_acked(Rig::conn, item));
    EXPECT_TRUE(rig.sent().empty());
}

TEST(Adopt, fin_that_was_sent_may_be_given_an_item_once_with_the_last_bytes_before_it) {
    for (const State state : {fin_wait_1, closing, last_ack}) {
        Rig rig;
        rig.state.state   = state;
        rig.state.snd_nxt = rig.state.snd_una;
        rig.state.snd_max = Rig::local(1'501);
        rig.adopt();
        rig.post(1'000);
        EXPECT_EQ(rig.post(499, true), no_item) << "one byte is missing";
        const ItemIndex item = rig.post(500, true);
        ASSERT_NE(item, no_item);
        EXPECT_EQ(rig.post(0, true), no_item);
        EXPECT_EQ(rig.engine.post_room(Rig::conn), 0u);
        const auto out = rig.sent();
        ASSERT_EQ(out.size(), 2u);
        EXPECT_TRUE(has_fin(out[1]));
        EXPECT_EQ(rig.seen, Rig::local(1'501));
        rig.ack(1'500);
        EXPECT_FALSE(rig.engine.fully_acked(Rig::conn, item));
        rig.ack(1'501);
        EXPECT_TRUE(rig.engine.fully_acked(Rig::conn, item)) << to_string(state);
    }
}

TEST(Adopt, fin_that_was_acknowledged_meanwhile_may_still_be_given_its_item) {
    for (const State state : {fin_wait_1, closing, last_ack}) {
        Rig rig;
        rig.state.state   = state;
        rig.state.snd_nxt = rig.state.snd_max = Rig::local(501);
        rig.adopt();
        rig.ack(501);
        EXPECT_EQ(rig.engine.missing_bytes(Rig::conn), 500u) << to_string(state);
        rig.notices();
        const ItemIndex data = rig.post(300);
        const ItemIndex fin  = rig.post(200, true);
        ASSERT_NE(data, no_item);
        ASSERT_NE(fin, no_item);
        EXPECT_TRUE(rig.engine.fully_acked(Rig::conn, fin));
        EXPECT_EQ(rig.notices() & notice_acked, notice_acked);
        EXPECT_TRUE(rig.sent().empty());
        rig.pop_acked();
    }
}

TEST(Adopt, bytes_before_a_fin_that_never_come_are_done_without_once_acknowledged) {
    Rig rig;
    rig.state.state   = fin_wait_1;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(501);
    rig.adopt();
    EXPECT_FALSE(rig.engine.forgo_missing(Rig::conn));
    rig.ack(501);
    EXPECT_TRUE(rig.engine.forgo_missing(Rig::conn));
    EXPECT_EQ(rig.engine.missing_bytes(Rig::conn), 0u);
    rig.check();
}

// ---------------------------------------------------------------- what else comes along

TEST(Adopt, fin_of_the_giver_keeps_its_place_when_the_data_before_it_never_comes) {
    for (const State state : {fin_wait_1, closing}) {
        Rig rig;
        rig.state.state   = state;
        rig.state.snd_max = rig.state.snd_nxt = Rig::local(3'001);
        ASSERT_EQ(rig.adopt(), Engine::Refusal::none);
        rig.ack(3'001);
        EXPECT_EQ(rig.engine.missing_bytes(Rig::conn), 3'000u);
        EXPECT_TRUE(rig.engine.forgo_missing(Rig::conn));
        rig.check();
        EXPECT_EQ(rig.engine.missing_bytes(Rig::conn), 0u);
    }
}

TEST(Adopt, data_that_never_comes_is_forgone_behind_sends_not_yet_taken_back) {
    Rig rig;
    rig.state.snd_max = rig.state.snd_nxt = Rig::local(3'000);
    ASSERT_EQ(rig.adopt(), Engine::Refusal::none);
    rig.post(1'000);
    rig.ack(3'000);
    EXPECT_TRUE(rig.engine.forgo_missing(Rig::conn));
    rig.check();
    rig.post(10, true);
    const auto sent = rig.sent();
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].tcp.seq, Rig::local(3'000));
    EXPECT_EQ(sent[0].payload_bytes, 10u);
    EXPECT_TRUE(has_fin(sent[0]));
}

TEST(Adopt, R19_data_that_came_along_is_read_before_newer_data) {
    Rig rig;
    rig.reach(established);
    rig.kept.insert(1);
    ASSERT_TRUE(rig.engine.add_readable(Rig::conn, {.region = 1, .offset = 54, .length = 300}));
    rig.check();
    rig.data(0, 100);
    EXPECT_EQ(rig.engine.readable(Rig::conn), 400u);
    EXPECT_EQ(rig.engine.front_chunk(Rig::conn).region, 1u);
    rig.consume(300);
    EXPECT_EQ(rig.engine.front_chunk(Rig::conn).length, 100u);
    rig.consume(100);
}

TEST(Adopt, R13_timestamps_go_on_from_the_givers) {
    Rig rig;
    rig.parameters.timestamps = true;
    rig.state.ts_time         = 0xffff'fff0;
    rig.reach(established);
    rig.post(10);
    EXPECT_EQ(rig.sent()[0].tcp.ts_val, 0xffff'fff0u);
    rig.advance(32);
    rig.post(10);
    EXPECT_EQ(rig.sent()[0].tcp.ts_val, 0x10u);
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_EQ(state.ts_time, 0x10u);
}

TEST(Adopt, timestamp_that_the_giver_does_not_know_is_learned_from_the_first_segment) {
    Rig rig;
    rig.parameters.timestamps  = true;
    rig.state.ts_recent        = 0;
    rig.state.ts_recent_age_ms = UINT32_MAX;
    rig.reach(established);
    const auto with_clock = [&](uint32_t offset, uint32_t ts_val) {
        Segment s    = rig.segment(offset, 100, 0, rig.seen);
        s.tcp.ts_val = ts_val;
        return s;
    };
    EXPECT_EQ(rig.receive(with_clock(100, 0x9000'0000)), Drop::none) << "past a gap: not recorded";
    EXPECT_EQ(rig.receive(with_clock(0, 0x9000'0000)), Drop::none);
    EXPECT_EQ(rig.sent().back().tcp.ts_ecr, 0x9000'0000);
    EXPECT_EQ(rig.receive(with_clock(200, 0x8fff'ffff)), Drop::paws);
    rig.consume(200);
}

TEST(Adopt, window_updates_are_taken_whatever_came_as_snd_wl1) {
    Rig rig;
    rig.state.snd_wl1 = Rig::remote(0x7000'0000);
    rig.reach(established);
    rig.peer_window = 1'234;
    rig.ack(0);
    EXPECT_EQ(rig.engine.info(Rig::conn).snd_wnd, 1'234u);
}

TEST(Adopt, recover_at_snd_una_does_not_keep_a_loss_from_being_repaired) {
    Rig rig;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(5'000);
    rig.state.recover                     = Rig::local(0);
    rig.reach(established);
    rig.post(5'000);
    rig.ack(0);
    rig.ack(0);
    rig.ack(0);
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 1u);
}

TEST(Adopt, fast_recovery_goes_on) {
    Rig rig;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(5'000);
    rig.state.recover                     = Rig::local(5'000);
    rig.state.recovery                    = true;
    rig.state.ssthresh                    = 2'500;
    rig.reach(established);
    rig.post(5'000);
    rig.ack(2'000);
    const auto out = rig.sent();
    ASSERT_FALSE(out.empty());
    EXPECT_EQ(out[0].tcp.seq, Rig::local(2'000));
    rig.ack(5'000);
    EXPECT_LE(rig.engine.info(Rig::conn).cwnd, 2'500u);
}

TEST(Adopt, R21_fast_recovery_sends_the_lost_segment_again_once_its_bytes_are_posted) {
    Rig rig;
    rig.state.snd_nxt = rig.state.snd_max = Rig::local(5'000);
    rig.state.recover                     = Rig::local(5'000);
    rig.state.recovery                    = true;
    rig.reach(established);
    EXPECT_TRUE(rig.sent().empty());
    rig.post(500);
    rig.post(4'500);
    const auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].tcp.seq, Rig::local(0));
    EXPECT_EQ(out[0].payload_bytes, Rig::mss);
}

TEST(Adopt, what_a_timeout_is_sending_again_draws_no_fast_retransmit) {
    Rig rig;
    rig.state.snd_nxt          = Rig::local(1'000);
    rig.state.snd_max          = Rig::local(5'000);
    rig.state.recover          = Rig::local(5'000);
    rig.state.cwnd             = Rig::mss;
    rig.state.retransmit_count = 2;
    rig.state.backoff          = 3;
    rig.reach(established);
    rig.post(5'000);
    for (int i = 0; i < 4; ++i) {
        rig.ack(0);
    }
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 0u);
    EXPECT_EQ(rig.engine.info(Rig::conn).rto_us, 8 * rto_ms * 1000) << "backed off three times";
}

TEST(Adopt, R12_persist_goes_on_with_its_probes_counted) {
    Options options;
    options.window_probes_max = 5;
    Rig rig(options);
    rig.state.snd_wnd             = 0;
    rig.state.retransmit_count    = 4;
    rig.state.backoff             = 4;
    rig.state.retransmit_delta_ms = 70;
    rig.reach(established);
    rig.post(1'000);
    rig.advance(69);
    EXPECT_TRUE(rig.sent().empty());
    rig.advance(1);
    ASSERT_EQ(rig.sent().size(), 1u) << "the fifth";
    rig.advance(60'000);
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
}

TEST(Adopt, the_check_after_a_challenge_goes_on) {
    Rig first;
    first.reach(established);
    first.receive(
        first.segment(100, 0, wire::tcp_rst, first.seen));  // in the window, not at rcv_nxt
    first.sent();
    first.advance(100'000);
    Delegated state;
    first.engine.snapshot(first.now, Rig::conn, state);
    EXPECT_EQ(state.ka_delta_ms, 200'000);

    Rig second;
    second.state = state;
    second.reach(established);
    second.advance(199'999);
    EXPECT_TRUE(second.sent().empty());
    second.advance(1);
    ASSERT_EQ(second.sent().size(), 1u) << "a keepalive probe";
    second.ack(0);
    second.advance(10'000'000);
    EXPECT_TRUE(second.sent().empty()) << "the peer lives: the check is over";
}

TEST(Adopt, keepalive_finds_a_dead_peer_out_though_nobody_knows_when_it_was_heard) {
    Rig rig;
    rig.parameters.keep_alive     = true;
    rig.parameters.ka_interval_ms = 1'000;
    rig.parameters.ka_probe_count = 3;
    rig.state.ts_recent_age_ms    = UINT32_MAX;
    rig.state.ka_delta_ms         = 500;
    ASSERT_EQ(rig.adopt(), Engine::Refusal::none);
    uint32_t probes = 0;
    for (int tenths = 0; tenths < 60; ++tenths) {
        rig.advance(100);
        probes += static_cast<uint32_t>(rig.sent().size());
    }
    EXPECT_EQ(probes, 3u);
    EXPECT_EQ(rig.engine.upload_reason(Rig::conn), UploadReason::timeout_expiration);
}

TEST(Adopt, nothing_is_probed_when_another_timer_ends_the_connection_at_the_same_time) {
    Rig rig;
    rig.parameters.keep_alive     = true;
    rig.state.state               = fin_wait_2;
    rig.state.retransmit_delta_ms = 1'000;
    rig.state.ka_delta_ms         = 1'000;
    ASSERT_EQ(rig.adopt(), Engine::Refusal::none);
    rig.sent();
    rig.advance(1'000);
    EXPECT_EQ(rig.engine.state(Rig::conn), closed);
    EXPECT_TRUE(rig.sent().empty());
}

/// What travels with a connection unchanged.
void expect_same(const Delegated& taken, const Delegated& given) {
    EXPECT_EQ(taken.state, given.state);
    EXPECT_EQ(taken.rcv_nxt, given.rcv_nxt);
    EXPECT_EQ(taken.rcv_wnd, given.rcv_wnd);
    EXPECT_EQ(taken.snd_una, given.snd_una);
    EXPECT_EQ(taken.snd_nxt, given.snd_nxt);
    EXPECT_EQ(taken.snd_max, given.snd_max);
    EXPECT_EQ(taken.snd_wnd, given.snd_wnd);
    EXPECT_EQ(taken.max_snd_wnd, given.max_snd_wnd);
    EXPECT_EQ(taken.snd_wl1, given.snd_wl1);
    EXPECT_EQ(taken.cwnd, given.cwnd);
    EXPECT_EQ(taken.ssthresh, given.ssthresh);
    EXPECT_EQ(taken.srtt_us_x8, given.srtt_us_x8);
    EXPECT_EQ(taken.rttvar_us_x4, given.rttvar_us_x4);
    EXPECT_EQ(taken.ts_recent, given.ts_recent);
    EXPECT_EQ(taken.ts_recent_age_ms, given.ts_recent_age_ms);
    EXPECT_EQ(taken.ts_time, given.ts_time);
    EXPECT_EQ(taken.total_rt_ms, given.total_rt_ms);
    EXPECT_EQ(taken.retransmit_count, given.retransmit_count);
    EXPECT_EQ(taken.retransmit_delta_ms, given.retransmit_delta_ms);
}

TEST(Snapshot, R11_gives_back_what_adopt_was_given) {
    Rig rig;
    Delegated given           = Rig::established();
    given.snd_nxt             = Rig::local(2'000);
    given.snd_max             = Rig::local(4'000);
    given.ssthresh            = 7'000;
    given.ts_recent           = 42;
    given.ts_time             = 4'711;
    given.retransmit_count    = 2;
    given.total_rt_ms         = 600;
    given.retransmit_delta_ms = 350;
    given.ts_recent_age_ms    = 90;
    rig.state                 = given;
    rig.reach(established);
    Delegated taken;
    rig.engine.snapshot(rig.now, Rig::conn, taken);
    expect_same(taken, given);
    EXPECT_EQ(taken.ka_delta_ms, -1);
    EXPECT_EQ(taken.recover, given.snd_max) << "a timeout is being repaired";
}

TEST(Snapshot, R32_changes_nothing_and_works_in_every_state) {
    for (const State state :
         {established, fin_wait_1, fin_wait_2, close_wait, closing, last_ack, time_wait, closed}) {
        Rig rig;
        rig.reach(state);
        Delegated first;
        Delegated second;
        rig.engine.snapshot(rig.now, Rig::conn, first);
        rig.engine.snapshot(rig.now, Rig::conn, second);
        EXPECT_EQ(first.state, state);
        EXPECT_EQ(first.snd_max, second.snd_max);
        EXPECT_EQ(first.rcv_nxt, second.rcv_nxt);
    }
}

/// Brings a rig into a state with as much going on as it can have.
void reach_busily(Rig& rig, State state) {
    rig.parameters.timestamps = rig.parameters.keep_alive = true;
    rig.parameters.ka_timeout_ms                          = 50'000;
    const bool peer_first = state == close_wait || state == last_ack;
    rig.reach(state == fin_wait_2 ? fin_wait_2 : peer_first ? close_wait : established);
    if (state != fin_wait_2) {
        rig.post(7'000, state != established && state != close_wait);
        rig.sent();
    }
    if (state == closing) {
        rig.receive(rig.segment(0, 0, wire::tcp_fin, Rig::local(0)));
    }
    rig.peer_has_sent(state == closing || peer_first ? 1 : 0);
    rig.advance(30);
    for (int i = 0; i < 4 && state != fin_wait_2; ++i) {
        rig.ack(1'000);
    }
    rig.advance(13);
    EXPECT_EQ(rig.engine.state(Rig::conn), state);
}

TEST(Snapshot, R11_R12_a_second_engine_says_what_the_first_one_said_in_every_state) {
    for (const State state : {established, fin_wait_1, fin_wait_2, close_wait, closing, last_ack}) {
        SCOPED_TRACE(to_string(state));
        Rig first;
        reach_busily(first, state);
        Delegated given;
        first.engine.snapshot(first.now, Rig::conn, given);
        EXPECT_EQ(given.recovery, state != fin_wait_2);

        Rig second;
        second.parameters = first.parameters;
        second.state      = given;
        ASSERT_EQ(second.adopt(), Engine::Refusal::none);
        Delegated taken;
        second.engine.snapshot(second.now, Rig::conn, taken);
        expect_same(taken, given);
        EXPECT_EQ(taken.dup_ack_count, given.dup_ack_count);
        EXPECT_EQ(taken.backoff, given.backoff);
        EXPECT_EQ(taken.recovery, given.recovery);
        EXPECT_TRUE(taken.recover == given.recover || !given.recovery);
        EXPECT_EQ(taken.ka_probes_unanswered, given.ka_probes_unanswered);
        EXPECT_EQ(taken.ka_delta_ms, given.ka_delta_ms);
    }
}

TEST(Snapshot, queued_fin_that_was_not_sent_is_not_counted) {
    Rig rig;
    rig.reach(established);
    rig.post(20'000, true);
    rig.sent();
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_EQ(state.state, established);
    EXPECT_EQ(state.snd_max, Rig::local(10'000));
}

TEST(Snapshot, timer_that_has_been_due_for_24_days_is_due_at_once) {
    Rig rig;
    rig.reach(established);
    rig.post(100);
    rig.sent();
    while (rig.engine.upload_reason(Rig::conn) == UploadReason::none) {
        rig.now = rig.engine.next_deadline();
        rig.engine.on_time(rig.now);
        rig.sent();
    }
    rig.now = rig.now + (uint64_t{1} << 31) * 1'000;
    Delegated state;
    rig.engine.snapshot(rig.now, Rig::conn, state);
    EXPECT_EQ(state.retransmit_delta_ms, 0);
}

TEST(Forget, index_can_be_adopted_again_while_old_work_is_listed) {
    Rig rig;
    rig.reach(established);
    rig.post(100);
    rig.data(0, 10);
    rig.engine.forget(Rig::conn);
    rig.take_released();
    EXPECT_EQ(rig.notices(), 0);
    ASSERT_EQ(rig.adopt(), Engine::Refusal::none);
    EXPECT_TRUE(rig.sent().empty());
    rig.post(50);
    EXPECT_EQ(rig.sent()[0].payload_bytes, 50u);
}

TEST(AdoptDeathTest, index_in_use_is_a_bug) {
    Rig rig;
    rig.reach(established);
    EXPECT_DEATH((void)rig.engine.adopt(rig.now, Rig::conn, rig.parameters, rig.state),
                 "flag_in_use");
}

}  // namespace flue::tcp::test
