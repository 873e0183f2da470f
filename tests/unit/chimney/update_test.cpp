#include "world.hpp"

namespace flue::chimney {

using namespace wire;

namespace {

flue_wr update_request(World& world, flue_conn conn, uint64_t wr_id, const flue_state& block) {
    return World::request(FLUE_OP_UPDATE, conn, wr_id, world.put_state(block));
}

flue_status update(World& world, flue_conn conn, const flue_state& block) {
    world.post_and_run(update_request(world, conn, 50, block));
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.opcode, FLUE_OP_UPDATE);
    return static_cast<flue_status>(wc.status);
}

flue_status invalidate(World& world, flue_conn conn) {
    world.post_and_run(World::request(FLUE_OP_INVALIDATE, conn, 60));
    const auto all = world.poll();
    EXPECT_FALSE(all.empty());
    return all.empty() ? FLUE_FAILURE : static_cast<flue_status>(all.front().status);
}

flue_state query(World& world, flue_conn conn) {
    world.post_and_run(
        World::request(FLUE_OP_QUERY, conn, 70, world.room(sizeof(flue_state), 4096)));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    return world.region_state(4096);
}

void send(World& world, flue_conn conn, std::string_view text) {
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 80, world.put(text, 65536)));
}

void terminate(World& world, flue_conn conn) {
    world.post_and_run(world.terminate_request(conn, 90));
    const auto all = world.poll();
    ASSERT_FALSE(all.empty());
    EXPECT_EQ(all.back().opcode, FLUE_OP_TERMINATE);
    EXPECT_EQ(all.back().status, FLUE_SUCCESS);
    world.expect_nothing_left();
}

}  // namespace

// ---------------------------------------------------------------- UPDATE

TEST(UpdateRequest, R28_every_cached_field_is_changed_and_no_other) {
    World world;
    const flue_conn conn   = world.offload();
    const flue_state first = query(world, conn);
    flue_state block       = first;
    block.next_hop_mac[5]  = 9;
    block.path_mtu         = 1000;
    block.cached_flags     = FLUE_CACHED_KEEP_ALIVE | FLUE_CACHED_NAGLE;
    block.ttl              = 33;
    block.tos              = 8;
    block.flow_label       = 12345;
    block.rcv_wnd_max      = 50'000;
    block.ka_probe_count   = 3;
    block.ka_timeout_ms    = 10'000;
    block.ka_interval_ms   = 2'000;
    block.max_rt_ms        = 30'000;
    flue_state wanted      = block;
    // Constants and delegated fields are not read.
    block.family      = 0;
    block.remote_port = 1;
    block.const_flags = 0xff;
    block.remote_mss  = 1;
    block.vlan_id     = 99;
    block.source_mac[0] ^= 0x40;
    block.tcp_state = 200;
    block.rcv_nxt += 1;
    block.cwnd = 0;
    EXPECT_EQ(update(world, conn, block), FLUE_SUCCESS);

    flue_state changed = query(world, conn);
    EXPECT_GE(changed.ka_delta_ms, 9'000);
    changed.ka_delta_ms = wanted.ka_delta_ms;
    wanted.checksum = changed.checksum = 0;
    EXPECT_EQ(std::memcmp(&changed, &wanted, sizeof(wanted)), 0);
    terminate(world, conn);
}

TEST(UpdateRequest, R9_frames_after_the_completion_show_it) {
    World world;
    const flue_conn conn  = world.offload();
    flue_state block      = World::state();
    block.next_hop_mac[0] = 0x0a;
    block.ttl             = 7;
    block.tos             = 4;
    block.path_mtu        = 540;
    ASSERT_EQ(update(world, conn, block), FLUE_SUCCESS);
    send(world, conn, std::string(1000, 'x'));
    const auto sent = world.take_sent();
    ASSERT_EQ(sent.size(), 2u);
    EXPECT_EQ(sent[0].payload.size(), 500u);
    EXPECT_EQ(sent[0].flow.next_hop_mac[0], 0x0a);
    EXPECT_EQ(sent[0].flow.ttl, 7);
    EXPECT_EQ(sent[0].flow.tos, 4);
}

TEST(UpdateRequest, R29_the_peer_is_told_of_a_larger_window) {
    World world;
    const flue_conn conn = world.offload();
    flue_state block     = World::state();
    block.rcv_wnd_max    = 128 * 1024;
    block.cached_flags   = FLUE_CACHED_UPDATE_RCV_WND;
    ASSERT_EQ(update(world, conn, block), FLUE_SUCCESS);
    const auto sent = world.take_sent();
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].tcp.window, 128u * 1024 / 128);
    block.rcv_wnd_max = 1024;
    EXPECT_EQ(update(world, conn, block), FLUE_SUCCESS) << "down is legal too";
    EXPECT_EQ(query(world, conn).rcv_wnd, 128u * 1024) << "but never takes a promise back";
    block.rcv_wnd_max = World::options().rcv_wnd_limit + 1;
    EXPECT_EQ(update(world, conn, block), FLUE_TCP_RCV_WINDOW);
}

