#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "peer.hpp"
#include "sender.hpp"
#include "sink.hpp"
#include "testbed/process.hpp"

namespace flue::drain {

using e2e::KernelPeer;
using e2e::KernelSink;
using e2e::Pattern;
using e2e::SocketPair;
using testbed::Bottle;
using testbed::Child;
using testbed::Descriptor;

namespace {

constexpr uint64_t much = 64 << 20;  ///< more than any socket takes

class Drain : public DrainTest {
  protected:
    /// A process without any privilege fills the host's socket, hands it over, and is gone.
    /// Returns how many bytes it wrote.
    uint64_t hand_over_and_exit(Descriptor host, const Terms& terms = {}) {
        Child sender     = Child::call([&](const testbed::Report& report) {
            become_nobody();
            if (can_repair(host.get())) {
                throw std::runtime_error("this process is still privileged");
            }
            report.line(std::to_string(fill_socket(host.get(), sent_, much)));
            const Descriptor target = connect_to_target();
            send_drain(target.get(), host.get(), terms);
            ::_exit(0);
        });
        host             = Descriptor{};
        const auto ended = sender.wait();
        EXPECT_TRUE(ended.ok()) << ended.output;
        return std::stoull(ended.output);
    }

    void expect_all_arrives(KernelPeer& peer, uint64_t bytes) {
        const KernelPeer::Result result = peer.finish();
        EXPECT_EQ(result.bytes_received, bytes);
        EXPECT_TRUE(result.bytes_right);
        EXPECT_TRUE(result.saw_fin);
        EXPECT_EQ(result.error, 0);
    }

    const Pattern sent_{1};
    const Pattern received_{2};

