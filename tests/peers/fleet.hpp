#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pattern.hpp"
#include "rig.hpp"
#include "testbed/descriptor.hpp"

namespace flue::peers {

/// modest_target: it runs on any CPU and sleeps when there is nothing to do, so that what else the
/// machine does delays it as little as the kernel.
testbed::FluedOptions modest_target();

/// How the host's end of a connection comes to its end.
enum class Ending : uint8_t {
    closes_first,  ///< DISCONNECT right behind the last SEND
    closes_last,   ///< DISCONNECT after the peer's FIN
    aborts,        ///< DISCONNECT with FLUE_WR_ABORT when enough has been received
    is_aborted,    ///< by the peer
};

/// What the host's end of a connection does.  The streams are pieces of two patterns.
struct HostPlan {
    uint64_t bytes_to_send     = 0;
    uint64_t send_from         = 0;
    uint64_t expect_from       = 0;
    Ending ending              = Ending::closes_first;
    uint64_t abort_after_bytes = 0;  ///< received, with Ending::aborts
    uint64_t kernel_bytes      = 0;  ///< of bytes_to_send: written to the kernel's socket before
    uint32_t rcv_wnd_max       = 0;  ///< as in flue_socket_offload_options
};

/// How it went.
struct HostResult {
    uint64_t bytes_received = 0;
    bool bytes_right        = true;
    bool saw_fin            = false;
    bool saw_rst            = false;
    uint8_t disconnect      = 0;  ///< status of the DISCONNECT
    uint64_t wrong_statuses = 0;  ///< of SEND, RECV and TERMINATE, for this ending
};

/// Fleet is a host with many offloaded connections at a time, all on one queue.  It sends out of
/// the pattern itself, which lies in its region once, so that a stream of any length can be posted
/// at once.
class Fleet {
  public:
    Fleet(const e2e::Rig& rig,
          const e2e::Pattern& sends,
          const e2e::Pattern& expects,
          uint32_t connections_max);

    /// Hands a socket over and begins.  Returns the connection's slot.  Pre: one is free.  Errors:
    /// std::runtime_error.
    uint32_t start(testbed::Descriptor socket, const HostPlan& plan);

    /// Deals with what has been completed, waiting at most `timeout_ms` for the first.
    void turn(int timeout_ms);
    /// turn() until the connection has ended and the host has it no more; frees the slot.  Errors:
    /// std::runtime_error when nothing has been completed for 60 s.
    HostResult finish(uint32_t slot);

    [[nodiscard]] bool ended(uint32_t slot) const { return ends_[slot].terminated; }

    /// How far it is, for an error message.
    [[nodiscard]] std::string progress(uint32_t slot) const;

  private:
    struct End {
        bool in_use    = false;
        flue_conn conn = FLUE_NO_CONN;
        HostPlan plan;
        HostResult result;
        uint64_t posted      = 0;
        uint32_t sends_left  = 0;
        uint32_t receives    = 0;  ///< RECVs outstanding
        uint8_t last_receive = 0;  ///< status of the last one
        bool disconnecting   = false;
        bool disconnected    = false;
        bool upload_wanted   = false;
        bool terminating     = false;
        bool terminated      = false;
    };

    [[nodiscard]] uint64_t memory_of(uint32_t slot) const;
    End* find(flue_conn conn);
    void post_receive(uint32_t slot, uint32_t buffer);
    void post_sends(End& end);
    void disconnect(End& end, uint8_t flags);
    void handle(const flue_wc& wc);
    void on_receive(uint32_t slot, const flue_wc& wc);
    void go_on(uint32_t slot);
    void compare(End& end, uint64_t at, uint32_t bytes);
    void take_back(uint32_t slot, const flue_wc& wc);

    const e2e::Pattern& expects_;
    std::vector<End> ends_;
    e2e::Session session_;
};

}  // namespace flue::peers
