#include "host/linux/socket_dump.hpp"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <unistd.h>

#include "host/linux/congestion_name.hpp"
#include "two_hosts.hpp"

namespace flue::test {

namespace {

using testbed::inside;

std::optional<host::SocketDump> dump_of(int fd) {
    auto frozen = host::FrozenSocket::freeze(fd);
    if (!frozen.ok()) {
        ADD_FAILURE() << frozen.error().text;
        return std::nullopt;
    }
    const auto dump = frozen.value().dump();
    EXPECT_TRUE(dump.ok());
    return dump.value();
}

int refusal_of(int fd) {
    const auto frozen = host::FrozenSocket::freeze(fd);
    return frozen.ok() ? 0 : frozen.error().code;
}

class SocketDump : public testing::TestWithParam<int> {
  protected:
    [[nodiscard]] int near() const { return connection.near.get(); }

    [[nodiscard]] int far() const { return connection.far.get(); }

    /// Fills near's send queue until part of it is unsent; far reads nothing.
    Bytes send_more_than_the_window() {
        host::set_option(far(), SOL_SOCKET, SO_RCVBUF, 16384);
        Bytes bytes = random_bytes(400'000, 21);
        bytes.resize(send_some(near(), bytes));
        return bytes;
    }

    TwoHosts& hosts       = fresh_hosts();
    Connection connection = connect_pair(hosts, GetParam());
};

INSTANTIATE_TEST_SUITE_P(Ip, SocketDump, testing::Values(4, 6), family_name);

}  // namespace

TEST_P(SocketDump, frozen_socket_that_is_let_go_works_as_before) {
    host::set_option(near(), SOL_SOCKET, SO_REUSEADDR, 1);
    const Bytes pending = send_more_than_the_window();
    for (int i = 0; i < 3; ++i) {
        const auto dump = dump_of(near());
        ASSERT_TRUE(dump);
        EXPECT_GT(dump->state.snd_una + dump->send_bytes - dump->state.snd_max, 0u);
    }
    EXPECT_EQ(receive_exactly(far(), pending.size()), pending);
    expect_conversation(near(), far(), 1'000'000, 23);
    EXPECT_EQ(host::get_option<int>(near(), SOL_SOCKET, SO_REUSEADDR), 1);
    EXPECT_EQ(host::get_option<int>(near(), IPPROTO_TCP, TCP_NODELAY), 0);
    EXPECT_EQ(host::get_option<int>(near(), IPPROTO_TCP, TCP_REPAIR), 0);
}

TEST_P(SocketDump, segment_to_a_frozen_socket_is_not_taken_and_comes_again) {
    const Bytes late = random_bytes(5'000, 25);
    {
        auto frozen = host::FrozenSocket::freeze(near());
        ASSERT_TRUE(frozen.ok());
        const auto dump = frozen.value().dump();
        ASSERT_TRUE(dump.ok());
        send_all(far(), late);
        EXPECT_TRUE(frozen.value().unchanged(dump.value()));
    }
    EXPECT_EQ(receive_exactly(near(), late.size()), late);
}

TEST_P(SocketDump, unchanged_sees_what_came_after_the_dump) {
    const auto before = dump_of(near());
    send_all(far(), random_bytes(10, 26));
    await_readable(near(), 10);
    auto frozen = host::FrozenSocket::freeze(near());
    ASSERT_TRUE(before && frozen.ok());
    EXPECT_FALSE(frozen.value().unchanged(*before));
}

TEST_P(SocketDump, close_with_full_queues_sends_no_segment) {
    send_all(far(), random_bytes(1'000, 27));
    await_readable(near(), 1'000);
    send_more_than_the_window();
    const UniqueFd second(::dup(near()));
    hosts.hold();
    auto frozen = host::FrozenSocket::freeze(connection.near.release());
    ASSERT_TRUE(frozen.ok());
    const auto tap = hosts.tap();
    ASSERT_TRUE(frozen.value().dump().ok());
    frozen.value().close_silently();
    // The other descriptor keeps the socket alive, but not the connection.
    EXPECT_TRUE(await_state(second.get(), TCP_CLOSE));
    ::usleep(300'000);  // longer than the retransmission time-out of a live connection here
    EXPECT_EQ(count_tcp_segments(tap.get()), 0u);
}

TEST_P(SocketDump, acknowledgement_inside_a_segment_leaves_only_what_follows_it) {
    const Bytes bytes = random_bytes(1'000, 29);
    hosts.deafen();
    ASSERT_EQ(send_some(near(), bytes), bytes.size());
    const auto before = dump_of(near());
    ASSERT_TRUE(before);
    inject(hosts,
           near(),
           {.seq    = before->state.rcv_nxt,
            .ack    = before->state.snd_una + 300,
            .flags  = TH_ACK,
            .window = 500});
    std::optional<host::SocketDump> after;
    for (int i = 0; i < 1000 && (!after || after->send_bytes == 1'000); ++i) {
        ::usleep(1000);
        after = dump_of(near());
    }
    ASSERT_TRUE(after);
    ASSERT_EQ(after->send_bytes, 700u);
    Bytes rest(700);
    auto frozen = host::FrozenSocket::freeze(near());
    ASSERT_TRUE(frozen.ok());
    ASSERT_FALSE(frozen.value().copy_send_queue(rest).failed());
    EXPECT_EQ(rest, Bytes(bytes.begin() + 300, bytes.end()));
}

TEST_P(SocketDump, fin_that_waits_behind_data_is_pending_and_not_counted) {
    const Bytes sent = send_more_than_the_window();
    ::shutdown(near(), SHUT_WR);
    const auto dump = dump_of(near());
    ASSERT_TRUE(dump);
    EXPECT_EQ(dump->state.tcp_state, FLUE_TCP_ESTABLISHED);
    EXPECT_TRUE(dump->fin_pending);
    EXPECT_LT(dump->state.snd_max - dump->state.snd_una, dump->send_bytes);
    Bytes queue(dump->send_bytes);
    auto frozen = host::FrozenSocket::freeze(near());
    ASSERT_TRUE(frozen.ok());
    ASSERT_FALSE(frozen.value().copy_send_queue(queue).failed());
    EXPECT_EQ(queue, Bytes(sent.end() - static_cast<ssize_t>(queue.size()), sent.end()));
}

TEST_P(SocketDump, fin_in_flight_is_counted_by_snd_max) {
    const auto before = dump_of(near());
    hosts.deafen();
    send_all(near(), random_bytes(5, 31));
    ::shutdown(near(), SHUT_WR);
    const auto dump = dump_of(near());
    ASSERT_TRUE(before && dump);
    EXPECT_EQ(dump->state.tcp_state, FLUE_TCP_FIN_WAIT_1);
    EXPECT_FALSE(dump->fin_pending);
    EXPECT_EQ(dump->send_bytes, 5u);
    EXPECT_EQ(dump->state.snd_una, before->state.snd_max);
    EXPECT_EQ(dump->state.snd_max, before->state.snd_max + 6);
    EXPECT_GE(dump->state.retransmit_delta_ms, 0);
}

TEST_P(SocketDump, acknowledged_fin_is_fin_wait_2) {
    const auto before = dump_of(near());
    ::shutdown(near(), SHUT_WR);
    ASSERT_TRUE(await_state(near(), TCP_FIN_WAIT2));
    const auto dump = dump_of(near());
    ASSERT_TRUE(before && dump);
    EXPECT_EQ(dump->state.tcp_state, FLUE_TCP_FIN_WAIT_2);
    EXPECT_EQ(dump->state.snd_una, before->state.snd_max + 1);
    EXPECT_EQ(dump->state.snd_max, dump->state.snd_una);
    EXPECT_EQ(dump->send_bytes, 0u);
    EXPECT_EQ(dump->state.retransmit_delta_ms, -1);
}

TEST_P(SocketDump, peers_fin_is_counted_by_rcv_nxt_and_not_by_the_unread_bytes) {
    const auto before = dump_of(near());
    send_all(far(), random_bytes(7, 33));
    ::shutdown(far(), SHUT_WR);
    ASSERT_TRUE(await_state(near(), TCP_CLOSE_WAIT));
    const auto dump = dump_of(near());
    ASSERT_TRUE(before && dump);
    EXPECT_EQ(dump->state.tcp_state, FLUE_TCP_CLOSE_WAIT);
    EXPECT_EQ(dump->state.rcv_nxt, before->state.rcv_nxt + 8);
    EXPECT_EQ(dump->receive_bytes, 7u);
    receive_exactly(near(), 7);
    EXPECT_TRUE(at_end(near()));
    EXPECT_EQ(dump_of(near())->receive_bytes, 0u);
}

TEST_P(SocketDump, last_ack_with_its_fin_unsent_is_close_wait) {
    ::shutdown(far(), SHUT_WR);
    ASSERT_TRUE(await_state(near(), TCP_CLOSE_WAIT));
    send_more_than_the_window();
    ::shutdown(near(), SHUT_WR);
    ASSERT_TRUE(await_state(near(), TCP_LAST_ACK));
    const auto dump = dump_of(near());
    ASSERT_TRUE(dump);
    EXPECT_EQ(dump->state.tcp_state, FLUE_TCP_CLOSE_WAIT);
    EXPECT_TRUE(dump->fin_pending);
}

TEST_P(SocketDump, last_ack_with_its_fin_in_flight_is_last_ack) {
    ::shutdown(far(), SHUT_WR);
    ASSERT_TRUE(await_state(near(), TCP_CLOSE_WAIT));
    hosts.deafen();
    ::shutdown(near(), SHUT_WR);
    const auto dump = dump_of(near());
    ASSERT_TRUE(dump);
    EXPECT_EQ(dump->state.tcp_state, FLUE_TCP_LAST_ACK);
    EXPECT_EQ(dump->state.snd_max, dump->state.snd_una + 1);
    EXPECT_EQ(dump->send_bytes, 0u);
}

TEST_P(SocketDump, closing_with_its_fin_unsent_is_close_wait) {
    send_more_than_the_window();
    ::shutdown(near(), SHUT_WR);
    ::shutdown(far(), SHUT_WR);
    ASSERT_TRUE(await_state(near(), TCP_CLOSING));
    const auto dump = dump_of(near());
    ASSERT_TRUE(dump);
    EXPECT_EQ(dump->state.tcp_state, FLUE_TCP_CLOSE_WAIT);
    EXPECT_TRUE(dump->fin_pending);
}

TEST_P(SocketDump, closing_with_its_fin_in_flight_is_closing) {
    hosts.deafen();
    ::shutdown(near(), SHUT_WR);
    ::shutdown(far(), SHUT_WR);
    ASSERT_TRUE(await_state(near(), TCP_CLOSING));
    const auto dump = dump_of(near());
    ASSERT_TRUE(dump);
    EXPECT_EQ(dump->state.tcp_state, FLUE_TCP_CLOSING);
    EXPECT_EQ(dump->state.snd_max, dump->state.snd_una + 1);
}

TEST_P(SocketDump, time_out_writes_the_whole_flight_down_as_lost) {
    expect_conversation(near(), far(), 100'000, 35);
    hosts.deafen();
    send_all(near(), random_bytes(10'000, 36));
    for (int i = 0; i < 10'000; ++i) {
        const auto info = host::get_option<tcp_info>(near(), IPPROTO_TCP, TCP_INFO);
        if (info && info->tcpi_ca_state == TCP_CA_Loss) {
            break;
        }
        ::usleep(1000);
    }
    const auto dump = dump_of(near());
    ASSERT_TRUE(dump);
    EXPECT_EQ(dump->state.snd_nxt, dump->state.snd_una);
    EXPECT_EQ(dump->state.snd_max, dump->state.snd_una + 10'000);
    EXPECT_GT(dump->state.retransmit_count, 0);
    EXPECT_GT(dump->state.srtt_us_x8, 0u);
}

TEST_P(SocketDump, ecn_and_congestion_control_are_told_and_ect_is_no_part_of_the_tos) {
    const auto with_ecn = [&](const char* value) {
        for (const testbed::Namespace* host : {&hosts.near, &hosts.far}) {
            inside(*host, [value] { testbed::set_sysctl("net/ipv4/tcp_ecn", value); });
        }
    };
    with_ecn("1");
    const Connection marked = connect_pair(hosts, GetParam());
    with_ecn("2");
    const int fd    = marked.near.get();
    const int level = GetParam() == 4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6};
    const int name  = GetParam() == 4 ? IP_TOS : IPV6_TCLASS;
    host::set_option(fd, level, name, 0x48);
    const host::CongestionName reno{"reno"};
    ASSERT_TRUE(host::set_option(fd, IPPROTO_TCP, TCP_CONGESTION, reno));
    expect_conversation(fd, marked.far.get(), 100'000, 37);
    const auto dump  = dump_of(fd);
    const auto plain = dump_of(near());
    ASSERT_TRUE(dump && plain);
    EXPECT_NE(dump->state.const_flags & FLUE_CONST_ECN, 0);
    EXPECT_EQ(dump->state.congestion, FLUE_CONGESTION_NEWRENO);
    EXPECT_EQ(dump->state.tos, 0x48);
    EXPECT_EQ(plain->state.const_flags & FLUE_CONST_ECN, 0);
}

TEST_P(SocketDump, a_congestion_control_that_flue_has_not_is_the_target_s_choice) {
    EXPECT_EQ(host::congestion_named("bbr"), FLUE_CONGESTION_DEFAULT);
    EXPECT_EQ(host::congestion_named("cubic"), FLUE_CONGESTION_CUBIC);
    EXPECT_EQ(host::congestion_named("dctcp"), FLUE_CONGESTION_DCTCP);
    const host::CongestionName bbr{"bbr"};
    if (!host::set_option(near(), IPPROTO_TCP, TCP_CONGESTION, bbr)) {
        GTEST_SKIP() << "this kernel has no BBR";
    }
    const auto dump = dump_of(near());
    ASSERT_TRUE(dump);
    EXPECT_EQ(dump->state.congestion, FLUE_CONGESTION_DEFAULT);
}

TEST_P(SocketDump, ipv4_on_an_ipv6_socket_is_ipv4) {
    if (GetParam() == 6) {
        EXPECT_EQ(dump_of(near())->state.family, 6);
        return;
    }
    const UniqueFd listener = listen_on(hosts.near, 6);
    const Connection mapped = connect_to(hosts, listener.get(), 4);
    const auto dump         = dump_of(mapped.near.get());
    ASSERT_TRUE(dump);
    EXPECT_EQ(dump->state.family, 4);
    EXPECT_EQ(dump->state.local_addr[0], 10);
    EXPECT_EQ(dump->state.remote_addr[3], 2);
    EXPECT_EQ(dump->state.path_mtu, 1500);
    EXPECT_EQ(dump->state.ttl, 64);
}

TEST_P(SocketDump, listening_socket_is_refused_and_goes_on_accepting) {
    const UniqueFd listener = listen_on(hosts.near, GetParam());
    EXPECT_EQ(refusal_of(listener.get()), ENOTCONN);
    const Connection accepted = connect_to(hosts, listener.get(), GetParam());
    expect_conversation(accepted.near.get(), accepted.far.get(), 1'000, 37);
}

TEST_P(SocketDump, socket_that_is_not_a_connection_is_refused) {
    const int domain = GetParam() == 4 ? AF_INET : AF_INET6;
    inside(hosts.near, [domain] {
        const UniqueFd udp(::socket(domain, SOCK_DGRAM, 0));
        const UniqueFd fresh(::socket(domain, SOCK_STREAM, 0));
        int pipe[2];
        ASSERT_EQ(::pipe(pipe), 0);
        EXPECT_EQ(refusal_of(udp.get()), EPROTOTYPE);
        EXPECT_EQ(refusal_of(fresh.get()), ENOTCONN);
        EXPECT_EQ(refusal_of(pipe[0]), ENOTSOCK);
        EXPECT_EQ(refusal_of(-1), EBADF);
        ::close(pipe[0]);
        ::close(pipe[1]);
    });
}

TEST_P(SocketDump, connection_that_is_still_opening_is_refused_and_opens) {
    hosts.hold();
    const UniqueFd listener = listen_on(hosts.far, GetParam());
    const UniqueFd opening  = start_connecting(hosts, listener.get());
    ASSERT_TRUE(await_state(opening.get(), TCP_SYN_SENT));
    EXPECT_EQ(refusal_of(opening.get()), ENOTCONN);
    hosts.release();
    EXPECT_TRUE(await_state(opening.get(), TCP_ESTABLISHED));
}

TEST_P(SocketDump, ended_connection_is_refused) {
    ::shutdown(near(), SHUT_WR);
    ASSERT_TRUE(await_state(near(), TCP_FIN_WAIT2));
    ::shutdown(far(), SHUT_WR);
    ASSERT_TRUE(await_state(near(), TCP_CLOSE));  // TIME-WAIT, in truth
    EXPECT_EQ(refusal_of(near()), ENOTCONN);
}

TEST_P(SocketDump, urgent_data_is_refused_until_it_is_read) {
    ASSERT_EQ(::send(far(), "!", 1, MSG_OOB), 1);
    await_urgent(near());
    EXPECT_EQ(refusal_of(near()), EBUSY);
    char urgent = 0;
    EXPECT_EQ(::recv(near(), &urgent, 1, MSG_OOB), 1);
    EXPECT_EQ(urgent, '!');
    EXPECT_EQ(refusal_of(near()), 0);
    expect_conversation(near(), far(), 1'000, 39);
}

TEST_P(SocketDump, packet_filter_of_the_application_is_refused_and_stays) {
    sock_filter pass_all = BPF_STMT(BPF_RET | BPF_K, 0x40000);
    const sock_fprog program{.len = 1, .filter = &pass_all};
    ASSERT_TRUE(host::set_option(near(), SOL_SOCKET, SO_ATTACH_FILTER, program));
    EXPECT_EQ(refusal_of(near()), EOPNOTSUPP);
    socklen_t instructions = 0;
    ::getsockopt(near(), SOL_SOCKET, SO_GET_FILTER, nullptr, &instructions);
    EXPECT_EQ(instructions, 1u);
    expect_conversation(near(), far(), 1'000, 41);
}

}  // namespace flue::test
