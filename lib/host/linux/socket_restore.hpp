#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <sys/uio.h>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "flue/abi.h"
#include "host/linux/socket_options.hpp"

namespace flue::host {

/// The bytes that belong to a connection's state.
struct QueueContents {
    std::span<const std::byte>
        receive;  ///< undelivered, the bytes just left of rcv_nxt (and of the peer's FIN)
    std::span<const iovec> send;  ///< from snd_una on; what lies before snd_max counts as sent
};

/// SocketRestore makes a kernel socket of a connection's state: ESTABLISHED or CLOSE-WAIT.
///
/// In CLOSE-WAIT the kernel gets the connection as it was before the peer's FIN, because a socket
/// can be restored as ESTABLISHED only; whoever has the wire then shows it a FIN at rcv_nxt - 1
/// (FLUE_WR_REPLAY_FIN).
///
/// The kernel accepts no congestion window, no round trip time and no ts_recent: it starts those
/// afresh, which is safe.
class SocketRestore {
  public:
    /// prepare does what can be refused while the connection still lives elsewhere: a socket in
    /// repair mode, bound, with buffers for `state`'s windows and backlogs.  Nothing is sent, the
    /// 4-tuple is not yet in the kernel's tables. Errors:
    ///   EOPNOTSUPP     tcp_state is neither ESTABLISHED nor CLOSE-WAIT
    ///   EPERM          no CAP_NET_ADMIN in this network namespace
    ///   EADDRNOTAVAIL  the local address is not on this host
    ///   ENOBUFS        the backlogs do not fit: larger ones than net.core.wmem_max or rmem_max
    ///   need CAP_NET_ADMIN in
    ///                  the initial user namespace
    ///   EMFILE, ENOMEM ...  as socket(2)
    static Result<SocketRestore, HandoffError> prepare(const flue_state& state);

    /// complete brings the connection to life and returns its descriptor; unsent bytes leave at
    /// once.  `state` is newer than that given to prepare, of the same connection.  On an error the
    /// socket is closed without a segment and nothing was sent.  Errors: EOPNOTSUPP, ENOBUFS as
    /// above; EADDRNOTAVAIL: the kernel has this 4-tuple already; ENETUNREACH: no route.
    Result<UniqueFd, HandoffError> complete(const flue_state& state, const QueueContents& contents);

  private:
    explicit SocketRestore(UniqueFd fd) : fd_(std::move(fd)) {}

    UniqueFd fd_;
    int send_buffer_bytes_ = 0;  ///< SO_SNDBUF as the kernel chose it
};

}  // namespace flue::host
