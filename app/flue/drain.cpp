#include "flue/drain.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/unique_fd.hpp"
#include "queue/session_protocol.hpp"
#include "queue/session_socket.hpp"

namespace flue::cli {
namespace {

using queue::Message;
using queue::SessionStatus;

/// A next hop that does not answer takes a second, a target that ends a few.
constexpr int answer_ms = 15'000;

std::runtime_error cannot(const std::string& what) {
    return std::runtime_error(what + ": " + std::strerror(errno));
}

UniqueFd socket_of(pid_t pid, int fd) {
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!process.valid()) {
        throw cannot("process " + std::to_string(pid));
    }
    UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
    if (!copy.valid()) {
        throw cannot("descriptor " + std::to_string(fd) + " of process " + std::to_string(pid) +
                     " (taking it needs the right to trace that process)");
    }
    return copy;
}

Message ask(const DrainOptions& options, int connection) {
    auto target = queue::connect_to(options.socket_path.c_str());
    if (!target.ok()) {
        errno = target.error().code;
        throw cannot("no target at " + options.socket_path + " (is flued running?)");
    }
    Message message;
    message.type     = static_cast<uint16_t>(queue::MessageType::drain);
    message.drain_ms = options.drain_ms;
    message.flags =
        options.abort_at_limit ? static_cast<uint32_t>(queue::DrainFlag::abort_at_deadline) : 0;
    const int socket = target.value().get();
    const auto sent  = queue::send_message(socket, message, {&connection, 1});
    // A target that lets nobody of this user in says so without waiting for the message.
    if (!sent.ok() && sent.error() != queue::SocketError::closed) {
        throw cannot("the target took no message");
    }
    if (!queue::wait_readable(socket, answer_ms)) {
        throw std::runtime_error("the target does not answer: who has the socket is not known");
    }
    const auto answer = queue::receive_message(socket);
    if (!answer.ok()) {
        throw std::runtime_error(
            "the target ended the session: it stops, or has no room for another; see its log");
    }
    return answer.value().message;
}

const char* meaning(int error) {
    switch (error) {
        case EBADF:
        case ENOTSOCK:
        case EPROTOTYPE:
            return "this is no TCP socket";
        case ENOTCONN:
            return "it is not connected: it listens, is still connecting, or has ended";
        case ENONET:
            return "it belongs to another network namespace than the target";
        case ENETUNREACH:
            return "no route to the peer leaves through the target";
        case EHOSTUNREACH:
            return "the peer is on this host, or the next hop does not answer";
        case EOPNOTSUPP:
            return "kernel TLS, microsecond timestamps or a packet filter cannot be taken over";
        case EBUSY:
            return "urgent data waits on it: read that first";
        case EAGAIN:
            return "it did not stand still: somebody uses it";
        case EADDRINUSE:
            return "the target has a connection with these addresses and ports already";
        case EPERM:
            return "the target needs CAP_NET_ADMIN over its network namespace";
        case EACCES:
            return "the target's own session may not claim it: see flued's options";
        case ENOBUFS:
            return "its queues hold more than the target's --drain-bytes";
        case ENOMEM:
        case EDQUOT:
            return "the target has no room for another connection";
        default:
            return std::strerror(error);
    }
}

}  // namespace

std::string refusal_text(uint16_t status, uint32_t error) {
    const auto refusal = static_cast<SessionStatus>(status);
    if (refusal == SessionStatus::bad_socket || refusal == SessionStatus::refused) {
        return meaning(static_cast<int>(error));
    }
    if (refusal == SessionStatus::busy) {
        return "too much is being drained for this user, or altogether: try again";
    }
    if (refusal == SessionStatus::not_permitted) {
        return "this user may not, or the target drains nothing (flued's option --drains)";
    }
    return queue::to_string(refusal);
}

int drain(const DrainOptions& options) {
    const UniqueFd of_other = options.pid ? socket_of(*options.pid, options.fd) : UniqueFd{};
    const Message answer    = ask(options, options.pid ? of_other.get() : options.fd);
    if (answer.status == static_cast<uint16_t>(SessionStatus::ok)) {
        std::cout << "taken over: the target drains and closes the connection\n";
        return 0;
    }
    std::cout << "refused: " << refusal_text(answer.status, answer.error)
              << "; the socket is as it was\n";
    return 1;
}

}  // namespace flue::cli
