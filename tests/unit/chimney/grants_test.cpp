#include "world.hpp"

/// What a session may claim, and how much of a worker it may have.
namespace flue::chimney {

using namespace wire;

namespace {

FlowKey key_of(uint16_t remote_port = 80) {
    FlowKey key;
    key.family      = Family::ipv4;
    key.local       = {10, 0, 0, 1};
    key.remote      = {10, 0, 0, 2};
    key.local_port  = 1234;
    key.remote_port = remote_port;
    return key;
}

LocalRange ipv4_range(IpAddress address, uint8_t prefix_bits, uint16_t first, uint16_t last) {
    return {Family::ipv4, address, prefix_bits, first, last};
}

/// A world whose host has to prove what it claims.
class Grants : public testing::Test {
  protected:
    Grants() { share().raw = false; }

    queue::SessionShare& share() { return world.target_queue->share(); }

    uint8_t status_of(uint8_t opcode, uint16_t remote_port = 80) {
        world.post_and_run(
            World::request(opcode,
                           FLUE_NO_CONN,
                           1,
                           world.put_state(World::state(FLUE_TCP_ESTABLISHED, remote_port))));
        last = world.poll_one();
        return last.status;
    }

    uint8_t release(flue_conn conn) {
        world.post_and_run(World::request(FLUE_OP_RELEASE, conn, 9));
        return world.poll_one().status;
    }

    World world;
    flue_wc last{};
};

/// Another host of the same worker.
class Neighbor {
  public:
    explicit Neighbor(World& world) : world_(world) {
        const queue::QueueGeometry geometry{1, 64, 64};
        memory_ = std::move(queue::TargetQueueMemory::create(geometry).value());
        host_   = std::move(
            queue::map_queue_memory(memory_.memory_fd(), geometry, memory_.bytes()).value());
        auto parts       = memory_.parts(0);
        parts.regions    = &world.regions;
        parts.session_id = 8;
        queue            = std::make_unique<queue::TargetQueue>(parts);
        world.chimney().attach(*queue);
    }

    flue_wc ask(flue_wr wr) {
        EXPECT_EQ(host_.submissions(0).enqueue(std::span<const flue_wr>(&wr, 1)), 1u);
        world_.chimney().poll(world_.now, *queue);
        world_.chimney().advance(world_.now);
        flue_wc wc{};
        EXPECT_EQ(host_.completions(0).dequeue(std::span<flue_wc>(&wc, 1)), 1u);
        return wc;
    }

    std::unique_ptr<queue::TargetQueue> queue;

  private:
    World& world_;
    queue::TargetQueueMemory memory_;
    queue::QueueRings host_;
};

}  // namespace

TEST_F(Grants, nobody_claims_what_he_cannot_prove) {
    EXPECT_EQ(status_of(FLUE_OP_HOLD), FLUE_NOT_PERMITTED);
    EXPECT_EQ(status_of(FLUE_OP_OFFLOAD), FLUE_NOT_PERMITTED);
    EXPECT_EQ(share().refusals[FLUE_NOT_PERMITTED].get(), 2u);
    EXPECT_EQ(world.flow_count(), 0u);
    world.expect_nothing_left();
}

TEST_F(Grants, whether_a_tuple_is_in_use_is_not_told_but_its_worker_is) {
    world.claim_answer = Environment::Claim::in_use;
    EXPECT_EQ(status_of(FLUE_OP_HOLD), FLUE_NOT_PERMITTED);
    world.claim_answer = Environment::Claim::not_owner;
    EXPECT_EQ(status_of(FLUE_OP_HOLD), FLUE_NOT_OWNER);
    EXPECT_EQ(last.info, 3u);
}

TEST_F(Grants, R24_granted_tuple_keeps_segments_from_the_grant_to_the_offload) {
    ASSERT_EQ(world.chimney().grant(world.now, share(), key_of()), FLUE_SUCCESS);
    EXPECT_EQ(world.from_peer(World::rcv_nxt, World::snd_nxt, tcp_ack, "early"),
              Chimney::Disposition::hold);
    ASSERT_EQ(status_of(FLUE_OP_HOLD), FLUE_SUCCESS);
    const flue_conn conn = last.conn;
    world.wait_us(3'000'000);  // longer than an unused grant stands
    world.post_and_run(World::request(FLUE_OP_OFFLOAD, conn, 2, world.put_state(World::state())));
    EXPECT_EQ(world.poll().at(0).status, FLUE_SUCCESS);
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 3, world.room(64, 4096)));
    EXPECT_EQ(world.region_text(4096, 5), "early");
}

