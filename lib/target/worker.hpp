#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "chimney/chimney.hpp"
#include "chimney/environment.hpp"
#include "target/clock.hpp"
#include "target/exception_path.hpp"
#include "target/flow_table.hpp"
#include "target/frame_builder.hpp"
#include "target/hold.hpp"
#include "target/messages.hpp"
#include "target/options.hpp"
#include "target/pools.hpp"
#include "target/port.hpp"
#include "target/steering.hpp"
#include "target/tx_queue.hpp"

namespace flue::target {

/// Worker owns a share of the connections and runs them to completion on its core: frames in,
/// frames out, host queues, timers, and the exception path of its queues.  Nothing of it is shared;
/// others send messages (Lanes). Thread: one lcore, from the first turn on.
class Worker final : public chimney::Environment, private ItemReferences {
  public:
    struct Parts {
        uint16_t index           = 0;
        unsigned lcore           = 0;
        const Options* options   = nullptr;
        const Steering* steering = nullptr;
        Pools pools;
        std::span<const Lanes> lanes;  ///< of all workers
        std::span<const Port> ports;
        std::span<const Port> taps;  ///< empty, or one a port
        uint64_t seed          = 1;
        uint32_t idle_sleep_us = 0;
    };

    /// Pre: the flow table was created with FlowTable::create for connections + time_waits flows.
    Worker(const Parts& parts, FlowTable flows);
    ~Worker() override;
    Worker(const Worker&)            = delete;
    Worker& operator=(const Worker&) = delete;

    /// run turns until `stop` is set.
    void run(const std::atomic<bool>& stop);

    /// turn goes once around.  False: there was nothing to do.
    bool turn();

    [[nodiscard]] static uint32_t receive_chunks(const Options& options) {
        return options.rx_mbufs / 2;
    }

    [[nodiscard]] static uint32_t held_packets_max(const Options& options) {
        return options.rx_mbufs / 4;
    }

    // chimney::Environment
    [[nodiscard]] LinkCheck check_link(const wire::MacAddress& source_mac,
                                       uint16_t vlan_id,
                                       uint16_t mtu) const override;
    ClaimResult claim(const wire::FlowKey& key, tcp::ConnIndex index) override;
    uint8_t port_of(tcp::ConnIndex index, const wire::FlowHeader& flow) override;
    void rebind(const wire::FlowKey& key, tcp::ConnIndex index) override;
    void unclaim(const wire::FlowKey& key) override;
    void replay_held(tcp::ConnIndex index) override;
    void release_held(tcp::ConnIndex index) override;
    void drop_held(tcp::ConnIndex index) override;
    void show_host(const wire::FlowHeader& flow, const wire::TcpFields& tcp) override;
    void copy_payload(const tcp::ByteRef& ref, std::span<std::byte> out) override;
    tcp::ByteRef store_payload(std::span<const std::byte> bytes) override;

  private:
    static constexpr uint32_t burst_max = 32;

    /// This worker's share of one wire port.
    struct Side {
        const Port* port;
        FrameTarget wire;
        FrameTarget kernel;
        uint16_t first_rx_queue;
        uint16_t rx_queue_count;  ///< that this worker polls
        TxQueue tx;
        ExceptionPath exceptions;
        PortTcpStats stats;
        PortTcpStats stats_cleared;  ///< as they were when they were last set to zero
    };

    /// A burst of frames on its way from a queue to the connections, and of segments on theirs out.
    /// One of each, made once: clearing it every turn would cost more than an empty turn.
    struct Burst {
        Side* side     = nullptr;
        uint32_t count = 0;
        std::array<rte_mbuf*, burst_max> packets;
        std::array<wire::Frame, burst_max> frames;
        std::array<const void*, burst_max> keys;
        std::array<void*, burst_max> values;
        std::array<tcp::TxSegment, burst_max> segments;
    };

