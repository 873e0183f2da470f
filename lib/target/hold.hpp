#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tcp/segment.hpp"

struct rte_mbuf;

namespace flue::target {

/// HoldQueues keeps the packets of connections that are between two owners, each connection's in
/// order of arrival. Thread: one worker.  Cost: O(1) a packet, no allocation after the constructor.
class HoldQueues {
  public:
    struct Limits {
        uint32_t connections            = 0;
        uint32_t packets                = 0;  ///< all connections together
        uint32_t packets_per_connection = 0;
    };

    explicit HoldQueues(const Limits& limits);

    /// push keeps a packet.  False: a limit is reached, counted in overflows(); the packet is still
    /// the caller's.
    [[nodiscard]] bool push(tcp::ConnIndex conn, rte_mbuf* packet);
    /// take moves up to out.size() of the oldest packets to the caller and returns how many.
    [[nodiscard]] uint32_t take(tcp::ConnIndex conn, std::span<rte_mbuf*> out);

    [[nodiscard]] uint32_t count(tcp::ConnIndex conn) const { return fifos_[conn].count; }

    [[nodiscard]] uint32_t total() const { return total_; }

    [[nodiscard]] uint64_t overflows() const { return overflows_; }

  private:
    using NodeIndex                    = uint32_t;
    static constexpr NodeIndex no_node = UINT32_MAX;

    struct Node {
        rte_mbuf* packet = nullptr;
        NodeIndex next   = no_node;
    };

    struct Fifo {
        NodeIndex front = no_node;
        NodeIndex back  = no_node;
        uint32_t count  = 0;
    };

    uint32_t per_connection_;
    std::vector<Node> nodes_;
    std::vector<Fifo> fifos_;
    NodeIndex free_     = no_node;
    uint32_t total_     = 0;
    uint64_t overflows_ = 0;
};

}  // namespace flue::target
