#include "target/socket_proof.hpp"

#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unique_fd.hpp"
#include "queue/session_socket.hpp"

namespace flue::target {

namespace {

using queue::SessionStatus;

/// A listener on the loopback interface and a socket connected to it.
struct Pair {
    UniqueFd listener;
    UniqueFd client;
    UniqueFd server;
    sockaddr_in6 address{};
};

Pair connect_pair(int family, const in6_addr& to) {
    Pair pair;
    pair.listener            = UniqueFd{::socket(AF_INET6, SOCK_STREAM, 0)};
    pair.client              = UniqueFd{::socket(family, SOCK_STREAM, 0)};
    pair.address.sin6_family = AF_INET6;
    auto* name               = reinterpret_cast<sockaddr*>(&pair.address);
    socklen_t length         = sizeof(pair.address);
    EXPECT_EQ(::bind(pair.listener.get(), name, length), 0);
    EXPECT_EQ(::listen(pair.listener.get(), 1), 0);
    EXPECT_EQ(::getsockname(pair.listener.get(), name, &length), 0);
    pair.address.sin6_addr = to;
    EXPECT_EQ(::connect(pair.client.get(), name, sizeof(pair.address)), 0) << std::strerror(errno);
    pair.server = UniqueFd{::accept(pair.listener.get(), nullptr, nullptr)};
    EXPECT_TRUE(pair.server.valid());
    return pair;
}

in6_addr mapped_loopback() {
    in6_addr address{};
    address.s6_addr[10] = address.s6_addr[11] = 0xff;
    address.s6_addr[12]                       = 127;
    address.s6_addr[15]                       = 1;
    return address;
}

bool refused(int fd) {
    const auto result = prove_socket(fd, *own_network());
    return !result.ok() && result.error() == SessionStatus::bad_socket;
}

}  // namespace

TEST(SocketProof, a_connected_socket_proves_its_tuple) {
    const Pair pair = connect_pair(AF_INET6, mapped_loopback());
    const auto key  = prove_socket(pair.client.get(), *own_network());
    ASSERT_TRUE(key.ok());
    EXPECT_EQ(key.value().family, wire::Family::ipv4);  // v4-mapped: IPv4 on the wire
    EXPECT_EQ(key.value().remote, (wire::IpAddress{127, 0, 0, 1}));
    EXPECT_EQ(key.value().local, (wire::IpAddress{127, 0, 0, 1}));
    EXPECT_EQ(key.value().remote_port, ntohs(pair.address.sin6_port));
    const auto other = prove_socket(pair.server.get(), *own_network());
    ASSERT_TRUE(other.ok());
    EXPECT_EQ(other.value().local_port, key.value().remote_port);
    EXPECT_EQ(other.value().remote_port, key.value().local_port);
}

TEST(SocketProof, a_closing_socket_still_proves_it_and_a_disconnected_one_no_longer) {
    const Pair pair = connect_pair(AF_INET6, mapped_loopback());
    ::shutdown(pair.client.get(), SHUT_WR);
    EXPECT_TRUE(prove_socket(pair.client.get(), *own_network()).ok());
    EXPECT_TRUE(prove_socket(pair.server.get(), *own_network()).ok());
    const sockaddr unspecified{.sa_family = AF_UNSPEC, .sa_data = {}};
    ASSERT_EQ(::connect(pair.client.get(), &unspecified, sizeof(unspecified)), 0);
    EXPECT_TRUE(refused(pair.client.get()));
}

TEST(SocketProof, nothing_else_proves_anything) {
    const Pair pair = connect_pair(AF_INET6, mapped_loopback());
    EXPECT_TRUE(refused(pair.listener.get()));
    EXPECT_TRUE(refused(UniqueFd{::socket(AF_INET, SOCK_STREAM, 0)}.get()));
    EXPECT_TRUE(refused(UniqueFd{::socket(AF_INET, SOCK_DGRAM, 0)}.get()));
    EXPECT_TRUE(refused(UniqueFd{::socket(AF_UNIX, SOCK_STREAM, 0)}.get()));
    EXPECT_TRUE(refused(UniqueFd{::memfd_create("no-socket", MFD_CLOEXEC)}.get()));
    EXPECT_TRUE(refused(-1));
}

TEST(SocketProof, a_socket_of_another_network_namespace_proves_nothing) {
    const Pair pair        = connect_pair(AF_INET6, mapped_loopback());
    const uint64_t network = *own_network();
    ASSERT_TRUE(prove_socket(pair.client.get(), network).ok());
    const pid_t child = ::fork();
    if (child == 0) {
        // Seen from a namespace of its own, the sockets of its parent are foreign.
        const bool moved  = ::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
        const auto inside = own_network();
        const bool right  = moved && inside && *inside != network && refused(pair.client.get());
        ::_exit(right ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

}  // namespace flue::target
