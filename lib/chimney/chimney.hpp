#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "base/instant.hpp"
#include "chimney/advice.hpp"
#include "chimney/claim_rules.hpp"
#include "chimney/environment.hpp"
#include "flue/abi.h"
#include "queue/target_queue.hpp"
#include "tcp/engine.hpp"
#include "wire/frame.hpp"
#include "wire/icmp.hpp"

namespace flue::chimney {

struct Options {
    uint32_t worker          = 0;
    uint32_t receive_items   = 16384;       ///< posted RECVs, all connections together
    uint32_t time_wait_max   = 65536;       ///< TIME_WAIT records
    uint32_t time_wait_us    = 60'000'000;  ///< 2MSL
    uint32_t rcv_wnd_limit   = 16 << 20;    ///< largest rcv_wnd_max that OFFLOAD accepts
    uint32_t push_timeout_us = 500'000;     ///< contract 2.7
    uint32_t paths           = 4096;
    uint32_t neighbors       = 1024;
    /// A neighbor that is sent to and was not heard of for longer is asked for; 0 = never.
    uint32_t nce_stale_ms = 0;
    uint32_t sessions     = 1;  ///< at a time; each is guaranteed its part of every pool
    ClaimRules claim_rules;
    AdviceOptions advice;
    tcp::Options tcp;
};

/// What is done with a session's connections when its host is gone.
enum class HostLoss : uint8_t {
    drain,  ///< what was posted is sent, then FIN, then 2MSL, then free
    abort,  ///< RST
};

/// figures_group returns the group of the engine that counts connections of a port and IP version.
[[nodiscard]] constexpr uint8_t figures_group(uint8_t port, wire::Family family) {
    return static_cast<uint8_t>(2 * port + (family == wire::Family::ipv6 ? 1 : 0));
}

/// Whether new connections are taken.  Contract 2.10
enum class Intake : uint8_t {
    open,
    paused,         ///< HOLDs and OFFLOADs wait; an OFFLOAD of what is held already does not.  R27
    uploading_all,  ///< hosts shall take everything back: initiates and SENDs are refused.  R116
};

/// Where a connection is in its offload, beside its TCP state.
enum class OffloadState : uint8_t {
    free,
    held,         ///< 4-tuple claimed, packets kept, no state here
    offloaded,    ///< live
    draining,     ///< graceful disconnect posted, FIN not yet acknowledged
    half_closed,  ///< our FIN is acknowledged, the receive half is open
    aborted,      ///< RST either way; resources kept until TERMINATE
    uploading,    ///< upload requested for a mandatory reason; the engine has stopped
    orphaned,     ///< the host is gone, its policy runs
};

/// Chimney is the offload contract on top of the TCP engine, for one worker: it takes work requests
/// from host queues, drives the engine, and answers each with exactly one completion.  Connection
/// index i here is index i in the engine. Thread: the worker's.
class Chimney {
  public:
    Chimney(const Options& options, Environment& environment);
    ~Chimney();
    Chimney(const Chimney&)            = delete;
    Chimney& operator=(const Chimney&) = delete;

    // ---------------------------------------------------------------- host side

    /// attach makes a queue known.  Owner: the caller keeps it alive until detachable() and detach.
    void attach(queue::TargetQueue& queue);
    /// poll takes and carries out up to 32 requests of one queue and returns how many.
    uint32_t poll(Instant now, queue::TargetQueue& queue);
    /// reattach tells that another host reads this queue from now on: it gets one
    /// FLUE_EVENT_REATTACHED for each connection, and again what it has to know of it.
    void reattach(queue::TargetQueue& queue);
    /// lose tells that the host behind a queue is gone: nothing more is taken from or posted to it,
    /// requests that wait inside are dropped, and its connections go the way of the policy.  Ring
    /// and regions may be unmapped once detachable() is true.
    void lose(Instant now, queue::TargetQueue& queue, HostLoss policy);
    /// detachable: no connection and no reference to a region of this queue is left.
    [[nodiscard]] bool detachable(const queue::TargetQueue& queue) const;
    void detach(queue::TargetQueue& queue);

    /// grant keeps a 4-tuple for a session that has proved to own it: a HOLD or OFFLOAD of this
    /// session may take it over; otherwise it is let go after a while.  Errors: FLUE_TUPLE_IN_USE,
    /// FLUE_QUOTA, FLUE_TCP_ENTRIES, FLUE_UPLOAD_IN_PROGRESS (paused, or all is to go back).
    [[nodiscard]] flue_status grant(Instant now,
                                    queue::SessionShare& share,
                                    const wire::FlowKey& key);
    /// withdraw takes a grant back that nobody has used; otherwise it does nothing.
    void withdraw(queue::SessionShare& share, const wire::FlowKey& key);
    /// withdraw_some takes grants of a session that ends back.  False: there are more.
    [[nodiscard]] bool withdraw_some(queue::SessionShare& share);