TEST_F(Grants, a_grant_is_good_for_one_claim) {
    ASSERT_EQ(world.chimney().grant(world.now, share(), key_of()), FLUE_SUCCESS);
    ASSERT_EQ(status_of(FLUE_OP_OFFLOAD), FLUE_SUCCESS);
    world.post_and_run(world.terminate_request(last.conn, 2));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_EQ(status_of(FLUE_OP_OFFLOAD), FLUE_NOT_PERMITTED);
    world.expect_nothing_left();
}

TEST_F(Grants, a_grant_is_for_its_tuple_only) {
    ASSERT_EQ(world.chimney().grant(world.now, share(), key_of(80)), FLUE_SUCCESS);
    EXPECT_EQ(status_of(FLUE_OP_HOLD, 81), FLUE_NOT_PERMITTED);
    EXPECT_EQ(status_of(FLUE_OP_HOLD, 80), FLUE_SUCCESS);
    EXPECT_EQ(release(last.conn), FLUE_SUCCESS);
    world.expect_nothing_left();
}

TEST_F(Grants, another_session_gains_nothing_by_it) {
    Neighbor neighbor(world);
    ASSERT_EQ(world.chimney().grant(world.now, share(), key_of()), FLUE_SUCCESS);
    const flue_wr claim =
        World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(World::state()));
    EXPECT_EQ(neighbor.ask(claim).status, FLUE_TUPLE_IN_USE);
    neighbor.queue->share().raw = false;
    EXPECT_EQ(neighbor.ask(claim).status, FLUE_NOT_PERMITTED);
    EXPECT_EQ(world.chimney().grant(world.now, neighbor.queue->share(), key_of()),
              FLUE_TUPLE_IN_USE);
    EXPECT_EQ(status_of(FLUE_OP_HOLD), FLUE_SUCCESS);
    EXPECT_EQ(neighbor.ask(World::request(FLUE_OP_RELEASE, last.conn, 2)).status,
              FLUE_BAD_CONNECTION);
    EXPECT_EQ(release(last.conn), FLUE_SUCCESS);
    world.chimney().lose(world.now, *neighbor.queue, HostLoss::drain);
    world.chimney().detach(*neighbor.queue);
}

TEST_F(Grants, an_unused_grant_lapses_and_its_segments_go_to_the_kernel) {
    ASSERT_EQ(world.chimney().grant(world.now, share(), key_of()), FLUE_SUCCESS);
    world.from_peer(World::rcv_nxt, World::snd_nxt, tcp_ack, "kept");
    world.wait_us(1'000'000);
    EXPECT_TRUE(world.exceptions.empty());
    world.wait_us(2'000'000);
    EXPECT_EQ(world.exceptions.size(), 1u);
    EXPECT_EQ(status_of(FLUE_OP_HOLD), FLUE_NOT_PERMITTED);
    world.expect_nothing_left();
}

TEST_F(Grants, grants_can_be_withdrawn_one_by_one_and_all_at_once) {
    Chimney& chimney = world.chimney();
    for (uint16_t port = 80; port < 84; ++port) {
        ASSERT_EQ(chimney.grant(world.now, share(), key_of(port)), FLUE_SUCCESS);
    }
    chimney.withdraw(share(), key_of(82));
    chimney.withdraw(share(), key_of(99));  // nothing to withdraw
    EXPECT_EQ(status_of(FLUE_OP_HOLD, 82), FLUE_NOT_PERMITTED);
    EXPECT_EQ(share().held.get(), 3u);
    EXPECT_TRUE(chimney.withdraw_some(share()));
    EXPECT_EQ(share().held.get(), 0u);
    EXPECT_EQ(share().connections.used.get(), 0u);
    world.expect_nothing_left();
}

