#include "peer.hpp"

#include <arpa/inet.h>
#include <array>
#include <chrono>
#include <cstring>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>

#include "testbed/bottle.hpp"

namespace flue::e2e {

using testbed::Bottle;
using testbed::Descriptor;
using testbed::throw_errno;

namespace {

constexpr size_t chunk_bytes = 64 * 1024;
constexpr int wake_ms        = 100;
constexpr auto patience      = std::chrono::seconds{60};

struct Address {
    sockaddr_storage storage{};
    socklen_t length = 0;

    [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address address_of(const char* text, uint16_t port, bool ipv6) {
    Address address;
    if (ipv6) {
        auto& in6       = reinterpret_cast<sockaddr_in6&>(address.storage);
        in6.sin6_family = AF_INET6;
        in6.sin6_port   = htons(port);
        inet_pton(AF_INET6, text, &in6.sin6_addr);
        address.length = sizeof(in6);
    } else {
        auto& in      = reinterpret_cast<sockaddr_in&>(address.storage);
        in.sin_family = AF_INET;
        in.sin_port   = htons(port);
        inet_pton(AF_INET, text, &in.sin_addr);
        address.length = sizeof(in);
    }
    return address;
}

Descriptor stream_socket(bool ipv6, int receive_bytes, const char* congestion) {
    Descriptor socket = testbed::owned(
        ::socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    if (receive_bytes != 0 &&
        ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes) !=
            0) {
        throw_errno("SO_RCVBUF");
    }
    if (congestion != nullptr &&
        ::setsockopt(socket.get(),
                     IPPROTO_TCP,
                     TCP_CONGESTION,
                     congestion,
                     static_cast<socklen_t>(std::strlen(congestion))) != 0) {
        throw_errno("TCP_CONGESTION " + std::string(congestion));
    }
    return socket;
}

}  // namespace

SocketPair connect_pair(const testbed::Namespace& host,
                        const testbed::Namespace& remote,
                        bool ipv6,
                        bool remote_connects,
                        const PairTuning& tuning) {
    const testbed::Namespace& passive = remote_connects ? host : remote;
    const testbed::Namespace& active  = remote_connects ? remote : host;
    const char* text       = remote_connects ? (ipv6 ? Bottle::host_ipv6 : Bottle::host_ipv4)
                                             : (ipv6 ? Bottle::remote_ipv6 : Bottle::remote_ipv4);
    Address address        = address_of(text, 0, ipv6);
    const auto host_socket = [&] {
        return stream_socket(ipv6, tuning.host_receive_bytes, tuning.host_congestion);
    };
    const auto remote_socket = [&] {
        return stream_socket(ipv6, tuning.remote_receive_bytes, tuning.remote_congestion);
    };
    Descriptor listener =
        testbed::inside(passive, [&] { return remote_connects ? host_socket() : remote_socket(); });
    if (::bind(listener.get(), address.get(), address.length) != 0 ||
        ::listen(listener.get(), 1) != 0 ||
        ::getsockname(listener.get(), address.get(), &address.length) != 0) {
        throw_errno("listen on " + std::string(text));
    }
    Descriptor connected =
        testbed::inside(active, [&] { return remote_connects ? remote_socket() : host_socket(); });
    if (::connect(connected.get(), address.get(), address.length) != 0) {
        throw_errno("connect to " + std::string(text));
    }
    Descriptor accepted{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    if (accepted.get() < 0) {
        throw_errno("accept");
    }
    return remote_connects ? SocketPair{std::move(accepted), std::move(connected)}
                           : SocketPair{std::move(connected), std::move(accepted)};
}

KernelPeer::KernelPeer(Descriptor socket,
                       const Pattern& sends,
                       const Pattern& expects,
                       const PeerPlan& plan)
    : socket_(std::move(socket)), sends_(sends), expects_(expects), plan_(plan), thread_([this] {
          run();
      }) {
}

KernelPeer::~KernelPeer() {
    stop_ = true;
    if (thread_.joinable()) {
        thread_.join();
    }
}

KernelPeer::Result KernelPeer::finish() {
    thread_.join();
    return result_;
}

void KernelPeer::run() {
    bool open           = true;
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (open && !stop_) {
        const bool wants_write = !write_closed_ && result_.bytes_sent < plan_.bytes_to_send;
        pollfd entry{.fd      = socket_.get(),
                     .events  = static_cast<short>((result_.saw_fin ? 0 : POLLIN) |
                                                  (wants_write ? POLLOUT : 0)),
                     .revents = 0};
        if (::poll(&entry, 1, wake_ms) == 0 && std::chrono::steady_clock::now() > deadline) {
            result_.error = ETIMEDOUT;
            return;
        }
        if ((entry.revents & POLLOUT) != 0) {
            open = write_some();
        }
        if (open && (entry.revents & (POLLIN | POLLERR | POLLHUP)) != 0) {
            open = read_some();
        }
        const bool all_sent  = result_.bytes_sent == plan_.bytes_to_send;
        const bool may_close = all_sent && (plan_.close_first || result_.saw_fin);
        const bool must_abort =
            plan_.abort && result_.bytes_received >= plan_.abort_after_bytes && all_sent;
        if (open && must_abort) {
            return close_now();
        }
        if (open && may_close && !write_closed_ && !plan_.abort) {
            ::shutdown(socket_.get(), SHUT_WR);
            write_closed_ = true;
        }
        open = open && !(write_closed_ && result_.saw_fin);
    }
    socket_ = Descriptor{};
}

bool KernelPeer::write_some() {
    std::array<uint8_t, chunk_bytes> chunk;
    const size_t wanted =
        std::min<uint64_t>(chunk.size(), plan_.bytes_to_send - result_.bytes_sent);
    sends_.write(plan_.send_from + result_.bytes_sent, std::span(chunk).first(wanted));
    const ssize_t sent = ::send(socket_.get(), chunk.data(), wanted, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        result_.error = errno;
        return false;
    }
    result_.bytes_sent += sent > 0 ? static_cast<uint64_t>(sent) : 0;
    return true;
}

bool KernelPeer::read_some() {
    std::array<uint8_t, chunk_bytes> chunk;
    const ssize_t got = ::recv(socket_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
    if (got < 0) {
        result_.error = errno == EAGAIN ? 0 : errno;
        return errno == EAGAIN;
    }
    if (got == 0) {
        result_.saw_fin = true;
        result_.fin_at  = std::chrono::steady_clock::now();
        return true;
    }
    const auto bytes    = std::span<const uint8_t>(chunk).first(static_cast<size_t>(got));
    const uint64_t at   = plan_.expect_from + result_.bytes_received;
    result_.bytes_right = result_.bytes_right && expects_.matches(at, bytes);
    result_.bytes_received += bytes.size();
    return true;
}

void KernelPeer::close_now() {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    socket_ = Descriptor{};
}

}  // namespace flue::e2e
