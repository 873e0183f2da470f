#include "drains.hpp"

#include <gtest/gtest.h>
#include <initializer_list>

namespace flue {

namespace {

constexpr flue_conn conn         = (uint64_t{1} << 56) | 77;  ///< of worker 1
constexpr uint32_t scratch_bytes = 1000;

class DrainsTest : public testing::Test {
  protected:
    uint64_t start(const Drains::Terms& terms = {},
                   bool peer_fin              = false,
                   bool disconnect_posted     = false) {
        const uint64_t handle = drains_.reserve();
        drains_.start(handle,
                      terms,
                      {.conn              = conn,
                       .memory            = {.key = 5, .offset = 640, .bytes = 300},
                       .peer_fin          = peer_fin,
                       .disconnect_posted = disconnect_posted});
        return handle;
    }

    /// The requests that were to be posted since the last call.
    std::vector<flue_wr> posted() {
        std::vector<flue_wr> requests(drains_.outbox().begin(), drains_.outbox().end());
        drains_.outbox().clear();
        return requests;
    }

    std::vector<int> opcodes() {
        std::vector<int> opcodes;
        for (const flue_wr& wr : posted()) {
            opcodes.push_back(wr.opcode);
        }
        return opcodes;
    }

    void complete(uint64_t handle,
                  uint8_t opcode,
                  uint8_t status = FLUE_SUCCESS,
                  uint32_t bytes = 0,
                  uint16_t info  = 0,
                  uint64_t wr_id = 0) {
        drains_.on_completion(now_ms_,
                              {.wr_id       = wr_id,
                               .conn        = conn,
                               .host_handle = handle,
                               .bytes       = bytes,
                               .opcode      = opcode,
                               .status      = status,
                               .info        = info});
    }

    /// The abort has been posted: the target carries it out.
    void complete_abort(uint64_t handle, uint64_t wr_id) {
        complete(handle, FLUE_OP_DISCONNECT, FLUE_REQUEST_ABORTED);
        complete(handle, FLUE_OP_DISCONNECT, FLUE_SUCCESS, 0, 0, wr_id);
    }

    void expect_ends_as(uint64_t handle, DrainCount outcome) {
        EXPECT_EQ(opcodes(), std::vector<int>{FLUE_OP_TERMINATE});
        complete(handle, FLUE_OP_TERMINATE);
        EXPECT_EQ(counters_.get(outcome), 1u);
        EXPECT_EQ(drains_.take_ended().size(), 1u);
        EXPECT_EQ(drains_.count(), 0u);
        EXPECT_FALSE(drains_.next_deadline_ms());
    }

    int64_t now_ms_ = 1000;
    DrainCounters counters_;
    Drains drains_{2, {.mr = 9, .bytes = scratch_bytes}, counters_};
};

using List = std::vector<int>;

}  // namespace

TEST_F(DrainsTest, our_fin_first_then_the_peers) {
    const uint64_t handle = start();
    EXPECT_EQ(opcodes(), List{FLUE_OP_DISCONNECT});
    complete(handle, FLUE_OP_SEND);
    complete(handle, FLUE_OP_DISCONNECT);
    EXPECT_EQ(opcodes(), List{});
    complete(handle, FLUE_EVENT_DISCONNECT);
    expect_ends_as(handle, DrainCount::completed);
}

TEST_F(DrainsTest, the_peers_fin_first_then_ours) {
    const uint64_t handle = start({}, true);
    EXPECT_EQ(opcodes(), List{FLUE_OP_DISCONNECT});
    complete(handle, FLUE_OP_DISCONNECT);
    expect_ends_as(handle, DrainCount::completed);
}

TEST_F(DrainsTest, a_fin_that_the_kernel_had_sent_is_not_posted_again) {
    const uint64_t handle = start({}, true, true);
    EXPECT_EQ(opcodes(), List{});
    complete(handle, FLUE_OP_DISCONNECT);
    expect_ends_as(handle, DrainCount::completed);
}

TEST_F(DrainsTest, a_refused_disconnect_says_that_an_earlier_fin_is_acknowledged) {
    const uint64_t handle = start({}, true);
    EXPECT_EQ(opcodes(), List{FLUE_OP_DISCONNECT});
    complete(handle, FLUE_OP_DISCONNECT, FLUE_INVALID_STATE);
    expect_ends_as(handle, DrainCount::completed);
}

TEST_F(DrainsTest, terminate_names_the_state_block_and_the_workers_scratch) {
    const uint64_t handle = start({}, true, true);
    complete(handle, FLUE_OP_DISCONNECT);
    const auto requests = posted();
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].conn, conn);
    EXPECT_EQ(requests[0].sge[0].mr, 5u);
    EXPECT_EQ(requests[0].sge[0].offset, 640u);
    EXPECT_EQ(requests[0].sge[0].length, sizeof(flue_state));
    EXPECT_EQ(requests[0].sge[1].mr, 9u);
    EXPECT_EQ(requests[0].sge[1].offset, scratch_bytes);
    EXPECT_EQ(requests[0].sge[1].length, scratch_bytes);
}

