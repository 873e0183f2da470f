#include "target/pools.hpp"

#include <algorithm>
#include <string>

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "target/frame_builder.hpp"
#include "target/log.hpp"
#include "wire/frame.hpp"

namespace flue::target {

namespace {

constexpr uint32_t cache_mbufs = 256;
// Ethernet and two 802.1Q tags beside the MTU, and never less than chimney::Environment's
// store_payload_bytes_max.
constexpr uint32_t l2_bytes_max      = 22;
constexpr uint32_t frame_bytes_least = 2048;

struct Shape {
    const char* purpose;
    uint32_t mbufs;
    uint16_t private_bytes;
    uint32_t data_bytes;
};

rte_mempool* create(const PoolOptions& options, const Shape& shape) {
    const std::string name =
        "flue_" + std::string(shape.purpose) + "_" + std::to_string(options.worker);
    const uint32_t cache = std::min(cache_mbufs, shape.mbufs / 4);
    // With one worker on both sides its ring needs no compare-and-swap.
    const char* ops   = options.shared ? "ring_mp_mc" : "ring_sp_sc";
    rte_mempool* pool = rte_pktmbuf_pool_create_by_ops(name.c_str(),
                                                       shape.mbufs,
                                                       cache,
                                                       shape.private_bytes,
                                                       static_cast<uint16_t>(shape.data_bytes),
                                                       options.socket,
                                                       ops);
    if (pool == nullptr) {
        FLUE_LOG(ERR,
                 "no memory for %u %s mbufs of worker %u (%s): give the EAL more with -m or "
                 "--socket-mem, reserve more huge "
                 "pages, or lower --rx-mbufs or --descriptors",
                 shape.mbufs,
                 shape.purpose,
                 options.worker,
                 rte_strerror(rte_errno));
    }
    return pool;
}

}  // namespace

std::optional<Pools> create_pools(const PoolOptions& options) {
    const uint32_t frame_bytes =
        RTE_PKTMBUF_HEADROOM + std::max(frame_bytes_least, options.mtu + l2_bytes_max);
    const uint32_t header_bytes = RTE_ALIGN_CEIL(
        RTE_PKTMBUF_HEADROOM + wire::header_bytes_max + options.copy_below_bytes, 64u);
    Pools pools;
    pools.rx      = create(options, {"rx", options.rx_mbufs, 0, frame_bytes});
    pools.header  = create(options, {"header", options.tx_mbufs, 0, header_bytes});
    pools.payload = create(options, {"payload", options.tx_mbufs, FrameBuilder::private_bytes, 0});
    pools.copy =
        create(options, {"copy", options.tx_mbufs, 0, frame_bytes + wire::header_bytes_max});
    if (pools.rx == nullptr || pools.header == nullptr || pools.payload == nullptr ||
        pools.copy == nullptr) {
        free_pools(pools);
        return std::nullopt;
    }
    return pools;
}

void free_pools(Pools& pools) {
    for (rte_mempool* pool : {pools.rx, pools.header, pools.payload, pools.copy}) {
        rte_mempool_free(pool);
    }
    pools = Pools{};
}

}  // namespace flue::target
