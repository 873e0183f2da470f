#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "flue/flue.h"
#include "pattern.hpp"
#include "testbed/process.hpp"

/// The processes that are killed, and those that take up what they leave.
namespace flue::killed {

/// Where a connection is when its host is killed.
enum class Step : uint8_t {
    held,             ///< HOLD is done
    frozen,           ///< and the kernel's socket is stopped (TCP_REPAIR), before OFFLOAD
    offloaded,        ///< nothing was posted
    sending,          ///< more SENDs than the peer's window has room for
    posting,          ///< in the middle of posting SENDs, at any instruction
    receiving,        ///< a RECV is partly filled
    full_completion,  ///< the completion ring is full, requests wait in the submission ring
    deregistering,    ///< the destruction of a region waits for a RECV
    disconnecting,    ///< graceful, and much of the data is to be sent yet
    fin_wait_2,
    close_wait,
    terminating,  ///< TERMINATE is posted behind SENDs
    kept_held,    ///< TERMINATE with KEEP_HELD is done
};

/// The stream: pieces of one length, of which the region has so many.
constexpr uint32_t piece_bytes    = 1000;
constexpr uint32_t pieces_max     = 4000;
constexpr uint64_t sending_bytes  = 1'000'000;
constexpr uint64_t full_bytes     = 40 * piece_bytes;
constexpr uint32_t received_bytes = 64 * 1024;  ///< of the RECV of step receiving
constexpr uint64_t host_seed      = 1;
constexpr uint64_t peer_seed      = 2;

struct Plan {
    Step step               = Step::offloaded;
    flue_host_loss policy   = FLUE_LOSS_DRAIN;
    uint32_t hold_ms        = 0;
    std::string socket_path = {};
};

/// live_until_killed is a host that brings connected socket `fd` to the step, reports the token and
/// "ready", and goes on until it is killed.
void live_until_killed(const Plan& plan, int fd, const testbed::Report& report);

/// take_up is the host after it: it finds the connection, sends what is missing up to `bytes` of
/// the stream, closes gracefully, ends the offload, and reports "done".  Errors:
/// std::runtime_error.
void take_up(const Plan& plan,
             const std::string& token,
             uint64_t bytes,
             const testbed::Report& report);

}  // namespace flue::killed
