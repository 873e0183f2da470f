#pragma once

#include <cstdint>
#include <optional>

struct rte_mempool;

namespace flue::target {

/// The packet memory of one worker, on its NUMA node.
struct Pools {
    rte_mempool* rx      = nullptr;  ///< received frames, the wire's and the kernel's
    rte_mempool* header  = nullptr;  ///< headers of frames out, with a short payload beside them
    rte_mempool* payload = nullptr;  ///< no bytes of their own: they refer to the host's
    rte_mempool* copy    = nullptr;  ///< whole frames out whose payload must be copied
};

struct PoolOptions {
    uint16_t worker           = 0;
    int socket                = 0;
    uint32_t rx_mbufs         = 0;
    uint32_t tx_mbufs         = 0;  ///< as many as NIC queues and batches can hold at once
    uint32_t copy_below_bytes = 0;
    uint16_t mtu              = 1500;
    bool shared               = false;  ///< another worker may free into them (relayed frames)
};

/// create_pools allocates; on failure it has freed what it got, and logged what to do.
[[nodiscard]] std::optional<Pools> create_pools(const PoolOptions& options);
void free_pools(Pools& pools);

}  // namespace flue::target
