#include "world.hpp"

namespace flue::chimney {

using namespace wire;

constexpr uint32_t peer_seq = World::rcv_nxt;
constexpr uint32_t our_seq  = World::snd_nxt;

flue_wr hold_request(World& world, uint64_t wr_id, uint16_t remote_port) {
    return World::request(FLUE_OP_HOLD,
                          FLUE_NO_CONN,
                          wr_id,
                          world.put_state(World::state(FLUE_TCP_ESTABLISHED, remote_port),
                                          uint64_t{remote_port} * 1024));
}

flue_wr offload_request(World& world, uint64_t wr_id, uint16_t remote_port) {
    flue_wr wr = hold_request(world, wr_id, remote_port);
    wr.opcode  = FLUE_OP_OFFLOAD;
    return wr;
}

void set_intake(World& world, Intake intake) {
    world.chimney().set_intake(intake);
    world.run();
}

flue_event event_of_one(World& world) {
    const flue_wc wc = world.poll_one();
    EXPECT_EQ(wc.wr_id, 0u);
    EXPECT_EQ(wc.conn, FLUE_NO_CONN);
    return static_cast<flue_event>(wc.opcode);
}

TEST(Pause, R27_initiates_wait_in_order_and_are_carried_out_when_it_ends) {
    World world;
    set_intake(world, Intake::paused);
    EXPECT_EQ(event_of_one(world), FLUE_EVENT_PAUSE);
    world.post(hold_request(world, 1, 80));
    world.post(offload_request(world, 2, 81));
    world.post_and_run(hold_request(world, 3, 80));
    EXPECT_TRUE(world.poll().empty());
    EXPECT_EQ(world.chimney().usage().initiates, 3u);
    EXPECT_EQ(world.flow_count(), 0u);
    set_intake(world, Intake::open);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 4u);
    EXPECT_EQ(completions[0].wr_id, 1u);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[1].wr_id, 2u);
    EXPECT_EQ(completions[1].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[2].wr_id, 3u);
    EXPECT_EQ(completions[2].status, FLUE_TUPLE_IN_USE);
    EXPECT_EQ(completions[3].opcode, FLUE_EVENT_RESUME);
    EXPECT_EQ(world.chimney().usage().initiates, 0u);
}

TEST(Pause, R27_connections_that_are_there_go_on) {
    World world;
    const flue_conn conn = world.offload();
    set_intake(world, Intake::paused);
    world.poll();
    world.post(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 3));
    world.peer_sends(peer_seq, our_seq + 4, tcp_ack);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0].status, FLUE_SUCCESS);
    EXPECT_EQ(completions[1].status, FLUE_SUCCESS);
}

TEST(Pause, a_connection_that_was_held_before_does_not_stand_still) {
    World world;
    world.post_and_run(hold_request(world, 1, 80));
    const flue_conn conn = world.poll_one().conn;
    set_intake(world, Intake::paused);
    world.poll();
    flue_wr offload = offload_request(world, 2, 80);
    offload.conn    = conn;
    world.post_and_run(offload);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
}

TEST(Pause, R27_no_more_wait_than_leave_a_session_half_of_its_part) {
    World world;
    world.chimney().set_intake(Intake::paused);
    const Options options   = World::options();
    const uint32_t part     = options.tcp.limits.send_items / FLUE_SGE_MAX / 2;
    const uint64_t too_many = part / 2 + 1;
    for (uint64_t id = 1; id <= too_many; ++id) {
        world.post_and_run(hold_request(world, id, 80));
    }
    EXPECT_EQ(world.chimney().usage().initiates, too_many - 1);
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[1].wr_id, too_many);
    EXPECT_EQ(completions[1].status, FLUE_RESOURCES);
    world.post_and_run(World::request(FLUE_OP_QUERY, FLUE_NO_CONN, too_many + 1));
    EXPECT_EQ(world.poll_one().status, FLUE_BAD_CONNECTION);
}

TEST(Pause, a_lost_host_takes_what_waits_along) {
    World world;
    world.chimney().set_intake(Intake::paused);
    world.post_and_run(hold_request(world, 1, 80));
    world.chimney().lose(world.now, *world.target_queue, HostLoss::drain);
    world.run();
    set_intake(world, Intake::open);
    EXPECT_EQ(world.chimney().usage().initiates, 0u);
    EXPECT_EQ(world.flow_count(), 0u);
    EXPECT_TRUE(world.chimney().detachable(*world.target_queue));
}

