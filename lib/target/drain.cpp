#include "target/drain.hpp"

#include <sys/socket.h>
#include <utility>

#include "target/socket_proof.hpp"

namespace flue::target {

using queue::Message;
using queue::MessageType;
using queue::SessionStatus;

namespace {

constexpr auto known_flags = static_cast<uint32_t>(queue::DrainFlag::abort_at_deadline);

}  // namespace

void offer_drain(DrainTaker* taker, DrainRequest&& request) {
    const Message& message = request.received.message;
    if (message.version != queue::session_protocol_version) {
        return refuse_drain(std::move(request), SessionStatus::bad_version);
    }
    if (request.received.fd_count != 1 || (message.flags & ~known_flags) != 0) {
        return refuse_drain(std::move(request), SessionStatus::bad_message);
    }
    if (taker == nullptr) {
        return refuse_drain(std::move(request), SessionStatus::not_permitted);
    }
    taker->take(std::move(request));
}

void refuse_drain(DrainRequest&& request, SessionStatus status, int error) {
    for (UniqueFd& fd : request.received.fds) {
        if (fd.valid()) {
            close_without_waiting(std::move(fd));
        }
    }
    reply_to_drain(request, status, error);
}

bool is_drain(int socket_fd) {
    Message message;
    // Without a place for descriptors the copy of the message comes without them.
    const ssize_t size =
        ::recv(socket_fd, &message, sizeof(message), MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC);
    return size == sizeof(message) && message.type == static_cast<uint16_t>(MessageType::drain);
}

void reply_to_drain(const DrainRequest& request, SessionStatus status, int error) {
    Message answer                   = request.received.message;
    answer.version                   = queue::session_protocol_version;
    answer.status                    = static_cast<uint16_t>(status);
    answer.error                     = static_cast<uint32_t>(error);
    [[maybe_unused]] const auto sent = queue::send_message(request.socket.get(), answer);
}

}  // namespace flue::target
