#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <thread>

#include "application.hpp"
#include "host/linux/socket_options.hpp"

namespace flue::handoff {

namespace {

class SocketOffload : public testing::TestWithParam<bool> {
  protected:
    SocketOffload() {
        auto pair = e2e::connect_pair(
            shared_rig().bottle().host(), shared_rig().bottle().remote(), GetParam());
        near   = UniqueFd(pair.host.release());
        remote = UniqueFd(pair.remote.release());
    }

    /// The target is as empty as it was when no session is left.
    void TearDown() override { expect_no_more_than(baseline); }

    /// Ends the connection from both sides.
    void finish(Application& application) {
        application.disconnect();
        application.finish_sends();
        EXPECT_TRUE(at_end(remote.get()));
        ::shutdown(remote.get(), SHUT_WR);
        application.await_peer_fin();
        application.terminate();
    }

    const nlohmann::json baseline = shared_rig().usage();
    UniqueFd near;
    UniqueFd remote;
};

INSTANTIATE_TEST_SUITE_P(Ip, SocketOffload, testing::Bool(), [](const auto& family) {
    return std::string(family.param ? "v6" : "v4");
});

}  // namespace

TEST_P(SocketOffload, idle_connection_talks_on_and_closes) {
    Application application(std::move(near));
    ASSERT_EQ(application.offload(), 0) << flue_error_text();
    EXPECT_EQ(application.offloaded().sends_posted, 0u);
    const Bytes there = random_bytes(300'000, 1);
    const Bytes back  = random_bytes(300'000, 2);
    application.send(there);
    EXPECT_EQ(read_exactly(remote.get(), there.size()), there);
    std::jthread writer([&] { write_all(remote.get(), back); });
    EXPECT_EQ(application.receive(back.size()), back);
    finish(application);
}

TEST_P(SocketOffload, full_queues_arrive_in_order_before_what_is_sent_later) {
    const Bytes unread = random_bytes(50'000, 3);
    write_all(remote.get(), unread);
    const Bytes queued = write_until_full(near.get(), 60'000, 4);
    const Bytes later  = random_bytes(200'000, 5);
    ::usleep(50'000);
    Application application(std::move(near));
    ASSERT_EQ(application.offload(), 0) << flue_error_text();
    application.send(later);
    EXPECT_EQ(application.receive(unread.size()), unread);
    EXPECT_EQ(read_exactly(remote.get(), queued.size()), queued);
    EXPECT_EQ(read_exactly(remote.get(), later.size()), later);
    finish(application);
}

TEST_P(SocketOffload, unacknowledged_data_is_sent_again_by_the_target) {
    deafen(shared_rig().bottle().remote(), true);
    const Bytes queued = write_until_full(near.get(), 60'000, 6);
    Application application(std::move(near));
    ASSERT_EQ(application.offload(), 0) << flue_error_text();
    EXPECT_EQ(application.offloaded().sends[0].sge[0].length, queued.size());
    deafen(shared_rig().bottle().remote(), false);
    EXPECT_EQ(read_exactly(remote.get(), queued.size()), queued);
    finish(application);
}

TEST_P(SocketOffload, peer_that_sends_all_the_while_loses_nothing) {
    const Bytes stream = random_bytes(6'000'000, 7);
    std::jthread writer([&] { write_all(remote.get(), stream); });
    Bytes heard = read_exactly(near.get(), 500'000);
    Application application(std::move(near));
    ASSERT_EQ(application.offload(), 0) << flue_error_text();
    const Bytes rest = application.receive(stream.size() - heard.size());
    heard.insert(heard.end(), rest.begin(), rest.end());
    EXPECT_EQ(heard, stream);
    finish(application);
}

TEST_P(SocketOffload, shut_down_socket_with_its_fin_unsent_is_drained_and_closed) {
    host::set_option(remote.get(), SOL_SOCKET, SO_RCVBUF, 16384);
    const Bytes queued = write_until_full(near.get(), 400'000, 8);
    ::shutdown(near.get(), SHUT_WR);
    Application application(std::move(near));
    ASSERT_EQ(application.offload(), 0) << flue_error_text();
    ASSERT_EQ(application.offloaded().sends_posted, 2u);
    EXPECT_EQ(application.offloaded().sends[1].opcode, FLUE_OP_DISCONNECT);
    EXPECT_EQ(read_exactly(remote.get(), queued.size()), queued);
    EXPECT_TRUE(at_end(remote.get()));
    application.finish_sends();
    const Bytes answer = random_bytes(10'000, 9);
    write_all(remote.get(), answer);
    ::shutdown(remote.get(), SHUT_WR);
    EXPECT_EQ(application.receive(answer.size()), answer);
    application.await_peer_fin();
    application.terminate();
}

TEST_P(SocketOffload, data_and_fin_in_flight_arrive_again) {
    deafen(shared_rig().bottle().remote(), true);
    const Bytes flying = write_until_full(near.get(), 5'000, 10);
    ::shutdown(near.get(), SHUT_WR);
    Application application(std::move(near));
    ASSERT_EQ(application.offload(), 0) << flue_error_text();
    EXPECT_EQ(application.offloaded().sends_posted, 2u);
    deafen(shared_rig().bottle().remote(), false);
    EXPECT_EQ(read_exactly(remote.get(), flying.size()), flying);
    EXPECT_TRUE(at_end(remote.get()));
    application.finish_sends();
    ::shutdown(remote.get(), SHUT_WR);
    application.await_peer_fin();
    application.terminate();
}

TEST_P(SocketOffload, fin_in_flight_alone_arrives_again) {
    deafen(shared_rig().bottle().remote(), true);
    ::shutdown(near.get(), SHUT_WR);
    Application application(std::move(near));
    ASSERT_EQ(application.offload(), 0) << flue_error_text();
    EXPECT_EQ(application.offloaded().sends_posted, 0u);
    EXPECT_EQ(application.query().tcp_state, FLUE_TCP_FIN_WAIT_1);
    deafen(shared_rig().bottle().remote(), false);
    EXPECT_TRUE(at_end(remote.get()));
    ::shutdown(remote.get(), SHUT_WR);
    application.await_peer_fin();
    application.terminate();
}

TEST_P(SocketOffload, close_wait_with_unread_data_answers_and_closes) {
    const Bytes unread = random_bytes(20'000, 11);
    write_all(remote.get(), unread);
    ::shutdown(remote.get(), SHUT_WR);
    ::usleep(50'000);
    Application application(std::move(near));
    ASSERT_EQ(application.offload(), 0) << flue_error_text();
    EXPECT_EQ(application.query().tcp_state, FLUE_TCP_CLOSE_WAIT);
    EXPECT_EQ(application.receive(unread.size()), unread);
    const Bytes answer = random_bytes(50'000, 12);
    application.send(answer);
    application.disconnect();
    EXPECT_EQ(read_exactly(remote.get(), answer.size()), answer);
    EXPECT_TRUE(at_end(remote.get()));
    application.finish_sends();
    application.terminate();
}

/// Timestamps start at random numbers, so that half of the connections have theirs past 2^31.
TEST_P(SocketOffload, connections_with_keepalive_hear_their_peer_at_once) {
    for (uint64_t turn = 0; turn < 8; ++turn) {
        auto pair = e2e::connect_pair(
            shared_rig().bottle().host(), shared_rig().bottle().remote(), GetParam());
        host::set_option(pair.host.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
        Application application(UniqueFd(pair.host.release()));
        ASSERT_EQ(application.offload(), 0) << flue_error_text();
        const Bytes said = random_bytes(1'000, 20 + turn);
        write_all(pair.remote.get(), said);
        EXPECT_EQ(application.receive(said.size()), said);
        application.session().post(FLUE_OP_DISCONNECT, application.conn(), 1, FLUE_WR_ABORT);
        static_cast<void>(application.session().wait());
        application.terminate();
    }
}

TEST_P(SocketOffload, too_little_memory_is_refused_with_what_is_needed_and_nothing_is_lost) {
    const Bytes unread = random_bytes(10'000, 13);
    write_all(remote.get(), unread);
    ::usleep(50'000);
    Application application(std::move(near));
    EXPECT_EQ(application.offload(100), ENOBUFS);
    EXPECT_EQ(application.offload(5'000), ENOBUFS);
    const uint64_t needed = application.offloaded().mr_bytes_used;
    EXPECT_EQ(needed, sizeof(flue_state) + unread.size());
    EXPECT_EQ(read_exactly(application.fd(), 4'000), Bytes(unread.begin(), unread.begin() + 4'000));
    ASSERT_EQ(application.offload(needed - 4'000), 0) << flue_error_text();
    EXPECT_EQ(application.receive(6'000), Bytes(unread.begin() + 4'000, unread.end()));
    finish(application);
}

TEST_P(SocketOffload, refused_by_the_target_the_socket_goes_on_with_what_came_meanwhile) {
    const Bytes stream = random_bytes(3'000'000, 14);
    Application application(std::move(near));
    std::jthread writer([&] { write_all(remote.get(), stream); });
    Bytes heard;
    for (int turn = 0; turn < 10; ++turn) {
        // No room for the unread data: the refusal comes after HOLD.
        const Bytes part = read_exactly(application.fd(), 100'000);
        heard.insert(heard.end(), part.begin(), part.end());
        const int error = application.offload(sizeof(flue_state));
        EXPECT_TRUE(error == ENOBUFS || error == 0) << flue_error_text();
        if (error == 0) {
            ASSERT_EQ(application.upload(), 0) << flue_error_text();
        }
    }
    const Bytes rest = read_exactly(application.fd(), stream.size() - heard.size());
    heard.insert(heard.end(), rest.begin(), rest.end());
    EXPECT_EQ(heard, stream);
    ASSERT_EQ(application.offload(), 0) << flue_error_text();
    finish(application);
}

TEST_P(SocketOffload, what_is_no_connection_is_refused) {
    Application listener(UniqueFd(::socket(GetParam() ? AF_INET6 : AF_INET, SOCK_STREAM, 0)));
    EXPECT_EQ(listener.offload(), ENOTCONN);
    ASSERT_EQ(::listen(listener.fd(), 1), 0);
    EXPECT_EQ(listener.offload(), ENOTCONN);
}

}  // namespace flue::handoff
