#include <functional>

#include "world.hpp"

// The tables of contract 3.2 to 3.4: what a DISCONNECT does in every state, and what the peer and
// time do to one.

namespace flue::chimney {

using namespace wire;

namespace {

constexpr uint32_t peer_seq    = World::rcv_nxt;
constexpr uint32_t our_seq     = World::snd_nxt;
constexpr uint64_t close_it    = 2;  ///< wr_id of the DISCONNECT that reach() posts
constexpr uint8_t all_states[] = {FLUE_TCP_ESTABLISHED,
                                  FLUE_TCP_CLOSE_WAIT,
                                  FLUE_TCP_FIN_WAIT_1,
                                  FLUE_TCP_FIN_WAIT_2,
                                  FLUE_TCP_CLOSING,
                                  FLUE_TCP_LAST_ACK,
                                  FLUE_TCP_TIME_WAIT,
                                  FLUE_TCP_CLOSED};

bool is_open(uint8_t state) {
    return state == FLUE_TCP_ESTABLISHED || state == FLUE_TCP_CLOSE_WAIT;
}

bool fin_is_unacked(uint8_t state) {
    return state == FLUE_TCP_FIN_WAIT_1 || state == FLUE_TCP_CLOSING || state == FLUE_TCP_LAST_ACK;
}

uint8_t state_of(World& world, flue_conn conn) {
    world.post_and_run(
        World::request(FLUE_OP_QUERY, conn, 99, world.room(sizeof(flue_state), 32 * 1024)));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    return world.region_state(32 * 1024).tcp_state;
}

/// reach brings a connection into a TCP state by a graceful DISCONNECT and the peer's segments.
/// CLOSED: by LAST-ACK.
flue_conn reach(World& world, uint8_t state) {
    const flue_conn conn = world.offload();
    const bool peer_first =
        state == FLUE_TCP_CLOSE_WAIT || state == FLUE_TCP_LAST_ACK || state == FLUE_TCP_CLOSED;
    if (peer_first) {
        world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_fin);
    }
    if (!is_open(state)) {
        world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, close_it));
    }
    if (state == FLUE_TCP_CLOSING) {
        world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_fin);
    }
    if (state == FLUE_TCP_FIN_WAIT_2 || state == FLUE_TCP_TIME_WAIT) {
        world.peer_sends(peer_seq, our_seq + 1, tcp_ack);
    }
    if (state == FLUE_TCP_TIME_WAIT) {
        world.peer_sends(peer_seq, our_seq + 1, tcp_ack | tcp_fin);
    }
    if (state == FLUE_TCP_CLOSED) {
        world.peer_sends(peer_seq + 1, our_seq + 1, tcp_ack);
    }
    world.poll();
    world.take_sent();
    EXPECT_EQ(state_of(world, conn), state);
    return conn;
}

/// end terminates and checks that everything is given back.
void end(World& world, flue_conn conn) {
    world.post_and_run(world.terminate_request(conn, 1000));
    const auto completions = world.poll();
    ASSERT_FALSE(completions.empty());
    EXPECT_EQ(completions.back().wr_id, 1000u);
    EXPECT_EQ(completions.back().status, FLUE_SUCCESS);
    world.expect_nothing_left();
}

}  // namespace

TEST(DisconnectStates, R69_R82_graceful_in_an_open_state_succeeds_with_the_ack_of_its_fin) {
    struct Row {
        uint8_t from;
        uint8_t after_fin;
        uint8_t after_ack;
    };

    for (const Row& row : {Row{FLUE_TCP_ESTABLISHED, FLUE_TCP_FIN_WAIT_1, FLUE_TCP_FIN_WAIT_2},
                           Row{FLUE_TCP_CLOSE_WAIT, FLUE_TCP_LAST_ACK, FLUE_TCP_CLOSED}}) {
        World world;
        const flue_conn conn    = reach(world, row.from);
        const uint32_t peer_nxt = peer_seq + (row.from == FLUE_TCP_CLOSE_WAIT ? 1 : 0);
        world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("bye", 4096)));
        EXPECT_EQ(world.sent_with(tcp_fin), 1u);
        EXPECT_EQ(state_of(world, conn), row.after_fin);
        world.peer_sends(peer_nxt, our_seq + 3, tcp_ack);
        EXPECT_TRUE(world.poll().empty());
        world.peer_sends(peer_nxt, our_seq + 4, tcp_ack);
        const flue_wc wc = world.poll_one();
        EXPECT_EQ(wc.status, FLUE_SUCCESS);
        EXPECT_EQ(wc.bytes, 3u);
        EXPECT_EQ(state_of(world, conn), row.after_ack);
        end(world, conn);
    }
}

