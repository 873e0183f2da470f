#include "two_hosts.hpp"

#include <arpa/inet.h>
#include <chrono>
#include <cstring>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "base/prng.hpp"
#include "host/linux/endpoint.hpp"
#include "testbed/packet_socket.hpp"
#include "testbed/process.hpp"

namespace flue::test {

using testbed::inside;
using testbed::run_tool;
using testbed::throw_errno;

namespace {

constexpr int patience_ms = 10'000;

void configure(const char* interface, const char* ipv4, const char* ipv6) {
    run_tool({"ip", "addr", "add", ipv4, "dev", interface});
    run_tool({"ip", "addr", "add", ipv6, "dev", interface, "nodad"});
    run_tool({"ip", "link", "set", interface, "up"});
    run_tool({"nft",
              "add table inet test; add chain inet test in { type filter hook prerouting priority "
              "-300; }"});
}

void drop_tcp(const testbed::Namespace& where) {
    inside(where, [] { return run_tool({"nft", "add rule inet test in meta l4proto tcp drop"}); });
}

void drop_nothing(const testbed::Namespace& where) {
    inside(where, [] { return run_tool({"nft", "flush chain inet test in"}); });
}

/// Polls `done` until it is true.
template <typename Condition>
bool await(Condition&& done) {
    for (int waited_ms = 0; waited_ms < patience_ms; ++waited_ms) {
        if (done()) {
            return true;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
}

void await_event(int fd, short event) {
    pollfd waiting{.fd = fd, .events = event, .revents = 0};
    if (::poll(&waiting, 1, patience_ms) != 1) {
        throw std::runtime_error("nothing happened on a socket in 10 s");
    }
}

uint16_t sum_words(std::span<const uint8_t> bytes, uint32_t sum) {
    for (size_t i = 0; i < bytes.size(); i += 2) {
        sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return static_cast<uint16_t>(sum);
}

}  // namespace

TwoHosts::TwoHosts() {
    for (const testbed::Namespace* where : {&near, &far}) {
        // Else IPv6 keeps silent for a second while it looks for duplicates of its addresses.
        inside(*where, [] { testbed::set_sysctl("net/ipv6/conf/default/accept_dad", "0"); });
    }
    inside(near, [this] {
        run_tool({"ip",
                  "link",
                  "add",
                  "near0",
                  "type",
                  "veth",
                  "peer",
                  "name",
                  "far0",
                  "netns",
                  "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(far.fd())});
        configure("near0", "10.8.0.1/24", "fd08::1/64");
    });
    inside(far, [] { configure("far0", "10.8.0.2/24", "fd08::2/64"); });
}

void TwoHosts::hold() const {
    drop_tcp(near);
}

void TwoHosts::release() const {
    drop_nothing(near);
}

void TwoHosts::deafen() const {
    drop_tcp(far);
}

void TwoHosts::undeafen() const {
    drop_nothing(far);
}

testbed::Descriptor TwoHosts::tap() const {
    return inside(near, [] { return testbed::packet_socket("near0", testbed::Listen::yes); });
}

TwoHosts& fresh_hosts() {
    static TwoHosts hosts;
    hosts.release();
    hosts.undeafen();
    return hosts;
}

UniqueFd listen_on(const testbed::Namespace& where, int family) {
    const int domain = family == 4 ? AF_INET : AF_INET6;
    UniqueFd fd(
        inside(where, [domain] { return ::socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0); }));
    sockaddr_storage any{};
    any.ss_family          = static_cast<sa_family_t>(domain);
    const socklen_t length = family == 4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&any), length) != 0 ||
        ::listen(fd.get(), 16) != 0) {
        throw_errno("listening");
    }
    return fd;
}

namespace {

/// The endpoint of `listener`, seen from outside: host is 1 (near) or 2 (far).
host::Endpoint address_of(int listener, int family, int host) {
    sockaddr_storage bound{};
    socklen_t length = sizeof(bound);
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&bound), &length);
    in_port_t port{};
    std::memcpy(
        &port, reinterpret_cast<const uint8_t*>(&bound) + sizeof(sa_family_t), sizeof(port));
    const std::string address = (family == 4 ? "10.8.0." : "fd08::") + std::to_string(host);
    flue_state there{};
    there.family      = static_cast<uint8_t>(family);
    there.remote_port = ntohs(port);
    ::inet_pton(family == 4 ? AF_INET : AF_INET6, address.c_str(), there.remote_addr);
    return host::remote_endpoint(there);
}

UniqueFd connect_from(const testbed::Namespace& where, const host::Endpoint& to, int type) {
    UniqueFd fd(
        inside(where, [&] { return ::socket(to.storage.ss_family, type | SOCK_CLOEXEC, 0); }));
    if (::connect(fd.get(), to.get(), to.length) != 0 && errno != EINPROGRESS) {
        throw_errno("connecting");
    }
    return fd;
}

UniqueFd accept_from(int listener) {
    return UniqueFd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
}

int family_of(int fd) {
    return host::get_option<int>(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET ? 4 : 6;
}

}  // namespace

Connection connect_pair(const TwoHosts& hosts, int family) {
    const UniqueFd listener = listen_on(hosts.far, family);
    Connection connection;
    connection.near = connect_from(hosts.near, address_of(listener.get(), family, 2), SOCK_STREAM);
    connection.far  = accept_from(listener.get());
    return connection;
}

Connection connect_to(const TwoHosts& hosts, int near_listener, int family) {
    Connection connection;
    connection.far  = connect_from(hosts.far, address_of(near_listener, family, 1), SOCK_STREAM);
    connection.near = accept_from(near_listener);
    return connection;
}

UniqueFd start_connecting(const TwoHosts& hosts, int far_listener) {
    const host::Endpoint to = address_of(far_listener, family_of(far_listener), 2);
    return connect_from(hosts.near, to, SOCK_STREAM | SOCK_NONBLOCK);
}

Bytes random_bytes(size_t count, uint64_t seed) {
    Prng prng(seed);
    Bytes bytes(count);
    for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(prng.next() & 0xff);
    }
    return bytes;
}