TEST_F(DrainsTest, received_data_is_taken_in_pieces_of_the_scratch) {
    const uint64_t handle = start({}, false, true);
    complete(handle, FLUE_EVENT_DATA_AVAILABLE, FLUE_SUCCESS, 400);
    complete(handle, FLUE_EVENT_DATA_AVAILABLE, FLUE_SUCCESS, 4000);
    const auto requests = posted();
    ASSERT_EQ(requests.size(), 2u);
    EXPECT_EQ(requests[0].opcode, FLUE_OP_RECV);
    EXPECT_EQ(requests[0].sge[0].length, 400u);
    EXPECT_EQ(requests[1].sge[0].length, scratch_bytes);
    complete(handle, FLUE_OP_RECV, FLUE_SUCCESS, 400);
    EXPECT_EQ(counters_.get(DrainCount::bytes_thrown_away), 400u);
}

TEST_F(DrainsTest, more_received_data_than_scratch_does_not_keep_it_from_ending) {
    const uint64_t handle = start({}, true, true);
    complete(handle, FLUE_OP_DISCONNECT);
    EXPECT_EQ(opcodes(), List{FLUE_OP_TERMINATE});
    complete(handle, FLUE_OP_TERMINATE, FLUE_BAD_LENGTH, 1700);
    EXPECT_EQ(opcodes(), (List{FLUE_OP_RECV, FLUE_OP_TERMINATE}));
    complete(handle, FLUE_OP_RECV, FLUE_SUCCESS, scratch_bytes);
    complete(handle, FLUE_OP_TERMINATE);
    EXPECT_EQ(counters_.get(DrainCount::completed), 1u);
}

TEST_F(DrainsTest, R73_R77_a_deadline_aborts_and_waits_for_the_rst_to_be_out) {
    const uint64_t handle = start({.deadline_ms = 2000, .abort_at_deadline = true});
    (void)posted();
    EXPECT_EQ(drains_.next_deadline_ms(), 2000);
    drains_.on_time(1999);
    EXPECT_EQ(opcodes(), List{});
    drains_.on_time(2000);
    const auto requests = posted();
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].opcode, FLUE_OP_DISCONNECT);
    EXPECT_EQ(requests[0].flags, FLUE_WR_ABORT);
    complete(handle, FLUE_OP_DISCONNECT, FLUE_REQUEST_ABORTED);
    EXPECT_EQ(opcodes(), List{});
    complete(handle, FLUE_OP_DISCONNECT, FLUE_SUCCESS, 0, 0, requests[0].wr_id);
    expect_ends_as(handle, DrainCount::aborted_by_deadline);
}

TEST_F(DrainsTest, a_deadline_without_abort_is_counted_once) {
    const uint64_t handle = start({.deadline_ms = 2000});
    (void)posted();
    drains_.on_time(2000);
    drains_.on_time(9000);
    EXPECT_EQ(opcodes(), List{});
    EXPECT_EQ(counters_.get(DrainCount::late), 1u);
    complete(handle, FLUE_OP_DISCONNECT);
    complete(handle, FLUE_EVENT_DISCONNECT);
    expect_ends_as(handle, DrainCount::completed);
}

