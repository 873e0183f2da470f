#include <arpa/inet.h>
#include <array>
#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.hpp"
#include "sender.hpp"
#include "testbed/namespace.hpp"
#include "testbed/process.hpp"

namespace flue::drain {

using e2e::KernelPeer;
using e2e::Pattern;
using e2e::SocketPair;
using testbed::Bottle;
using testbed::Descriptor;
using testbed::inside;
using testbed::run_tool;

namespace {

constexpr uint64_t much = 64 << 20;

/// Refused sockets: each stays with its owner, with its bytes, and works.
class DrainRefusal : public DrainTest {
  protected:
    void TearDown() override {
        EXPECT_EQ(rig().count_since_mark("accepted"), 0u);
        DrainTest::TearDown();
    }

    /// The bytes in the socket and more go through the kernel, both ways, and then the FINs.
    void expect_works(SocketPair pair, uint64_t queued_bytes) {
        constexpr uint64_t more = 100'000;
        const Pattern there(1);
        const Pattern back(2);
        KernelPeer remote(std::move(pair.remote), back, there, {.bytes_to_send = more});
        std::vector<uint8_t> bytes(more);
        there.write(queued_bytes, bytes);
        ASSERT_EQ(::send(pair.host.get(), bytes.data(), bytes.size(), 0), ssize_t{more});
        ASSERT_EQ(::recv(pair.host.get(), bytes.data(), bytes.size(), MSG_WAITALL), ssize_t{more});
        EXPECT_TRUE(back.matches(0, bytes));
        pair.host                       = Descriptor{};
        const KernelPeer::Result result = remote.finish();
        EXPECT_EQ(result.bytes_received, queued_bytes + more);
        EXPECT_TRUE(result.bytes_right && result.saw_fin);
    }

    /// A connection with bytes that wait in it is refused so, and then works.
    void expect_refused(
        SocketPair pair,
        const Answer& answer,
        const std::string& counter,
        const std::function<void()>& before_it_works = [] {}) {
        const uint64_t queued = fill_socket(pair.host.get(), Pattern(1), much);
        EXPECT_EQ(ask(pair.host.get()), answer);
        EXPECT_EQ(rig().count_since_mark(counter), 1u);
        before_it_works();
        expect_works(std::move(pair), queued);
    }

