#include <algorithm>
#include <iterator>
#include <utility>

#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

namespace {

constexpr uint16_t ethernet_mss = 1460;

/// Ten full segments in flight, more waiting.
void fill_pipe(Rig& rig) {
    rig.parameters.mss = ethernet_mss;
    rig.state.cwnd     = 10 * ethernet_mss;
    rig.fill_pipe();
}

bool too_big(Rig& rig, uint32_t offset, uint16_t mss) {
    const bool heeded = rig.engine.packet_too_big(rig.now, Rig::conn, Rig::local(offset), mss);
    rig.check();
    return heeded;
}

uint16_t mss_of(const Rig& rig) {
    return rig.engine.parameters(Rig::conn).mss;
}

void wait_for_timeouts(Rig& rig, uint64_t count) {
    while (rig.engine.counters().timeouts < count) {
        rig.advance(10);
        rig.sent();
    }
}

/// A path that lets through what is at most `limit` bytes, in order, and a peer behind it that
/// acknowledges all it gets, `in_flight` first.  Returns how many milliseconds it took until
/// `bytes` were acknowledged.
uint64_t carry(Rig& rig, uint32_t bytes, uint32_t limit, std::vector<TxSegment> in_flight = {}) {
    const Instant start = rig.now;
    uint32_t got        = bytes_between(Rig::local(0), rig.engine.snd_una(Rig::conn));
    while (got < bytes && rig.now - start < 60'000'000) {
        const uint32_t before = got;
        std::ranges::copy(rig.sent(), std::back_inserter(in_flight));
        for (const TxSegment& tx : std::exchange(in_flight, {})) {
            const uint32_t offset = bytes_between(Rig::local(0), tx.tcp.seq);
            const bool arrives    = tx.payload_bytes <= limit && offset <= got;
            got                   = arrives ? std::max(got, offset + tx.payload_bytes) : got;
        }
        rig.advance(1);
        if (got > before) {
            rig.ack(got);
        }
    }
    EXPECT_EQ(got, bytes);
    return static_cast<uint64_t>(rig.now - start) / 1000;
}

}  // namespace

TEST(PacketTooBig, what_is_in_flight_goes_again_at_once_in_smaller_segments_and_cwnd_stays) {
    Rig rig;
    fill_pipe(rig);
    EXPECT_TRUE(too_big(rig, 2 * ethernet_mss, 1360));
    const auto out = rig.sent();
    ASSERT_GE(out.size(), 10u);
    uint32_t next = 0;
    for (const TxSegment& tx : out) {
        EXPECT_EQ(tx.tcp.seq, Rig::local(next));
        EXPECT_LE(tx.payload_bytes, 1360u);
        next += tx.payload_bytes;
    }
    EXPECT_GE(next, 10u * ethernet_mss - 1360);
    const Engine::Info info = rig.engine.info(Rig::conn);
    EXPECT_EQ(info.cwnd, 10u * ethernet_mss);
    EXPECT_EQ(info.ssthresh, UINT32_MAX);
    carry(rig, 50'000, 1360, out);
    EXPECT_EQ(rig.engine.counters().timeouts, 0u);
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 0u);
    EXPECT_EQ(rig.engine.counters().too_big_heeded, 1u);
}

TEST(PacketTooBig, of_the_other_segments_in_flight_says_nothing_new) {
    Rig rig;
    fill_pipe(rig);
    EXPECT_TRUE(too_big(rig, 0, 1360));
    EXPECT_FALSE(rig.sent().empty());
    for (uint32_t i = 1; i < 10; ++i) {
        EXPECT_FALSE(too_big(rig, i * ethernet_mss, 1360));
    }
    EXPECT_TRUE(rig.sent().empty());
    EXPECT_EQ(rig.engine.counters().too_big_known, 9u);
    EXPECT_TRUE(too_big(rig, 0, 1000)) << "a narrower link behind the first";
}