void send_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0) {
            throw_errno("sending");
        }
        bytes = bytes.subspan(static_cast<size_t>(sent));
    }
}

size_t send_some(int fd, std::span<const std::byte> bytes) {
    size_t total = 0;
    while (total < bytes.size()) {
        const ssize_t sent =
            ::send(fd, bytes.data() + total, bytes.size() - total, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            break;
        }
        total += static_cast<size_t>(sent);
    }
    return total;
}

Bytes receive_exactly(int fd, size_t count) {
    Bytes bytes(count);
    size_t total = 0;
    while (total < count) {
        await_event(fd, POLLIN);
        const ssize_t got = ::recv(fd, bytes.data() + total, count - total, 0);
        if (got < 0) {
            throw_errno("receiving");
        }
        if (got == 0) {
            bytes.resize(total);
            break;
        }
        total += static_cast<size_t>(got);
    }
    return bytes;
}

bool at_end(int fd) {
    std::byte more{};
    await_event(fd, POLLIN);
    return ::recv(fd, &more, 1, 0) == 0;
}

void await_readable(int fd, size_t count) {
    const bool came = await([=] {
        int readable = 0;
        return ::ioctl(fd, FIONREAD, &readable) == 0 && static_cast<size_t>(readable) >= count;
    });
    ASSERT_TRUE(came);
}

void await_urgent(int fd) {
    await_event(fd, POLLPRI);
}

bool await_state(int fd, uint8_t state) {
    return await([=] {
        const auto info = host::get_option<tcp_info>(fd, IPPROTO_TCP, TCP_INFO);
        return info && info->tcpi_state == state;
    });
}

void inject(const TwoHosts& hosts, int to, const RawSegment& segment) {
    flue_state tuple{};
    ASSERT_FALSE(host::read_endpoints(to, tuple).failed());
    tcphdr header{};
    header.source   = htons(tuple.remote_port);
    header.dest     = htons(tuple.local_port);
    header.seq      = htonl(segment.seq);
    header.ack_seq  = htonl(segment.ack);
    header.doff     = sizeof(header) / 4;
    header.th_flags = segment.flags;
    header.window   = htons(segment.window);

    uint8_t bytes[sizeof(header)];
    std::memcpy(bytes, &header, sizeof(header));
    uint32_t sum = IPPROTO_TCP + sizeof(header);
    sum += sum_words(host::address_bytes(tuple, tuple.local_addr), 0);
    sum += sum_words(host::address_bytes(tuple, tuple.remote_addr), 0);
    header.check               = htons(static_cast<uint16_t>(~sum_words(bytes, sum)));

    const host::Endpoint whole = [&] {
        flue_state toward  = tuple;
        toward.remote_port = 0;
        std::memcpy(toward.remote_addr, tuple.local_addr, sizeof(toward.remote_addr));
        return host::remote_endpoint(toward);
    }();
    const UniqueFd raw(inside(hosts.far, [&] {
        return ::socket(whole.storage.ss_family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP);
    }));
    ASSERT_EQ(::sendto(raw.get(), &header, sizeof(header), 0, whole.get(), whole.length),
              static_cast<ssize_t>(sizeof(header)));
}

size_t count_tcp_segments(int tap) {
    size_t count = 0;
    uint8_t frame[64]{};
    sockaddr_ll from{};
    socklen_t length = sizeof(from);
    while (
        ::recvfrom(
            tap, frame, sizeof(frame), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from), &length) >
        0) {
        const bool ipv4 = ntohs(from.sll_protocol) == ETH_P_IP && frame[14 + 9] == IPPROTO_TCP;
        const bool ipv6 = ntohs(from.sll_protocol) == ETH_P_IPV6 && frame[14 + 6] == IPPROTO_TCP;
        count += from.sll_pkttype == PACKET_OUTGOING && (ipv4 || ipv6) ? 1 : 0;
        length = sizeof(from);
    }
    return count;
}

void expect_conversation(int a, int b, size_t bytes, uint64_t seed) {
    const Bytes from_a = random_bytes(bytes, seed);
    const Bytes from_b = random_bytes(bytes, seed + 1);
    std::jthread writer([&] { send_all(a, from_a); });
    std::jthread reverse([&] { send_all(b, from_b); });
    EXPECT_EQ(receive_exactly(b, bytes), from_a);
    EXPECT_EQ(receive_exactly(a, bytes), from_b);
}

}  // namespace flue::test