// ---------------------------------------------------------------- what the path teaches

namespace {

/// A router's word that the segment at `seq` of the connection needs this MTU.
void too_big(World& world, flue_conn conn, uint32_t seq, uint16_t mtu) {
    const auto index = static_cast<ConnIndex>(conn & 0xffffff);
    ASSERT_LT(index, 8u);
    world.chimney().packet_too_big(
        world.now, index, {.key = {}, .seq = Seq{seq}, .next_hop_mtu = mtu});
    world.run();
}

}  // namespace

TEST(PathMtu, R32_what_a_router_says_is_heeded_and_shown_by_query) {
    World world;
    const flue_conn conn = world.offload();
    send(world, conn, std::string(2000, 'x'));
    world.take_sent();
    too_big(world, conn, World::snd_nxt, 540 + 160);
    const auto sent = world.take_sent();
    ASSERT_EQ(sent.size(), 4u);
    EXPECT_EQ(sent[0].tcp.seq, Seq{World::snd_nxt});
    EXPECT_EQ(sent[0].payload.size(), 660u);
    EXPECT_EQ(query(world, conn).path_mtu, 700);
    too_big(world, conn, World::snd_nxt, 0);
    too_big(world, conn, World::snd_nxt, 551);
    too_big(world, conn, World::snd_nxt - 1, 600);
    EXPECT_EQ(query(world, conn).path_mtu, 700);
    EXPECT_EQ(world.chimney().engine().counters().too_big_refused, 3u);
}

TEST(PathMtu, R10_is_not_given_back_by_terminate) {
    World world;
    const flue_conn conn = world.offload();
    send(world, conn, std::string(2000, 'x'));
    too_big(world, conn, World::snd_nxt, 700);
    world.put_state(World::state());
    terminate(world, conn);
    EXPECT_EQ(world.region_state().path_mtu, 1500);
}

TEST(PathMtu, R28_host_that_says_the_same_again_leaves_it_another_word_replaces_it) {
    World world;
    const flue_conn conn = world.offload();
    send(world, conn, std::string(2000, 'x'));
    too_big(world, conn, World::snd_nxt, 700);
    flue_state block = World::state();
    block.ttl        = 9;
    ASSERT_EQ(update(world, conn, block), FLUE_SUCCESS);
    EXPECT_EQ(query(world, conn).path_mtu, 700);
    block.path_mtu = 1400;
    ASSERT_EQ(update(world, conn, block), FLUE_SUCCESS);
    EXPECT_EQ(query(world, conn).path_mtu, 1400);
}

TEST(PathMtu, held_connection_and_record_are_told_in_vain) {
    World world;
    const flue_conn conn = world.offload();
    world.put_state(World::state());
    world.post_and_run(world.terminate_request(conn, 2, FLUE_WR_KEEP_HELD));
    too_big(world, conn, World::snd_nxt, 700);
    world.chimney().packet_too_big(world.now, 8 + 3, {});
    EXPECT_EQ(world.chimney().engine().counters().too_big_refused, 0u);
}

TEST(UpdateRequest, R30_max_rt_restart_zeroes_total_rt) {
    World world;
    const flue_conn conn = world.offload();
    send(world, conn, "lost");
    world.wait_us(800'000);
    ASSERT_GT(query(world, conn).total_rt_ms, 0u);
    flue_state block   = World::state();
    block.cached_flags = FLUE_CACHED_MAX_RT_RESTART;
    ASSERT_EQ(update(world, conn, block), FLUE_SUCCESS);
    EXPECT_EQ(query(world, conn).total_rt_ms, 0u);
}

TEST(UpdateRequest, R31_a_refused_update_changes_nothing) {
    World world;
    const flue_conn conn    = world.offload();
    const flue_state before = query(world, conn);
    const auto refused      = [&](flue_status status, auto change) {
        flue_state block = World::state();
        block.ttl        = 5;
        change(block);
        EXPECT_EQ(update(world, conn, block), status);
        const flue_state after = query(world, conn);
        EXPECT_EQ(std::memcmp(&after, &before, sizeof(after)), 0);
    };
    refused(FLUE_BAD_STATE, [](flue_state& block) { block.version = 1; });
    refused(FLUE_BAD_STATE, [](flue_state& block) { block.size = 4; });
    refused(FLUE_BAD_STATE, [](flue_state& block) { block.ttl = 0; });
    refused(FLUE_BAD_STATE, [](flue_state& block) { block.path_mtu = 67; });
    refused(FLUE_BAD_STATE, [](flue_state& block) { block.rcv_wnd_max = 0; });
    refused(FLUE_BAD_STATE, [](flue_state& block) { block.flow_label = 1 << 20; });
    refused(FLUE_BAD_STATE, [](flue_state& block) { block.cached_flags = 0x20; });
    refused(FLUE_PATH_MTU, [](flue_state& block) { block.path_mtu = World::port_mtu + 1; });
    world.post_and_run(World::request(FLUE_OP_UPDATE, conn, 1));
    EXPECT_EQ(world.poll_one().status, FLUE_BAD_REQUEST);
    world.post_and_run(World::request(FLUE_OP_UPDATE, conn, 1, world.room(8, 0)));
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.status, FLUE_BAD_LENGTH);
    EXPECT_EQ(wc.bytes, sizeof(flue_state));
    world.post_and_run(
        World::request(FLUE_OP_UPDATE, conn, 1, world.room(256, World::region_bytes - 255)));
    EXPECT_EQ(world.poll_one().status, FLUE_BAD_REGION);
    send(world, conn, "goes on");
    EXPECT_EQ(world.take_sent().size(), 1u);
}

