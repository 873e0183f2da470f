#include <arpa/inet.h>
#include <chrono>
#include <gtest/gtest.h>
#include <map>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/prng.hpp"
#include "pattern.hpp"
#include "rig.hpp"
#include "sink.hpp"
#include "testbed/process.hpp"

namespace flue::e2e {

namespace {

using namespace std::chrono_literals;

constexpr uint32_t stride        = 64 * 1024;
constexpr uint64_t scratch_bytes = 1 << 20;  ///< hand-off and state blocks
constexpr uint64_t stream_offset = scratch_bytes;

/// connect_numbered opens a kernel connection to the sink and sends its number.
testbed::Descriptor connect_numbered(uint16_t port, uint32_t number) {
    testbed::Descriptor socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port   = htons(port);
    inet_pton(AF_INET, testbed::Bottle::remote_ipv4, &address.sin_addr);
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
        testbed::throw_errno("connect");
    }
    if (::send(socket.get(), &number, sizeof(number), 0) != sizeof(number)) {
        testbed::throw_errno("send");
    }
    return socket;
}

flue_conn hand_over(Session& session, testbed::Descriptor socket, uint64_t send_wr_id) {
    flue_socket_offload_options options{};
    options.mr             = session.region();
    options.mr_bytes       = scratch_bytes;
    options.send_wr_id     = send_wr_id;
    options.keep_time_wait = 1;
    flue_socket_offload_result result{};
    if (flue_socket_offload(session.queue(), socket.get(), &options, &result) != 0) {
        throw std::runtime_error(std::string("flue_socket_offload: ") + flue_error_text());
    }
    (void)socket.release();
    // The number may not be acknowledged yet: then the scratch memory is free again after its SEND
    // has completed.
    for (uint32_t left = result.sends_posted; left > 0;) {
        const flue_wc wc = session.wait();
        left -= wc.opcode == FLUE_OP_SEND && wc.wr_id == send_wr_id ? 1 : 0;
    }
    return result.conn;
}

void fill_stream(Session& session, const Pattern& pattern, uint32_t count) {
    pattern.write(0, {session.data(stream_offset), size_t{count} * stride});
}

void wait_for(const std::function<bool()>& reached, const std::string& what) {
    for (int i = 0; i < 600; ++i) {
        if (reached()) {
            return;
        }
        std::this_thread::sleep_for(50ms);
    }
    FAIL() << "not within 30 s: " << what;
}

/// Everything in use but TIME_WAIT records and their flows, which live for 2MSL.
nlohmann::json without_time_waits(nlohmann::json usage) {
    usage["flows"] = usage["flows"].get<uint64_t>() - usage["time_waits"].get<uint64_t>();
    usage.erase("time_waits");
    return usage;
}

/// Offloads `count` connections one after the other, has all of them drain 64 KiB and close at
/// once, and compares. Returns how many of them each worker had.
std::map<uint64_t, uint32_t> drain_and_close(Rig& rig, uint32_t count) {
    const nlohmann::json base = without_time_waits(rig.usage());
    const Pattern pattern(3);
    KernelSink sink(rig.bottle().remote(), pattern, stride);
    std::map<uint64_t, uint32_t> by_worker;
    {
        Session session(rig, stream_offset + uint64_t{count} * stride);
        fill_stream(session, pattern, count);
        std::vector<flue_conn> conns;
        for (uint32_t i = 0; i < count; ++i) {
            conns.push_back(hand_over(session, connect_numbered(sink.port(), i), i));
            ++by_worker[conns.back() >> 56];
        }
        for (uint32_t i = 0; i < count; ++i) {
            session.post(FLUE_OP_DISCONNECT,
                         conns[i],
                         i,
                         session.range(stream_offset + uint64_t{i} * stride, stride));
        }
        uint32_t disconnected = 0;
        uint32_t peer_fins    = 0;
        uint32_t terminated   = 0;
        while (terminated < count) {
            const flue_wc wc = session.wait();
            if (wc.opcode == FLUE_OP_DISCONNECT) {
                EXPECT_EQ(wc.status, FLUE_SUCCESS);
                EXPECT_EQ(wc.bytes, stride);
                ++disconnected;
            } else if (wc.opcode == FLUE_OP_TERMINATE) {
                EXPECT_EQ(wc.status, FLUE_SUCCESS);
                ++terminated;
            } else if (wc.opcode == FLUE_EVENT_DISCONNECT) {
                ++peer_fins;
            } else if (wc.opcode == FLUE_EVENT_UPLOAD_REQUEST) {
                EXPECT_EQ(wc.info, FLUE_UPLOAD_REQUESTED);  // TIME_WAIT
                session.post(FLUE_OP_TERMINATE, wc.conn, 0, session.range(0, sizeof(flue_state)));
            }
        }
        EXPECT_EQ(disconnected, count);
        EXPECT_EQ(peer_fins, count);
    }
    wait_for([&] { return sink.result().closed == count; },
             "every connection closed at the remote");
    const KernelSink::Result result = sink.result();
    EXPECT_EQ(result.complete, count);
    EXPECT_EQ(result.bytes_wrong, 0u);
    EXPECT_EQ(result.reset, 0u);
    wait_for([&] { return without_time_waits(rig.usage()) == base; }, "everything given back");
    EXPECT_EQ(without_time_waits(rig.usage()), base);
    return by_worker;
}

}  // namespace

