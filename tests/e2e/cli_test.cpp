#include <cerrno>
#include <gtest/gtest.h>
#include <thread>

#include "peer.hpp"
#include "rig.hpp"
#include "testbed/process.hpp"

namespace flue::e2e {

namespace {

std::string flue(const Rig& rig, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {flue_program, "--file-prefix", rig.file_prefix()});
    return testbed::run_tool(arguments);
}

}  // namespace

TEST(Cli, conns_and_stats_show_an_offloaded_connection_as_text_and_as_json) {
    Rig rig;
    Session session(rig, 1 << 20);
    SocketPair pair = connect_pair(rig.bottle().host(), rig.bottle().remote(), false);
    flue_socket_offload_options options{};
    options.mr       = session.region();
    options.mr_bytes = 1 << 20;
    ASSERT_EQ(flue_socket_offload(session.queue(), pair.host.release(), &options, nullptr), 0)
        << flue_error_text();

    const auto conns = nlohmann::json::parse(flue(rig, {"conns", "--json"}));
    ASSERT_EQ(conns.size(), 1u);
    EXPECT_EQ(conns.at(0).at("state"), "ESTABLISHED");
    EXPECT_EQ(conns.at(0).at("remote"), testbed::Bottle::remote_ipv4);
    for (const char* field :
         {"local_port", "remote_port", "send_queue", "receive_queue", "cwnd", "worker", "age_ms"}) {
        EXPECT_TRUE(conns.at(0).contains(field)) << field;
    }
    const std::string text = flue(rig, {"conns"});
    EXPECT_NE(text.find(testbed::Bottle::remote_ipv4), std::string::npos) << text;
    EXPECT_NE(flue(rig, {"stats", "--json"}).find("\"offloads\": 1"), std::string::npos);
    EXPECT_NE(flue(rig, {"stats"}).find("offloads"), std::string::npos);
}

TEST(Cli, R118_R119_stats_count_what_an_offloaded_connection_does_and_can_be_cleared) {
    Rig rig;
    Session session(rig, 1 << 20);
    const auto figures = [&rig] {
        const auto all = rig.ask("/flue/tcp_stats");
        return all.at("net_af_packet0_ipv4");
    };
    EXPECT_EQ(figures().at("currently_established"), 0u);
    SocketPair pair = connect_pair(rig.bottle().host(), rig.bottle().remote(), false);
    flue_socket_offload_options options{};
    options.mr       = session.region();
    options.mr_bytes = 1 << 20;
    flue_socket_offload_result handed{};
    ASSERT_EQ(flue_socket_offload(session.queue(), pair.host.release(), &options, &handed), 0)
        << flue_error_text();
    session.post(FLUE_OP_SEND, handed.conn, 1, session.range(0, 1000));
    EXPECT_EQ(session.wait().status, FLUE_SUCCESS);

    const auto sent = figures();
    EXPECT_EQ(sent.at("currently_established"), 1u);
    EXPECT_GE(sent.at("out_segments"), 1u);
    EXPECT_GE(sent.at("ip_out_octets"), 1000u + 40);
    EXPECT_GE(sent.at("in_segments"), 1u);
    EXPECT_EQ(sent.at("ip_in_receives"), sent.at("in_segments"));
    EXPECT_GE(sent.at("ip_in_octets"), 40u);
    EXPECT_EQ(sent.at("out_resets"), 0u);
    EXPECT_NE(flue(rig, {"stats", "--clear-tcp"}).find("offloaded connections, net_af_packet0"),
              std::string::npos);
    EXPECT_EQ(figures().at("out_segments"), 0u);
    EXPECT_EQ(figures().at("currently_established"), 1u);

    session.post(FLUE_OP_DISCONNECT, handed.conn, 2, FLUE_WR_ABORT);
    EXPECT_EQ(session.wait().status, FLUE_SUCCESS);
    const auto reset = figures();
    EXPECT_EQ(reset.at("currently_established"), 0u);
    EXPECT_EQ(reset.at("reset_established"), 1u);
    EXPECT_EQ(reset.at("out_resets"), 1u);
    EXPECT_EQ(rig.ask("/flue/tcp_stats").at("net_af_packet0_ipv6").at("in_segments"), 0u);
}

TEST(Cli, R27_R116_pause_upload_all_and_resume_reach_hosts_and_their_requests) {
    Rig rig;
    Session session(rig, 1 << 20);
    SocketPair pair = connect_pair(rig.bottle().host(), rig.bottle().remote(), false);
    EXPECT_EQ(flue(rig, {"pause"}), "pause: 1 worker\n");
    EXPECT_EQ(session.wait().opcode, FLUE_EVENT_PAUSE);
    EXPECT_EQ(rig.usage().at("workers_paused"), 1u);

    std::thread other{[&rig] { EXPECT_EQ(flue(rig, {"resume"}), "resume: 1 worker\n"); }};
    flue_socket_offload_options options{};
    options.mr       = session.region();
    options.mr_bytes = 1 << 20;
    flue_socket_offload_result handed{};
    const int offloaded =
        flue_socket_offload(session.queue(), pair.host.release(), &options, &handed);
    other.join();
    ASSERT_EQ(offloaded, 0) << flue_error_text();
    EXPECT_EQ(session.wait().opcode, FLUE_EVENT_RESUME);

    EXPECT_EQ(flue(rig, {"upload-all"}), "upload_all: 1 worker\n");
    EXPECT_EQ(session.wait().opcode, FLUE_EVENT_UPLOAD_ALL);
    session.post(FLUE_OP_SEND, handed.conn, 1, session.range(0, 100));
    EXPECT_EQ(session.wait().status, FLUE_UPLOAD_IN_PROGRESS);
    SocketPair late = connect_pair(rig.bottle().host(), rig.bottle().remote(), false);
    EXPECT_EQ(flue_socket_offload(session.queue(), late.host.get(), &options, nullptr), -1);
    EXPECT_EQ(errno, EAGAIN) << flue_error_text();

    Session newcomer(rig, 4096);
    EXPECT_EQ(newcomer.wait().opcode, FLUE_EVENT_UPLOAD_ALL);
    session.post(FLUE_OP_TERMINATE, handed.conn, 2, session.range(0, sizeof(flue_state)));
    EXPECT_EQ(session.wait().status, FLUE_SUCCESS);
}

TEST(Cli, without_a_target_it_says_what_to_do) {
    const testbed::ChildExit ended =
        testbed::Child::execute({flue_program, "--file-prefix", "nobody", "stats"}).wait();
    EXPECT_EQ(ended.code, 1);
    EXPECT_NE(ended.output.find("flued"), std::string::npos) << ended.output;
}

}  // namespace flue::e2e
