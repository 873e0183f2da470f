#include "world.hpp"

namespace flue::chimney {

using namespace wire;

TEST(Initiate, R15_every_synchronized_state_is_accepted_and_no_other) {
    for (uint8_t tcp_state = 0; tcp_state < 16; ++tcp_state) {
        World world;
        flue_state block = World::state(tcp_state);
        if (tcp_state == FLUE_TCP_FIN_WAIT_1 || tcp_state == FLUE_TCP_CLOSING ||
            tcp_state == FLUE_TCP_LAST_ACK) {
            block.snd_nxt = block.snd_max = World::snd_nxt + 1;  // the FIN
        }
        world.post_and_run(
            World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, 1, world.put_state(block)));
        const flue_wc wc   = world.poll().at(0);
        const bool allowed = tcp_state >= FLUE_TCP_ESTABLISHED && tcp_state <= FLUE_TCP_LAST_ACK;
        EXPECT_EQ(wc.status, allowed ? FLUE_SUCCESS : FLUE_INVALID_STATE) << int{tcp_state};
        EXPECT_EQ(world.flow_count(), allowed ? 1u : 0u);
    }
}

TEST(Initiate, R7_completions_and_events_carry_the_hosts_handle) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(World::rcv_nxt, World::snd_nxt, tcp_ack | tcp_psh, "x");
    const flue_wc event = world.poll_one();
    EXPECT_EQ(event.opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(event.host_handle, 0xabcdu);
    EXPECT_EQ(event.conn, conn);
    EXPECT_EQ(event.bytes, 1u);
}

TEST(Initiate, hold_keeps_segments_and_offload_replays_them_in_order_R24) {
    World world;
    world.post_and_run(
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(World::state())));
    const flue_wc held = world.poll_one();
    ASSERT_EQ(held.status, FLUE_SUCCESS);
    EXPECT_EQ(world.from_peer(World::rcv_nxt, World::snd_nxt, tcp_ack, "hello "),
              Chimney::Disposition::hold);
    EXPECT_EQ(world.from_peer(World::rcv_nxt + 6, World::snd_nxt, tcp_ack | tcp_psh, "world"),
              Chimney::Disposition::hold);

    flue_wr offload =
        World::request(FLUE_OP_OFFLOAD, held.conn, 2, world.put_state(World::state()));
    world.post(offload);
    world.post_and_run(World::request(FLUE_OP_RECV, held.conn, 3, world.room(64, 4096)));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].wr_id, 2u);
    EXPECT_EQ(completions[1].wr_id, 3u);
    EXPECT_EQ(completions[1].bytes, 11u);
    EXPECT_EQ(world.region_text(4096, 11), "hello world");
}

TEST(Initiate, release_of_a_hold_sends_what_was_kept_down_the_exception_path) {
    World world;
    world.post_and_run(
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(World::state())));
    const flue_conn conn = world.poll_one().conn;
    world.from_peer(World::rcv_nxt, World::snd_nxt, tcp_ack, "kept");
    world.post_and_run(World::request(FLUE_OP_RELEASE, conn, 2));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_EQ(world.exceptions.size(), 1u);
    world.expect_nothing_left();
    world.post_and_run(World::request(FLUE_OP_RELEASE, conn, 3));
    EXPECT_EQ(world.poll_one().status, FLUE_BAD_CONNECTION);
}

TEST(Initiate, R19_undelivered_data_reaches_the_host_before_newer_data) {
    World world;
    flue_state block            = World::state();
    block.receive_backlog_bytes = 3000;
    std::string backlog(3000, 'a');
    flue_wr wr   = World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, 1, world.put_state(block));
    wr.sge[1]    = world.put(backlog, 8192);
    wr.sge_count = 2;
    world.post_and_run(wr);
    const auto first = world.poll();
    ASSERT_EQ(first.size(), 2u);
    EXPECT_EQ(first[0].status, FLUE_SUCCESS);
    EXPECT_EQ(first[1].opcode, FLUE_EVENT_DATA_AVAILABLE);
    EXPECT_EQ(first[1].bytes, 3000u);
    world.peer_sends(World::rcv_nxt, World::snd_nxt, tcp_ack | tcp_psh, "newer");
    world.post_and_run(World::request(FLUE_OP_RECV, first[0].conn, 2, world.room(3005, 16384)));
    EXPECT_EQ(world.poll_one().bytes, 3005u);
    EXPECT_EQ(world.region_text(16384, 3005), backlog + "newer");
}

TEST(Initiate, R18_no_memory_for_undelivered_data_refuses_and_leaves_the_hold) {
    World world;
    world.post_and_run(
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(World::state())));
    const flue_conn conn        = world.poll_one().conn;
    flue_state block            = World::state();
    block.receive_backlog_bytes = 5000;
    flue_wr wr                  = World::request(FLUE_OP_OFFLOAD, conn, 2, world.put_state(block));
    wr.sge[1]                   = world.room(5000, 8192);
    wr.sge_count                = 2;
    world.payloads_max          = 1;
    world.post_and_run(wr);
    EXPECT_EQ(world.poll_one().status, FLUE_TCP_RCV_BUFFER);
    EXPECT_EQ(world.chimney().usage().held, 1u);
    world.payloads_max = SIZE_MAX;
    world.post_and_run(wr);
    EXPECT_EQ(world.poll().at(0).status, FLUE_SUCCESS);
}

