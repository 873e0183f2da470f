#include <fcntl.h>
#include <fstream>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.hpp"
#include "sender.hpp"
#include "testbed/process.hpp"

namespace flue::drain {

using e2e::KernelPeer;
using e2e::Pattern;
using e2e::SocketPair;
using testbed::Bottle;
using testbed::Child;
using testbed::Descriptor;
using testbed::inside;

namespace {

constexpr uint64_t stream_bytes = 3 << 20;

class DrainPrograms : public DrainTest {
  protected:
    /// Runs an example of which the remote gets a file, and compares.
    void expect_example_delivers(const std::string& program) {
        Descriptor listener = inside(rig().rig().bottle().remote(), [] {
            return Descriptor{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        });
        sockaddr_in address{};
        address.sin_family = AF_INET;
        socklen_t length   = sizeof(address);
        ASSERT_EQ(::listen(listener.get(), 1), 0);
        ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
        const std::string file = "/run/stream";
        {
            std::vector<uint8_t> bytes(stream_bytes);
            stream_.write(0, bytes);
            std::ofstream(file, std::ios::binary)
                .write(reinterpret_cast<const char*>(bytes.data()), stream_bytes);
        }
        Child example =
            Child::execute({"sh",
                            "-c",
                            "exec " + program + " " + std::to_string(ntohs(address.sin_port)) +
                                " " + Bottle::remote_ipv4 + " " + socket_path + " <" + file});
        KernelPeer peer(Descriptor{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)},
                        stream_,
                        stream_,
                        {});
        const auto ended = example.wait();
        EXPECT_TRUE(ended.ok()) << ended.output;
        expect_stream(peer);
        EXPECT_TRUE(rig().reaches("completed", 1));
    }

    void expect_stream(KernelPeer& peer, uint64_t bytes = stream_bytes) {
        const KernelPeer::Result result = peer.finish();
        EXPECT_EQ(result.bytes_received, bytes);
        EXPECT_TRUE(result.bytes_right && result.saw_fin);
    }

    const Pattern stream_{7};

  private:
};

testbed::ChildExit flue(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {e2e::flue_program, "drain", "--socket", socket_path});
    return Child::execute(arguments).wait();
}

}  // namespace

TEST_F(DrainPrograms, the_example_in_c_connects_sends_hands_over_and_exits) {
    expect_example_delivers(c_example);
}

TEST_F(DrainPrograms, the_example_in_python_connects_sends_hands_over_and_exits) {
    expect_example_delivers(python + " " + python_example);
}

TEST_F(DrainPrograms, flue_drain_takes_the_socket_of_another_process) {
    SocketPair pair      = rig().connect();
    const int fd         = pair.host.get();
    Child owner          = Child::call([&](const testbed::Report& report) {
        report.line(std::to_string(fill_socket(fd, stream_, stream_bytes)));
        ::pause();
    });
    const uint64_t bytes = std::stoull(owner.line(std::chrono::seconds{10}).value_or("0"));
    pair.host            = Descriptor{};
    const auto ended     = flue({"--pid",
                                 std::to_string(owner.pid()),
                                 "--fd",
                                 std::to_string(fd),
                                 "--deadline",
                                 "1min",
                                 "--at-deadline",
                                 "wait"});
    EXPECT_TRUE(ended.ok());
    EXPECT_NE(ended.output.find("taken over"), std::string::npos) << ended.output;
    KernelPeer peer(std::move(pair.remote), stream_, stream_, {});
    expect_stream(peer, bytes);
    EXPECT_TRUE(rig().reaches("completed", 1));
}

TEST_F(DrainPrograms, flue_drain_takes_a_descriptor_that_it_inherits) {
    SocketPair pair      = rig().connect();
    const uint64_t bytes = fill_socket(pair.host.get(), stream_, stream_bytes);
    ASSERT_EQ(::fcntl(pair.host.get(), F_SETFD, 0), 0);
    const auto ended = flue(
        {"--fd", std::to_string(pair.host.get()), "--deadline", "300ms", "--at-deadline", "abort"});
    EXPECT_TRUE(ended.ok()) << ended.output;
    EXPECT_TRUE(rig().reaches("aborted_by_deadline", 1));
    char byte        = 0;
    uint64_t arrived = 0;
    while (::recv(pair.remote.get(), &byte, 1, 0) > 0) {
        ++arrived;
    }
    EXPECT_EQ(errno, ECONNRESET);
    EXPECT_LT(arrived, bytes);
}

TEST_F(DrainPrograms, flue_drain_says_why_not) {
    const Descriptor unconnected{::socket(AF_INET, SOCK_STREAM, 0)};
    const auto refused = flue({"--fd", std::to_string(unconnected.get())});
    EXPECT_EQ(refused.code, 1);
    EXPECT_NE(refused.output.find("refused: it is not connected"), std::string::npos)
        << refused.output;
    const auto nobody = flue({"--pid", "1999999999", "--fd", "3"});
    EXPECT_EQ(nobody.code, 1);
    EXPECT_NE(nobody.output.find("process 1999999999"), std::string::npos) << nobody.output;
    const auto mistake = flue({"--fd", "3", "--deadline", "5 parsecs"});
    EXPECT_NE(mistake.code, 0);
}

TEST_F(DrainPrograms, flue_stats_shows_drains) {
    SocketPair pair = rig().connect();
    EXPECT_EQ(ask(pair.host.get()).status, FLUE_DRAIN_OK);
    KernelPeer peer(std::move(pair.remote), stream_, stream_, {});
    expect_stream(peer, 0);
    ASSERT_TRUE(rig().reaches("completed", 1));
    const auto stats =
        testbed::run_tool({e2e::flue_program, "--file-prefix", rig().rig().file_prefix(), "stats"});
    EXPECT_NE(stats.find("\ndrains\n"), std::string::npos) << stats;
    EXPECT_NE(stats.find("aborted_by_deadline"), std::string::npos) << stats;
}

}  // namespace flue::drain
