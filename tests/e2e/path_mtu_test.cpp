#include <arpa/inet.h>
#include <array>
#include <chrono>
#include <cstring>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <set>
#include <sys/socket.h>
#include <thread>
#include <vector>

#include "pattern.hpp"
#include "peer.hpp"
#include "rig.hpp"
#include "testbed/process.hpp"
#include "wire/frame.hpp"

/// Links on the path that are narrower than the host knows: a router tells of them, or does not, or
/// somebody else lies about them.
namespace flue::e2e {

namespace {

using testbed::Bottle;
using testbed::Descriptor;

constexpr uint64_t bytes_to_send   = 4 << 20;
constexpr uint64_t handoff_bytes   = 4 << 20;
constexpr uint64_t send_offset     = handoff_bytes;
constexpr uint64_t state_offset    = send_offset + bytes_to_send;
constexpr uint64_t backlog_offset  = state_offset + 4096;
constexpr uint32_t backlog_bytes   = 1 << 20;
constexpr uint64_t region_bytes    = backlog_offset + backlog_bytes;
constexpr uint16_t port_mtu        = 1500;
constexpr uint16_t narrow_mtu      = 1300;

constexpr uint32_t least_tcp_bytes = 8;  ///< of a segment that is quoted

enum WrId : uint64_t { id_handoff = 1, id_send, id_query, id_disconnect, id_terminate };

/// What the kernel has learned of paths itself, for one test, is not to help the next one.
void forget_paths() {
    for (const char* version : {"-4", "-6"}) {
        testbed::run_tool({"ip", version, "route", "flush", "cache"});
    }
}

/// Address of the host, for sendto.
struct HostAddress {
    explicit HostAddress(bool ipv6) {
        storage.ss_family = ipv6 ? AF_INET6 : AF_INET;
        if (ipv6) {
            ::inet_pton(
                AF_INET6, Bottle::host_ipv6, &reinterpret_cast<sockaddr_in6&>(storage).sin6_addr);
        } else {
            ::inet_pton(
                AF_INET, Bottle::host_ipv4, &reinterpret_cast<sockaddr_in&>(storage).sin_addr);
        }
    }

    [[nodiscard]] const sockaddr* get() const {
        return reinterpret_cast<const sockaddr*>(&storage);
    }

    sockaddr_storage storage{};
};

/// quote is the beginning of a packet of the connection, with `seq`, as the target would send it.
std::vector<std::byte> quote(const wire::FlowKey& key, Seq seq) {
    const wire::FlowHeader flow{.key = key};
    std::array<std::byte, wire::header_bytes_max> room{};
    wire::TcpFields tcp;
    tcp.seq = seq;
    const auto lengths =
        wire::build_headers(flow, tcp, port_mtu - 60, 0, wire::TxChecksum::pseudo, 0, room);
    const auto packet = std::span(room).subspan(lengths.l2, lengths.l3 + least_tcp_bytes);
    return {packet.begin(), packet.end()};
}

}  // namespace

class PathMtu : public testing::TestWithParam<bool> {
  protected:
    static void SetUpTestSuite() {
        rig_ = std::make_unique<Rig>(testbed::BottleOptions{.routed = true});
    }

    static void TearDownTestSuite() { rig_.reset(); }

    void SetUp() override {
        router().tell(true);
        router().set_mtu(port_mtu);
        forget_paths();
        pair_   = connect_pair(rig_->bottle().host(), rig_->bottle().remote(), ipv6());
        before_ = rig_->ask("/flue/stats");
        sent_.write(0, {session_.data(send_offset), bytes_to_send});
    }

    static bool ipv6() { return GetParam(); }

    static const testbed::Router& router() { return rig_->bottle().router(); }

    uint64_t counted(const char* name) {
        return rig_->ask("/flue/stats").at(name).get<uint64_t>() - before_.at(name).get<uint64_t>();
    }

    void hand_over() {
        flue_socket_offload_options options{};
        options.mr         = session_.region();
        options.mr_bytes   = handoff_bytes;
        options.send_wr_id = id_handoff;
        flue_socket_offload_result handed{};
        ASSERT_EQ(flue_socket_offload(session_.queue(), pair_.host.release(), &options, &handed), 0)
            << flue_error_text();
        conn_ = handed.conn;
    }

    flue_wc wait_for(uint64_t wr_id) {
        flue_wc wc = session_.wait();
        while (wc.wr_id != wr_id || wc.opcode >= FLUE_EVENT_DISCONNECT) {
            wc = session_.wait();
        }
        EXPECT_EQ(wc.status, FLUE_SUCCESS);
        return wc;
    }

    void send(uint32_t bytes) {
        session_.post(FLUE_OP_SEND, conn_, id_send, session_.range(send_offset + posted_, bytes));
        posted_ += bytes;
    }

