#include "target/tx_queue.hpp"

#include <algorithm>

#include <rte_ethdev.h>

namespace flue::target {

uint32_t TxQueue::flush() {
    if (count_ == 0) {
        return 0;
    }
    const uint32_t sent =
        parts_.relay.get() != nullptr
            ? parts_.relay.enqueue(std::span<rte_mbuf* const>{frames_}.first(count_))
            : rte_eth_tx_burst(
                  parts_.port, parts_.queue, frames_.data(), static_cast<uint16_t>(count_));
    std::copy(frames_.begin() + sent, frames_.begin() + count_, frames_.begin());
    count_ -= sent;
    counters_.frames +=
        parts_.relay.get() == nullptr ? sent : 0;  // worker 0 counts what it sends for us
    counters_.stalls += count_ > 0 ? 1 : 0;
    return sent;
}

}  // namespace flue::target