TEST_F(Grants, a_worker_that_does_not_own_the_flow_grants_nothing) {
    world.claim_answer = Environment::Claim::not_owner;
    EXPECT_EQ(world.chimney().grant(world.now, share(), key_of()), FLUE_TCP_ENTRIES);
    world.expect_nothing_left();
}

TEST_F(Grants, R27_nothing_is_granted_while_the_target_is_paused) {
    world.chimney().set_intake(Intake::paused);
    EXPECT_EQ(world.chimney().grant(world.now, share(), key_of()), FLUE_UPLOAD_IN_PROGRESS);
    world.chimney().set_intake(Intake::open);
    EXPECT_EQ(world.chimney().grant(world.now, share(), key_of()), FLUE_SUCCESS);
}

TEST(ClaimRules, bind_those_who_need_no_proof_too) {
    Options options = World::options();
    options.claim_rules.ranges.push_back(ipv4_range({10, 0, 0, 0}, 24, 2000, 2999));
    World world(256, options);
    flue_state state = World::state();
    world.post_and_run(World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(state)));
    EXPECT_EQ(world.poll_one().status, FLUE_NOT_PERMITTED);
    state.local_port = 2500;
    world.post_and_run(World::request(FLUE_OP_HOLD, FLUE_NO_CONN, 1, world.put_state(state)));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
}

TEST(ClaimRules, a_range_has_a_family_a_prefix_and_ports) {
    const LocalRange range = ipv4_range({10, 9, 128, 0}, 17, 80, 90);
    FlowKey key            = key_of();
    key.local              = {10, 9, 255, 1};
    key.local_port         = 80;
    EXPECT_TRUE(range.contains(key));
    key.local_port = 91;
    EXPECT_FALSE(range.contains(key));
    key.local_port = 90;
    key.local      = {10, 9, 127, 1};
    EXPECT_FALSE(range.contains(key));
    key.local  = {10, 9, 128, 1};
    key.family = Family::ipv6;
    EXPECT_FALSE(range.contains(key));
}

TEST(Refusals, each_is_counted_by_its_status_whatever_was_asked_for) {
    World world;
    const flue_conn conn = world.offload();
    flue_wr tree         = World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, 1);
    tree.object          = FLUE_TREE;
    const flue_sge tiny  = world.room(4, 4096);
    world.post(tree);
    world.post(World::request(FLUE_OP_UPDATE, conn, 2));
    world.post(World::request(FLUE_OP_INVALIDATE, conn, 3, tiny));
    world.post(World::request(FLUE_OP_FORWARD, conn, 4, tiny));
    world.post(World::request(FLUE_OP_QUERY, conn, 5, tiny));
    world.post(World::request(FLUE_OP_RELEASE, conn, 6));
    world.post(World::request(FLUE_OP_RECV, conn, 7, {.mr = 99, .length = 1, .offset = 0}));
    world.post_and_run(World::request(FLUE_OP_RECV, conn, 8));  // carried out
    EXPECT_EQ(world.poll().size(), 8u);
    const auto& counters = world.chimney().counters();
    EXPECT_EQ(counters.refusals[FLUE_BAD_REQUEST], 3u);
    EXPECT_EQ(counters.refusals[FLUE_BAD_LENGTH], 2u);
    EXPECT_EQ(counters.refusals[FLUE_INVALID_STATE], 1u);
    EXPECT_EQ(counters.refusals[FLUE_BAD_REGION], 1u);
    EXPECT_EQ(counters.refused_requests, 7u);
    EXPECT_EQ(world.target_queue->share().refusals[FLUE_BAD_LENGTH].get(), 2u);
}

TEST(Quotas, held_tuples_and_connections_are_bounded_per_session) {
    World world;
    queue::SessionShare& share = world.target_queue->share();
    share.held_max             = 1;
    share.connections.limit    = 2;
    const auto claim           = [&](uint8_t opcode, uint16_t port) {
        world.post_and_run(World::request(
            opcode, FLUE_NO_CONN, 1, world.put_state(World::state(FLUE_TCP_ESTABLISHED, port))));
        return world.poll_one().status;
    };
    EXPECT_EQ(claim(FLUE_OP_HOLD, 80), FLUE_SUCCESS);
    EXPECT_EQ(claim(FLUE_OP_HOLD, 81), FLUE_QUOTA);
    share.held_max = 9;
    EXPECT_EQ(claim(FLUE_OP_OFFLOAD, 81), FLUE_SUCCESS);
    EXPECT_EQ(claim(FLUE_OP_OFFLOAD, 82), FLUE_QUOTA);
    EXPECT_EQ(share.refusals[FLUE_QUOTA].get(), 2u);
    EXPECT_EQ(share.held.get(), 1u);
    EXPECT_EQ(share.connections.used.get(), 2u);
}

