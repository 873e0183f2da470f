#pragma once

#include <array>
#include <cstdint>

#include "base/result.hpp"
#include "flue/abi.h"
#include "host/linux/socket_options.hpp"

namespace flue::host {

/// NextHop is where the kernel would send a connection's packets.
struct NextHop {
    uint32_t interface = 0;  ///< index
    std::array<uint8_t, 6> mac{};
    uint16_t path_mtu =
        0;  ///< bytes of IP packet: the route's, what ICMP has told about the path included
};

/// find_next_hop asks the kernel's routing and neighbour tables; a neighbour entry that is missing
/// or stale beyond use is resolved (ARP, neighbour discovery) within wait_ms.  Reads the address
/// fields of `tuple`.  May block for wait_ms; with 0 it only sets going what is to be waited for.
///
/// `interface`: the one that the socket is bound to, 0 = any.
/// Errors: ENETUNREACH: no route; EHOSTUNREACH: the peer is local, or does not answer; EOPNOTSUPP:
/// the route leaves through an interface without Ethernet addresses; EPERM: resolving needs
/// CAP_NET_ADMIN; EINPROGRESS: wait_ms is 0 and the next hop has been asked for.
Result<NextHop, HandoffError> find_next_hop(const flue_state& tuple,
                                            uint32_t interface,
                                            uint32_t wait_ms);

}  // namespace flue::host
