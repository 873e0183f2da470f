#pragma once

#include <gtest/gtest.h>
#include <vector>

#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "target/pools.hpp"
#include "wire/fields.hpp"

namespace flue::target {

/// Packet memory for one test, and the check that all of it is back at its end.
class PoolsTest : public testing::Test {
  protected:
    void SetUp() override {
        const auto pools = create_pools({.worker           = 99,
                                         .socket           = SOCKET_ID_ANY,
                                         .rx_mbufs         = 255,
                                         .tx_mbufs         = 255,
                                         .copy_below_bytes = 256,
                                         .mtu              = 1500,
                                         .shared           = true});
        ASSERT_TRUE(pools);
        pools_ = *pools;
    }

    void TearDown() override {
        for (const rte_mempool* pool : {pools_.rx, pools_.header, pools_.payload, pools_.copy}) {
            EXPECT_EQ(rte_mempool_in_use_count(pool), 0u) << pool->name;
        }
        free_pools(pools_);
    }

    /// Numbered packets of one byte.
    std::vector<rte_mbuf*> packets(uint32_t count) {
        std::vector<rte_mbuf*> result(count);
        EXPECT_EQ(rte_pktmbuf_alloc_bulk(pools_.rx, result.data(), count), 0);
        for (uint32_t i = 0; i < count; ++i) {
            *reinterpret_cast<uint8_t*>(rte_pktmbuf_append(result[i], 1)) = static_cast<uint8_t>(i);
        }
        return result;
    }

    static uint8_t number_of(const rte_mbuf* packet) {
        return *rte_pktmbuf_mtod(packet, const uint8_t*);
    }

    Pools pools_;
};

inline wire::FlowKey ipv4_key(uint16_t remote_port) {
    wire::FlowKey key;
    key.family      = wire::Family::ipv4;
    key.local       = {10, 0, 0, 1};
    key.remote      = {10, 0, 0, 2};
    key.local_port  = 80;
    key.remote_port = remote_port;
    return key;
}

}  // namespace flue::target
