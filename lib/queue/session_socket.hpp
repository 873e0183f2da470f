#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <sys/types.h>

#include "base/result.hpp"
#include "base/system_error.hpp"
#include "base/unique_fd.hpp"
#include "queue/session_protocol.hpp"

namespace flue::queue {

constexpr uint32_t message_fds_max = 2;

/// let_go prepares a descriptor that a stranger sent for being closed: SO_LINGER would have the
/// last close() of a socket wait, as long as the stranger likes.
void let_go(int fd);

/// Received is one message and the descriptors that came with it, close-on-exec, owned.  Those that
/// are still here at its end are let go.
struct Received {
    Received() = default;
    ~Received();
    Received(Received&&) noexcept            = default;
    Received& operator=(Received&&) noexcept = default;

    Message message;
    std::array<UniqueFd, message_fds_max> fds;
    uint32_t fd_count = 0;
};

enum class SocketError : uint8_t {
    again,      ///< nothing to read, or no room to write, now
    closed,     ///< the other side is gone
    malformed,  ///< another size, or more descriptors than any message takes: end the session
    system,     ///< errno says what
};

const char* to_string(SocketError error);

/// Nothing is returned by calls that only can fail.
struct Done {};

/// receive_message takes one message if there is one; it never blocks.  Version, type and
/// descriptor count are the caller's to check; `name` is always NUL-terminated.  On an error every
/// descriptor that came is closed.
Result<Received, SocketError> receive_message(int socket_fd);

/// send_message sends one message with up to message_fds_max descriptors, which stay the caller's.
/// It never blocks and raises no SIGPIPE.
Result<Done, SocketError> send_message(int socket_fd,
                                       const Message& message,
                                       std::span<const int> fds = {});

/// hang_up ends a conversation: the other side can send no more, and what it has sent is read and
/// let go, so that closing the socket waits for nobody.
void hang_up(int socket_fd);

/// wait_readable waits until there is something to receive (or the other side is gone).  -1: for
/// ever. Returns false on time-out; a signal does not end it.
[[nodiscard]] bool wait_readable(int socket_fd, int timeout_ms);

struct PeerCredentials {
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
};

/// peer_credentials returns who connected (SO_PEERCRED).
Result<PeerCredentials, SystemError> peer_credentials(int socket_fd);

/// listen_at makes a non-blocking listening session socket with permission bits `mode` and, if
/// asked for, a group.  A socket file that nobody listens on any more is replaced.  Errors:
/// EADDRINUSE when somebody does; ENAMETOOLONG; EPERM when the group is not ours to give.
Result<UniqueFd, SystemError> listen_at(const char* path,
                                        mode_t mode,
                                        std::optional<gid_t> group = {});
/// connect_to connects to a session socket.
Result<UniqueFd, SystemError> connect_to(const char* path);

}  // namespace flue::queue