    /// set_intake tells every queue, those attached later too.  From uploading_all only `open`
    /// leads back.
    void set_intake(Intake intake);
    [[nodiscard]] Intake intake() const;

    // ---------------------------------------------------------------- wire side

    enum class Disposition : uint8_t {
        consumed,   ///< the payload belongs to the engine until take_released
        dropped,    ///< done with: free the packet
        hold,       ///< keep the packet for this connection, in order
        exception,  ///< not ours (any more): the exception path
    };
    /// on_segment processes a segment that the flow table gave to `index` (a connection, or a
    /// TIME_WAIT record, whose indices follow those of the connections).  `reply`, when its flags
    /// are not 0, is a segment to be sent back to where the packet came from.
    Disposition on_segment(Instant now,
                           ConnIndex index,
                           const tcp::Segment& segment,
                           wire::TcpFields& reply);

    /// prefetch says that on_segment will be called for `index` soon.
    void prefetch(ConnIndex index) const;

    /// note_fragment tells of a fragment whose first bytes name this connection; wants_fragments:
    /// it makes a difference.
    void note_fragment(ConnIndex index);
    [[nodiscard]] bool wants_fragments() const;

    /// packet_too_big tells a connection what a router says of one of its segments.
    void packet_too_big(Instant now, ConnIndex index, const wire::PacketTooBig& told);

    /// advance turns what happened since the last call into completions and events, and flushes the
    /// queues.
    void advance(Instant now);
    void on_time(Instant now);
    [[nodiscard]] uint32_t transmit(Instant now, std::span<tcp::TxSegment> out);
    [[nodiscard]] uint32_t take_released(std::span<tcp::ByteRef> out);

    [[nodiscard]] const wire::FlowHeader& flow(ConnIndex index) const;

    /// Where the bytes of a slice lie; dma_mapped: a NIC may read them in place.
    struct SliceBytes {
        const std::byte* data = nullptr;
        bool dma_mapped       = false;
    };

    [[nodiscard]] SliceBytes slice_bytes(const tcp::SendSlice& slice) const;
    /// hold_item and drop_item count the packets in NIC queues that refer to a send's memory: its
    /// completion waits for them.  A dropped item may be one whose connection is closed long since.
    void hold_item(ItemIndex item);
    void drop_item(ItemIndex item);

    // ---------------------------------------------------------------- figures

    [[nodiscard]] tcp::Engine& engine();

    struct Counters {
        uint64_t holds                = 0;
        uint64_t offloads             = 0;
        uint64_t terminates           = 0;
        uint64_t forwards             = 0;  ///< segments that hosts had received
        uint64_t graceful_disconnects = 0;
        uint64_t abortive_disconnects = 0;
        uint64_t refused_requests     = 0;
        uint64_t orphans              = 0;  ///< connections whose host went away
        uint64_t time_waits           = 0;
        uint64_t advices              = 0;  ///< uploads asked for with an optional reason
        uint64_t time_waits_cut_short = 0;  ///< before 2MSL: the table was full
        uint64_t waits                = 0;  ///< polls that left requests for want of a share
        std::array<uint64_t, queue::SessionShare::statuses> refusals{};  ///< by enum flue_status
    };

    [[nodiscard]] const Counters& counters() const;

    struct ConnectionInfo {
        ConnIndex index     = tcp::no_conn;
        flue_conn handle    = FLUE_NO_CONN;
        OffloadState state  = OffloadState::free;
        uint32_t session_id = 0;
        Instant since;
        wire::FlowKey key;
        tcp::Engine::Info tcp;
    };

    /// list writes the connections at or after `from` and returns how many; for telemetry, in
    /// bounded steps.
    [[nodiscard]] uint32_t list(ConnIndex from, std::span<ConnectionInfo> out) const;

    /// Objects in use; all zero when every host has gone and every offload has ended.
    struct Usage {
        tcp::Engine::Usage tcp;
        uint32_t held           = 0;
        uint32_t receive_items  = 0;
        uint32_t initiates      = 0;  ///< that wait for the intake to open
        uint32_t time_waits     = 0;
        uint32_t nic_references = 0;
        uint32_t paths          = 0;
        uint32_t neighbors      = 0;
    };

    [[nodiscard]] Usage usage() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

const char* to_string(OffloadState state);

}  // namespace flue::chimney
