#include "onlooker.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <span>
#include <sys/socket.h>
#include <vector>

namespace flue::killed {

namespace {

constexpr int quiet_ms      = 200;
constexpr int quiet_turns   = 50;
constexpr int probes_at_end = 10;

}  // namespace

void Onlooker::send(const e2e::Pattern& pattern, uint64_t from, uint64_t to) const {
    std::vector<uint8_t> bytes(to - from);
    pattern.write(from, bytes);
    if (::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(bytes.size())) {
        testbed::throw_errno("the peer's send");
    }
}

void Onlooker::close_sending() const {
    ::shutdown(socket_.get(), SHUT_WR);
}

int Onlooker::state() const {
    tcp_info info{};
    socklen_t length = sizeof(info);
    ::getsockopt(socket_.get(), IPPROTO_TCP, TCP_INFO, &info, &length);
    return info.tcpi_state;
}

bool Onlooker::probe_is_reset() const {
    for (int i = 0; i < probes_at_end; ++i) {
        if (::send(socket_.get(), "?", 1, MSG_NOSIGNAL) < 0) {
            return true;  // EPIPE where the FIN came first
        }
        pollfd entry{.fd = socket_.get(), .events = 0, .revents = 0};
        ::poll(&entry, 1, quiet_ms);
    }
    return false;
}

Onlooker::Seen Onlooker::read_to_end(const e2e::Pattern& expected, bool expect_reset) {
    Seen seen;
    std::array<uint8_t, 64 * 1024> chunk;
    for (int quiet = 0; quiet < quiet_turns;) {
        pollfd entry{.fd = socket_.get(), .events = POLLIN, .revents = 0};
        if (::poll(&entry, 1, quiet_ms) == 0) {
            ++quiet;
            (void)::send(socket_.get(), "?", 1, MSG_NOSIGNAL);
            continue;
        }
        const ssize_t got = ::recv(socket_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
        if (got < 0) {
            seen.end = End::reset;
            return seen;
        }
        if (got == 0) {
            seen.end = expect_reset && probe_is_reset() ? End::reset : End::fin;
            close_sending();
            return seen;
        }
        const auto bytes = std::span<const uint8_t>(chunk).first(static_cast<size_t>(got));
        seen.bytes_right = seen.bytes_right && expected.matches(seen.bytes, bytes);
        seen.bytes += bytes.size();
    }
    return seen;
}

}  // namespace flue::killed
