#include "host/linux/socket_restore.hpp"

#include <cstring>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "host/linux/congestion_name.hpp"
#include "host/linux/socket_dump.hpp"
#include "two_hosts.hpp"

namespace flue::test {

namespace {

using testbed::inside;

/// A connection taken out of the kernel.
struct Taken {
    host::SocketDump dump;
    Bytes send;
    Bytes receive;
};

Taken take(int fd) {
    auto frozen = host::FrozenSocket::freeze(fd);
    EXPECT_TRUE(frozen.ok()) << frozen.error().text;
    auto dump = frozen.value().dump();
    EXPECT_TRUE(dump.ok()) << dump.error().text;
    Taken taken{.dump = dump.value(), .send = {}, .receive = {}};
    taken.send.resize(taken.dump.send_bytes);
    taken.receive.resize(taken.dump.receive_bytes);
    const host::HandoffError send    = frozen.value().copy_send_queue(taken.send);
    const host::HandoffError receive = frozen.value().copy_receive_queue(taken.receive);
    EXPECT_FALSE(send.failed()) << send.text;
    EXPECT_FALSE(receive.failed()) << receive.text;
    EXPECT_TRUE(frozen.value().unchanged(taken.dump));
    taken.dump.state.send_backlog_bytes = taken.dump.send_bytes;
    frozen.value().close_silently();
    return taken;
}

UniqueFd put_back(const TwoHosts& hosts, Taken& taken) {
    auto prepared =
        inside(hosts.near, [&] { return host::SocketRestore::prepare(taken.dump.state); });
    EXPECT_TRUE(prepared.ok()) << prepared.error().text;
    // In two pieces, as the bytes of several requests are.
    const size_t half   = taken.send.size() / 2;
    const iovec send[2] = {{taken.send.data(), half},
                           {taken.send.data() + half, taken.send.size() - half}};
    auto restored =
        prepared.value().complete(taken.dump.state, {.receive = taken.receive, .send = send});
    EXPECT_TRUE(restored.ok()) << restored.error().text << " "
                               << std::strerror(restored.error().code);
    return std::move(restored.value());
}

/// One pass out of the kernel and back, with the wire held meanwhile.
Taken pass(const TwoHosts& hosts, Connection& connection) {
    hosts.hold();
    Taken taken     = take(connection.near.release());
    connection.near = put_back(hosts, taken);
    hosts.release();
    return taken;
}

uint32_t segment_bytes(int fd) {
    return host::get_option<tcp_info>(fd, IPPROTO_TCP, TCP_INFO)->tcpi_snd_mss;
}

class SocketRestore : public testing::TestWithParam<int> {
  protected:
    TwoHosts& hosts       = fresh_hosts();
    Connection connection = connect_pair(hosts, GetParam());
};

INSTANTIATE_TEST_SUITE_P(Ip, SocketRestore, testing::Values(4, 6), family_name);

}  // namespace

TEST_P(SocketRestore, idle_connection_goes_on_both_ways) {
    expect_conversation(connection.near.get(), connection.far.get(), 100'000, 1);
    const uint32_t mss = segment_bytes(connection.near.get());
    pass(hosts, connection);
    EXPECT_EQ(segment_bytes(connection.near.get()), mss);
    expect_conversation(connection.near.get(), connection.far.get(), 5'000'000, 3);
    pass(hosts, connection);
    expect_conversation(connection.near.get(), connection.far.get(), 100'000, 5);
}

TEST_P(SocketRestore, data_in_all_queues_arrives_once_and_in_order) {
    const Bytes from_far  = random_bytes(30'000, 7);
    const Bytes from_near = random_bytes(60'000, 8);
    send_all(connection.far.get(), from_far);
    await_readable(connection.near.get(), from_far.size());
    hosts.hold();  // far's acknowledgements stay out: part of the data is in flight, part unsent
    ASSERT_EQ(send_some(connection.near.get(), from_near), from_near.size());
    const Taken taken = pass(hosts, connection);

    EXPECT_EQ(taken.receive, from_far);
    EXPECT_EQ(taken.send, from_near);
    EXPECT_GT(taken.dump.state.snd_max - taken.dump.state.snd_una, 0u);
    EXPECT_LT(taken.dump.state.snd_max - taken.dump.state.snd_una, from_near.size());
    EXPECT_EQ(receive_exactly(connection.near.get(), from_far.size()), from_far);
    EXPECT_EQ(receive_exactly(connection.far.get(), from_near.size()), from_near);
    expect_conversation(connection.near.get(), connection.far.get(), 1'000'000, 9);
}

TEST_P(SocketRestore, close_wait_reads_its_data_then_the_replayed_fin) {
    const Bytes from_far  = random_bytes(20'000, 11);
    const Bytes from_near = random_bytes(60'000, 12);
    send_all(connection.far.get(), from_far);
    ::shutdown(connection.far.get(), SHUT_WR);
    ASSERT_TRUE(await_state(connection.near.get(), TCP_CLOSE_WAIT));
    hosts.hold();
    ASSERT_EQ(send_some(connection.near.get(), from_near), from_near.size());
    const Taken taken = pass(hosts, connection);
    ASSERT_EQ(taken.dump.state.tcp_state, FLUE_TCP_CLOSE_WAIT);
    ASSERT_TRUE(await_state(connection.near.get(), TCP_ESTABLISHED));

    inject(hosts,
           connection.near.get(),
           {.seq    = taken.dump.state.rcv_nxt - 1,
            .ack    = taken.dump.state.snd_una,
            .flags  = TH_FIN | TH_ACK,
            .window = 1000});
    EXPECT_TRUE(await_state(connection.near.get(), TCP_CLOSE_WAIT));
    EXPECT_EQ(receive_exactly(connection.near.get(), from_far.size()), from_far);
    EXPECT_TRUE(at_end(connection.near.get()));
    EXPECT_EQ(receive_exactly(connection.far.get(), from_near.size()), from_near);
    ::shutdown(connection.near.get(), SHUT_WR);
    EXPECT_TRUE(at_end(connection.far.get()));
}

TEST_P(SocketRestore, options_and_sequence_numbers_survive_the_way_there_and_back) {
    const int fd = connection.near.get();
    const int v4 = GetParam() == 4;
    host::set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    host::set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 321);
    host::set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 12);
    host::set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 5);
    host::set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 45'000);
    host::set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    host::set_option(
        fd, v4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6}, v4 ? IP_TTL : IPV6_UNICAST_HOPS, 33);
    host::set_option(fd, v4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6}, v4 ? IP_TOS : IPV6_TCLASS, 0x48);
    const host::CongestionName reno{"reno"};
    host::set_option(fd, IPPROTO_TCP, TCP_CONGESTION, reno);
    expect_conversation(fd, connection.far.get(), 3'000, 13);
    const flue_state before = pass(hosts, connection).dump.state;
    const flue_state after  = pass(hosts, connection).dump.state;

    EXPECT_EQ(before.cached_flags, FLUE_CACHED_KEEP_ALIVE);
    EXPECT_EQ(before.ka_timeout_ms, 321'000u);
    EXPECT_EQ(before.ka_interval_ms, 12'000u);
    EXPECT_EQ(before.max_rt_ms, 45'000u);
    EXPECT_EQ(before.ttl, 33);
    EXPECT_EQ(before.tos, 0x48);
    EXPECT_EQ(before.congestion, FLUE_CONGESTION_NEWRENO);
    EXPECT_EQ(before.path_mtu, 1500);
    EXPECT_EQ(before.remote_mss, v4 ? 1460 : 1440);
    EXPECT_EQ(before.const_flags,
              FLUE_CONST_TIMESTAMPS | FLUE_CONST_SACK | FLUE_CONST_WINDOW_SCALING);
    // Constant and cached fields lie before rcv_wnd_max; what follows up to the timers is compared
    // one by one.
    EXPECT_EQ(std::memcmp(&before, &after, offsetof(flue_state, rcv_wnd_max)), 0);
    EXPECT_EQ(before.ka_probe_count, after.ka_probe_count);
    EXPECT_EQ(before.ka_timeout_ms, after.ka_timeout_ms);
    EXPECT_EQ(before.ka_interval_ms, after.ka_interval_ms);
    EXPECT_EQ(before.max_rt_ms, after.max_rt_ms);
    EXPECT_EQ(before.rcv_nxt, after.rcv_nxt);
    EXPECT_EQ(before.rcv_wnd, after.rcv_wnd);
    EXPECT_EQ(before.snd_una, after.snd_una);
    EXPECT_EQ(before.snd_max, after.snd_max);
    EXPECT_EQ(before.snd_wnd, after.snd_wnd);
    EXPECT_EQ(before.snd_wl1, after.snd_wl1);
    EXPECT_EQ(before.max_snd_wnd, after.max_snd_wnd);
    const uint32_t clock_moved = after.ts_time - before.ts_time;
    EXPECT_LT(clock_moved, 10'000u);
}

TEST_P(SocketRestore, connection_without_options_is_restored_without_them) {
    inside(hosts.near, [] {
        testbed::set_sysctl("net/ipv4/tcp_timestamps", "0");
        testbed::set_sysctl("net/ipv4/tcp_sack", "0");
        testbed::set_sysctl("net/ipv4/tcp_window_scaling", "0");
    });
    Connection plain = connect_pair(hosts, GetParam());
    inside(hosts.near, [] {
        testbed::set_sysctl("net/ipv4/tcp_timestamps", "1");
        testbed::set_sysctl("net/ipv4/tcp_sack", "1");
        testbed::set_sysctl("net/ipv4/tcp_window_scaling", "1");
    });
    const Taken taken = pass(hosts, plain);
    EXPECT_EQ(taken.dump.state.const_flags, 0);
    EXPECT_EQ(taken.dump.state.rcv_wind_shift, 0);
    expect_conversation(plain.near.get(), plain.far.get(), 3'000'000, 15);
    const auto info = host::get_option<tcp_info>(plain.near.get(), IPPROTO_TCP, TCP_INFO);
    ASSERT_TRUE(info);
    EXPECT_EQ(info->tcpi_options & (TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK), 0);
    EXPECT_EQ(info->tcpi_rcv_wscale, 0);
    EXPECT_EQ(info->tcpi_snd_wscale, 0);
}

TEST_P(SocketRestore, state_that_no_kernel_socket_can_have_is_refused) {
    flue_state state{};
    state.family = static_cast<uint8_t>(GetParam());
    for (const uint8_t tcp_state : {FLUE_TCP_CLOSED,
                                    FLUE_TCP_FIN_WAIT_1,
                                    FLUE_TCP_FIN_WAIT_2,
                                    FLUE_TCP_CLOSING,
                                    FLUE_TCP_LAST_ACK,
                                    FLUE_TCP_TIME_WAIT}) {
        state.tcp_state = tcp_state;
        const auto prepared =
            inside(hosts.near, [&] { return host::SocketRestore::prepare(state); });
        ASSERT_FALSE(prepared.ok());
        EXPECT_EQ(prepared.error().code, EOPNOTSUPP);
    }
}

TEST_P(SocketRestore, address_of_another_host_is_refused) {
    hosts.hold();
    Taken taken         = take(connection.near.release());
    const auto prepared = inside(hosts.far, [&] {
        flue_state state     = taken.dump.state;
        state.local_addr[3]  = 77;
        state.local_addr[15] = GetParam() == 6 ? 77 : 0;
        return host::SocketRestore::prepare(state);
    });
    ASSERT_FALSE(prepared.ok());
    EXPECT_EQ(prepared.error().code, EADDRNOTAVAIL);
}

TEST_P(SocketRestore, connection_that_the_kernel_has_already_is_refused_and_unharmed) {
    auto frozen = host::FrozenSocket::freeze(connection.near.get());
    ASSERT_TRUE(frozen.ok());
    const flue_state state = frozen.value().dump().value().state;
    {
        auto prepared = inside(hosts.near, [&] { return host::SocketRestore::prepare(state); });
        ASSERT_TRUE(prepared.ok()) << prepared.error().text;
        const auto restored = prepared.value().complete(state, {});
        ASSERT_FALSE(restored.ok());
        EXPECT_EQ(restored.error().code, EADDRNOTAVAIL);
    }
    { const auto thawed = std::move(frozen.value()); }
    expect_conversation(connection.near.get(), connection.far.get(), 100'000, 17);
}

TEST_P(SocketRestore, backlog_beyond_the_limits_is_refused_before_anything_happens) {
    hosts.hold();
    Taken taken                         = take(connection.near.release());
    taken.dump.state.send_backlog_bytes = 1 << 30;
    const auto prepared =
        inside(hosts.near, [&] { return host::SocketRestore::prepare(taken.dump.state); });
    ASSERT_FALSE(prepared.ok());
    EXPECT_EQ(prepared.error().code, ENOBUFS);
}

}  // namespace flue::test