TEST(PacketTooBig, forged_one_does_nothing_but_count) {
    Rig rig;
    fill_pipe(rig);
    rig.ack(ethernet_mss);
    rig.sent();
    const uint32_t sent = bytes_between(Rig::local(0), rig.seen);
    EXPECT_FALSE(too_big(rig, 0, 1000)) << "acknowledged";
    EXPECT_FALSE(too_big(rig, sent, 1000)) << "not sent";
    EXPECT_FALSE(too_big(rig, sent + (1U << 31), 1000));
    EXPECT_FALSE(too_big(rig, ethernet_mss, 511)) << "too small for any path";
    EXPECT_FALSE(too_big(rig, ethernet_mss, 1));
    EXPECT_EQ(rig.engine.counters().too_big_refused, 5u);
    EXPECT_EQ(mss_of(rig), ethernet_mss);
    EXPECT_TRUE(rig.sent().empty());
}

TEST(PacketTooBig, ipv6_path_takes_1280_bytes) {
    Rig rig;
    rig.parameters.family = wire::Family::ipv6;
    fill_pipe(rig);
    EXPECT_FALSE(too_big(rig, 0, 1219));
    EXPECT_TRUE(too_big(rig, 0, 1220));
    EXPECT_EQ(rig.engine.parameters(Rig::conn).family, wire::Family::ipv6);
}

TEST(PacketTooBig, what_the_peer_has_reported_does_not_go_again) {
    Rig rig;
    rig.parameters.sack = true;
    fill_pipe(rig);
    Segment report        = rig.segment(0, 0, 0, Rig::local(0));
    report.tcp.sack_count = 1;
    report.tcp.sack[0]    = {Rig::local(9 * ethernet_mss), Rig::local(10 * ethernet_mss)};
    rig.receive(report);
    rig.sent();
    EXPECT_TRUE(too_big(rig, 0, 1360));
    for (const TxSegment& tx : rig.sent()) {
        const uint32_t first = bytes_between(Rig::local(0), tx.tcp.seq);
        EXPECT_TRUE(first + tx.payload_bytes <= 9u * ethernet_mss || first >= 10u * ethernet_mss);
    }
}