    flue_state query() {
        session_.post(
            FLUE_OP_QUERY, conn_, id_query, session_.range(state_offset, sizeof(flue_state)));
        wait_for(id_query);
        flue_state state;
        std::memcpy(&state, session_.data(state_offset), sizeof(state));
        return state;
    }

    flue_state query_when_sent(uint32_t bytes) {
        flue_state state = query();
        for (int i = 0; i < 100 && state.snd_max - state.snd_una != bytes; ++i) {
            state = query();
        }
        EXPECT_EQ(state.snd_max - state.snd_una, bytes);
        return state;
    }

    /// Ends the offload in order, with the peer, which must have received what was sent.
    void close(KernelPeer& peer) {
        session_.post(FLUE_OP_DISCONNECT, conn_, id_disconnect);
        wait_for(id_disconnect);
        const KernelPeer::Result result = peer.finish();
        EXPECT_EQ(result.bytes_received, posted_);
        EXPECT_TRUE(result.bytes_right);
        EXPECT_TRUE(result.saw_fin);
        flue_wr wr{};
        wr.wr_id     = id_terminate;
        wr.conn      = conn_;
        wr.opcode    = FLUE_OP_TERMINATE;
        wr.sge_count = 2;
        wr.sge[0]    = session_.range(state_offset, sizeof(flue_state));
        wr.sge[1]    = session_.range(backlog_offset, backlog_bytes);
        session_.post(wr);
        wait_for(id_terminate);
    }

    /// The remote sends an ICMP message that says that the segment at `seq` was too large.
    void claim_too_big(const flue_state& state, Seq seq, uint16_t mtu) {
        wire::FlowKey key;
        key.family = ipv6() ? wire::Family::ipv6 : wire::Family::ipv4;
        std::ranges::copy(state.local_addr, key.local.begin());
        std::ranges::copy(state.remote_addr, key.remote.begin());
        key.local_port  = state.local_port;
        key.remote_port = state.remote_port;
        std::vector<std::byte> message(8);
        message[0]        = std::byte{ipv6() ? uint8_t{2} : uint8_t{3}};
        message[1]        = std::byte{ipv6() ? uint8_t{0} : uint8_t{4}};
        message[6]        = static_cast<std::byte>(mtu >> 8);
        message[7]        = static_cast<std::byte>(mtu);
        const auto quoted = quote(key, seq);
        message.insert(message.end(), quoted.begin(), quoted.end());
        if (!ipv6()) {  // of ICMPv6 the kernel makes the checksum
            const uint16_t sum = wire::fold_checksum(wire::sum_bytes(message));
            message[2]         = static_cast<std::byte>(sum >> 8);
            message[3]         = static_cast<std::byte>(sum);
        }
        send_raw(message);
    }

    void send_raw(std::span<const std::byte> message) {
        const Descriptor socket = testbed::inside(rig_->bottle().remote(), [&] {
            return testbed::owned(::socket(ipv6() ? AF_INET6 : AF_INET,
                                           SOCK_RAW | SOCK_CLOEXEC,
                                           ipv6() ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP}),
                                  "a raw socket");
        });
        const HostAddress to(ipv6());
        const ssize_t sent =
            ::sendto(socket.get(), message.data(), message.size(), 0, to.get(), sizeof(to.storage));
        ASSERT_EQ(sent, static_cast<ssize_t>(message.size()));
    }

    /// The remote hears no TCP, so that what is in flight stays there.
    static void deafen_remote(bool deaf) {
        const std::string chain =
            "chain in { type filter hook input priority 0; policy accept;\n"
            "meta l4proto tcp drop;\n}\n";
        testbed::inside(rig_->bottle().remote(), [&] {
            testbed::run_tool({"nft",
                               "table inet deaf\ndelete table inet deaf\ntable inet deaf {\n" +
                                   (deaf ? chain : std::string{}) + "}\n"});
        });
    }

    bool reaches(const char* name, uint64_t count) {
        for (int i = 0; i < 200 && counted(name) < count; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
        }
        return counted(name) == count;
    }

    static inline std::unique_ptr<Rig> rig_;
    const Pattern sent_{1};
    const Pattern received_{2};
    Session session_{*rig_, region_bytes};
    SocketPair pair_;
    nlohmann::json before_;
    flue_conn conn_  = FLUE_NO_CONN;
    uint64_t posted_ = 0;
};