    /// A queue whose host is gone, from `lose` to its answer.
    struct Loss {
        ControlMessage message;
        uint32_t polls_left = 0;  ///< what was posted before still counts; 0 = all of it is taken
        Instant give_up;          ///< what cannot be taken until then is not
    };

    // ItemReferences
    void hold(tcp::ItemIndex item) override { chimney_->hold_item(item); }

    void drop(tcp::ItemIndex item) override { chimney_->drop_item(item); }

    void add_sides(const Parts& parts);
    [[nodiscard]] bool work();
    void flush_exceptions();

    // worker_receive.cpp
    [[nodiscard]] uint32_t receive_all();
    [[nodiscard]] uint32_t receive_queue(Side& side, uint16_t queue);
    [[nodiscard]] uint32_t receive_passed_on();
    void receive(Side& side, std::span<rte_mbuf* const> packets, bool distribute);
    [[nodiscard]] bool parse(Side& side, rte_mbuf* packet, wire::Frame& frame);
    void note_fragment(std::span<const std::byte> bytes);
    void note_too_big(const rte_mbuf* packet);
    void take_too_big();
    [[nodiscard]] bool heed(const wire::PacketTooBig& told);
    void pass_on(uint16_t owner, std::span<rte_mbuf* const> packet);
    void look_up();
    void deliver(Side& side, tcp::ConnIndex index, rte_mbuf* packet, const wire::Frame& frame);
    void keep(tcp::ConnIndex index, rte_mbuf* packet);
    void respond(Side& side,
                 const rte_mbuf* packet,
                 const wire::Frame& frame,
                 const wire::TcpFields& reply);
    [[nodiscard]] Side& side_of(const rte_mbuf* packet);

    // worker_transmit.cpp
    [[nodiscard]] uint32_t transmit();
    [[nodiscard]] uint32_t flush_sides();
    [[nodiscard]] uint32_t transmit_room() const;
    void send(const tcp::TxSegment& segment);
    [[nodiscard]] Side& side_of(tcp::ConnIndex index);
    /// side_with returns the index of the side whose port has the address; without one the first.
    [[nodiscard]] uint8_t side_with(const wire::MacAddress& mac) const;
    [[nodiscard]] uint32_t relay();
    void reclaim();
    void free_released();

    // worker_messages.cpp
    [[nodiscard]] uint32_t take_messages();
    [[nodiscard]] uint32_t answer_room() const;
    void carry_out(const ControlMessage& message);
    void answer(const ControlMessage& message);
    [[nodiscard]] bool took_all(Loss& loss);
    [[nodiscard]] bool finish(Loss& loss);
    void answer_losses();
    void answer_snapshots();
    void obey(Order order);
    void fill(WorkerSnapshot& snapshot) const;

    // tcp_stats.cpp
    void count_in(Side& side, const wire::Frame& frame);
    void count_bad_checksum(Side& side, std::span<const std::byte> bytes);
    void count_out(Side& side, const tcp::TxSegment& segment, const rte_mbuf& frame);
    [[nodiscard]] PortTcpStats tcp_stats(size_t port) const;
    void copy_tcp_stats(WorkerSnapshot& snapshot) const;
    void clear_tcp_stats();

    Parts parts_;
    Clock clock_;
    Instant now_;
    FlowTable flows_;
    HoldQueues held_;
    FrameBuilder builder_;
    std::vector<Side> sides_;
    std::vector<uint8_t> side_by_port_;  ///< ethdev port id -> index of sides_
    std::vector<uint8_t> side_by_connection_;
    std::unique_ptr<chimney::Chimney> chimney_;
    std::vector<queue::TargetQueue*> queues_;
    std::vector<Loss> losses_;
    std::unique_ptr<Burst> burst_;
    uint64_t table_changes_ = 0;  ///< of entries that a burst may have looked up already
    uint64_t turn_started_  = 0;  ///< cycles
    bool busy_              = false;
    uint32_t idle_turns_    = 0;
    WorkerCounters counters_;
};

}  // namespace flue::target