TEST(UpdateRequest, of_a_held_or_ending_connection_is_refused) {
    World world;
    world.post_and_run(
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(World::state())));
    const flue_conn conn = world.poll_one().conn;
    EXPECT_EQ(update(world, conn, World::state()), FLUE_INVALID_STATE);
    EXPECT_EQ(invalidate(world, conn), FLUE_INVALID_STATE);
    world.post_and_run(World::request(FLUE_OP_RELEASE, conn, 1));
    world.poll();
    world.expect_nothing_left();
}

// ---------------------------------------------------------------- what the port can do

TEST(Link, R25_unknown_vlan_unknown_address_and_too_large_mtu_are_refused) {
    World world;
    const auto status_of = [&](auto change) {
        flue_state block = World::state();
        change(block);
        world.post_and_run(
            World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, 1, world.put_state(block)));
        return world.poll_one().status;
    };
    EXPECT_EQ(status_of([](flue_state& block) { block.vlan_id = World::port_vlan + 1; }),
              FLUE_VLAN_MISMATCH);
    EXPECT_EQ(status_of([](flue_state& block) { block.source_mac[0] = 6; }),
              FLUE_HW_ADDRESS_ENTRIES);
    EXPECT_EQ(status_of([](flue_state& block) { block.path_mtu = World::port_mtu + 1; }),
              FLUE_PATH_MTU);
    world.expect_nothing_left();
    EXPECT_EQ(status_of([](flue_state& block) {
                  block.vlan_id = World::port_vlan;
                  std::ranges::copy(World::port_mac, block.source_mac);
                  block.path_mtu = World::port_mtu;
              }),
              FLUE_SUCCESS);
}

// ---------------------------------------------------------------- INVALIDATE

TEST(Invalidate, R33_R35_nothing_is_sent_any_more_and_the_upload_is_asked_for) {
    World world;
    const flue_conn conn = world.offload();
    world.port_open      = false;
    send(world, conn, "never sent");
    world.post_and_run(World::request(FLUE_OP_INVALIDATE, conn, 2));
    world.port_open = true;
    world.run();
    const auto all = world.poll();
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].opcode, FLUE_OP_INVALIDATE);
    EXPECT_EQ(all[0].status, FLUE_SUCCESS);
    EXPECT_EQ(all[1].opcode, FLUE_EVENT_UPLOAD_REQUEST);
    EXPECT_EQ(all[1].info, FLUE_UPLOAD_INVALID_STATE);
    EXPECT_EQ(all[1].host_handle, 0xabcdu);
    world.wait_us(2'000'000);
    world.peer_sends(World::rcv_nxt, World::snd_nxt, tcp_ack | tcp_psh, "x");
    EXPECT_TRUE(world.take_sent().empty());
    EXPECT_EQ(invalidate(world, conn), FLUE_SUCCESS) << "once more does no harm";
    EXPECT_TRUE(world.poll().empty()) << "and asks no second time";
    terminate(world, conn);
}

