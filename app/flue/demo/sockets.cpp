#include "flue/demo/sockets.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>

#include "base/prng.hpp"
#include "testbed/ladder.hpp"

namespace flue::demo {
namespace {

using testbed::owned;
using testbed::throw_errno;

constexpr timeval patience{.tv_sec = 20, .tv_usec = 0};

Descriptor tcp_socket() {
    Descriptor socket =
        owned(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "opening a TCP socket");
    for (const int limit : {SO_RCVTIMEO, SO_SNDTIMEO}) {
        ::setsockopt(socket.get(), SOL_SOCKET, limit, &patience, sizeof patience);
    }
    return socket;
}

sockaddr_in socket_address(const char* address, uint16_t port) {
    sockaddr_in made{};
    made.sin_family = AF_INET;
    made.sin_port   = htons(port);
    ::inet_pton(AF_INET, address, &made.sin_addr);
    return made;
}

}  // namespace

Descriptor listen_on(const char* address, uint16_t port) {
    Descriptor socket = tcp_socket();
    const int yes     = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    const auto where = socket_address(address, port);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0 ||
        ::listen(socket.get(), 16) != 0) {
        throw_errno(std::string("listening on ") + address + " port " + std::to_string(port));
    }
    return socket;
}

Accepted accept_one(const Descriptor& listener) {
    sockaddr_in from{};
    socklen_t bytes = sizeof from;
    // The listener's time limit holds for accept too.
    Descriptor socket =
        owned(::accept4(listener.get(), reinterpret_cast<sockaddr*>(&from), &bytes, SOCK_CLOEXEC),
              "accepting a connection");
    for (const int limit : {SO_RCVTIMEO, SO_SNDTIMEO}) {
        ::setsockopt(socket.get(), SOL_SOCKET, limit, &patience, sizeof patience);
    }
    return {std::move(socket), ntohs(from.sin_port)};
}

Descriptor connect_to(const char* address, uint16_t port) {
    Descriptor socket = tcp_socket();
    const auto where  = socket_address(address, port);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0) {
        throw_errno(std::string("connecting to ") + address + " port " + std::to_string(port));
    }
    return socket;
}

size_t fill_send_queue(const Descriptor& socket, std::span<const std::byte> bytes) {
    size_t taken = 0;
    while (taken < bytes.size()) {
        const ssize_t got = ::send(
            socket.get(), bytes.data() + taken, bytes.size() - taken, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (got < 0 && errno == EAGAIN) {
            break;
        }
        if (got < 0) {
            throw_errno("sending");
        }
        taken += static_cast<size_t>(got);
    }
    return taken;
}

void send_all(const Descriptor& socket, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0) {
            throw_errno("sending, " + std::to_string(bytes.size()) + " bytes before the end");
        }
        bytes = bytes.subspan(static_cast<size_t>(sent));
    }
}

std::vector<std::byte> receive_exactly(const Descriptor& socket, size_t bytes) {
    std::vector<std::byte> received(bytes);
    size_t have = 0;
    while (have < bytes) {
        const ssize_t got = ::recv(socket.get(), received.data() + have, bytes - have, 0);
        if (got < 0) {
            throw_errno("receiving, after " + std::to_string(have) + " of " +
                        std::to_string(bytes) + " bytes");
        }
        if (got == 0) {
            throw std::runtime_error("expected " + std::to_string(bytes) +
                                     " bytes, the stream ended after " + std::to_string(have));
        }
        have += static_cast<size_t>(got);
    }
    return received;
}

std::vector<std::byte> receive_to_end(const Descriptor& socket) {
    std::vector<std::byte> received;
    std::vector<std::byte> chunk(65536);
    for (;;) {
        const ssize_t got = ::recv(socket.get(), chunk.data(), chunk.size(), 0);
        if (got < 0) {
            throw_errno("receiving, after " + std::to_string(received.size()) + " bytes");
        }
        if (got == 0) {
            return received;
        }
        received.insert(received.end(), chunk.begin(), chunk.begin() + got);
    }
}

std::string receive_request(const Descriptor& socket) {
    std::string request;
    while (request.find("\r\n\r\n") == std::string::npos) {
        std::array<char, 1024> chunk{};
        const ssize_t got = ::recv(socket.get(), chunk.data(), chunk.size(), 0);
        if (got <= 0) {
            throw std::runtime_error("expected an HTTP request, saw: " + request);
        }
        request.append(chunk.data(), static_cast<size_t>(got));
    }
    return request;
}

int64_t await_reset(const Descriptor& socket) {
    pollfd waiting{.fd = socket.get(), .events = 0, .revents = 0};
    if (::poll(&waiting, 1, static_cast<int>(patience.tv_sec) * 1000) <= 0) {
        throw std::runtime_error("expected a reset of the connection, saw none");
    }
    const int64_t time = testbed::now_ns();
    int error          = 0;
    socklen_t bytes    = sizeof error;
    ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &bytes);
    if (error != ECONNRESET) {
        throw std::runtime_error(std::string("expected ECONNRESET, saw: ") + std::strerror(error));
    }
    return time;
}

std::vector<std::byte> pattern(size_t bytes, uint64_t seed) {
    std::vector<std::byte> made(bytes);
    Prng prng{seed};
    for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
        const uint64_t word = prng.next();
        std::memcpy(made.data() + at, &word, std::min(sizeof word, bytes - at));
    }
    return made;
}

}  // namespace flue::demo
