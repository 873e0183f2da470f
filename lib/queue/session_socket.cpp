#include "queue/session_socket.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <utility>

#include "base/assert.hpp"

namespace flue::queue {

namespace {

/// As many descriptors as the kernel passes at once (SCM_MAX_FD): what does not fit into the buffer
/// it would close by itself, and wait for what lingers.
constexpr size_t descriptors_max = 253;
constexpr size_t control_bytes   = CMSG_SPACE(descriptors_max * sizeof(int));
/// More messages than a socket's buffer can hold.
constexpr uint32_t messages_max = 512;

SocketError from_errno() {
    switch (errno) {
        case EAGAIN:
            return SocketError::again;
        case EPIPE:
        case ECONNRESET:
            return SocketError::closed;
        default:
            return SocketError::system;
    }
}

/// take_descriptors makes `received` the owner of every descriptor in the control data.
/// Returns false when there are more than fit, which then are closed.
bool take_descriptors(msghdr& header, Received& received) {
    bool all = true;
    for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
         part          = CMSG_NXTHDR(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
            UniqueFd owned(fd);
            if (received.fd_count == message_fds_max) {
                let_go(owned.get());
                all = false;
                continue;
            }
            received.fds[received.fd_count++] = std::move(owned);
        }
    }
    return all && (header.msg_flags & MSG_CTRUNC) == 0;
}

Result<sockaddr_un, SystemError> socket_address(const char* path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (std::strlen(path) >= sizeof(address.sun_path)) {
        return SystemError{ENAMETOOLONG, "socket path"};
    }
    std::strcpy(address.sun_path, path);
    return address;
}

Result<UniqueFd, SystemError> session_socket() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!fd.valid()) {
        return SystemError::last("socket");
    }
    return fd;
}

int bind_to(int fd, const sockaddr_un& address) {
    return ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

/// remove_stale unlinks a socket file that nobody listens on.
bool remove_stale(const char* path) {
    struct stat status {};

    if (::lstat(path, &status) != 0 || !S_ISSOCK(status.st_mode)) {
        return false;
    }
    const auto probe = connect_to(path);
    return !probe.ok() && probe.error().code == ECONNREFUSED && ::unlink(path) == 0;
}

}  // namespace

const char* to_string(SocketError error) {
    switch (error) {
        case SocketError::again:
            return "would block";
        case SocketError::closed:
            return "closed by the other side";
        case SocketError::malformed:
            return "malformed message";
        case SocketError::system:
            return "system error";
    }
    return "unknown";
}

const char* to_string(SessionStatus status) {
    switch (status) {
        case SessionStatus::ok:
            return "ok";
        case SessionStatus::bad_version:
            return "protocol version not supported";
        case SessionStatus::bad_message:
            return "bad message";
        case SessionStatus::quota:
            return "session quota reached";
        case SessionStatus::no_memory:
            return "target out of memory";
        case SessionStatus::not_sealed:
            return "memfd is not sealed against shrinking";
        case SessionStatus::bad_descriptor:
            return "descriptor is not a writable memfd";
        case SessionStatus::bad_key:
            return "no such key";
        case SessionStatus::not_permitted:
            return "not permitted";
        case SessionStatus::bad_socket:
            return "no TCP connection that can be taken over";
        case SessionStatus::bad_token:
            return "no session waits for this token";
        case SessionStatus::busy:
            return "busy";
        case SessionStatus::refused:
            return "refused";
        case SessionStatus::shutting_down:
            return "target is shutting down";
    }
    return "unknown";
}

