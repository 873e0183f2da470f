#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "chimney/chimney.hpp"
#include "queue/target_queue.hpp"
#include "queue/typed_ring.hpp"
#include "target/exception_path.hpp"
#include "target/frame_builder.hpp"
#include "target/tcp_stats.hpp"
#include "target/tx_queue.hpp"
#include "wire/icmp.hpp"

struct rte_mbuf;

/// What crosses from thread to thread: always an element of an SPSC ring.
namespace flue::target {

/// The control thread asks, a worker answers each request by sending it back.
struct ControlMessage {
    enum class Kind : uint32_t {
        attach,  ///< poll this queue from now on
        lose,  ///< its host is gone; answered when nothing refers to the queue any more, and it is
               ///< detached
        reattach,  ///< another host has this queue from now on; not answered
        fence,     ///< answered at once: what was taken before is known to the regions' reference
                   ///< counts
        grant,     ///< keep the 4-tuple `key` for the session; answered with `status`
        withdraw,  ///< take an unused grant back
        withdraw_all  ///< take all grants of a session back; answered when there are none
    };
    Kind kind                  = Kind::fence;
    chimney::HostLoss policy   = chimney::HostLoss::drain;
    queue::TargetQueue* queue  = nullptr;
    uint64_t tag               = 0;  ///< the control thread's
    queue::SessionShare* share = nullptr;
    wire::FlowKey key{};
    flue_status status = FLUE_SUCCESS;
};

/// Figures of one worker, all running up from its start.
struct WorkerCounters {
    uint64_t rx_frames      = 0;  ///< from the wire
    uint64_t not_tcp        = 0;
    uint64_t fragments      = 0;
    uint64_t ip_options     = 0;
    uint64_t malformed      = 0;
    uint64_t bad_checksum   = 0;
    uint64_t too_big        = 0;  ///< ICMP about segments of connections here
    uint64_t too_big_lost   = 0;  ///< the lane to the owner's worker was full
    uint64_t unknown_flow   = 0;  ///< TCP of nobody here
    uint64_t passed_on      = 0;  ///< given to the worker that owns the flow
    uint64_t passed_on_lost = 0;
    uint64_t held           = 0;
    uint64_t hold_overflows = 0;
    uint64_t requests       = 0;
    uint64_t busy_cycles    = 0;  ///< of loop turns that found something to do
    uint64_t idle_cycles    = 0;
    uint64_t busy_turns     = 0;
    uint64_t idle_turns     = 0;
};

/// What a worker does before it copies its figures.
enum class Order : uint8_t {
    none,
    pause,       ///< chimney::Intake::paused
    upload_all,  ///< chimney::Intake::uploading_all
    resume,      ///< chimney::Intake::open
    clear_tcp_stats,
};

/// A copy of a worker's figures, made by the worker when asked for.
struct WorkerSnapshot {
    static constexpr uint32_t page_max = 20;

    Order order                        = Order::none;  ///< in
    tcp::ConnIndex list_from           = 0;            ///< in: first connection to be listed
    uint32_t list_count                = 0;
    Instant now;
    WorkerCounters worker;
    ExceptionPath::Counters exceptions;
    TxQueue::Counters tx;
    FrameBuilder::Counters frames;
    chimney::Chimney::Counters chimney;
    tcp::Engine::Counters engine;
    chimney::Chimney::Usage usage;
    std::array<PortTcpStats, ports_max> tcp{};
    chimney::Intake intake  = chimney::Intake::open;
    uint32_t flows          = 0;
    uint32_t queues         = 0;
    uint32_t held_packets   = 0;
    uint64_t nic_references = 0;
    std::array<chimney::Chimney::ConnectionInfo, page_max> list{};

    /// The worker sets it with a store-release when all is written (S1); who asked waits with
    /// load-acquire (S0 pairs with S1).
    std::atomic<bool> done{false};
};

/// Rings of one worker, each with one producer and one consumer.
struct Lanes {
    queue::Ring<rte_mbuf*> inbound;           ///< worker 0 -> this: received frames of its flows
    queue::Ring<rte_mbuf*> outbound;          ///< this -> worker 0: frames to send
    queue::Ring<wire::PacketTooBig> too_big;  ///< worker 0 -> this: of its flows
    queue::Ring<tcp::ItemIndex> freed;        ///< worker 0 -> this: items of frames it has sent
    queue::Ring<ControlMessage> requests;     ///< control -> this
    queue::Ring<ControlMessage> replies;      ///< this -> control
    queue::Ring<WorkerSnapshot*> snapshots;   ///< telemetry -> this
};

}  // namespace flue::target