TEST(Many, a_thousand_connections_drain_and_close_at_once_while_ping_loses_nothing) {
    Rig rig;
    testbed::Child ping = testbed::Child::execute(
        {"ping", "-q", "-i", "0.01", "-c", "1000", "-w", "30", testbed::Bottle::remote_ipv4});
    drain_and_close(rig, 1000);
    const testbed::ChildExit pinged = ping.wait(40s);
    EXPECT_NE(pinged.output.find(" 0% packet loss"), std::string::npos) << pinged.output;
    EXPECT_TRUE(rig.flued().stop(SIGINT).ok());
}

TEST(Many, two_workers_share_the_connections_of_a_port_that_cannot_steer) {
    testbed::FluedOptions two;
    two.worker_count = 2;
    Rig rig({}, two);
    const auto by_worker = drain_and_close(rig, 100);
    ASSERT_EQ(by_worker.size(), 2u);
    for (const auto& [worker, count] : by_worker) {
        EXPECT_GT(count, 20u) << "worker " << worker;
    }
    EXPECT_TRUE(rig.flued().stop(SIGINT).ok());
}

TEST(Many, the_target_survives_a_host_killed_at_any_moment_and_drains_what_it_had_posted) {
    constexpr uint32_t count = 50;
    Rig rig;
    const nlohmann::json base = without_time_waits(rig.usage());
    const Pattern pattern(4);
    Prng prng(5);
    for (int round = 0; round < 20; ++round) {
        KernelSink sink(rig.bottle().remote(), pattern, stride);
        testbed::Child host = testbed::Child::call([&](const testbed::Report& report) {
            Session session(rig, stream_offset + uint64_t{count} * stride);
            fill_stream(session, pattern, count);
            report.line("ready");
            std::vector<flue_conn> conns;
            for (uint32_t i = 0; i < count; ++i) {
                conns.push_back(hand_over(session, connect_numbered(sink.port(), i), i));
            }
            for (uint32_t i = 0; i < count; ++i) {
                session.post(FLUE_OP_SEND,
                             conns[i],
                             i,
                             session.range(stream_offset + uint64_t{i} * stride, stride));
            }
            for (;;) {
                session.wait();
            }
        });
        ASSERT_EQ(host.line(10s).value_or("nothing"), "ready");
        std::this_thread::sleep_for(std::chrono::microseconds{prng.below(400'000)});
        host.signal(SIGKILL);
        host.wait();
        ASSERT_TRUE(rig.flued().running());
        wait_for(
            [&] { return sink.result().closed + sink.result().reset == sink.result().accepted; },
            "every connection ended at the remote");
        EXPECT_EQ(sink.result().bytes_wrong, 0u);
        wait_for([&] { return without_time_waits(rig.usage()) == base; }, "everything given back");
        EXPECT_EQ(without_time_waits(rig.usage()), base) << "round " << round;
    }
    EXPECT_TRUE(rig.flued().stop(SIGINT).ok());
}

}  // namespace flue::e2e
