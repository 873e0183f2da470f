#include "queue/target_queue.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "queue/host_rings.hpp"
#include "queue/queue_memory.hpp"

namespace flue::queue {
namespace {

constexpr uint32_t completion_entries = 16;
constexpr uint32_t completion_room    = completion_entries - 1;

class TargetQueueTest : public testing::Test {
  protected:
    void post(uint32_t count) {
        for (uint32_t i = 0; i < count; ++i) {
            flue_wr wr{};
            wr.wr_id = next_id_++;
            ASSERT_EQ(host_.submissions(0).enqueue({&wr, 1}), 1u);
        }
    }

    std::vector<uint64_t> poll() {
        flue_wc wc[64];
        const uint32_t count = host_.completions(0).dequeue(wc);
        std::vector<uint64_t> ids;
        for (uint32_t i = 0; i < count; ++i) {
            ids.push_back(wc[i].wr_id);
        }
        return ids;
    }

    uint32_t take(uint32_t count) {
        taken_.resize(count);
        taken_.resize(target_.take(taken_));
        return static_cast<uint32_t>(taken_.size());
    }

    void complete_taken() {
        for (const flue_wr& wr : taken_) {
            flue_wc wc{};
            wc.wr_id = wr.wr_id;
            target_.complete(wc);
        }
        taken_.clear();
    }

    bool woken() {
        pollfd item{memory_.host_wake_fd(), POLLIN, 0};
        return ::poll(&item, 1, 0) == 1;
    }

