#include "target/tx_queue.hpp"

#include <array>

#include <rte_ring.h>

#include "support.hpp"

namespace flue::target {

class TxQueueTest : public PoolsTest {
  protected:
    void SetUp() override {
        PoolsTest::SetUp();
        ring_ = rte_ring_create_elem(
            "tx_queue_test", sizeof(void*), 8, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
        relay_ = queue::Ring<rte_mbuf*>{ring_};
    }

    void TearDown() override {
        rte_ring_free(ring_);
        PoolsTest::TearDown();
    }

    rte_ring* ring_ = nullptr;
    queue::Ring<rte_mbuf*> relay_;
};

TEST_F(TxQueueTest, way_out_is_full_rest_is_kept_in_order) {
    TxQueue queue{{.port = 5, .queue = 0, .relay = relay_}};
    for (rte_mbuf* packet : packets(10)) {
        ASSERT_TRUE(queue.push(packet));
    }
    EXPECT_EQ(queue.flush(), 7u);  // a ring of 8 takes 7
    EXPECT_EQ(queue.room(), TxQueue::frames_max - 3);
    EXPECT_EQ(queue.counters().stalls, 1u);
    for (uint8_t i = 0; i < 10; ++i) {
        if (i == 7) {
            EXPECT_EQ(queue.flush(), 3u);
        }
        std::array<rte_mbuf*, 1> packet{};
        ASSERT_EQ(relay_.dequeue(packet), 1u);
        EXPECT_EQ(number_of(packet[0]), i);
        EXPECT_EQ(packet[0]->port, 5);
        rte_pktmbuf_free(packet[0]);
    }
}

TEST_F(TxQueueTest, full_queue_refuses_and_leaves_the_frame_to_the_caller) {
    TxQueue queue{{.port = 0, .queue = 0, .relay = relay_}};
    const auto frames = packets(TxQueue::frames_max + 1);
    for (uint32_t i = 0; i < TxQueue::frames_max; ++i) {
        ASSERT_TRUE(queue.push(frames[i]));
    }
    EXPECT_FALSE(queue.push(frames.back()));
    EXPECT_EQ(queue.counters().full, 1u);
    rte_pktmbuf_free(frames.back());
}

TEST_F(TxQueueTest, unsent_frames_are_freed_with_the_queue) {
    TxQueue queue{{.port = 0, .queue = 0, .relay = relay_}};
    for (rte_mbuf* packet : packets(10)) {
        ASSERT_TRUE(queue.push(packet));
    }
}

}  // namespace flue::target