  private:
};

class DrainFamilies : public Drain, public testing::WithParamInterface<bool> {};

/// state_of is the kernel's.
uint8_t state_of(int fd) {
    tcp_info info{};
    socklen_t length = sizeof(info);
    ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
    return info.tcpi_state;
}

}  // namespace

TEST_P(DrainFamilies, megabytes_unsent_and_the_fin_arrive_after_the_sender_has_gone) {
    SocketPair pair      = rig().connect(GetParam());
    const uint64_t bytes = hand_over_and_exit(std::move(pair.host));
    ASSERT_TRUE(rig().reaches("accepted", 1));
    EXPECT_GT(bytes, uint64_t{2} << 20);
    KernelPeer peer(std::move(pair.remote), received_, sent_, {});
    expect_all_arrives(peer, bytes);
    EXPECT_TRUE(rig().reaches("completed", 1));
    EXPECT_GT(rig().count_since_mark("bytes_handed_over"), bytes / 2);
}

TEST_P(DrainFamilies, an_idle_connection_is_closed) {
    SocketPair pair = rig().connect(GetParam());
    EXPECT_EQ(ask(pair.host.get()), (Answer{FLUE_DRAIN_OK, 0}));
    KernelPeer peer(std::move(pair.remote), received_, sent_, {});
    expect_all_arrives(peer, 0);
    EXPECT_TRUE(rig().reaches("completed", 1));
    // The sender's own descriptor is left unconnected.
    EXPECT_EQ(::send(pair.host.get(), "x", 1, MSG_NOSIGNAL), -1);
}

INSTANTIATE_TEST_SUITE_P(, DrainFamilies, testing::Bool(), [](const auto& family) {
    return family.param ? "ipv6" : "ipv4";
});

TEST_F(Drain, what_the_peer_still_sends_is_thrown_away_and_its_fin_awaited) {
    SocketPair pair = rig().connect();
    KernelPeer peer(
        std::move(pair.remote), received_, sent_, {.bytes_to_send = 8 << 20, .close_first = false});
    const uint64_t bytes            = hand_over_and_exit(std::move(pair.host));
    const KernelPeer::Result result = peer.finish();
    EXPECT_EQ(result.bytes_received, bytes);
    EXPECT_TRUE(result.saw_fin && result.bytes_right);
    EXPECT_EQ(result.bytes_sent, uint64_t{8} << 20);
    EXPECT_TRUE(rig().reaches("completed", 1));
    EXPECT_GT(rig().count_since_mark("bytes_thrown_away"), uint64_t{1} << 20);
}

TEST_F(Drain, a_peer_that_has_closed_already_gets_every_byte) {
    SocketPair pair = rig().connect();
    ASSERT_EQ(::shutdown(pair.remote.get(), SHUT_WR), 0);
    ASSERT_TRUE(wait_until([&] { return state_of(pair.host.get()) == TCP_CLOSE_WAIT; }));
    const uint64_t bytes = hand_over_and_exit(std::move(pair.host));
    ASSERT_TRUE(rig().reaches("accepted", 1));
    KernelPeer peer(std::move(pair.remote), received_, sent_, {});
    expect_all_arrives(peer, bytes);
    EXPECT_TRUE(rig().reaches("completed", 1));
}

TEST_F(Drain, a_socket_shut_down_for_writing_has_its_fin_sent_behind_its_bytes) {
    SocketPair pair      = rig().connect();
    const uint64_t bytes = fill_socket(pair.host.get(), sent_, much);
    ASSERT_EQ(::shutdown(pair.host.get(), SHUT_WR), 0);
    EXPECT_EQ(ask(pair.host.get()), (Answer{FLUE_DRAIN_OK, 0}));
    KernelPeer peer(std::move(pair.remote), received_, sent_, {});
    expect_all_arrives(peer, bytes);
    EXPECT_TRUE(rig().reaches("completed", 1));
}

TEST_F(Drain, a_fin_that_is_acknowledged_already_leaves_the_peers_to_be_awaited) {
    SocketPair pair = rig().connect();
    ASSERT_EQ(::shutdown(pair.host.get(), SHUT_WR), 0);
    ASSERT_TRUE(wait_until([&] { return state_of(pair.host.get()) == TCP_FIN_WAIT2; }));
    EXPECT_EQ(ask(pair.host.get()), (Answer{FLUE_DRAIN_OK, 0}));
    KernelPeer peer(std::move(pair.remote), received_, sent_, {.bytes_to_send = 1 << 20});
    EXPECT_EQ(peer.finish().bytes_sent, uint64_t{1} << 20);
    EXPECT_TRUE(rig().reaches("completed", 1));
}

TEST_F(Drain, bytes_that_nobody_has_read_do_not_hold_it_up) {
    SocketPair pair = rig().connect();
    ASSERT_EQ(fill_socket(pair.remote.get(), received_, 50'000), 50'000u);
    int unread = 0;
    ASSERT_TRUE(wait_until(
        [&] { return ::ioctl(pair.host.get(), FIONREAD, &unread) == 0 && unread == 50'000; }));
    EXPECT_EQ(ask(pair.host.get()), (Answer{FLUE_DRAIN_OK, 0}));
    KernelPeer peer(std::move(pair.remote), received_, sent_, {});
    expect_all_arrives(peer, 0);
    EXPECT_TRUE(rig().reaches("bytes_thrown_away", 50'000));
    EXPECT_TRUE(rig().reaches("completed", 1));
}

TEST_F(Drain, R73_R77_a_passed_deadline_resets_a_peer_that_does_not_read) {
    SocketPair pair = rig().connect();
    hand_over_and_exit(std::move(pair.host),
                       {.drain_ms = 200, .flags = FLUE_DRAIN_ABORT_AT_DEADLINE});
    ASSERT_TRUE(rig().reaches("aborted_by_deadline", 1));
    EXPECT_TRUE(wait_until([&] { return state_of(pair.remote.get()) == TCP_CLOSE; }));
    EXPECT_EQ(rig().count_since_mark("completed"), 0u);
}

TEST_F(Drain, R73_R77_a_passed_deadline_resets_a_socket_that_was_shut_down_for_writing) {
    SocketPair pair = rig().connect();
    fill_socket(pair.host.get(), sent_, much);
    ASSERT_EQ(::shutdown(pair.host.get(), SHUT_WR), 0);
    EXPECT_EQ(ask(pair.host.get(), {.drain_ms = 200, .flags = FLUE_DRAIN_ABORT_AT_DEADLINE}),
              (Answer{FLUE_DRAIN_OK, 0}));
    ASSERT_TRUE(rig().reaches("aborted_by_deadline", 1));
    EXPECT_TRUE(wait_until([&] { return state_of(pair.remote.get()) == TCP_CLOSE; }));
}

TEST_F(Drain, a_passed_deadline_may_be_a_matter_of_waiting_on) {
    SocketPair pair      = rig().connect();
    const uint64_t bytes = hand_over_and_exit(std::move(pair.host), {.drain_ms = 200});
    ASSERT_TRUE(rig().reaches("late", 1));
    KernelPeer peer(std::move(pair.remote), received_, sent_, {});
    expect_all_arrives(peer, bytes);
    EXPECT_TRUE(rig().reaches("completed", 1));
}

TEST_F(Drain, a_peer_that_resets_ends_it) {
    SocketPair pair = rig().connect();
    hand_over_and_exit(std::move(pair.host));
    ASSERT_TRUE(rig().reaches("accepted", 1));
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(pair.remote.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    pair.remote = Descriptor{};
    EXPECT_TRUE(rig().reaches("reset_by_peer", 1));
}

TEST_F(Drain, a_message_that_comes_after_its_connection_was_accepted_is_as_good) {
    SocketPair pair         = rig().connect();
    const auto sessions     = [] { return rig().rig().usage().at("sessions").get<int>(); };
    const int before        = sessions();
    const Descriptor target = connect_to_target();
    ASSERT_TRUE(wait_until([&] { return sessions() == before + 1; }));
    send_drain(target.get(), pair.host.get());
    EXPECT_EQ(await_answer(target.get()), (Answer{FLUE_DRAIN_OK, 0}));
    KernelPeer peer(std::move(pair.remote), received_, sent_, {});
    expect_all_arrives(peer, 0);
}

TEST_F(Drain, three_hundred_at_once_arrive_whole) {
    constexpr uint32_t count  = 300;
    constexpr uint32_t stride = 64 * 1024;
    KernelSink sink(rig().rig().bottle().remote(), sent_, stride);
    Child sender = Child::call([&](const testbed::Report&) {
        become_nobody();
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port   = htons(sink.port());
        inet_pton(AF_INET, Bottle::remote_ipv4, &address.sin_addr);
        std::vector<Descriptor> sockets;
        std::vector<uint8_t> bytes(stride);
        for (uint32_t i = 0; i < count; ++i) {
            Descriptor socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
            if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) !=
                0) {
                testbed::throw_errno("connect");
            }
            sockets.push_back(std::move(socket));
        }
        std::vector<Descriptor> targets;
        for (uint32_t i = 0; i < count; ++i) {
            sent_.write(uint64_t{i} * stride, bytes);
            ::send(sockets[i].get(), &i, sizeof(i), 0);
            ::send(sockets[i].get(), bytes.data(), bytes.size(), 0);
            targets.push_back(connect_to_target());
            send_drain(targets.back().get(), sockets[i].get());
        }
        ::_exit(0);
    });
    ASSERT_TRUE(sender.wait().ok());
    EXPECT_TRUE(wait_until([&] { return sink.result().closed == count; }));
    const KernelSink::Result result = sink.result();
    EXPECT_EQ(result.complete, count);
    EXPECT_EQ(result.bytes_wrong, 0u);
    EXPECT_EQ(result.reset, 0u);
    EXPECT_TRUE(rig().reaches("completed", count));
    EXPECT_EQ(rig().count_since_mark("accepted"), count);
    EXPECT_EQ(rig().count_since_mark("refused_busy"), 0u);
}

}  // namespace flue::drain