    TargetQueueMemory memory_ =
        std::move(TargetQueueMemory::create(QueueGeometry{1, 64, completion_entries}).value());
    QueueRings host_memory_ = std::move(
        map_queue_memory(memory_.memory_fd(), memory_.geometry(), memory_.bytes()).value());
    HostRings host_{host_memory_};
    TargetQueue target_{memory_.parts(0)};
    std::vector<flue_wr> taken_;
    uint64_t next_id_ = 1;
};

TEST_F(TargetQueueTest, requests_come_out_and_completions_go_back_in_order) {
    post(5);
    EXPECT_EQ(take(32), 5u);
    EXPECT_EQ(target_.outstanding(), 5u);
    complete_taken();
    EXPECT_EQ(target_.outstanding(), 0u);
    EXPECT_TRUE(poll().empty());
    target_.flush();
    EXPECT_EQ(poll(), (std::vector<uint64_t>{1, 2, 3, 4, 5}));
}

TEST_F(TargetQueueTest, no_more_requests_are_taken_than_completions_fit) {
    post(40);
    EXPECT_EQ(take(32), completion_room);
    std::vector<flue_wr> more(8);
    EXPECT_EQ(target_.take(more), 0u);
    complete_taken();
    EXPECT_EQ(target_.take(more), 0u) << "collected completions still want their room";
    target_.flush();
    EXPECT_EQ(target_.take(more), 0u) << "the host has not polled yet";
    EXPECT_EQ(poll().size(), completion_room);
    EXPECT_EQ(take(32), completion_room);
}

TEST_F(TargetQueueTest, event_never_takes_room_that_a_request_has_reserved) {
    post(completion_room - 1);
    EXPECT_EQ(take(32), completion_room - 1);
    EXPECT_TRUE(target_.post_event(flue_wc{}));
    EXPECT_FALSE(target_.post_event(flue_wc{}));
    complete_taken();
    EXPECT_FALSE(target_.post_event(flue_wc{}));
    target_.flush();
    EXPECT_EQ(poll().size(), completion_room);
    EXPECT_TRUE(target_.post_event(flue_wc{}));
    EXPECT_EQ(target_.counters().completions_lost, 0u);
}

TEST_F(TargetQueueTest, long_run_with_random_polling_loses_nothing) {
    uint64_t expected = 1;
    for (int turn = 0; turn < 5000; ++turn) {
        post(std::min<uint32_t>(7, host_.submissions(0).free_count()));
        take(static_cast<uint32_t>(turn % 11));
        complete_taken();
        target_.flush();
        if (turn % 3 == 0) {
            for (const uint64_t id : poll()) {
                ASSERT_EQ(id, expected++);
            }
        }
    }
    EXPECT_GT(expected, 1000u);
    EXPECT_EQ(target_.counters().completions_lost, 0u);
}

TEST_F(TargetQueueTest, flush_wakes_an_armed_host_once) {
    post(2);
    take(1);
    complete_taken();
    target_.flush();
    EXPECT_FALSE(woken());
    poll();

    EXPECT_TRUE(host_.arm());
    target_.flush();
    EXPECT_FALSE(woken()) << "nothing was published";
    take(1);
    complete_taken();
    target_.flush();
    EXPECT_TRUE(woken());
    target_.flush();
    EXPECT_EQ(target_.counters().wakeups, 1u);
}

TEST_F(TargetQueueTest, arming_with_completions_there_is_refused) {
    post(1);
    take(1);
    complete_taken();
    target_.flush();
    EXPECT_FALSE(host_.arm());
    EXPECT_EQ(*memory_.parts(0).armed, 0u);
}

/// With an eventfd this would stop the worker: both ends of an eventfd are one open file.
TEST_F(TargetQueueTest,
       host_that_fills_the_wake_socket_and_makes_it_blocking_does_not_stop_the_worker) {
    ASSERT_EQ(::fcntl(memory_.host_wake_fd(), F_SETFL, 0), 0);
    for (uint32_t turn = 0; turn < 100'000; ++turn) {
        *memory_.parts(0).armed = 1;
        ASSERT_TRUE(target_.post_event(flue_wc{}));
        target_.flush();
        poll();
    }
    EXPECT_EQ(target_.counters().wakeups, 100'000u);
    memory_.close_host_wake();
    *memory_.parts(0).armed = 1;
    ASSERT_TRUE(target_.post_event(flue_wc{}));
    target_.flush();  // no SIGPIPE
}

TEST_F(TargetQueueTest, the_next_host_of_a_queue_is_woken_and_the_one_before_is_not) {
    EXPECT_TRUE(host_.arm());
    const UniqueFd before(::dup(memory_.host_wake_fd()));
    ASSERT_TRUE(memory_.renew_wake().ok());
    host_.repair();
    post(1);
    take(1);
    complete_taken();
    target_.flush();
    EXPECT_FALSE(woken()) << "the next host has not gone to sleep";
    EXPECT_EQ(poll().size(), 1u);
    EXPECT_TRUE(host_.arm());
    ASSERT_TRUE(target_.post_event(flue_wc{}));
    target_.flush();
    EXPECT_TRUE(woken());
    char token = 0;
    EXPECT_EQ(::recv(before.get(), &token, 1, MSG_DONTWAIT), 0) << "its other end is closed";
}

TEST_F(TargetQueueTest, abandoned_queue_gives_its_requests_up_though_nobody_reads_completions) {
    post(40);
    EXPECT_EQ(take(32), completion_room);
    complete_taken();
    target_.flush();
    EXPECT_EQ(take(32), 0u);
    EXPECT_EQ(target_.waiting(), 40 - completion_room);

    target_.abandon();
    while (take(32) > 0) {
        complete_taken();
        EXPECT_TRUE(target_.post_event(flue_wc{}));
        target_.flush();
    }
    EXPECT_EQ(target_.waiting(), 0u);
    EXPECT_EQ(target_.outstanding(), 0u);
    EXPECT_EQ(target_.counters().requests, 40u);
    EXPECT_EQ(poll().size(), completion_room) << "what was published before";
}

TEST_F(TargetQueueTest, corrupted_completion_indices_are_counted_and_survived) {
    post(completion_room);
    ASSERT_EQ(take(32), completion_room);
    // Full as the target sees it: the consumer's tail stands a whole ring behind.
    rte_ring* ring  = host_.completions(0).get();
    ring->cons.tail = ring->prod.head - completion_room;
    complete_taken();
    target_.flush();
    EXPECT_EQ(target_.counters().completions_lost, completion_room);
    EXPECT_EQ(target_.outstanding(), 0u);
}

}  // namespace
}  // namespace flue::queue
