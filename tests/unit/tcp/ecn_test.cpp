#include "tcp/support.hpp"

namespace flue::tcp::test {

using enum State;

namespace {

struct Ecn : ::testing::Test {
    Ecn() { rig.parameters.ecn = true; }

    void echo(uint32_t offset) {
        rig.receive(rig.segment(rig.peer_sent, 0, wire::tcp_ece, Rig::local(offset)));
    }

    Drop marked_data(uint32_t offset, uint32_t length, uint32_t flags = 0) {
        Segment s                    = rig.segment(offset, length, flags, rig.seen);
        s.tcp.congestion_experienced = true;
        return rig.receive(s);
    }

    [[nodiscard]] Engine::Info info() const { return rig.engine.info(Rig::conn); }

    Rig rig;
};

}  // namespace

TEST_F(Ecn, new_data_is_capable_and_neither_acks_nor_retransmissions_are) {
    rig.reach(established);
    rig.post(1'000);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(out[0].tcp.ecn_capable);
    rig.advance(rto_ms);
    out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_FALSE(out[0].tcp.ecn_capable) << "RFC 3168 §6.1.5";
    rig.data(0, 10);
    rig.engine.flush_ack(Rig::conn);
    out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_FALSE(out[0].tcp.ecn_capable) << "RFC 3168 §6.1.4";
    rig.consume(10);
}

TEST_F(Ecn, echo_reduces_the_window_once_a_round_trip_and_is_answered) {
    rig.fill_pipe();
    echo(2'000);
    EXPECT_EQ(info().cwnd, 5'000u);
    echo(4'000);
    echo(8'000);
    EXPECT_EQ(rig.engine.counters().congestion_marks, 1u);
    const auto out = rig.sent();
    ASSERT_GE(out.size(), 2u);
    EXPECT_TRUE(has(out[0], wire::tcp_cwr));
    EXPECT_FALSE(has(out[1], wire::tcp_cwr));
    EXPECT_EQ(rig.engine.counters().segments_retransmitted, 0u);
}

TEST_F(Ecn, mark_counts_however_much_was_sent_since_the_last) {
    rig.parameters.mss = 50'000;
    rig.state.cwnd     = 200'000;
    rig.reach(established);
    uint32_t end         = 0;
    const auto send_more = [&](uint32_t flags) {
        rig.post(50'000);
        ASSERT_EQ(rig.sent().size(), 1u);
        end += 50'000;
        rig.receive(rig.segment(0, 0, flags, Rig::local(end)));
        rig.pop_acked();
    };
    send_more(wire::tcp_ece);
    for (uint32_t i = 0; i < 45'000; ++i) {  // more than half of all sequence numbers
        send_more(0);
    }
    send_more(wire::tcp_ece);
    EXPECT_EQ(rig.engine.counters().congestion_marks, 2u);
}

TEST_F(Ecn, mark_is_echoed_until_the_sender_has_heard) {
    rig.reach(established);
    marked_data(0, 10);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_TRUE(has(out[0], wire::tcp_ece));
    rig.data(10, 10);
    rig.engine.flush_ack(Rig::conn);
    EXPECT_TRUE(has(rig.sent()[0], wire::tcp_ece));
    rig.data(20, 10, wire::tcp_cwr);
    rig.engine.flush_ack(Rig::conn);
    EXPECT_FALSE(has(rig.sent()[0], wire::tcp_ece));
    rig.consume(30);
}

TEST_F(Ecn, dctcp_echoes_each_change_of_the_marks) {
    rig.parameters.congestion = CongestionControl::dctcp;
    rig.reach(established);
    rig.data(0, 10);
    EXPECT_FALSE(has(rig.sent()[0], wire::tcp_ece));
    marked_data(10, 10);
    auto out = rig.sent();
    ASSERT_EQ(out.size(), 1u) << "at once.  RFC 8257 §3.2";
    EXPECT_TRUE(has(out[0], wire::tcp_ece));
    rig.data(20, 10);
    out = rig.sent();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_FALSE(has(out[0], wire::tcp_ece));
    rig.consume(30);
}

TEST(EcnOff, marks_and_echoes_mean_nothing_to_who_has_not_negotiated_them) {
    Rig rig;
    rig.reach(established);
    rig.post(20'000);
    for (const TxSegment& tx : rig.sent()) {
        EXPECT_FALSE(tx.tcp.ecn_capable);
    }
    rig.receive(rig.segment(0, 0, wire::tcp_ece, Rig::local(2'000)));
    EXPECT_GE(rig.engine.info(Rig::conn).cwnd, 10'000u);
    Segment s                    = rig.segment(0, 10, 0, rig.seen);
    s.tcp.congestion_experienced = true;
    rig.receive(s);
    rig.engine.flush_ack(Rig::conn);
    for (const TxSegment& tx : rig.sent()) {
        EXPECT_FALSE(has(tx, wire::tcp_ece));
    }
    rig.consume(10);
}

}  // namespace flue::tcp::test
