#include "chimney/time_wait.hpp"

#include "world.hpp"

// TIME-WAIT is the host's, or, if OFFLOAD asked for it, a record of the target's.

namespace flue::chimney {

using namespace wire;

constexpr uint32_t peer_seq = World::rcv_nxt;
constexpr uint32_t our_seq  = World::snd_nxt;

namespace {

/// Closes gracefully from our side until TIME_WAIT.
flue_conn time_wait(World& world, uint8_t flags, const flue_state& state = World::state()) {
    const flue_conn conn = world.offload(state, flags);
    world.post_and_run(World::request(FLUE_OP_DISCONNECT, conn, 2));
    world.peer_sends(peer_seq, our_seq + 1, tcp_ack | tcp_fin);
    return conn;
}

/// Leaves a record behind.
void leave_record(World& world, const flue_state& state = World::state()) {
    const flue_conn conn = time_wait(world, FLUE_WR_KEEP_TIME_WAIT, state);
    world.put_state(state);
    world.post_and_run(world.terminate_request(conn, 3));
    world.poll();
    ASSERT_EQ(world.chimney().usage().time_waits, 1u);
}

/// A table with the record of a connection that ended at rcv_nxt 5001 and timestamp 700.
struct Table {
    explicit Table(bool timestamps) : table(4, 60'000'000) {
        tcp::Delegated state;
        state.rcv_nxt   = Seq{5001};
        state.snd_max   = Seq{9001};
        state.ts_recent = 700;
        record          = table.add(now, {.family = Family::ipv4}, state, timestamps).value();
    }

    TimeWaitTable::Action syn(uint32_t seq, bool timestamps, uint32_t ts_val) {
        TcpFields segment;
        segment.seq            = Seq{seq};
        segment.flags          = tcp_syn;
        segment.has_timestamps = timestamps;
        segment.ts_val         = ts_val;
        TcpFields reply;
        return table.on_segment(now, record, segment, reply);
    }

    TimeWaitTable table;
    Instant now{1'000'000'000};
    uint32_t record = 0;
};

}  // namespace

static_assert(sizeof(TimeWaitRecord) == 32);

// ---------------------------------------------------------------- the host's

TEST(TimeWait, R93_belongs_to_the_host_unless_it_asked_otherwise) {
    World world;
    const flue_conn conn   = time_wait(world, 0);
    const auto completions = world.poll();
    const flue_wc asked    = completions.back();
    EXPECT_EQ(asked.opcode, FLUE_EVENT_UPLOAD_REQUEST);
    EXPECT_EQ(asked.info, FLUE_UPLOAD_REQUESTED);
    world.put_state(World::state());
    world.post_and_run(world.terminate_request(conn, 3));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_TIME_WAIT);
    world.expect_nothing_left();
    EXPECT_EQ(world.flow_count(), 0u);
    world.post_and_run(
        World::request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, 4, world.room(sizeof(flue_state), 0)));
    EXPECT_EQ(world.poll_one().status, FLUE_INVALID_STATE) << "R15";
    EXPECT_EQ(world.flow_count(), 0u);
}

TEST(TimeWait, R100_after_2msl_the_state_given_back_is_closed) {
    World world;
    const flue_conn conn = time_wait(world, 0);
    world.poll();
    world.now = world.now + 61'000'000;
    world.run();
    world.post_and_run(world.terminate_request(conn, 3));
    EXPECT_EQ(world.poll_one().status, FLUE_SUCCESS);
    EXPECT_EQ(world.region_state().tcp_state, FLUE_TCP_CLOSED);
    world.expect_nothing_left();
}

// ---------------------------------------------------------------- the target's

TEST(TimeWait, a_record_acknowledges_a_late_fin_and_late_data_and_ends_after_2msl) {
    World world;
    leave_record(world);
    world.expect_nothing_left();
    world.peer_sends(peer_seq, our_seq + 1, tcp_ack | tcp_fin);
    ASSERT_EQ(world.replies.size(), 1u);
    EXPECT_EQ(world.replies[0].ack.value, peer_seq + 1);
    EXPECT_EQ(world.replies[0].seq.value, our_seq + 1);
    EXPECT_EQ(world.replies[0].flags, tcp_ack);
    world.peer_sends(peer_seq - 4, our_seq + 1, tcp_ack | tcp_psh, "late");
    EXPECT_EQ(world.replies.size(), 2u);
    world.peer_sends(peer_seq + 1, our_seq + 1, tcp_ack);
    EXPECT_EQ(world.replies.size(), 2u) << "nothing to acknowledge";
    EXPECT_EQ(world.sent_with(tcp_rst), 0u);
    world.now = world.now + 61'000'000;
    world.run();
    EXPECT_EQ(world.flow_count(), 0u);
    EXPECT_EQ(world.chimney().usage().time_waits, 0u);
}