  private:
};

Descriptor internet_socket(int type) {
    return Descriptor{::socket(AF_INET, type | SOCK_CLOEXEC, 0)};
}

}  // namespace

TEST_F(DrainRefusal, what_is_no_tcp_socket) {
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const Descriptor reader{pipe[0]};
    const Descriptor writer{pipe[1]};
    EXPECT_EQ(ask(reader.get()), (Answer{FLUE_DRAIN_BAD_SOCKET, ENOTSOCK}));
    EXPECT_EQ(ask(internet_socket(SOCK_DGRAM).get()), (Answer{FLUE_DRAIN_BAD_SOCKET, EPROTOTYPE}));
    EXPECT_EQ(::write(writer.get(), "x", 1), 1);
    EXPECT_EQ(rig().count_since_mark("refused_bad_socket"), 2u);
}

TEST_F(DrainRefusal, a_socket_that_is_not_connected) {
    EXPECT_EQ(ask(internet_socket(SOCK_STREAM).get()), (Answer{FLUE_DRAIN_BAD_SOCKET, ENOTCONN}));
}

TEST_F(DrainRefusal, a_listening_socket_which_goes_on_accepting) {
    const Descriptor listener = internet_socket(SOCK_STREAM);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t length   = sizeof(address);
    auto* name         = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    ASSERT_EQ(::getsockname(listener.get(), name, &length), 0);
    EXPECT_EQ(ask(listener.get()), (Answer{FLUE_DRAIN_BAD_SOCKET, ENOTCONN}));
    const Descriptor client = internet_socket(SOCK_STREAM);
    EXPECT_EQ(::connect(client.get(), name, length), 0);
    EXPECT_GE(Descriptor{::accept(listener.get(), nullptr, nullptr)}.get(), 0);
}

TEST_F(DrainRefusal, a_socket_of_another_network_namespace) {
    SocketPair pair = rig().connect();
    std::swap(pair.host, pair.remote);
    expect_refused(std::move(pair), {FLUE_DRAIN_BAD_SOCKET, ENONET}, "refused_bad_socket");
}

TEST_F(DrainRefusal, a_connection_with_a_packet_filter) {
    SocketPair pair      = rig().connect();
    sock_filter pass_all = BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
    const sock_fprog program{.len = 1, .filter = &pass_all};
    ASSERT_EQ(
        ::setsockopt(pair.host.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
    expect_refused(std::move(pair), {FLUE_DRAIN_REFUSED, EOPNOTSUPP}, "refused_unsupported");
}

TEST_F(DrainRefusal, urgent_data_is_still_there_to_be_read) {
    SocketPair pair = rig().connect();
    ASSERT_EQ(::send(pair.remote.get(), "!", 1, MSG_OOB), 1);
    pollfd urgent{.fd = pair.host.get(), .events = POLLPRI, .revents = 0};
    ASSERT_EQ(::poll(&urgent, 1, 10'000), 1);
    const int host = pair.host.get();
    expect_refused(std::move(pair), {FLUE_DRAIN_REFUSED, EBUSY}, "refused_unsupported", [&] {
        char byte = 0;
        EXPECT_EQ(::recv(host, &byte, 1, MSG_OOB), 1);
        EXPECT_EQ(byte, '!');
    });
}

TEST_F(DrainRefusal, a_peer_on_the_same_host) {
    const Descriptor listener = internet_socket(SOCK_STREAM);
    sockaddr_in address{};
    address.sin_family      = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length        = sizeof(address);
    auto* name              = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(::bind(listener.get(), name, length), 0);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    ASSERT_EQ(::getsockname(listener.get(), name, &length), 0);
    SocketPair pair{internet_socket(SOCK_STREAM), {}};
    ASSERT_EQ(::connect(pair.host.get(), name, length), 0);
    pair.remote = Descriptor{::accept(listener.get(), nullptr, nullptr)};
    expect_refused(std::move(pair), {FLUE_DRAIN_REFUSED, EHOSTUNREACH}, "refused_no_route");
}

TEST_F(DrainRefusal, a_connection_whose_route_is_gone) {
    SocketPair pair = rig().connect();
    run_tool({"ip", "route", "delete", "10.9.0.0/24", "dev", "flue0"});
    expect_refused(std::move(pair), {FLUE_DRAIN_REFUSED, ENETUNREACH}, "refused_no_route", [] {
        run_tool({"ip", "route", "add", "10.9.0.0/24", "dev", "flue0", "src", Bottle::host_ipv4});
    });
}

TEST_F(DrainRefusal, a_connection_that_leaves_through_an_interface_that_is_not_the_targets) {
    const testbed::Namespace elsewhere = testbed::Namespace::create();
    run_tool({"ip", "link", "add", "side0", "type", "veth", "peer", "name", "side1"});
    run_tool({"ip",
              "link",
              "set",
              "side1",
              "netns",
              "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(elsewhere.fd())});
    run_tool({"ip", "address", "add", "10.8.0.1/24", "dev", "side0"});
    run_tool({"ip", "link", "set", "side0", "up"});
    const Descriptor listener = inside(elsewhere, [] {
        run_tool({"ip", "address", "add", "10.8.0.2/24", "dev", "side1"});
        run_tool({"ip", "link", "set", "side1", "up"});
        return internet_socket(SOCK_STREAM);
    });
    sockaddr_in address{};
    address.sin_family = AF_INET;
    inet_pton(AF_INET, "10.8.0.2", &address.sin_addr);
    socklen_t length = sizeof(address);
    auto* name       = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(::bind(listener.get(), name, length), 0);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    ASSERT_EQ(::getsockname(listener.get(), name, &length), 0);
    SocketPair pair{internet_socket(SOCK_STREAM), {}};
    ASSERT_EQ(::connect(pair.host.get(), name, length), 0);
    pair.remote = Descriptor{::accept(listener.get(), nullptr, nullptr)};
    expect_refused(std::move(pair), {FLUE_DRAIN_REFUSED, ENETUNREACH}, "refused_no_route");
    run_tool({"ip", "link", "delete", "side0"});
}

TEST_F(DrainRefusal, a_next_hop_that_does_not_answer_and_nobody_else_has_to_wait_for_it) {
    SocketPair lost       = rig().connect();
    SocketPair other      = rig().connect(true);
    const auto answer_arp = [&](const char* how) {
        inside(rig().rig().bottle().remote(), [&] {
            testbed::set_sysctl(std::string("net/ipv4/conf/") + Bottle::far_end + "/arp_ignore",
                                how);
        });
    };
    answer_arp("8");
    run_tool({"ip", "neighbour", "flush", "to", Bottle::remote_ipv4, "dev", "flue0"});
    const Descriptor slow = connect_to_target();
    send_drain(slow.get(), lost.host.get());
    EXPECT_EQ(ask(internet_socket(SOCK_STREAM).get()), (Answer{FLUE_DRAIN_BAD_SOCKET, ENOTCONN}));
    pollfd answered{.fd = slow.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&answered, 1, 0), 0);
    EXPECT_EQ(await_answer(slow.get()), (Answer{FLUE_DRAIN_REFUSED, EHOSTUNREACH}));
    answer_arp("0");
    expect_works(std::move(lost), 0);
}

TEST_F(DrainRefusal, a_socket_that_lingers_and_has_no_owner_left_holds_nobody_up) {
    SocketPair pair      = rig().connect();
    sock_filter pass_all = BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
    const sock_fprog program{.len = 1, .filter = &pass_all};
    const linger minutes{.l_onoff = 1, .l_linger = 600};
    const int host = pair.host.get();
    fill_socket(host, Pattern(1), much);
    ASSERT_EQ(::setsockopt(host, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
    ASSERT_EQ(::setsockopt(host, SOL_SOCKET, SO_LINGER, &minutes, sizeof(minutes)), 0);
    // The owner ends: leaving does not linger, but the target has the last descriptor then.
    testbed::Child owner = testbed::Child::call([&](const testbed::Report&) {
        const Descriptor target = connect_to_target();
        ::kill(rig().rig().flued().pid(), SIGSTOP);
        send_drain(target.get(), host);
        ::_exit(0);
    });
    pair.host            = Descriptor{};
    EXPECT_TRUE(owner.wait().ok());
    ::kill(rig().rig().flued().pid(), SIGCONT);
    for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(ask(internet_socket(SOCK_STREAM).get()),
                  (Answer{FLUE_DRAIN_BAD_SOCKET, ENOTCONN}));
    }
    ASSERT_TRUE(wait_until([] { return rig().count_since_mark("refused_unsupported") == 1; }));
}

TEST_F(DrainRefusal, a_message_that_is_not_well_formed) {
    SocketPair pair     = rig().connect();
    const int host      = pair.host.get();
    const auto ask_with = [](std::vector<int> fds, const Terms& terms) {
        const Descriptor target = connect_to_target();
        send_drain(target.get(), fds, terms);
        return await_answer(target.get());
    };
    EXPECT_EQ(ask_with({host}, {.flags = 2}), (Answer{FLUE_DRAIN_BAD_MESSAGE, 0}));
    EXPECT_EQ(ask_with({}, {}), (Answer{FLUE_DRAIN_BAD_MESSAGE, 0}));
    EXPECT_EQ(ask_with({host, host}, {}), (Answer{FLUE_DRAIN_BAD_MESSAGE, 0}));
    EXPECT_EQ(ask_with({host}, {.version = 1}), (Answer{FLUE_DRAIN_BAD_VERSION, 0}));
    EXPECT_EQ(ask_with({host, host, host}, {}), Answer{});  // the session just ends
    expect_works(std::move(pair), 0);
}

}  // namespace flue::drain
