#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <thread>

#include "application.hpp"
#include "host/linux/socket_dump.hpp"
#include "host/linux/socket_restore.hpp"

namespace flue::handoff {

namespace {

class SocketUpload : public testing::TestWithParam<bool> {
  protected:
    SocketUpload() {
        auto pair = e2e::connect_pair(
            shared_rig().bottle().host(), shared_rig().bottle().remote(), GetParam());
        remote      = UniqueFd(pair.remote.release());
        application = std::make_unique<Application>(UniqueFd(pair.host.release()));
    }

    /// The target is as empty as it was when no session is left.
    void TearDown() override {
        application.reset();
        expect_no_more_than(baseline);
    }

    /// Both directions on plain sockets, then a close from the near side.
    void finish_in_the_kernel() {
        const Bytes there = random_bytes(500'000, 91);
        const Bytes back  = random_bytes(500'000, 92);
        std::jthread writer([&] { write_all(remote.get(), back); });
        std::jthread reader([&] { EXPECT_EQ(read_exactly(application->fd(), back.size()), back); });
        std::jthread teller([&] { write_all(application->fd(), there); });
        EXPECT_EQ(read_exactly(remote.get(), there.size()), there);
        reader.join();
        ::shutdown(application->fd(), SHUT_WR);
        EXPECT_TRUE(at_end(remote.get()));
    }

    const nlohmann::json baseline = shared_rig().usage();
    UniqueFd remote;
    std::unique_ptr<Application> application;
};

INSTANTIATE_TEST_SUITE_P(Ip, SocketUpload, testing::Bool(), [](const auto& family) {
    return std::string(family.param ? "v6" : "v4");
});

}  // namespace

TEST_P(SocketUpload, idle_connection_is_a_plain_socket_again) {
    ASSERT_EQ(application->offload(), 0) << flue_error_text();
    ASSERT_EQ(application->upload(), 0) << flue_error_text();
    finish_in_the_kernel();
}

TEST_P(SocketUpload, sends_outstanding_are_finished_by_the_kernel) {
    host::set_option(remote.get(), SOL_SOCKET, SO_RCVBUF, 16384);
    ASSERT_EQ(application->offload(), 0) << flue_error_text();
    Bytes all;
    for (uint64_t i = 0; i < 5; ++i) {
        const Bytes part = random_bytes(30'000, 31 + i);
        application->send(part);
        all.insert(all.end(), part.begin(), part.end());
    }
    ::usleep(50'000);
    ASSERT_EQ(application->upload(), 0) << flue_error_text();
    EXPECT_EQ(read_exactly(remote.get(), all.size()), all);
    finish_in_the_kernel();
}

TEST_P(SocketUpload, undelivered_data_is_read_from_the_socket) {
    ASSERT_EQ(application->offload(), 0) << flue_error_text();
    const Bytes unread = random_bytes(40'000, 41);
    write_all(remote.get(), unread);
    EXPECT_EQ(application->receive(10'000), Bytes(unread.begin(), unread.begin() + 10'000));
    ::usleep(50'000);
    ASSERT_EQ(application->upload(), 0) << flue_error_text();
    EXPECT_EQ(read_exactly(application->fd(), 30'000),
              Bytes(unread.begin() + 10'000, unread.end()));
    finish_in_the_kernel();
}

TEST_P(SocketUpload, close_wait_ends_after_its_data) {
    ASSERT_EQ(application->offload(), 0) << flue_error_text();
    const Bytes unread = random_bytes(20'000, 43);
    write_all(remote.get(), unread);
    ::shutdown(remote.get(), SHUT_WR);
    while (application->query().tcp_state != FLUE_TCP_CLOSE_WAIT) {
        ::usleep(1000);
    }
    ASSERT_EQ(application->upload(), 0) << flue_error_text();
    EXPECT_EQ(read_exactly(application->fd(), unread.size()), unread);
    EXPECT_TRUE(at_end(application->fd()));
    const Bytes answer = random_bytes(200'000, 44);
    write_all(application->fd(), answer);
    ::shutdown(application->fd(), SHUT_WR);
    EXPECT_EQ(read_exactly(remote.get(), answer.size()), answer);
    EXPECT_TRUE(at_end(remote.get()));
}

TEST_P(SocketUpload, connection_that_moves_twenty_times_under_traffic_loses_nothing) {
    constexpr size_t said_bytes  = 20'000;
    constexpr size_t heard_bytes = 100'000;
    const Bytes inbound          = random_bytes(8'000'000, 45);
    const Bytes outbound         = random_bytes(20 * said_bytes, 46);
    std::jthread writer([&] { write_all(remote.get(), inbound); });
    std::jthread reader([&] { EXPECT_EQ(read_exactly(remote.get(), outbound.size()), outbound); });
    Bytes heard;
    const auto hear = [&](const Bytes& part) {
        heard.insert(heard.end(), part.begin(), part.end());
    };
    auto say = outbound.begin();
    for (int turn = 0; turn < 10; ++turn) {
        write_all(application->fd(), Bytes(say, say + said_bytes));
        hear(read_exactly(application->fd(), heard_bytes));
        ASSERT_EQ(application->offload(), 0) << flue_error_text();
        application->send(Bytes(say + said_bytes, say + 2 * said_bytes));
        hear(application->receive(heard_bytes));
        int error = application->upload();
        // What waits may be more than the kernel's buffers hold; then it has to be taken first.
        for (int retry = 0; error == ENOBUFS && retry < 10; ++retry) {
            hear(application->receive(heard_bytes));
            error = application->upload();
        }
        ASSERT_EQ(error, 0) << flue_error_text();
        say += 2 * said_bytes;
    }
    hear(read_exactly(application->fd(), inbound.size() - heard.size()));
    EXPECT_EQ(heard, inbound);
    reader.join();
    finish_in_the_kernel();
}

TEST_P(SocketUpload, unlisted_sends_are_refused_and_the_target_goes_on) {
    deafen(shared_rig().bottle().remote(), true);
    ASSERT_EQ(application->offload(), 0) << flue_error_text();
    const Bytes part = random_bytes(30'000, 61);
    application->send(part);
    EXPECT_EQ(application->upload(Application::lent_bytes, false), EINVAL);
    deafen(shared_rig().bottle().remote(), false);
    EXPECT_EQ(read_exactly(remote.get(), part.size()), part);
    application->finish_sends();
    ASSERT_EQ(application->upload(), 0) << flue_error_text();
    finish_in_the_kernel();
}

TEST_P(SocketUpload, too_little_memory_is_refused_and_the_target_goes_on) {
    ASSERT_EQ(application->offload(), 0) << flue_error_text();
    const Bytes unread = random_bytes(40'000, 63);
    write_all(remote.get(), unread);
    while (application->query().receive_backlog_bytes < unread.size()) {
        ::usleep(1000);
    }
    EXPECT_EQ(application->upload(100), ENOBUFS);
    EXPECT_EQ(application->upload(5'000), ENOBUFS);
    EXPECT_EQ(application->receive(unread.size()), unread);
    ASSERT_EQ(application->upload(5'000), 0) << flue_error_text();
    finish_in_the_kernel();
}

TEST_P(SocketUpload, connection_whose_fin_was_sent_is_refused_and_finished_by_the_target) {
    ASSERT_EQ(application->offload(), 0) << flue_error_text();
    application->disconnect();
    EXPECT_TRUE(at_end(remote.get()));
    application->finish_sends();
    EXPECT_EQ(application->upload(), ESHUTDOWN);
    const Bytes answer = random_bytes(50'000, 65);
    write_all(remote.get(), answer);
    EXPECT_EQ(application->receive(answer.size()), answer);
    ::shutdown(remote.get(), SHUT_WR);
    application->await_peer_fin();
    application->terminate();
}

TEST_P(SocketUpload, refused_by_the_kernel_at_last_the_target_goes_on_with_every_byte) {
    deafen(shared_rig().bottle().remote(), true);
    ASSERT_EQ(application->offload(), 0) << flue_error_text();
    const Bytes first  = random_bytes(30'000, 67);
    const Bytes second = random_bytes(30'000, 68);
    application->send(first);
    application->send(second);
    // Another socket with the same addresses and ports, which the kernel notices only when it
    // connects.
    flue_state state         = application->query();
    state.send_backlog_bytes = 0;
    state.snd_una            = state.snd_max;
    auto squatter            = host::SocketRestore::prepare(state);
    ASSERT_TRUE(squatter.ok()) << squatter.error().text;
    auto squatting = squatter.value().complete(state, {});
    ASSERT_TRUE(squatting.ok()) << squatting.error().text;

    EXPECT_EQ(application->upload(), EADDRNOTAVAIL);
    auto frozen = host::FrozenSocket::freeze(squatting.value().release());
    ASSERT_TRUE(frozen.ok());
    frozen.value().close_silently();
    EXPECT_EQ(application->outstanding_sends(), 2u);
    deafen(shared_rig().bottle().remote(), false);
    EXPECT_EQ(read_exactly(remote.get(), first.size()), first);
    EXPECT_EQ(read_exactly(remote.get(), second.size()), second);
    application->finish_sends();
    ASSERT_EQ(application->upload(), 0) << flue_error_text();
    finish_in_the_kernel();
}

TEST_P(SocketUpload, reset_connection_is_refused) {
    ASSERT_EQ(application->offload(), 0) << flue_error_text();
    const linger now{.l_onoff = 1, .l_linger = 0};
    host::set_option(remote.get(), SOL_SOCKET, SO_LINGER, now);
    remote.reset();
    while (application->query().tcp_state != FLUE_TCP_CLOSED) {
        ::usleep(1000);
    }
    EXPECT_EQ(application->upload(), ENOTCONN);
    application->terminate();
}

}  // namespace flue::handoff
