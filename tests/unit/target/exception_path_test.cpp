#include "target/exception_path.hpp"

#include <array>

#include <rte_ethdev.h>
#include <rte_ring.h>

#include "support.hpp"

namespace flue::target {

/// net_ring0 stands where the TAP is: what is sent to it comes back from it.
class ExceptionPathTest : public PoolsTest {
  protected:
    void SetUp() override {
        PoolsTest::SetUp();
        ASSERT_EQ(rte_eth_dev_get_port_by_name("net_ring0", &tap_), 0);
        const rte_eth_conf conf{};
        ASSERT_EQ(rte_eth_dev_configure(tap_, 1, 1, &conf), 0);
        ASSERT_EQ(rte_eth_rx_queue_setup(tap_, 0, 64, 0, nullptr, pools_.rx), 0);
        ASSERT_EQ(rte_eth_tx_queue_setup(tap_, 0, 64, 0, nullptr), 0);
        ASSERT_EQ(rte_eth_dev_start(tap_), 0);
        ring_ = rte_ring_create_elem(
            "exception_test", sizeof(void*), 256, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
        wire_ = queue::Ring<rte_mbuf*>{ring_};
    }

    void TearDown() override {
        EXPECT_EQ(rte_eth_dev_stop(tap_), 0);
        rte_ring_free(ring_);
        PoolsTest::TearDown();
    }

    uint16_t tap_   = 0;
    rte_ring* ring_ = nullptr;
    queue::Ring<rte_mbuf*> wire_;
};

TEST_F(ExceptionPathTest, frames_pass_both_ways_in_order) {
    ExceptionPath path{{.enabled = true, .tap = tap_, .queue = 0, .receives = true}};
    TxQueue wire{{.port = 3, .queue = 0, .relay = wire_}};
    for (rte_mbuf* packet : packets(40)) {
        path.to_kernel(packet);
    }
    path.flush();
    EXPECT_EQ(path.counters().to_kernel, 40u);
    EXPECT_EQ(path.from_kernel(wire) + path.from_kernel(wire), 40u);
    EXPECT_EQ(path.counters().from_kernel, 40u);
    EXPECT_EQ(wire.flush(), 40u);
    for (uint8_t i = 0; i < 40; ++i) {
        std::array<rte_mbuf*, 1> packet{};
        ASSERT_EQ(wire_.dequeue(packet), 1u);
        EXPECT_EQ(number_of(packet[0]), i);
        rte_pktmbuf_free(packet[0]);
    }
}

TEST_F(ExceptionPathTest, wire_full_frames_from_the_kernel_are_dropped_and_counted) {
    ExceptionPath path{{.enabled = true, .tap = tap_, .queue = 0, .receives = true}};
    TxQueue wire{{.port = 3, .queue = 0, .relay = wire_}};
    for (rte_mbuf* packet : packets(TxQueue::frames_max - 1)) {
        ASSERT_TRUE(wire.push(packet));
    }
    for (rte_mbuf* packet : packets(3)) {
        path.to_kernel(packet);
    }
    path.flush();
    EXPECT_EQ(path.from_kernel(wire), 3u);
    EXPECT_EQ(path.counters().from_kernel, 1u);
    EXPECT_EQ(path.counters().from_kernel_dropped, 2u);
}

TEST_F(ExceptionPathTest, without_a_tap_frames_are_dropped_and_counted) {
    ExceptionPath path{{}};
    TxQueue wire{{.port = 3, .queue = 0, .relay = wire_}};
    for (rte_mbuf* packet : packets(2)) {
        path.to_kernel(packet);
    }
    path.flush();
    EXPECT_EQ(path.counters().to_kernel_dropped, 2u);
    EXPECT_EQ(path.from_kernel(wire), 0u);
}

}  // namespace flue::target