TEST_P(PathMtu, router_is_believed_and_nothing_has_to_time_out) {
    router().set_mtu(narrow_mtu);
    KernelPeer peer(std::move(pair_.remote), received_, sent_, {});
    hand_over();
    EXPECT_EQ(query().path_mtu, port_mtu);
    send(bytes_to_send);
    wait_for(id_send);
    EXPECT_EQ(query().path_mtu, narrow_mtu);
    close(peer);
    EXPECT_EQ(counted("too_big_heeded"), 1);
    EXPECT_EQ(counted("too_big_refused"), 0);
    EXPECT_EQ(counted("timeouts"), 0);
    EXPECT_EQ(counted("black_holes"), 0);
}

TEST_P(PathMtu, path_may_become_narrower_again_and_again) {
    KernelPeer peer(std::move(pair_.remote), received_, sent_, {});
    hand_over();
    for (const uint16_t mtu : std::array<uint16_t, 4>{1500, 1450, 1400, 1280}) {
        router().set_mtu(mtu);
        send(1 << 20);
        wait_for(id_send);
        EXPECT_EQ(query().path_mtu, mtu);
    }
    close(peer);
    EXPECT_EQ(counted("too_big_heeded"), 3);
    EXPECT_EQ(counted("timeouts"), 0);
}

TEST_P(PathMtu, black_hole_is_found_by_what_vanishes_in_it) {
    router().tell(false);
    router().set_mtu(1300);
    KernelPeer peer(std::move(pair_.remote), received_, sent_, {});
    hand_over();
    send(bytes_to_send);
    wait_for(id_send);
    EXPECT_LE(query().path_mtu, narrow_mtu);
    close(peer);
    EXPECT_EQ(counted("too_big_heeded"), 0);
    EXPECT_GE(counted("black_holes"), 1);
    EXPECT_LE(counted("timeouts"), 6);
}

TEST_P(PathMtu, forged_messages_do_nothing_but_count) {
    KernelPeer peer(std::move(pair_.remote), received_, sent_, {});
    hand_over();
    deafen_remote(true);
    constexpr uint32_t few = 100;  // not a full segment, which would be taken for too large
    send(few);
    const flue_state state = query_when_sent(few);
    const Seq in_flight{state.snd_una};
    claim_too_big(state, in_flight - 1, narrow_mtu);
    claim_too_big(state, in_flight + few, narrow_mtu);
    claim_too_big(state, in_flight + 0x4000'0000, narrow_mtu);
    claim_too_big(state, in_flight, ipv6() ? 1279 : 551);
    EXPECT_TRUE(reaches("too_big_refused", 4)) << counted("too_big_refused");
    claim_too_big(state, in_flight, port_mtu);
    EXPECT_TRUE(reaches("too_big_known", 1));
    EXPECT_EQ(query().path_mtu, port_mtu);
    claim_too_big(state, in_flight, narrow_mtu);
    EXPECT_TRUE(reaches("too_big_heeded", 1)) << "whoever knows what is in flight may be a router";
    EXPECT_EQ(query().path_mtu, narrow_mtu);
    deafen_remote(false);
    wait_for(id_send);
    close(peer);
}

/// ICMP does not come to the worker that owns the connection it is about.
TEST(PathMtuOfWorkers, each_connection_learns_what_one_worker_is_told) {
    constexpr uint32_t count = 8;
    constexpr uint32_t bytes = 50'000;  // which no application of the remote has to read
    testbed::FluedOptions two;
    two.worker_count = 2;
    Rig rig({.routed = true}, two);
    Session session(rig, count * bytes);
    std::vector<Descriptor> remotes;
    std::set<uint64_t> workers;
    for (uint32_t i = 0; i < count; ++i) {
        SocketPair pair = connect_pair(rig.bottle().host(), rig.bottle().remote(), i % 2 == 1);
        flue_socket_offload_options options{};
        options.mr       = session.region();
        options.mr_bytes = bytes;
        flue_socket_offload_result handed{};
        ASSERT_EQ(flue_socket_offload(session.queue(), pair.host.release(), &options, &handed), 0)
            << flue_error_text();
        workers.insert(handed.conn >> 56);
        remotes.push_back(std::move(pair.remote));
        rig.bottle().router().set_mtu(narrow_mtu);
        session.post(FLUE_OP_SEND, handed.conn, id_send, session.range(0, bytes));
        EXPECT_EQ(session.wait().status, FLUE_SUCCESS);
        rig.bottle().router().set_mtu(port_mtu);
    }
    EXPECT_EQ(workers.size(), 2u);
    const nlohmann::json stats = rig.ask("/flue/stats");
    EXPECT_EQ(stats.at("too_big_heeded"), count);
    EXPECT_EQ(stats.at("rx_too_big_lost"), 0);
    EXPECT_EQ(stats.at("timeouts"), 0);
}

INSTANTIATE_TEST_SUITE_P(, PathMtu, testing::Bool(), [](const auto& family) {
    return family.param ? "ipv6" : "ipv4";
});

}  // namespace flue::e2e
