#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/index_list.hpp"
#include "base/instant.hpp"
#include "base/timer_wheel.hpp"
#include "chimney/chimney.hpp"

/// The objects behind the contract.  Everything is an element of an array that is sized once, named
/// by its index.
namespace flue::chimney {

using RequestIndex                = uint32_t;
constexpr RequestIndex no_request = UINT32_MAX;
using QueueIndex                  = uint16_t;
constexpr QueueIndex no_queue     = UINT16_MAX;

/// Why a connection is on the list of its queue's pending events.
enum EventBit : uint8_t {
    event_peer_fin       = 0x01,
    event_abort          = 0x02,
    event_upload         = 0x04,
    event_data_available = 0x08,
    event_drain_deadline = 0x10,
    event_send_backlog   = 0x20,
};

enum ConnectionFlag : uint16_t {
    flag_keep_time_wait = 0x001,  ///< OFFLOAD asked that the target run 2MSL
    flag_send_closed    = 0x002,  ///< a graceful disconnect was posted
    flag_send_broken    = 0x004,  ///< a send was refused: nothing after it may overtake it.  R40
    flag_peer_fin_told  = 0x008,  ///< FLUE_EVENT_DISCONNECT is posted or was never due.  R58
    flag_data_told      = 0x010,  ///< FLUE_EVENT_DATA_AVAILABLE is posted or pending.  R53
    flag_pushed         = 0x020,  ///< the last data that waits had PSH
    flag_on_event_list  = 0x040,
    flag_reset          = 0x080,  ///< RST either way: outstanding requests complete as aborted
    flag_terminating    = 0x100,  ///< TERMINATE was taken
    flag_rst_sent       = 0x200,
    flag_stopped        = 0x400,  ///< terminating, and what was owed to the peer has been sent
    flag_deadline_abort = 0x800,  ///< when the drain deadline passes: abort
    flag_on_revisit     = 0x1000,
    flag_keep_held      = 0x2000,  ///< TERMINATE asked to go on keeping the flow's packets
    flag_on_path        = 0x8000,  ///< it hangs on a path
    flag_fin_unclaimed  = 0x4000,  ///< the giver had sent its FIN; a DISCONNECT may stand for it
};

/// One offloaded or held connection.  The TCP state is the engine's, under the same index.
struct Connection {
    uint64_t host_handle = 0;
    Instant since;  ///< of HOLD or OFFLOAD
    uint32_t generation         = 0;
    QueueIndex queue            = no_queue;
    OffloadState state          = OffloadState::free;
    uint8_t events              = 0;  ///< EventBit: not posted yet for want of room
    uint16_t flags              = 0;
    uint16_t upload_reason      = 0;           ///< flue_upload_reason
    RequestIndex receives_front = no_request;  ///< posted RECVs, FIFO
    RequestIndex receives_back  = no_request;
    RequestIndex waiting_front =
        no_request;  ///< requests that wait for the sends before them, FIFO
    RequestIndex waiting_back = no_request;
    ConnIndex previous    = tcp::no_conn;  ///< of the same queue; `next` also links the free list
    ConnIndex next        = tcp::no_conn;
    ConnIndex next_event  = tcp::no_conn;
    uint32_t backlog_told = 0;       ///< bytes: wanted_backlog when it was last told
    uint32_t push_deadline_ms  = 0;  ///< 0 = not running
    uint32_t drain_deadline_ms = 0;
    uint32_t timer_due_ms      = 0;  ///< the earlier of the two; 0 = not in the wheel
    TimerLink timer;
    bool discards   = false;  ///< held: the flow's packets are dropped
    bool gives_back = false;  ///< it stands still, and its requests complete without TERMINATE
};

static_assert(sizeof(Connection) <= 88);

/// What belongs to one send item of the engine, under the same index.
struct SendWork {
    uint64_t wr_id          = 0;
    uint32_t region_key     = 0;
    uint32_t bytes_before   = 0;  ///< acknowledged bytes of the request's earlier items
    ConnIndex conn          = tcp::no_conn;
    uint16_t nic_references = 0;
    uint8_t opcode          = 0;     ///< 0: the target's own, nobody waits for it
    bool last               = true;  ///< of its request's items
    bool dma_mapped         = false;
    bool has_region         = false;
    uint8_t reserved[2]{};
};

static_assert(sizeof(SendWork) == 32);

/// A request that waits: a RECV, or one that takes its turn behind the sends (a refused send, an
/// abort, TERMINATE).
struct Request {
    flue_wr wr{};
    std::byte* data    = nullptr;       ///< where sge[0] lies
    std::byte* backlog = nullptr;       ///< TERMINATE: where sge[1] lies
    uint32_t filled    = 0;             ///< RECV: bytes placed
    uint8_t status     = FLUE_SUCCESS;  ///< a refusal that waits for its turn
    RequestIndex next  = no_request;
    // a held connection after TERMINATE: what its RELEASE needs to show the kernel the peer's FIN
    // again
    Seq rcv_nxt;
    Seq snd_nxt;
    uint32_t ts_recent = 0;
    uint32_t ts_time   = 0;
    uint16_t window    = 0;  ///< as in the header
    bool timestamps    = false;
};

/// A segment that a host forwarded: the header a copy, the payload still in the host's memory.
struct ForwardedSegment {
    wire::TcpFields tcp;
    std::span<const std::byte> payload;
};

/// What a queue's host has not been told yet about the intake.
enum QueueEventBit : uint8_t {
    queue_event_pause      = 0x01,
    queue_event_upload_all = 0x02,
    queue_event_resume     = 0x04,
};

inline uint8_t event_of(Intake intake) {
    switch (intake) {
        case Intake::open:
            return queue_event_resume;
        case Intake::paused:
            return queue_event_pause;
        case Intake::uploading_all:
            return queue_event_upload_all;
    }
    return 0;
}

/// A queue that is attached, and the connections that belong to it.
struct QueueSlot {
    queue::TargetQueue* queue    = nullptr;
    ConnIndex connections        = tcp::no_conn;
    ConnIndex events_front       = tcp::no_conn;
    ConnIndex events_back        = tcp::no_conn;
    uint32_t paths               = no_index;
    uint32_t neighbors           = no_index;
    ConnIndex next_orphan        = tcp::no_conn;  ///< once lost: where making orphans goes on
    ConnIndex next_reattached    = tcp::no_conn;  ///< where telling the next host goes on
    ConnIndex next_relieved      = tcp::no_conn;  ///< where looking for what stands still goes on
    uint32_t region_references   = 0;
    RequestIndex initiates_front = no_request;  ///< HOLDs and OFFLOADs that wait, FIFO
    RequestIndex initiates_back  = no_request;
    uint8_t events               = 0;  ///< QueueEventBit
    uint32_t requests_counted    = 0;  ///< of its outstanding ones, in the session's figure
    uint32_t blocks_walked       = 0;  ///< of trees, more than a turn's share of them
    bool lost                    = false;
    HostLoss policy              = HostLoss::drain;
};

}  // namespace flue::chimney