TEST(DisconnectStates, R69_when_both_close_at_once_the_peers_fin_does_not_complete_it) {
    World world;
    const flue_conn conn = reach(world, FLUE_TCP_FIN_WAIT_1);
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_fin);
    EXPECT_EQ(world.poll_one().opcode, FLUE_EVENT_DISCONNECT);
    EXPECT_EQ(state_of(world, conn), FLUE_TCP_CLOSING);
    world.peer_sends(peer_seq + 1, our_seq + 1, tcp_ack);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].wr_id, close_it);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_UPLOAD_REQUEST);
    EXPECT_EQ(state_of(world, conn), FLUE_TCP_TIME_WAIT);
    end(world, conn);
}

TEST(DisconnectStates,
     R81_in_close_wait_with_data_not_yet_consumed_it_goes_on_and_the_event_waits) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_psh | tcp_fin, "unread");
    EXPECT_EQ(world.poll_one().opcode, FLUE_EVENT_DATA_AVAILABLE);
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 2));
    EXPECT_EQ(world.sent_with(tcp_fin), 1u);
    world.peer_sends(peer_seq + 7, our_seq + 1, tcp_ack);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 3, world.room(100, 8192)));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].bytes, 6u);
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_DISCONNECT);
    end(world, conn);
}

TEST(DisconnectStates, R40_R79_a_second_graceful_one_is_an_invalid_state_without_effect) {
    for (const uint8_t state : all_states) {
        if (is_open(state)) {
            continue;
        }
        SCOPED_TRACE(int{state});
        World world;
        const flue_conn conn = reach(world, state);
        world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("no", 4096)));
        EXPECT_TRUE(world.take_sent().empty());
        if (fin_is_unacked(state)) {  // it waits its turn behind the first one
            EXPECT_TRUE(world.poll().empty());
            world.peer_sends(
                peer_seq + (state == FLUE_TCP_FIN_WAIT_1 ? 0 : 1), our_seq + 1, tcp_ack);
        }
        bool refused = false;
        for (const flue_wc& wc : world.poll()) {
            if (wc.wr_id == close_it) {
                EXPECT_FALSE(refused);
                EXPECT_EQ(wc.status, FLUE_SUCCESS);
            } else if (wc.wr_id == 3) {
                refused = true;
                EXPECT_EQ(wc.status, FLUE_INVALID_STATE);
                EXPECT_EQ(wc.bytes, 0u);
            }
        }
        EXPECT_TRUE(refused);
        EXPECT_EQ(world.sent_with(tcp_rst), 0u);
        end(world, conn);
    }
}

TEST(DisconnectStates,
     R73_R74_R77_abortive_in_every_state_sends_one_rst_and_aborts_what_is_pending) {
    for (const uint8_t state : all_states) {
        SCOPED_TRACE(int{state});
        World world;
        const flue_conn conn = reach(world, state);
        world.post_and_run(World::abort_request(conn, 3));
        EXPECT_EQ(world.sent_with(tcp_rst), 1u);
        EXPECT_EQ(world.take_sent().size(), 1u);
        const auto completions = world.poll();
        ASSERT_EQ(completions.size(), fin_is_unacked(state) ? 2u : 1u);
        if (fin_is_unacked(state)) {
            EXPECT_EQ(completions[0].wr_id, close_it);
            EXPECT_EQ(completions[0].status, FLUE_REQUEST_ABORTED);
        }
        EXPECT_EQ(completions.back().wr_id, 3u);
        EXPECT_EQ(completions.back().status, FLUE_SUCCESS);
        EXPECT_EQ(state_of(world, conn), FLUE_TCP_CLOSED);
        world.peer_sends(peer_seq, our_seq + 1, tcp_ack | tcp_psh, "late");  // R76
        EXPECT_TRUE(world.take_sent().empty());
        EXPECT_TRUE(world.poll().empty());
        end(world, conn);
    }
}

TEST(DisconnectStates, R77_a_second_abortive_one_succeeds_without_another_rst) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::abort_request(conn, 2));
    world.post_and_run(World::abort_request(conn, 3));
    world.post_and_run(World::abort_request(conn, 4));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 3u);
    for (const flue_wc& wc : completions) {
        EXPECT_EQ(wc.status, FLUE_SUCCESS);
    }
    EXPECT_EQ(world.sent_with(tcp_rst), 1u);
    end(world, conn);
}