TEST(TimeWait, a_late_fin_restarts_2msl_and_late_data_does_not) {
    World world;
    leave_record(world);
    world.now = world.now + 59'000'000;
    world.peer_sends(peer_seq - 4, our_seq + 1, tcp_ack | tcp_psh, "late");
    world.peer_sends(peer_seq, our_seq + 1, tcp_ack | tcp_fin);
    world.now = world.now + 59'000'000;
    world.peer_sends(peer_seq - 4, our_seq + 1, tcp_ack | tcp_psh, "late");
    EXPECT_EQ(world.flow_count(), 1u);
    world.now = world.now + 2'000'000;
    world.run();
    EXPECT_EQ(world.flow_count(), 0u);
}

TEST(TimeWait, an_rst_does_not_end_a_record) {
    World world;
    leave_record(world);
    for (uint32_t offset = 0; offset < 3; ++offset) {
        world.peer_sends(peer_seq + offset, our_seq + 1, tcp_rst | tcp_ack);
    }
    EXPECT_EQ(world.flow_count(), 1u) << "RFC 1337";
    EXPECT_TRUE(world.replies.empty());
}

TEST(TimeWait, R88_a_new_syn_goes_to_the_host_and_ends_the_record) {
    World world;
    leave_record(world);
    EXPECT_EQ(world.from_peer(peer_seq + 100'000, 0, tcp_syn), Chimney::Disposition::exception);
    EXPECT_EQ(world.flow_count(), 0u);
    EXPECT_EQ(world.chimney().usage().time_waits, 0u);
}

TEST(TimeWait, R88_rfc_6191_tells_a_new_syn_from_an_old_one) {
    using enum TimeWaitTable::Action;
    const auto answer =
        [](bool had_timestamps, uint32_t seq, bool has_timestamps, uint32_t ts_val) {
            Table table(had_timestamps);
            return table.syn(seq, has_timestamps, ts_val);
        };
    EXPECT_EQ(answer(true, 4000, true, 701), reuse) << "newer, whatever the number";
    EXPECT_EQ(answer(true, 6000, true, 700), reuse);
    EXPECT_EQ(answer(true, 4000, true, 700), acknowledge);
    EXPECT_EQ(answer(true, 6000, true, 699), acknowledge) << "older, whatever the number";
    EXPECT_EQ(answer(true, 6000, false, 0), reuse);
    EXPECT_EQ(answer(true, 5001, false, 0), acknowledge);
    EXPECT_EQ(answer(false, 4000, true, 1), reuse);
    EXPECT_EQ(answer(false, 6000, false, 0), reuse);
    EXPECT_EQ(answer(false, 5001, false, 0), acknowledge);
}

TEST(TimeWait, a_record_goes_on_with_the_timestamps) {
    Table table(true);
    TcpFields fin;
    fin.seq            = Seq{5000};
    fin.flags          = tcp_fin | tcp_ack;
    fin.has_timestamps = true;
    fin.ts_val         = 700;
    TcpFields first;
    TcpFields second;
    EXPECT_EQ(table.table.on_segment(table.now, table.record, fin, first),
              TimeWaitTable::Action::acknowledge);
    EXPECT_EQ(table.table.on_segment(table.now + 5'000, table.record, fin, second),
              TimeWaitTable::Action::acknowledge);
    EXPECT_TRUE(first.has_timestamps);
    EXPECT_EQ(first.ts_ecr, 700u);
    EXPECT_EQ(second.ts_val, first.ts_val + 5);
}

TEST(TimeWait, a_full_table_cuts_the_oldest_record_short_and_counts_it) {
    World world;
    for (uint16_t port = 80; port < 89; ++port) {  // one more than there are records
        world.peer_port      = port;
        const flue_state one = World::state(FLUE_TCP_ESTABLISHED, port);
        const flue_conn conn = time_wait(world, FLUE_WR_KEEP_TIME_WAIT, one);
        world.post_and_run(world.terminate_request(conn, 3));
        world.poll();
        world.now = world.now + 1'000'000;
    }
    EXPECT_EQ(world.chimney().usage().time_waits, 8u);
    EXPECT_EQ(world.chimney().counters().time_waits, 9u);
    EXPECT_EQ(world.chimney().counters().time_waits_cut_short, 1u);
    world.peer_port = 80;
    EXPECT_EQ(world.from_peer(peer_seq, our_seq + 1, tcp_ack | tcp_fin),
              Chimney::Disposition::exception);
    world.peer_port = 88;
    EXPECT_EQ(world.from_peer(peer_seq, our_seq + 1, tcp_ack | tcp_fin),
              Chimney::Disposition::dropped);
    EXPECT_EQ(world.replies.size(), 1u);
}

TEST(TimeWait, a_record_needs_no_hold) {
    World world;
    const flue_conn conn = time_wait(world, FLUE_WR_KEEP_TIME_WAIT);
    world.post_and_run(world.terminate_request(conn, 3, FLUE_WR_KEEP_HELD));
    EXPECT_EQ(world.poll().back().status, FLUE_SUCCESS);
    EXPECT_EQ(world.chimney().usage().time_waits, 1u);
    world.post_and_run(World::request(FLUE_OP_RELEASE, conn, 4));
    EXPECT_EQ(world.poll_one().status, FLUE_BAD_CONNECTION);
    world.expect_nothing_left();
}

}  // namespace flue::chimney
