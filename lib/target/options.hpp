#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chimney/advice.hpp"
#include "target/permissions.hpp"
#include "tcp/engine.hpp"

namespace flue::target {

/// What one session may take of the target.
struct Quotas {
    uint32_t sessions     = 64;       ///< of the whole target
    uint32_t queues       = 16;       ///< per session
    uint32_t regions      = 1024;     ///< per session
    uint64_t region_bytes = 1 << 30;  ///< per session, all regions together
    uint32_t ring_entries = 1 << 16;  ///< per ring
    uint32_t held_regions = 64;  ///< per session with the policy hold: each keeps a descriptor open
    // Per session and worker, within the part of the worker's pools that is the session's anyway.
    uint32_t connections = UINT32_MAX;
    uint32_t held        = 256;         ///< of them; 4-tuples claimed and not offloaded
    uint32_t requests    = UINT32_MAX;  ///< taken from the rings and not completed
};

/// What connections to be drained may take of the target, and how long they may keep it.
struct DrainLimits {
    uint32_t at_a_time    = 4096;  ///< 0 = none are taken
    uint32_t per_user     = 1024;
    uint64_t memory_bytes = 256 << 20;  ///< for what they have not sent yet
    uint32_t end_ms       = 2000;       ///< at SIGTERM, before those left are reset
};

/// How flued is set up: what stands after `--` on its command line.  Sizes are per worker.
struct Options {
    std::vector<std::string> ports;  ///< ethdev names
    std::vector<std::string>
        exception_taps;  ///< one a port; "none" = frames that are not offloaded are dropped
    std::vector<uint16_t> vlans;  ///< that connections may be tagged with; none = any
    std::string socket_path   = "/run/flued.sock";

    uint32_t connections      = 4096;
    uint32_t time_waits       = 16384;
    uint32_t send_items       = 16384;
    uint32_t receive_items    = 16384;
    uint32_t rx_mbufs         = 8192;
    uint16_t rx_descriptors   = 1024;
    uint16_t tx_descriptors   = 1024;
    uint32_t copy_below_bytes = 256;  ///< payloads up to this are copied beside the header
    uint32_t hold_packets     = 256;  ///< per held connection
    uint32_t time_wait_ms     = 60'000;
    uint32_t paths            = 4096;
    uint32_t neighbors        = 1024;
    uint32_t nce_stale_ms     = 0;  ///< as in chimney::Options
    uint32_t rcv_wnd_limit    = 16 << 20;
    uint32_t hold_ms          = 30'000;  ///< longest wait for the next host of a session
    /// Sleep of an idle worker; 0 = poll without a pause; unset = a pause if workers would take
    /// every CPU.
    std::optional<uint32_t> idle_sleep_us;
    tcp::CongestionControl congestion = tcp::CongestionControl::cubic;  ///< where hosts leave it
    bool pacing                       = false;
    chimney::AdviceOptions advice;
    Quotas quotas;
    Permissions permissions;
    DrainLimits drains;
};

}  // namespace flue::target
