#include "target/drain.hpp"

#include <atomic>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

namespace flue::target {

using queue::Message;
using queue::MessageType;
using queue::SessionStatus;

namespace {

constexpr auto known_flags = static_cast<uint32_t>(queue::DrainFlag::abort_at_deadline);

/// Closings that wait, in a thread each.  Past this SO_LINGER is switched off: a sender who has
/// had so many sockets refused and closed may not hold others up.
constexpr int closings_max = 16;
std::atomic<int> closings{0};

bool lingers(int fd) {
    linger value{};
    socklen_t length = sizeof(value);
    return ::getsockopt(fd, SOL_SOCKET, SO_LINGER, &value, &length) == 0 && value.l_onoff != 0 &&
           value.l_linger > 0;
}

void* close_and_count(void* fd) {
    ::close(static_cast<int>(reinterpret_cast<intptr_t>(fd)));
    closings.fetch_sub(1, std::memory_order_relaxed);
    return nullptr;
}

void close_without_waiting(UniqueFd fd) {
    if (!lingers(fd.get())) {
        return;
    }
    pthread_t thread{};
    if (closings.fetch_add(1, std::memory_order_relaxed) < closings_max &&
        pthread_create(&thread,
                       nullptr,
                       close_and_count,
                       reinterpret_cast<void*>(static_cast<intptr_t>(fd.get()))) == 0) {
        (void)fd.release();
        pthread_detach(thread);
        return;
    }
    closings.fetch_sub(1, std::memory_order_relaxed);
    queue::let_go(fd.get());
}

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
