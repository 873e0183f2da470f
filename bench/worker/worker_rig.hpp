#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <rte_mbuf.h>
#include <rte_ring.h>

#include "flue/abi.h"
#include "queue/queue_memory.hpp"
#include "queue/regions.hpp"
#include "queue/session_share.hpp"
#include "queue/target_queue.hpp"
#include "target/messages.hpp"
#include "target/options.hpp"
#include "target/pools.hpp"
#include "target/port.hpp"
#include "target/steering.hpp"
#include "target/worker.hpp"

namespace flue::bench {

/// What the far end does with a frame.
enum class PeerMode : uint8_t {
    sink,   ///< nothing
    close,  ///< a FIN gets an ACK and then a FIN, an ACK nothing
    ack     ///< two data segments get one ACK
};

/// WorkerRig is the worker that ships, on this thread, between a port of which the other end is a
/// pair of rings in this process, and a host queue of which the host's end is here, too.
///
///   post -> submission ring -> [ Worker::turn ] -> tx_burst -> peer
///   completions <- ring     <- [              ] <- rx_burst <- peer's answers
///
/// Only what lies inside the brackets is counted.  The NIC's offloads are taken as given: frames
/// leave with the pseudo-header sum, and those that come are said to be verified.
class WorkerRig {
  public:
    struct Shape {
        uint32_t connections   = 1'000;
        bool checksum_by_port  = true;
        uint32_t payload_bytes = 0;  ///< of each connection's send memory
    };

    explicit WorkerRig(const Shape& shape);
    ~WorkerRig();
    WorkerRig(const WorkerRig&)            = delete;
    WorkerRig& operator=(const WorkerRig&) = delete;

    /// offload makes every connection established; terminate ends them.  `handles` afterwards.
    void offload();
    void terminate();

    /// A request about connection `index`, without memory.
    [[nodiscard]] flue_wr request(uint32_t index, uint8_t opcode, uint8_t flags = 0) const;
    /// Bytes of the connection's send memory, for a request.
    [[nodiscard]] flue_sge payload(uint32_t bytes) const;
    [[nodiscard]] flue_sge state_of(uint32_t index) const;

    /// post gives the worker a request as soon as the ring has room; turn lets it work once.
    void post(const flue_wr& wr);
    void turn();
    /// settle lets it work until `completions` of requests have come and nothing happens any more.
    void settle(uint64_t completions);

    /// transmit_bare sends frames of headers alone, the same 66 bytes each, through the worker's
    /// port and mempool with nothing around them; cycles.  No worker can be cheaper.
    [[nodiscard]] uint64_t transmit_bare(uint64_t count);

    /// Completions of requests, each of them looked at.
    uint64_t completed = 0;
    uint64_t failed    = 0;
    uint64_t frames    = 0;  ///< that the far end got
    uint64_t bytes     = 0;
    uint64_t cycles    = 0;  ///< of turns
    PeerMode peer      = PeerMode::sink;

    [[nodiscard]] uint32_t connections() const { return shape_.connections; }

  private:
    static constexpr uint32_t ring_entries = 65536;

    void open_port();
    void make_memory();
    void write_state(uint32_t index);
    void take_completions();
    void run_peer();
    void answer(rte_mbuf* frame);
    void reply(rte_mbuf* frame, uint8_t flags, uint32_t seq, uint32_t ack);
    void send_waiting();

    Shape shape_;
    target::Options options_;
    target::Steering steering_{1, 128};
    target::Pools pools_;
    rte_mempool* peer_pool_ = nullptr;
    rte_ring* to_peer_      = nullptr;
    rte_ring* from_peer_    = nullptr;
    std::array<target::Port, 1> ports_;
    std::array<target::Lanes, 1> lanes_;
    std::vector<rte_ring*> rings_;
    queue::TargetQueueMemory queue_memory_;
    queue::QueueRings host_rings_;
    queue::SessionShare share_;
    std::unique_ptr<queue::Regions> regions_;
    std::unique_ptr<queue::TargetQueue> queue_;
    std::vector<std::byte> memory_;
    uint32_t region_key_ = 0;
    uint64_t payload_at_ = 0;
    std::optional<target::Worker> worker_;
    std::vector<flue_conn> handles_;
    std::vector<flue_wr> waiting_;
    size_t waiting_from_  = 0;
    uint32_t outstanding_ = 0;
};

}  // namespace flue::bench
