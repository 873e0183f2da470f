#pragma once

#include <array>
#include <cstdint>

#include "tcp/engine.hpp"

namespace flue::target {

/// What RFC 4022 and RFC 4293 count, but of offloaded connections only: of one port and IP version.
/// It all wraps.  R118, R119
struct TcpStats {
    uint64_t in_segments            = 0;  ///< those in error too
    uint64_t in_errors              = 0;  ///< bad checksum
    uint64_t in_octets              = 0;  ///< of IP datagrams
    uint64_t out_segments           = 0;  ///< without those that only repeat
    uint64_t retransmitted_segments = 0;  ///< that repeat something
    uint64_t out_resets             = 0;
    uint64_t out_datagrams          = 0;  ///< all that was sent
    uint64_t out_octets             = 0;  ///< of IP datagrams
    uint64_t established_reset      = 0;
    uint64_t established            = 0;  ///< ESTABLISHED and CLOSE-WAIT, now

    /// since returns what was counted after `start`; what is so now is not counted from anywhere.
    [[nodiscard]] TcpStats since(const TcpStats& start) const;
    void add(const TcpStats& other);
};

constexpr uint32_t ip_versions = 2;
constexpr uint32_t ports_max   = tcp::Engine::groups_max / ip_versions;

/// Of one port: IPv4, IPv6.
using PortTcpStats = std::array<TcpStats, ip_versions>;

}  // namespace flue::target
