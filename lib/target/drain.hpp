#pragma once

#include "base/unique_fd.hpp"
#include "queue/session_protocol.hpp"
#include "queue/session_socket.hpp"

namespace flue::target {

/// DrainRequest is a `drain` message as it came: what it says is not checked, and the descriptor
/// may be anything.
struct DrainRequest {
    queue::Received received;
    UniqueFd socket;  ///< the session socket it came on, for the reply
    queue::PeerCredentials peer;
};

/// DrainTaker is whoever drains connections that the control thread is asked to drain.
/// Thread: the control thread calls all of it; no call may block.
class DrainTaker {
  public:
    virtual ~DrainTaker() = default;

    /// take owes the sender one reply.
    virtual void take(DrainRequest&& request) = 0;
    /// finish says that the target is about to end: no more are taken, what is under way has to
    /// come to its end.
    virtual void finish() = 0;
    /// finished tells, after finish, that the target may end.
    [[nodiscard]] virtual bool finished() const = 0;
};

/// offer_drain has the taker take a well-formed request, and answers others itself.  Null: this
/// target takes none.
void offer_drain(DrainTaker* taker, DrainRequest&& request);

/// is_drain tells whether the first message of a session socket has come and is `drain`.  The
/// message stays where it is.
[[nodiscard]] bool is_drain(int socket_fd);

/// reply_to_drain answers.  A sender who has gone does not mind.
void reply_to_drain(const DrainRequest& request, queue::SessionStatus status, int error = 0);

/// refuse_drain lets go of the socket, then answers: who is told so is its only owner again, with
/// its options as they were.  It does not wait, even where the last close() of the socket does
/// (SO_LINGER).
void refuse_drain(DrainRequest&& request, queue::SessionStatus status, int error = 0);

}  // namespace flue::target