void let_go(int fd) {
    linger lingering{};
    socklen_t length = sizeof(lingering);
    if (::getsockopt(fd, SOL_SOCKET, SO_LINGER, &lingering, &length) == 0 &&
        lingering.l_onoff != 0 && lingering.l_linger > 0) {
        const linger off{};
        (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
    }
}

Received::~Received() {
    for (const UniqueFd& fd : fds) {
        if (fd.valid()) {
            let_go(fd.get());
        }
    }
}

void hang_up(int socket_fd) {
    ::shutdown(socket_fd, SHUT_RDWR);
    for (uint32_t i = 0; i < messages_max; ++i) {
        const auto received = receive_message(socket_fd);
        if (!received.ok() &&
            (received.error() == SocketError::again || received.error() == SocketError::system)) {
            return;
        }
    }
}

Result<Received, SocketError> receive_message(int socket_fd) {
    Received received;
    alignas(cmsghdr) char control[control_bytes];
    iovec data{&received.message, sizeof(received.message)};
    msghdr header{};
    header.msg_iov        = &data;
    header.msg_iovlen     = 1;
    header.msg_control    = control;
    header.msg_controllen = sizeof(control);

    ssize_t size          = 0;
    do {
        size = ::recvmsg(socket_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
        return from_errno();
    }
    const bool descriptors_fit = take_descriptors(header, received);
    if (size == 0) {
        return SocketError::closed;
    }
    if (!descriptors_fit || size != sizeof(Message) || (header.msg_flags & MSG_TRUNC) != 0) {
        return SocketError::malformed;
    }
    received.message.name[sizeof(received.message.name) - 1] = '\0';
    return received;
}

Result<Done, SocketError> send_message(int socket_fd,
                                       const Message& message,
                                       std::span<const int> fds) {
    FLUE_ASSERT(fds.size() <= message_fds_max);
    Message copy = message;
    iovec data{&copy, sizeof(copy)};
    alignas(cmsghdr) char control[control_bytes] = {};
    msghdr header{};
    header.msg_iov    = &data;
    header.msg_iovlen = 1;
    if (!fds.empty()) {
        header.msg_control    = control;
        header.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* part         = CMSG_FIRSTHDR(&header);
        part->cmsg_level      = SOL_SOCKET;
        part->cmsg_type       = SCM_RIGHTS;
        part->cmsg_len        = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(part), fds.data(), fds.size_bytes());
    }
    ssize_t size = 0;
    do {
        size = ::sendmsg(socket_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
        return from_errno();
    }
    return Done{};
}

bool wait_readable(int socket_fd, int timeout_ms) {
    using Clock         = std::chrono::steady_clock;
    const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
    int left_ms         = timeout_ms;
    pollfd item{socket_fd, POLLIN, 0};
    while (true) {
        const int ready = ::poll(&item, 1, left_ms);
        if (ready > 0) {
            return true;
        }
        if (ready == 0 || errno != EINTR) {
            return false;
        }
        if (timeout_ms >= 0) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
            left_ms         = left.count() > 0 ? static_cast<int>(left.count()) : 0;
        }
    }
}

Result<PeerCredentials, SystemError> peer_credentials(int socket_fd) {
    ucred credentials{};
    socklen_t length = sizeof(credentials);
    if (::getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
        return SystemError::last("getsockopt(SO_PEERCRED)");
    }
    return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

Result<UniqueFd, SystemError> listen_at(const char* path, mode_t mode, std::optional<gid_t> group) {
    const auto address = socket_address(path);
    if (!address.ok()) {
        return address.error();
    }
    auto made = session_socket();
    if (!made.ok()) {
        return made;
    }
    const int fd = made.value().get();
    // fchmod before bind sets the mode of the socket file that bind makes, so it never is more open
    // than asked for.
    if (::fchmod(fd, mode) != 0) {
        return SystemError::last("fchmod");
    }
    if (bind_to(fd, address.value()) != 0) {
        const SystemError error = SystemError::last("bind");
        if (error.code != EADDRINUSE || !remove_stale(path) || bind_to(fd, address.value()) != 0) {
            return error;
        }
    }
    constexpr auto same_owner = static_cast<uid_t>(-1);
    if (group && ::chown(path, same_owner, *group) != 0) {
        return SystemError::last("chown");
    }
    if (::chmod(path, mode) != 0) {
        return SystemError::last("chmod");
    }
    if (::listen(fd, SOMAXCONN) != 0) {
        return SystemError::last("listen");
    }
    if (const int flags = ::fcntl(fd, F_GETFL); ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        return SystemError::last("fcntl(F_SETFL)");
    }
    return made;
}

Result<UniqueFd, SystemError> connect_to(const char* path) {
    const auto address = socket_address(path);
    if (!address.ok()) {
        return address.error();
    }
    auto made = session_socket();
    if (!made.ok()) {
        return made;
    }
    const auto* name = reinterpret_cast<const sockaddr*>(&address.value());
    if (::connect(made.value().get(), name, sizeof(sockaddr_un)) != 0) {
        return SystemError::last("connect");
    }
    return made;
}

}  // namespace flue::queue