TEST(PacketTooBig, ends_a_fast_recovery_with_its_reduction) {
    Rig rig;
    fill_pipe(rig);
    for (int i = 0; i < 3; ++i) {
        rig.ack(0);
    }
    rig.sent();
    ASSERT_TRUE(rig.engine.info(Rig::conn).recovering);
    EXPECT_TRUE(too_big(rig, 0, 1360));
    EXPECT_EQ(rig.engine.info(Rig::conn).cwnd, 5u * ethernet_mss);
    carry(rig, 50'000, 1360);
    EXPECT_EQ(rig.engine.counters().fast_retransmits, 1u);
    EXPECT_EQ(rig.engine.counters().timeouts, 0u);
}

TEST(PacketTooBig, connection_that_stands_still_or_is_closed_ignores_it) {
    Rig stopped;
    fill_pipe(stopped);
    stopped.engine.stop(Rig::conn);
    EXPECT_FALSE(too_big(stopped, 0, 1360));
    Rig aborted;
    fill_pipe(aborted);
    aborted.engine.abort(aborted.now, Rig::conn);
    EXPECT_FALSE(too_big(aborted, 0, 1360));
    EXPECT_TRUE(has_rst(aborted.sent().at(0)));
}

TEST(PacketTooBig, R28_host_replaces_what_was_learned_by_another_mss_not_by_the_same_one) {
    Rig rig;
    fill_pipe(rig);
    EXPECT_TRUE(too_big(rig, 0, 1360));
    const auto told = [&rig](uint16_t mss) {
        rig.parameters.mss = mss;
        rig.engine.update(rig.now, Rig::conn, rig.parameters, 0);
        rig.check();
        return mss_of(rig);
    };
    EXPECT_EQ(told(ethernet_mss), 1360) << "an UPDATE of something else";
    EXPECT_EQ(told(1400), 1400) << "a new route";
    EXPECT_EQ(told(ethernet_mss), ethernet_mss);
}

// ---------------------------------------------------------------- black holes

TEST(BlackHole, second_timeout_of_full_segments_tries_smaller_ones_the_third_the_smallest) {
    Rig rig;
    fill_pipe(rig);
    wait_for_timeouts(rig, 1);
    EXPECT_EQ(mss_of(rig), ethernet_mss);
    wait_for_timeouts(rig, 2);
    EXPECT_EQ(mss_of(rig), 1024);
    wait_for_timeouts(rig, 3);
    EXPECT_EQ(mss_of(rig), 512);
    wait_for_timeouts(rig, 5);
    EXPECT_EQ(mss_of(rig), 512);
    EXPECT_EQ(rig.engine.counters().black_holes, 2u);
}

TEST(BlackHole, of_ipv6_the_smallest_segment_comes_at_once) {
    Rig rig;
    rig.parameters.family = wire::Family::ipv6;
    fill_pipe(rig);
    wait_for_timeouts(rig, 4);
    EXPECT_EQ(mss_of(rig), 1220);
    EXPECT_EQ(rig.engine.counters().black_holes, 1u);
}

TEST(BlackHole, segments_that_any_path_takes_say_nothing_of_their_size) {
    Rig rig;
    rig.parameters.mss = ethernet_mss;
    rig.reach(established);
    rig.post(512);
    rig.sent();
    wait_for_timeouts(rig, 5);
    EXPECT_EQ(mss_of(rig), ethernet_mss);
    EXPECT_EQ(rig.engine.counters().black_holes, 0u);
}

TEST(BlackHole, single_segment_that_is_not_full_is_tried_smaller_than_it_was) {
    for (const uint32_t bytes : {ethernet_mss - 1U, 1'000U, 513U}) {
        Rig rig;
        rig.parameters.mss = ethernet_mss;
        rig.reach(established);
        rig.post(bytes);
        rig.sent();
        wait_for_timeouts(rig, 2);
        EXPECT_EQ(mss_of(rig), bytes > 1024 ? 1024 : 512) << bytes;
        carry(rig, bytes, 512);
        EXPECT_EQ(rig.engine.snd_una(Rig::conn), Rig::local(bytes));
    }
}

TEST(BlackHole, path_that_was_down_for_a_while_has_its_size_back) {
    Rig rig;
    fill_pipe(rig);
    wait_for_timeouts(rig, 4);
    EXPECT_EQ(mss_of(rig), 512);
    carry(rig, 50'000, ethernet_mss);
    EXPECT_EQ(mss_of(rig), ethernet_mss);
    rig.post(50'000);
    rig.sent();
    wait_for_timeouts(rig, rig.engine.counters().timeouts + 2);
    EXPECT_EQ(mss_of(rig), 1024) << "and again, after large segments got through";
    carry(rig, 100'000, ethernet_mss);
    EXPECT_EQ(mss_of(rig), ethernet_mss);
}

TEST(BlackHole, is_crossed_and_stays_known) {
    for (const uint32_t limit : {1400U, 1024U, 600U}) {
        for (const bool sack : {false, true}) {
            Rig rig;
            rig.parameters.sack = sack;
            fill_pipe(rig);
            carry(rig, 50'000, limit);
            EXPECT_EQ(mss_of(rig), limit >= 1024 ? 1024 : 512) << limit;
            const uint64_t timeouts = rig.engine.counters().timeouts;
            rig.post(50'000);
            EXPECT_LT(carry(rig, 100'000, limit), 200u);
            EXPECT_EQ(rig.engine.counters().timeouts, timeouts) << limit;
        }
    }
}

TEST(BlackHole, router_that_speaks_after_all_is_believed) {
    Rig rig;
    fill_pipe(rig);
    wait_for_timeouts(rig, 2);
    EXPECT_TRUE(too_big(rig, 0, 900));
    carry(rig, 50'000, 900);
    EXPECT_EQ(mss_of(rig), 900);
}

}  // namespace flue::tcp::test