TEST(Quotas, requests_beyond_the_share_wait_in_their_ring_until_others_have_completed) {
    World world;
    queue::SessionShare& share = world.target_queue->share();
    const flue_conn conn       = world.offload();
    share.requests.limit       = 3;
    for (uint64_t id = 10; id < 15; ++id) {
        world.post(World::request(FLUE_OP_RECV, conn, id, world.room(8, 4096)));
    }
    world.run();
    EXPECT_EQ(share.requests.used.get(), 3u);
    EXPECT_EQ(world.target_queue->waiting(), 2u);
    EXPECT_GT(share.waits.get(), 0u);
    world.peer_sends(World::rcv_nxt, World::snd_nxt, tcp_ack | tcp_psh, "12345678");
    EXPECT_EQ(world.target_queue->waiting(), 1u);
    EXPECT_EQ(share.requests.used.get(), 3u);
    EXPECT_EQ(world.poll().size(), 1u);
}

TEST(Quotas, a_session_that_takes_all_it_gets_leaves_every_other_its_part) {
    Options options  = World::options();
    options.sessions = 4;
    World world(256, options);
    Neighbor neighbor(world);
    const uint32_t connections = options.tcp.limits.connections;
    uint32_t greedy            = 0;
    for (uint16_t port = 100; port < 100 + connections; ++port) {
        const flue_wr claim =
            World::request(FLUE_OP_HOLD,
                           FLUE_NO_CONN,
                           1,
                           world.put_state(World::state(FLUE_TCP_ESTABLISHED, port)));
        greedy += neighbor.ask(claim).status == FLUE_SUCCESS ? 1u : 0u;
    }
    EXPECT_EQ(greedy, connections / 2 + 1);
    const flue_conn conn = world.offload();
    EXPECT_NE(conn, FLUE_NO_CONN);
}

TEST(Quotas, undelivered_data_of_offloads_leaves_others_something_to_receive_with) {
    World world;
    const flue_conn honest = world.offload();
    uint8_t status         = FLUE_SUCCESS;
    for (uint16_t port = 100; port < 108 && status == FLUE_SUCCESS; ++port) {
        flue_state state            = World::state(FLUE_TCP_ESTABLISHED, port);
        state.receive_backlog_bytes = 80'000;
        state.rcv_wnd_max           = 80'000;
        flue_wr wr   = World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, 1, world.put_state(state));
        wr.sge[1]    = world.room(80'000, 8192);
        wr.sge_count = 2;
        world.post_and_run(wr);
        status = world.poll().at(0).status;
    }
    EXPECT_EQ(status, FLUE_TCP_RCV_BUFFER);
    world.post_and_run(World::request(FLUE_OP_RECV, honest, 2, world.room(64, 4096)));
    world.peer_sends(World::rcv_nxt, World::snd_nxt, tcp_ack | tcp_psh, "still heard");
    EXPECT_EQ(world.poll_one().bytes, 11u);
}

TEST(Quotas, requests_of_a_lost_host_count_until_nothing_of_it_is_left) {
    World world;
    queue::SessionShare& share = world.target_queue->share();
    const flue_conn conn       = world.offload();
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("never acknowledged", 64)));
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    world.run();
    EXPECT_EQ(share.requests.used.get(), 1u);
    world.peer_sends(World::rcv_nxt, World::snd_nxt, tcp_rst);
    ASSERT_TRUE(world.chimney().detachable(*world.target_queue));
    world.chimney().detach(*world.target_queue);
    EXPECT_EQ(share.requests.used.get(), 0u);
    EXPECT_EQ(share.connections.used.get(), 0u);
}

}  // namespace flue::chimney
