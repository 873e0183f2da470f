#include "target/hold.hpp"

#include "base/assert.hpp"

namespace flue::target {

HoldQueues::HoldQueues(const Limits& limits)
    : per_connection_(limits.packets_per_connection),
      nodes_(limits.packets),
      fifos_(limits.connections) {
    for (NodeIndex node = limits.packets; node > 0; --node) {
        nodes_[node - 1].next = free_;
        free_                 = node - 1;
    }
}

bool HoldQueues::push(tcp::ConnIndex conn, rte_mbuf* packet) {
    FLUE_ASSERT(conn < fifos_.size());
    Fifo& fifo = fifos_[conn];
    if (free_ == no_node || fifo.count == per_connection_) {
        ++overflows_;
        return false;
    }
    const NodeIndex node = free_;
    free_                = nodes_[node].next;
    nodes_[node]         = Node{packet, no_node};
    if (fifo.count == 0) {
        fifo.front = node;
    } else {
        nodes_[fifo.back].next = node;
    }
    fifo.back = node;
    ++fifo.count;
    ++total_;
    return true;
}

uint32_t HoldQueues::take(tcp::ConnIndex conn, std::span<rte_mbuf*> out) {
    FLUE_ASSERT(conn < fifos_.size());
    Fifo& fifo     = fifos_[conn];
    uint32_t taken = 0;
    while (taken < out.size() && fifo.count > 0) {
        const NodeIndex node = fifo.front;
        out[taken++]         = nodes_[node].packet;
        fifo.front           = nodes_[node].next;
        nodes_[node]         = Node{nullptr, free_};
        free_                = node;
        --fifo.count;
        --total_;
    }
    return taken;
}

}  // namespace flue::target
