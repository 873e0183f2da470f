#include "chimney/advice.hpp"

#include "world.hpp"

namespace flue::chimney {

using namespace wire;

constexpr uint32_t peer_seq = World::rcv_nxt;
constexpr uint32_t our_seq  = World::snd_nxt;
constexpr uint32_t window   = Advisor::window;

Options advising(const AdviceOptions& advice) {
    Options options = World::options();
    options.advice  = advice;
    return options;
}

std::vector<uint16_t> reasons(World& world) {
    std::vector<uint16_t> result;
    for (const flue_wc& wc : world.poll()) {
        if (wc.opcode == FLUE_EVENT_UPLOAD_REQUEST) {
            result.push_back(wc.info);
        }
    }
    return result;
}

void pass(World& world, uint32_t seconds) {
    for (uint32_t i = 0; i < 10 * seconds; ++i) {
        world.now = world.now + 100'000;
        world.run();
    }
}

using Reasons = std::vector<uint16_t>;

/// `count` segments of one byte, every `step`-th behind a gap that the next one fills.
void receive_in_pairs(World& world, uint32_t count) {
    for (uint32_t i = 0; i < count; i += 2) {
        world.from_peer(peer_seq + i + 1, our_seq, tcp_ack, "b");
        world.peer_sends(peer_seq + i, our_seq, tcp_ack, "a");
    }
}

/// A RECV that is never full.
void post_reader(World& world, flue_conn conn) {
    flue_wr wr = World::request(FLUE_OP_RECV, conn, 2, world.room(65536, 256 * 1024));
    wr.flags   = FLUE_WR_NO_PUSH;
    world.post_and_run(wr);
}

void expect_still_alive(World& world, flue_conn conn) {
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 50, world.put("abc", 4096)));
    world.peer_sends(peer_seq, our_seq + 3, tcp_ack);
    bool sent = false;
    for (const flue_wc& wc : world.poll()) {
        sent = sent || (wc.wr_id == 50 && wc.status == FLUE_SUCCESS);
    }
    EXPECT_TRUE(sent);
}

