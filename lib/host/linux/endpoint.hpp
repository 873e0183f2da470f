#pragma once

#include <cstdint>
#include <span>
#include <sys/socket.h>

#include "flue/abi.h"
#include "host/linux/socket_options.hpp"

namespace flue::host {

/// Endpoint is an address and a port as the kernel takes them.
struct Endpoint {
    sockaddr_storage storage{};
    socklen_t length = 0;

    [[nodiscard]] const sockaddr* get() const {
        return reinterpret_cast<const sockaddr*>(&storage);
    }
};

/// read_endpoints fills family, addresses and ports of a connected socket into `state`.  IPv4 on an
/// IPv6 socket
/// (::ffff:a.b.c.d) becomes family 4: on the wire it is IPv4.
[[nodiscard]] HandoffError read_endpoints(int fd, flue_state& state);

/// local_endpoint and remote_endpoint are the inverse.  A link-local IPv6 address gets the scope of
/// the interface that has the local address; scope 0 (which the kernel refuses) if none has.
[[nodiscard]] Endpoint local_endpoint(const flue_state& state);
[[nodiscard]] Endpoint remote_endpoint(const flue_state& state);

/// address_bytes returns the part of an address field that the family uses: 4 or 16 bytes, network
/// order.
[[nodiscard]] std::span<const uint8_t> address_bytes(const flue_state& state,
                                                     const uint8_t (&field)[16]);

}  // namespace flue::host
