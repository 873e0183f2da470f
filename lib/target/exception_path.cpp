#include "target/exception_path.hpp"

#include <rte_ethdev.h>

namespace flue::target {

void ExceptionPath::to_kernel(rte_mbuf* frame) {
    if (!parts_.enabled) {
        ++counters_.to_kernel_dropped;
        rte_pktmbuf_free(frame);
        return;
    }
    if (count_ == burst_max) {
        flush();
    }
    batch_[count_++] = frame;
}

void ExceptionPath::flush() {
    if (count_ == 0) {
        return;
    }
    const uint16_t sent = rte_eth_tx_burst(parts_.tap, parts_.queue, batch_.data(), count_);
    rte_pktmbuf_free_bulk(batch_.data() + sent, count_ - uint32_t{sent});
    counters_.to_kernel += sent;
    counters_.to_kernel_dropped += static_cast<uint64_t>(count_ - sent);
    count_ = 0;
}

uint32_t ExceptionPath::from_kernel(TxQueue& wire) {
    if (!parts_.receives) {
        return 0;
    }
    std::array<rte_mbuf*, burst_max> frames;
    const uint16_t count = rte_eth_rx_burst(parts_.tap, parts_.queue, frames.data(), burst_max);
    for (uint16_t i = 0; i < count; ++i) {
        if (wire.push(frames[i])) {
            ++counters_.from_kernel;
        } else {
            ++counters_.from_kernel_dropped;
            rte_pktmbuf_free(frames[i]);
        }
    }
    return count;
}

}  // namespace flue::target