TEST(DisconnectStates, R70_R79_graceful_after_an_rst_of_either_side_is_aborted_with_0_bytes) {
    for (const bool by_peer : {false, true}) {
        World world;
        const flue_conn conn = world.offload();
        if (by_peer) {
            world.peer_sends(peer_seq, our_seq, tcp_rst);
        } else {
            world.post_and_run(World::abort_request(conn, 2));
        }
        world.poll();
        world.take_sent();
        world.post(World::request(FLUE_OP_DISCONNECT, conn, 3, world.put("bye", 4096)));
        world.post_and_run(World::request(FLUE_OP_SEND, conn, 4, world.put("more", 8192)));
        const auto completions = world.poll();
        ASSERT_EQ(completions.size(), 2u);
        for (const flue_wc& wc : completions) {
            EXPECT_EQ(wc.status, FLUE_REQUEST_ABORTED);
            EXPECT_EQ(wc.bytes, 0u);
        }
        EXPECT_TRUE(world.take_sent().empty());
        end(world, conn);
    }
}

TEST(DisconnectStates, of_a_held_connection_is_an_invalid_state) {
    World world;
    world.post_and_run(
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(World::state())));
    const flue_conn conn = world.poll_one().conn;
    world.post(World::request(FLUE_OP_DISCONNECT, conn, 2));
    world.post_and_run(World::abort_request(conn, 3));
    for (const flue_wc& wc : world.poll()) {
        EXPECT_EQ(wc.status, FLUE_INVALID_STATE);
    }
    EXPECT_TRUE(world.take_sent().empty());
}

TEST(DisconnectStates, R79_R101_both_kinds_during_a_terminate_complete_with_upload_in_progress) {
    World world;
    const flue_conn conn = world.offload();
    world.hold_items     = true;
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post(world.terminate_request(conn, 3));
    world.post(World::request(FLUE_OP_DISCONNECT, conn, 4));
    world.post_and_run(World::abort_request(conn, 5));
    world.take_sent();
    world.drop_held_items();
    world.run();
    uint32_t in_progress = 0;
    for (const flue_wc& wc : world.poll()) {
        in_progress += wc.status == FLUE_UPLOAD_IN_PROGRESS ? 1 : 0;
    }
    EXPECT_EQ(in_progress, 3u);
    EXPECT_TRUE(world.take_sent().empty());
    world.expect_nothing_left();
}

// ------------------------------------------------------------------------------------------
// What the peer and time do: contract 3.4.  Nothing of it sends an RST.  R78

struct Misfortune {
    const char* name;
    std::function<void(flue_state&)> shape;
    std::function<void(World&)> happen;
    flue_upload_reason reason;
    uint8_t tcp_state;
};

void let_minutes_pass(World& world, uint32_t minutes) {
    for (uint32_t minute = 0; minute < minutes; ++minute) {
        world.now = world.now + 60'000'000;
        world.run();
    }
}

const Misfortune misfortunes[] = {
    {"the peer falls silent",
     [](flue_state&) {},
     [](World& world) { let_minutes_pass(world, 30); },
     FLUE_UPLOAD_TIMEOUT_EXPIRATION,
     FLUE_TCP_ESTABLISHED},
    {"the window stays shut and probes are not answered",
     [](flue_state& block) { block.snd_wnd = 0; },
     [](World& world) { let_minutes_pass(world, 30); },
     FLUE_UPLOAD_TIMEOUT_EXPIRATION,
     FLUE_TCP_ESTABLISHED},
    {"a SYN comes in sequence",
     [](flue_state&) {},
     [](World& world) { world.peer_sends(peer_seq, our_seq, tcp_syn); },
     FLUE_UPLOAD_REQUESTED,
     FLUE_TCP_CLOSED},
    {"urgent data comes",
     [](flue_state&) {},
     [](World& world) { world.peer_sends(peer_seq, our_seq, tcp_ack | tcp_urg, "!"); },
     FLUE_UPLOAD_RECEIVED_URGENT_DATA,
     FLUE_TCP_ESTABLISHED}};

