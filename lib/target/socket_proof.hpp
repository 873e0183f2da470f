#pragma once

#include <cstdint>
#include <optional>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "queue/session_protocol.hpp"
#include "wire/fields.hpp"

namespace flue::target {

/// own_network returns what SO_NETNS_COOKIE says of the network namespace that the calling thread
/// is in; nothing where the kernel does not say (before Linux 5.14).
std::optional<uint64_t> own_network();

/// prove_socket returns the 4-tuple of which having `fd` shows the ownership: a TCP socket in a
/// synchronized state, of the network namespace `network`.  Of another one it shows nothing, as
/// anybody makes namespaces of his own and sockets with any addresses in them.  Any descriptor is
/// legal.  Errors: bad_socket.  Cost: some system calls; none waits for anybody.
Result<wire::FlowKey, queue::SessionStatus> prove_socket(int fd, uint64_t network);

/// close_without_waiting closes a socket that was shown, with its options as they are: they are its
/// owner's, who may have it still.  Where he has not, SO_LINGER would have close() wait.
void close_without_waiting(UniqueFd fd);

}  // namespace flue::target
