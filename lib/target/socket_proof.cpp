#include "target/socket_proof.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "base/unique_fd.hpp"
#include "queue/session_socket.hpp"

namespace flue::target {

namespace {

template <typename T>
std::optional<T> get_option(int fd, int level, int name) {
    T value{};
    socklen_t length = sizeof(value);
    if (::getsockopt(fd, level, name, &value, &length) != 0) {
        return std::nullopt;
    }
    return value;
}

bool is_synchronized(int fd) {
    const auto info = get_option<tcp_info>(fd, IPPROTO_TCP, TCP_INFO);
    if (!info) {
        return false;
    }
    switch (info->tcpi_state) {
        case TCP_ESTABLISHED:
        case TCP_FIN_WAIT1:
        case TCP_FIN_WAIT2:
        case TCP_CLOSE_WAIT:
        case TCP_LAST_ACK:
        case TCP_CLOSING:
            return true;
        default:
            return false;
    }
}

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

struct Endpoint {
    wire::Family family = wire::Family::none;
    wire::IpAddress address{};
    uint16_t port = 0;
};

/// IPv4 on an IPv6 socket (::ffff:a.b.c.d) is IPv4 on the wire.
std::optional<Endpoint> endpoint_of(const sockaddr_storage& name) {
    Endpoint endpoint;
    if (name.ss_family == AF_INET) {
        const auto* in  = reinterpret_cast<const sockaddr_in*>(&name);
        endpoint.family = wire::Family::ipv4;
        endpoint.port   = ntohs(in->sin_port);
        std::memcpy(endpoint.address.data(), &in->sin_addr, sizeof(in->sin_addr));
        return endpoint;
    }
    if (name.ss_family != AF_INET6) {
        return std::nullopt;
    }
    const auto* in6   = reinterpret_cast<const sockaddr_in6*>(&name);
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
    endpoint.family   = mapped ? wire::Family::ipv4 : wire::Family::ipv6;
    endpoint.port     = ntohs(in6->sin6_port);
    std::memcpy(
        endpoint.address.data(), in6->sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
    return endpoint;
}

std::optional<Endpoint> name_of(int fd, int (*ask)(int, sockaddr*, socklen_t*)) {
    sockaddr_storage name{};
    socklen_t length = sizeof(name);
    if (ask(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) {
        return std::nullopt;
    }
    return endpoint_of(name);
}

}  // namespace

std::optional<uint64_t> own_network() {
    const UniqueFd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    return get_option<uint64_t>(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE);
}

Result<wire::FlowKey, queue::SessionStatus> prove_socket(int fd, uint64_t network) {
    constexpr auto refused = queue::SessionStatus::bad_socket;
    const auto domain      = get_option<int>(fd, SOL_SOCKET, SO_DOMAIN);
    if ((domain != AF_INET && domain != AF_INET6) ||
        get_option<int>(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP ||
        get_option<uint64_t>(fd, SOL_SOCKET, SO_NETNS_COOKIE) != network || !is_synchronized(fd)) {
        return refused;
    }
    const auto local  = name_of(fd, [](int s, sockaddr* name, socklen_t* length) {
        return ::getsockname(s, name, length);
    });
    const auto remote = name_of(fd, [](int s, sockaddr* name, socklen_t* length) {
        return ::getpeername(s, name, length);
    });
    if (!local || !remote || local->family != remote->family) {
        return refused;
    }
    return wire::FlowKey{.local       = local->address,
                         .remote      = remote->address,
                         .local_port  = local->port,
                         .remote_port = remote->port,
                         .family      = local->family};
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

}  // namespace flue::target