TEST(DisconnectFate,
     R78_R90_R95_a_mandatory_upload_keeps_requests_until_terminate_and_sends_nothing) {
    for (const Misfortune& row : misfortunes) {
        SCOPED_TRACE(row.name);
        World world;
        flue_state block = World::state();
        row.shape(block);
        const flue_conn conn = world.offload(block);
        world.post(World::request(FLUE_OP_RECV, conn, 3, world.room(100, 8192)));
        world.post_and_run(World::request(FLUE_OP_SEND, conn, 4, world.put("sent", 4096)));
        row.happen(world);
        EXPECT_EQ(world.sent_with(tcp_rst), 0u);
        const flue_wc event = world.poll_one();
        EXPECT_EQ(event.opcode, FLUE_EVENT_UPLOAD_REQUEST);
        EXPECT_EQ(event.info, row.reason);

        world.take_sent();
        world.post(World::request(FLUE_OP_DISCONNECT, conn, 5));
        world.post_and_run(World::abort_request(conn, 6));
        let_minutes_pass(world, 3);
        EXPECT_TRUE(world.take_sent().empty());
        EXPECT_TRUE(world.poll().empty());
        world.post_and_run(world.terminate_request(conn, 7));
        const auto completions = world.poll();
        ASSERT_EQ(completions.size(), 5u);
        for (uint32_t i = 0; i < 4; ++i) {
            EXPECT_EQ(completions[i].status, FLUE_UPLOAD_IN_PROGRESS) << completions[i].wr_id;
        }
        EXPECT_EQ(completions[0].wr_id, 4u);
        EXPECT_EQ(completions[4].wr_id, 7u);
        EXPECT_EQ(world.region_state().tcp_state, row.tcp_state);
        world.expect_nothing_left();
    }
}

TEST(DisconnectFate, R70_R78_R90_a_fin_that_is_never_acknowledged_goes_back_with_its_bytes) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 2, world.put("bye", 4096)));
    world.peer_sends(peer_seq, our_seq + 2, tcp_ack);
    let_minutes_pass(world, 30);
    EXPECT_EQ(world.poll_one().info, FLUE_UPLOAD_TIMEOUT_EXPIRATION);
    EXPECT_EQ(world.sent_with(tcp_rst), 0u);
    world.post_and_run(world.terminate_request(conn, 3));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].status, FLUE_UPLOAD_IN_PROGRESS);
    EXPECT_EQ(completions[0].bytes, 2u);
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_FIN_WAIT_1);
    world.expect_nothing_left();
}

TEST(DisconnectFate, R78_R92_fin_wait_2_that_expires_is_closed_without_an_rst) {
    World world;
    const flue_conn conn = reach(world, FLUE_TCP_FIN_WAIT_2);
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 3, world.room(100, 8192)));
    let_minutes_pass(world, 3);
    EXPECT_EQ(world.poll_one().info, FLUE_UPLOAD_TIMEOUT_EXPIRATION);
    EXPECT_TRUE(world.take_sent().empty());
    world.post_and_run(world.terminate_request(conn, 4));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].status, FLUE_UPLOAD_IN_PROGRESS);
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_CLOSED);
    world.expect_nothing_left();
}

TEST(DisconnectFate, R78_keepalive_without_an_answer_closes_without_an_rst) {
    World world;
    flue_state block     = World::state();
    block.cached_flags   = FLUE_CACHED_KEEP_ALIVE;
    block.ka_timeout_ms  = 1000;
    block.ka_interval_ms = 1000;
    block.ka_probe_count = 2;
    const flue_conn conn = world.offload(block);
    for (int second = 0; second < 10; ++second) {
        world.now = world.now + 1'000'000;
        world.run();
    }
    EXPECT_EQ(world.poll_one().info, FLUE_UPLOAD_TIMEOUT_EXPIRATION);
    EXPECT_EQ(world.sent_with(tcp_rst), 0u);
    world.post_and_run(world.terminate_request(conn, 2));
    world.poll();
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_CLOSED);
    world.expect_nothing_left();
}

TEST(DisconnectFate, R78_R93_time_wait_asks_for_the_upload_and_ends_without_an_rst) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 2));
    world.peer_sends(peer_seq, our_seq + 1, tcp_ack | tcp_fin);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 3u);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_DISCONNECT);
    EXPECT_EQ(completions[2].info, FLUE_UPLOAD_REQUESTED);
    let_minutes_pass(world, 2);
    EXPECT_EQ(world.sent_with(tcp_rst), 0u);
    world.post_and_run(world.terminate_request(conn, 3));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_CLOSED);  // after 2MSL
    world.expect_nothing_left();
}

}  // namespace flue::chimney