TEST_F(DrainsTest, a_peer_that_never_closes_is_left_after_a_minute) {
    const uint64_t handle = start({.deadline_ms = 2000, .abort_at_deadline = true});
    (void)posted();
    complete(handle, FLUE_OP_DISCONNECT);
    drains_.on_time(2000);  // everything is acknowledged: the deadline was met
    EXPECT_EQ(opcodes(), List{});
    drains_.on_time(now_ms_ + 60'000);
    expect_ends_as(handle, DrainCount::completed);
}

TEST_F(DrainsTest, a_reset_ends_it) {
    const uint64_t handle = start({.deadline_ms = 2000});
    (void)posted();
    complete(handle, FLUE_EVENT_ABORT);
    complete(handle, FLUE_OP_DISCONNECT, FLUE_REQUEST_ABORTED);
    expect_ends_as(handle, DrainCount::reset_by_peer);
}

TEST_F(DrainsTest, a_silent_peer_is_given_up_with_the_target) {
    const uint64_t handle = start();
    (void)posted();
    complete(handle, FLUE_EVENT_UPLOAD_REQUEST, FLUE_SUCCESS, 0, FLUE_UPLOAD_TIMEOUT_EXPIRATION);
    expect_ends_as(handle, DrainCount::given_up);
}

TEST_F(DrainsTest, time_wait_is_the_targets_and_the_drain_complete) {
    const uint64_t handle = start();
    (void)posted();
    complete(handle, FLUE_OP_DISCONNECT);
    complete(handle, FLUE_EVENT_UPLOAD_REQUEST, FLUE_SUCCESS, 0, FLUE_UPLOAD_REQUESTED);
    complete(handle, FLUE_EVENT_DISCONNECT);
    expect_ends_as(handle, DrainCount::completed);
}

TEST_F(DrainsTest, advice_to_upload_is_not_followed) {
    const uint64_t handle = start();
    (void)posted();
    complete(handle, FLUE_EVENT_UPLOAD_REQUEST, FLUE_SUCCESS, 0, FLUE_UPLOAD_LOW_ACTIVITY);
    EXPECT_EQ(opcodes(), List{});
}

TEST_F(DrainsTest, bytes_that_the_target_did_not_take_are_no_reason_for_a_fin) {
    const uint64_t handle = start();
    (void)posted();
    complete(handle, FLUE_OP_SEND, FLUE_RESOURCES);
    const auto requests = posted();
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].flags, FLUE_WR_ABORT);
    complete(handle, FLUE_OP_DISCONNECT, FLUE_INVALID_STATE);
    complete_abort(handle, requests[0].wr_id);
    expect_ends_as(handle, DrainCount::aborted_by_mistake);
}

TEST_F(DrainsTest, at_the_end_what_is_acknowledged_is_left_and_the_rest_reset) {
    const uint64_t drained = start({}, false, true);
    const uint64_t full    = start({}, false, true);
    complete(drained, FLUE_OP_DISCONNECT);
    drains_.abort_all();
    drains_.abort_all();
    const auto requests = posted();
    ASSERT_EQ(requests.size(), 2u);
    EXPECT_EQ(requests[0].opcode, FLUE_OP_TERMINATE);
    EXPECT_EQ(requests[0].host_handle, drained);
    EXPECT_EQ(requests[1].flags, FLUE_WR_ABORT);
    complete(drained, FLUE_OP_TERMINATE);
    complete_abort(full, requests[1].wr_id);
    EXPECT_EQ(opcodes(), List{FLUE_OP_TERMINATE});
    complete(full, FLUE_OP_TERMINATE);
    EXPECT_EQ(counters_.get(DrainCount::completed), 1u);
    EXPECT_EQ(counters_.get(DrainCount::aborted_at_end), 1u);
}

TEST_F(DrainsTest, completions_of_a_drain_that_is_over_touch_no_other) {
    const uint64_t first = start({}, true, true);
    complete(first, FLUE_OP_DISCONNECT);
    complete(first, FLUE_OP_TERMINATE);
    (void)posted();
    const uint64_t second = start();
    EXPECT_NE(second, first);
    (void)posted();
    complete(first, FLUE_EVENT_ABORT);
    complete(first, FLUE_EVENT_DATA_AVAILABLE, FLUE_SUCCESS, 10);
    EXPECT_EQ(opcodes(), List{});
    EXPECT_EQ(drains_.count(), 1u);
}

TEST_F(DrainsTest, what_was_only_reserved_is_free_again) {
    const uint64_t handle = drains_.reserve();
    EXPECT_EQ(drains_.count(), 1u);
    drains_.cancel(handle);
    drains_.cancel(handle);
    EXPECT_EQ(drains_.count(), 0u);
    EXPECT_NE(drains_.reserve(), handle);
}

}  // namespace flue