TEST(Advice, R95_low_activity_is_told_once_and_the_connection_goes_on) {
    World world(256, advising({.low_activity_ms = 60'000}));
    const flue_conn conn = world.offload();
    pass(world, 30);
    world.peer_sends(peer_seq, our_seq, tcp_ack);
    pass(world, 40);
    EXPECT_EQ(reasons(world), Reasons{});
    pass(world, 21);
    EXPECT_EQ(reasons(world), Reasons{FLUE_UPLOAD_LOW_ACTIVITY});
    expect_still_alive(world, conn);
    pass(world, 130);
    EXPECT_EQ(reasons(world), Reasons{});
    world.post_and_run(world.terminate_request(conn, 3));
    world.poll();
    world.expect_nothing_left();
}

TEST(Advice, R95_out_of_order_segments_beyond_the_rate) {
    World world(256, advising({.out_of_order = 500}));
    post_reader(world, world.offload());
    receive_in_pairs(world, window - 2);
    EXPECT_EQ(reasons(world), Reasons{});
    receive_in_pairs(world, 2);  // old bytes: not out of order, but they end the window
    EXPECT_EQ(reasons(world), Reasons{});
    World at_rate(256, advising({.out_of_order = 500}));
    post_reader(at_rate, at_rate.offload());
    receive_in_pairs(at_rate, window);
    EXPECT_EQ(reasons(at_rate), Reasons{FLUE_UPLOAD_HIGH_OUT_OF_ORDER});
}

TEST(Advice, R95_no_buffers_posted_so_many_times_in_a_row) {
    World world(256, advising({.no_preposting = 3}));
    const flue_conn conn = world.offload();
    uint32_t seq         = peer_seq;
    const auto unposted  = [&](uint64_t wr_id) {
        world.peer_sends(seq++, our_seq, tcp_ack | tcp_psh, "x");
        world.post_and_run(World::request(FLUE_OP_RECV, conn, wr_id, world.room(1, 8192)));
    };
    unposted(2);
    unposted(3);
    EXPECT_EQ(reasons(world), Reasons{});
    unposted(4);
    EXPECT_EQ(reasons(world), Reasons{FLUE_UPLOAD_NO_BUFFER_PREPOSTING});
}

TEST(Advice, R95_a_recv_that_is_posted_before_the_data_starts_the_count_again) {
    World world(256, advising({.no_preposting = 2}));
    const flue_conn conn = world.offload();
    for (uint32_t i = 0; i < 8; i += 2) {
        world.peer_sends(peer_seq + i, our_seq, tcp_ack | tcp_psh, "x");
        world.post(World::request(FLUE_OP_RECV, conn, 2, world.room(1, 8192)));
        world.post_and_run(World::request(FLUE_OP_RECV, conn, 3, world.room(1, 8192)));
        world.peer_sends(peer_seq + i + 1, our_seq, tcp_ack | tcp_psh, "y");
    }
    EXPECT_EQ(reasons(world), Reasons{});
}

TEST(Advice, R95_small_requests) {
    for (const uint32_t bytes : {10u, 100u}) {
        World world(256, advising({.small_io_bytes = 100}));
        const flue_conn conn = world.offload();
        for (uint32_t i = 0; i < window / 4; ++i) {
            world.post_and_run(
                World::request(FLUE_OP_SEND, conn, 2, world.put(std::string(bytes, 's'), 8192)));
            world.peer_sends(peer_seq, our_seq + bytes * (i + 1), tcp_ack);
        }
        EXPECT_EQ(reasons(world), bytes == 10 ? Reasons{FLUE_UPLOAD_SMALL_IO} : Reasons{});
    }
}

TEST(Advice, R95_segments_sent_again_beyond_the_rate) {
    World world(256, advising({.drop_rate = 800}));
    const flue_conn conn = world.offload();
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("lost", 8192)));
    uint32_t acked = our_seq;
    for (uint32_t i = 0; i < window; ++i) {  // acknowledged just before the limit of retries
        world.now = world.now + 60'000'000;
        world.run();
        if (i % 10 == 9) {
            acked += 4;
            world.peer_sends(peer_seq, acked, tcp_ack);
            world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("lost", 8192)));
        }
    }
    EXPECT_EQ(reasons(world), Reasons{FLUE_UPLOAD_HIGH_DROP_RATE});
}

TEST(Advice, R95_fragments_beyond_the_rate) {
    World world(256, advising({.fragmentation = 1000}));
    world.offload();
    ASSERT_TRUE(world.chimney().wants_fragments());
    for (uint32_t i = 0; i < window; ++i) {
        world.chimney().note_fragment(0);
    }
    world.run();
    EXPECT_EQ(reasons(world), Reasons{FLUE_UPLOAD_HIGH_FRAGMENTATION});
    world.chimney().note_fragment(1);  // of no connection
}

TEST(Advice, R94_half_closed_connections_are_left_alone) {
    for (const uint8_t state : {FLUE_TCP_FIN_WAIT_2, FLUE_TCP_CLOSE_WAIT}) {
        World world(256, advising({.low_activity_ms = 1000}));
        world.offload(World::state(state));
        pass(world, 5);
        EXPECT_EQ(reasons(world), Reasons{});
    }
    World fin_wait_1(256, advising({.low_activity_ms = 1000}));
    const flue_conn conn = fin_wait_1.offload();
    fin_wait_1.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 2));
    pass(fin_wait_1, 5);
    EXPECT_EQ(reasons(fin_wait_1), Reasons{});
}

TEST(Advice, R95_after_a_mandatory_reason_or_an_rst_no_optional_one_is_told) {
    for (const bool reset : {false, true}) {
        World world(256, advising({.low_activity_ms = 1000}));
        world.offload();
        if (reset) {
            world.peer_sends(peer_seq, our_seq, tcp_rst);
        } else {
            world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_urg, "!");
        }
        world.poll();
        pass(world, 5);
        EXPECT_EQ(reasons(world), Reasons{});
    }
}

TEST(Advice, switched_off_nothing_is_told) {
    World world;
    post_reader(world, world.offload());
    EXPECT_FALSE(world.chimney().wants_fragments());
    receive_in_pairs(world, 2 * window);
    pass(world, 5);
    EXPECT_EQ(reasons(world), Reasons{});
}

}  // namespace flue::chimney