TEST(Invalidate, R34_R98_resources_stay_and_requests_are_answered_until_terminate) {
    World world;
    const flue_conn conn = world.offload();
    world.post(World::request(FLUE_OP_RECV, conn, 1, world.room(64, 4096)));
    send(world, conn, "unacknowledged");
    ASSERT_EQ(invalidate(world, conn), FLUE_SUCCESS);
    EXPECT_EQ(world.chimney().usage().tcp.connections, 1u);
    EXPECT_EQ(query(world, conn).tcp_state, FLUE_TCP_ESTABLISHED);
    EXPECT_EQ(update(world, conn, World::state()), FLUE_UPLOAD_IN_PROGRESS);
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 2, world.room(64, 4096)));
    EXPECT_TRUE(world.poll().empty()) << "in turn, behind the one before it";
    world.post_and_run(World::abort_request(conn, 3));
    world.post_and_run(world.terminate_request(conn, 4));
    const auto all = world.poll();
    ASSERT_EQ(all.size(), 5u);
    for (size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(all[i].status, FLUE_UPLOAD_IN_PROGRESS) << flue_wc(all[i]).wr_id;
    }
    EXPECT_EQ(all[4].status, FLUE_SUCCESS);
    EXPECT_EQ(world.sent_with(tcp_rst), 0u);
    EXPECT_EQ(world.region_state().snd_una, World::snd_nxt);
    world.expect_nothing_left();
}

TEST(Invalidate, after_a_reset_there_is_nothing_to_ask_for) {
    World world;
    const flue_conn conn = world.offload();
    world.port_open      = false;
    world.post_and_run(World::abort_request(conn, 1));
    EXPECT_EQ(invalidate(world, conn), FLUE_SUCCESS);
    world.port_open = true;
    world.run();
    EXPECT_EQ(world.sent_with(tcp_rst), 1u) << "the RST that was asked for before";
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.wr_id, 1u);
    EXPECT_EQ(wc.status, FLUE_SUCCESS);
    terminate(world, conn);
}

TEST(Invalidate, a_passed_drain_deadline_resets_nobody) {
    World world;
    const flue_conn conn = world.offload();
    flue_wr wr           = World::request(FLUE_OP_DISCONNECT, conn, 1, world.put("x", 8192));
    wr.flags             = FLUE_WR_DEADLINE_ABORT;
    wr.drain_ms          = 100;
    world.post_and_run(wr);
    ASSERT_EQ(invalidate(world, conn), FLUE_SUCCESS);
    world.poll();
    world.wait_us(300'000);
    EXPECT_EQ(world.sent_with(tcp_rst), 0u);
    EXPECT_TRUE(world.poll().empty());
    terminate(world, conn);
}

TEST(Invalidate, what_is_invalid_goes_with_its_host) {
    World world;
    const flue_conn conn = world.offload();
    send(world, conn, "x");
    ASSERT_EQ(invalidate(world, conn), FLUE_SUCCESS);
    world.take_sent();
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    world.run();
    EXPECT_TRUE(world.take_sent().empty());
    EXPECT_EQ(world.chimney().usage().tcp.connections, 0u);
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
}

// ---------------------------------------------------------------- QUERY

TEST(Query, R32_in_every_state_and_several_at_once) {
    for (const uint8_t tcp_state : {FLUE_TCP_ESTABLISHED,
                                    FLUE_TCP_FIN_WAIT_1,
                                    FLUE_TCP_FIN_WAIT_2,
                                    FLUE_TCP_CLOSE_WAIT,
                                    FLUE_TCP_CLOSING,
                                    FLUE_TCP_LAST_ACK}) {
        World world;
        flue_state block = World::state(tcp_state);
        if (tcp_state == FLUE_TCP_FIN_WAIT_1 || tcp_state == FLUE_TCP_CLOSING ||
            tcp_state == FLUE_TCP_LAST_ACK) {
            block.snd_nxt = block.snd_max = World::snd_nxt + 1;
        }
        const flue_conn conn = world.offload(block);
        for (uint64_t i = 0; i < 3; ++i) {
            world.post(World::request(
                FLUE_OP_QUERY, conn, i, world.room(sizeof(flue_state), 4096 + 256 * i)));
        }
        world.run();
        const auto all = world.poll();
        ASSERT_EQ(all.size(), 3u);
        for (uint64_t i = 0; i < 3; ++i) {
            EXPECT_EQ(all[i].status, FLUE_SUCCESS);
            EXPECT_EQ(world.region_state(4096 + 256 * i).tcp_state, tcp_state);
        }
    }
}

TEST(Query, R14_what_is_not_known_is_all_ones) {
    World world;
    const flue_conn conn = world.offload();
    EXPECT_NE(query(world, conn).send_backlog_wanted_bytes, 0u);
    EXPECT_EQ(query(world, conn).receive_backlog_bytes, 0u) << "this one is supported";
}

TEST(Query, R32_after_a_reset_too) {
    World world;
    const flue_conn conn = world.offload();
    world.peer_sends(World::rcv_nxt, World::snd_nxt, tcp_rst | tcp_ack);
    world.poll();
    EXPECT_EQ(query(world, conn).tcp_state, FLUE_TCP_CLOSED);
}

}  // namespace flue::chimney
