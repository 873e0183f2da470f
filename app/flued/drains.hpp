#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "drain_counters.hpp"
#include "drain_memory.hpp"
#include "flue/abi.h"

namespace flue {

/// Drains is the host of connections that are being drained.  Requests go into an outbox and
/// completions come in as arguments, so it needs no target.
///
///   start --> draining --DISCONNECT done--> peer's FIN awaited --it came, or its time is up--+
///                |                                                                            v
///                +--deadline, with abort: RST --done--> + <--RST, give up, upload request--
///                TERMINATE
///
/// Nobody reads what the peer still sends: it is received and thrown away.
/// Thread: one.
class Drains {
  public:
    /// Scratch is memory for what is thrown away: `bytes` for each worker, one behind the other.
    struct Scratch {
        uint32_t mr    = 0;
        uint32_t bytes = 0;
    };

    Drains(uint32_t capacity, const Scratch& scratch, DrainCounters& counters);

    struct Terms {
        uint32_t uid           = 0;
        int64_t deadline_ms    = 0;  ///< 0 = none
        bool abort_at_deadline = false;
    };

    /// reserve returns the host_handle of a drain that is to start.  Pre: not full.
    [[nodiscard]] uint64_t reserve();
    /// cancel gives up what was reserved, or in use by a target that has gone.
    void cancel(uint64_t handle);

    struct Start {
        flue_conn conn = FLUE_NO_CONN;
        DrainMemory::Piece memory;       ///< the first bytes become the state block
        bool peer_fin          = false;  ///< it has been received and everything before it read
        bool disconnect_posted = false;
    };

    /// start takes over a connection that the target has; its unacknowledged bytes are posted.
    void start(uint64_t handle, const Terms& terms, const Start& start);
    void on_completion(int64_t now_ms, const flue_wc& wc);
    /// on_time does what deadlines ask for.
    void on_time(int64_t now_ms);
    /// abort_all resets what is not drained yet, and lets go of the rest.
    void abort_all();

    /// What is to be posted, in this order.
    [[nodiscard]] std::deque<flue_wr>& outbox() { return outbox_; }

    struct Ended {
        uint32_t uid = 0;
        DrainMemory::Piece memory;
    };

    [[nodiscard]] std::vector<Ended> take_ended() { return std::exchange(ended_, {}); }

    [[nodiscard]] uint32_t count() const { return count_; }

    [[nodiscard]] std::optional<int64_t> next_deadline_ms() const;

  private:
    struct Drain {
        uint32_t generation = 1;
        bool in_use         = false;
        bool sent           = false;  ///< every byte and the FIN are acknowledged
        bool peer_fin       = false;
        bool peer_reset     = false;
        bool terminating    = false;
        std::optional<DrainCount> aborting;  ///< why
        Terms terms;
        flue_conn conn = FLUE_NO_CONN;
        DrainMemory::Piece memory;
        uint64_t handle = 0;
    };

    [[nodiscard]] Drain* find(uint64_t handle);
    void post(const Drain& drain, uint8_t opcode, uint64_t wr_id = 0, uint8_t flags = 0);
    void receive(const Drain& drain, uint32_t bytes);
    void disconnected(int64_t now_ms, Drain& drain, const flue_wc& wc);
    void upload_requested(Drain& drain, uint16_t reason);
    void abort(Drain& drain, DrainCount why);
    void terminate(Drain& drain);
    void terminated(Drain& drain, const flue_wc& wc);
    void set_deadline(Drain& drain, int64_t deadline_ms);
    void free(Drain& drain);
    [[nodiscard]] static DrainCount outcome(const Drain& drain);
    [[nodiscard]] flue_sge scratch(const Drain& drain, uint32_t bytes) const;

    Scratch scratch_;
    DrainCounters& counters_;
    std::vector<Drain> drains_;
    std::vector<uint32_t> unused_;
    std::set<std::pair<int64_t, uint64_t>> deadlines_;  ///< and handles
    std::deque<flue_wr> outbox_;
    std::vector<Ended> ended_;
    uint32_t count_ = 0;
};

}  // namespace flue