TEST(Pause, is_told_once_and_again_to_a_queue_that_comes_later) {
    World world;
    set_intake(world, Intake::paused);
    EXPECT_EQ(event_of_one(world), FLUE_EVENT_PAUSE);
    set_intake(world, Intake::paused);
    EXPECT_TRUE(world.poll().empty());
    world.chimney().detach(*world.target_queue);
    world.chimney().attach(*world.target_queue);
    world.run();
    EXPECT_EQ(event_of_one(world), FLUE_EVENT_PAUSE);
    set_intake(world, Intake::open);
    EXPECT_EQ(event_of_one(world), FLUE_EVENT_RESUME);
    world.chimney().detach(*world.target_queue);
    world.chimney().attach(*world.target_queue);
    world.run();
    EXPECT_TRUE(world.poll().empty());
}

TEST(Pause, an_event_waits_for_room_and_the_latest_one_counts) {
    World world(8);
    const flue_conn conn = world.offload();
    for (uint64_t id = 2; id < 9; ++id) {
        world.post_and_run(World::request(FLUE_OP_QUERY, conn, id));
    }
    set_intake(world, Intake::paused);
    EXPECT_EQ(world.poll().size(), 7u);
    set_intake(world, Intake::uploading_all);
    EXPECT_EQ(event_of_one(world), FLUE_EVENT_UPLOAD_ALL);
}

TEST(UploadAll, R116_sends_and_initiates_complete_with_upload_in_progress) {
    World world;
    const flue_conn conn = world.offload();
    set_intake(world, Intake::paused);
    world.post_and_run(hold_request(world, 2, 81));
    EXPECT_EQ(event_of_one(world), FLUE_EVENT_PAUSE);
    set_intake(world, Intake::uploading_all);
    world.post(hold_request(world, 3, 82));
    world.post(World::request(FLUE_OP_SEND, conn, 4, world.put("abc", 4096)));
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 5));
    const auto completions = world.poll();
    ASSERT_EQ(completions.size(), 5u);
    EXPECT_EQ(completions[0].wr_id, 2u);
    EXPECT_EQ(completions[0].status, FLUE_UPLOAD_IN_PROGRESS);
    EXPECT_EQ(completions[1].opcode, FLUE_EVENT_UPLOAD_ALL);
    for (uint64_t id = 3; id < 6; ++id) {
        EXPECT_EQ(completions[id - 1].wr_id, id);
        EXPECT_EQ(completions[id - 1].status, FLUE_UPLOAD_IN_PROGRESS);
    }
    EXPECT_EQ(world.sent_with(tcp_fin), 0u);
    world.post_and_run(world.terminate_request(conn, 6));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    world.expect_nothing_left();
}

TEST(UploadAll, R116_what_was_posted_before_goes_on_until_terminate) {
    World world;
    const flue_conn conn = world.offload();
    world.post_and_run(World::request(FLUE_OP_SEND, conn, 2, world.put("abc", 4096)));
    set_intake(world, Intake::uploading_all);
    EXPECT_EQ(event_of_one(world), FLUE_EVENT_UPLOAD_ALL);
    world.peer_sends(peer_seq, our_seq + 3, tcp_ack);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
}

TEST(UploadAll, a_held_connection_goes_back_and_only_resume_opens_again) {
    World world;
    world.post_and_run(hold_request(world, 1, 80));
    const flue_conn conn = world.poll_one().conn;
    set_intake(world, Intake::uploading_all);
    EXPECT_EQ(event_of_one(world), FLUE_EVENT_UPLOAD_ALL);
    flue_wr offload = offload_request(world, 2, 80);
    offload.conn    = conn;
    world.post_and_run(offload);
    EXPECT_EQ(world.poll_one().status, FLUE_UPLOAD_IN_PROGRESS);
    set_intake(world, Intake::paused);
    EXPECT_EQ(world.chimney().intake(), Intake::uploading_all);
    set_intake(world, Intake::open);
    EXPECT_EQ(event_of_one(world), FLUE_EVENT_RESUME);
    world.post_and_run(offload);
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
}

}  // namespace flue::chimney