TEST(Initiate, R26_a_receive_window_above_the_limit_is_refused) {
    World world;
    flue_state block  = World::state();
    block.rcv_wnd_max = World::options().rcv_wnd_limit + 1;
    world.post_and_run(World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, 1, world.put_state(block)));
    EXPECT_EQ(world.poll_one().status, FLUE_TCP_RCV_WINDOW);
}

TEST(Initiate, a_tuple_is_claimed_once_and_the_owner_is_named) {
    World world;
    world.offload();
    world.post_and_run(
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 2, world.put_state(World::state())));
    EXPECT_EQ(world.poll_one().status, FLUE_TUPLE_IN_USE);
    world.claim_answer = Environment::Claim::not_owner;
    world.post_and_run(World::request(
        FLUE_OP_HOLD, FLUE_NO_CONN, 3, world.put_state(World::state(FLUE_TCP_ESTABLISHED, 81))));
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.status, FLUE_NOT_OWNER);
    EXPECT_EQ(wc.info, 3u);
}

TEST(Initiate, slots_run_out_with_a_status_of_their_own) {
    World world;
    for (uint16_t port = 0; port < 9; ++port) {
        world.post_and_run(
            World::request(FLUE_OP_HOLD,
                           FLUE_NO_CONN,
                           port,
                           world.put_state(World::state(FLUE_TCP_ESTABLISHED, port))));
        EXPECT_EQ(world.poll_one().status, port < 8 ? FLUE_SUCCESS : FLUE_TCP_ENTRIES);
    }
}

TEST(Initiate, a_damaged_state_block_is_refused_whatever_bit_is_wrong) {
    World world;
    flue_sge sge           = world.put_state(World::state());
    const flue_state valid = world.region_state();
    for (uint32_t bit = 0; bit < sizeof(flue_state) * 8; ++bit) {
        flue_state damaged = valid;
        auto* bytes        = reinterpret_cast<uint8_t*>(&damaged);
        bytes[bit / 8]     = static_cast<uint8_t>(bytes[bit / 8] ^ (1u << (bit % 8)));
        world.put(std::as_bytes(std::span(&damaged, 1)), 0);
        world.post_and_run(World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, bit, sge));
        EXPECT_EQ(world.poll_one().status, FLUE_BAD_STATE) << bit;
    }
    world.expect_nothing_left();
}

TEST(Initiate, bad_regions_lengths_and_opcodes_each_have_a_status) {
    World world;
    const flue_conn conn = world.offload();
    const auto status_of = [&](const flue_wr& wr) {
        world.post_and_run(wr);
        return world.poll_one().status;
    };
    flue_sge beyond = world.room(sizeof(flue_state), World::region_bytes - 8);
    EXPECT_EQ(status_of(World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 2, beyond)), FLUE_BAD_REGION);
    EXPECT_EQ(status_of(World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 3, world.room(8, 0))),
              FLUE_BAD_LENGTH);
    EXPECT_EQ(status_of(World::request(99, conn, 4)), FLUE_BAD_OPCODE);
    EXPECT_EQ(status_of(World::request(FLUE_OP_SEND, conn + (1 << 24), 5)), FLUE_BAD_CONNECTION);
    EXPECT_EQ(status_of(World::request(FLUE_OP_SEND, conn + 1, 6)), FLUE_BAD_CONNECTION);
    flue_wr reserved = World::request(FLUE_OP_QUERY, conn, 7, world.room(sizeof(flue_state), 0));
    reserved.object  = FLUE_TREE + 1;
    EXPECT_EQ(status_of(reserved), FLUE_BAD_REQUEST);
    flue_wr too_many   = World::request(FLUE_OP_SEND, conn, 8);
    too_many.sge_count = 3;
    EXPECT_EQ(status_of(too_many), FLUE_BAD_REQUEST);
}

TEST(Query, R32_returns_constant_cached_and_delegated_state) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(
        World::request(FLUE_OP_QUERY, conn, 2, world.room(sizeof(flue_state), 4096)));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    const flue_state given = World::state();
    const flue_state got   = world.region_state(4096);
    EXPECT_EQ(got.tcp_state, FLUE_TCP_ESTABLISHED);
    EXPECT_EQ(got.rcv_nxt, given.rcv_nxt);
    EXPECT_EQ(got.snd_una, given.snd_una);
    EXPECT_EQ(got.remote_mss, given.remote_mss);
    EXPECT_EQ(got.path_mtu, given.path_mtu);
    EXPECT_EQ(got.rcv_wnd_max, given.rcv_wnd_max);
    EXPECT_EQ(got.snd_wind_shift, given.snd_wind_shift);
    EXPECT_EQ(got.srtt_us_x8, given.srtt_us_x8);
    EXPECT_EQ(got.local_port, given.local_port);
}

}  // namespace flue::chimney
