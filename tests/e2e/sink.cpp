#include "sink.hpp"

#include <arpa/inet.h>
#include <array>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "testbed/bottle.hpp"

namespace flue::e2e {

using testbed::Descriptor;
using testbed::throw_errno;

namespace {

constexpr int wake_ms = 50;

void watch(int epoll, int fd) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        throw_errno("epoll_ctl");
    }
}

}  // namespace

KernelSink::KernelSink(const testbed::Namespace& place, const Pattern& expects, uint64_t stride)
    : expects_(expects), stride_(stride), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    listener_ = testbed::inside(place, [] {
        return Descriptor{::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    });
    sockaddr_in address{};
    address.sin_family = AF_INET;
    inet_pton(AF_INET, testbed::Bottle::remote_ipv4, &address.sin_addr);
    socklen_t length = sizeof(address);
    auto* generic    = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_.get(), generic, length) != 0 || ::listen(listener_.get(), 4096) != 0 ||
        ::getsockname(listener_.get(), generic, &length) != 0) {
        throw_errno("listen");
    }
    port_ = ntohs(address.sin_port);
    watch(epoll_.get(), listener_.get());
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

KernelSink::~KernelSink() {
    thread_.request_stop();
    thread_.join();
}

KernelSink::Result KernelSink::result() {
    const std::scoped_lock lock(mutex_);
    return result_;
}

void KernelSink::run(const std::stop_token& stop) {
    std::array<epoll_event, 64> events;
    while (!stop.stop_requested()) {
        const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), wake_ms);
        const std::scoped_lock lock(mutex_);
        for (int i = 0; i < count; ++i) {
            const int fd = events[static_cast<size_t>(i)].data.fd;
            if (fd == listener_.get()) {
                accept_all();
            } else {
                read_from(fd);
            }
        }
    }
}

void KernelSink::accept_all() {
    for (;;) {
        Descriptor socket{
            ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
        const int fd = socket.get();
        if (fd < 0) {
            return;
        }
        watch(epoll_.get(), fd);
        connections_[fd] = Connection{.socket = std::move(socket)};
        ++result_.accepted;
    }
}

void KernelSink::read_from(int fd) {
    Connection& connection = connections_.at(fd);
    std::array<uint8_t, 64 * 1024> chunk;
    const ssize_t got = ::recv(fd, chunk.data(), chunk.size(), 0);
    if (got > 0) {
        return check(connection, std::span<const uint8_t>(chunk).first(static_cast<size_t>(got)));
    }
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    ++(got == 0 ? result_.closed : result_.reset);
    result_.complete += got == 0 && connection.received == stride_ + sizeof(uint32_t) ? 1 : 0;
    connections_.erase(fd);
}

void KernelSink::check(Connection& connection, std::span<const uint8_t> bytes) {
    result_.bytes += bytes.size();
    while (!bytes.empty() && connection.received < sizeof(uint32_t)) {
        connection.number |= uint32_t{bytes[0]} << (8 * connection.received);
        ++connection.received;
        bytes = bytes.subspan(1);
    }
    const uint64_t offset = connection.number * stride_ + connection.received - sizeof(uint32_t);
    if (!bytes.empty() && !expects_.matches(offset, bytes)) {
        ++result_.bytes_wrong;
    }
    connection.received += bytes.size();
}

}  // namespace flue::e2e
