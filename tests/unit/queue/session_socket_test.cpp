#include "queue/session_socket.hpp"

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace flue::queue {
namespace {

size_t open_descriptors() {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator("/proc/self/fd")) {
        ++count;
    }
    return count;
}

class SessionSocket : public testing::Test {
  protected:
    SessionSocket() {
        int ends[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        one_ = UniqueFd(ends[0]);
        two_ = UniqueFd(ends[1]);
    }

    /// send_raw sends any bytes with any number of descriptors, as no well-behaved side would.
    void send_raw(size_t bytes, const std::vector<int>& fds) {
        std::vector<char> data(bytes, 'x');
        iovec part{data.data(), data.size()};
        std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
        msghdr header{};
        header.msg_iov    = &part;
        header.msg_iovlen = 1;
        if (!fds.empty()) {
            header.msg_control    = control.data();
            header.msg_controllen = control.size();
            cmsghdr* message      = CMSG_FIRSTHDR(&header);
            message->cmsg_level   = SOL_SOCKET;
            message->cmsg_type    = SCM_RIGHTS;
            message->cmsg_len     = CMSG_LEN(fds.size() * sizeof(int));
            std::memcpy(CMSG_DATA(message), fds.data(), fds.size() * sizeof(int));
        }
        ASSERT_EQ(::sendmsg(one_.get(), &header, 0), static_cast<ssize_t>(bytes));
    }

    SocketError receive_error() {
        auto received = receive_message(two_.get());
        EXPECT_FALSE(received.ok());
        return received.ok() ? SocketError::system : received.error();
    }

    UniqueFd one_;
    UniqueFd two_;
};

TEST_F(SessionSocket, message_and_descriptors_arrive_close_on_exec) {
    const UniqueFd event(::eventfd(5, EFD_CLOEXEC));
    Message message;
    message.type = static_cast<uint16_t>(MessageType::create_queue);
    message.tag  = 77;
    const int fds[]{event.get(), one_.get()};
    ASSERT_TRUE(send_message(one_.get(), message, fds).ok());

    auto received = receive_message(two_.get());
    ASSERT_TRUE(received.ok());
    EXPECT_EQ(received.value().message.tag, 77u);
    ASSERT_EQ(received.value().fd_count, 2u);
    const int copy = received.value().fds[0].get();
    EXPECT_EQ(::fcntl(copy, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    uint64_t value = 0;
    EXPECT_EQ(::read(copy, &value, sizeof(value)), 8);
    EXPECT_EQ(value, 5u);
}

TEST_F(SessionSocket, nothing_to_receive_is_said_without_blocking) {
    EXPECT_EQ(receive_error(), SocketError::again);
    EXPECT_FALSE(wait_readable(two_.get(), 0));
}

TEST_F(SessionSocket, gone_peer_is_closed_for_both_directions) {
    one_.reset();
    EXPECT_TRUE(wait_readable(two_.get(), 1000));
    EXPECT_EQ(receive_error(), SocketError::closed);
    auto sent = send_message(two_.get(), Message{});
    ASSERT_FALSE(sent.ok());
    EXPECT_EQ(sent.error(), SocketError::closed);
}

TEST_F(SessionSocket, messages_of_another_size_are_malformed_and_their_descriptors_closed) {
    const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
    const size_t before = open_descriptors();
    for (const size_t bytes : {size_t{1}, sizeof(Message) - 1, sizeof(Message) + 1, size_t{4000}}) {
        send_raw(bytes, {event.get(), event.get()});
        EXPECT_EQ(receive_error(), SocketError::malformed) << bytes;
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST_F(SessionSocket, more_descriptors_than_any_message_takes_are_all_closed) {
    const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
    const size_t before = open_descriptors();
    for (const size_t count : {size_t{3}, size_t{4}, size_t{100}, size_t{253}}) {
        send_raw(sizeof(Message), std::vector<int>(count, event.get()));
        EXPECT_EQ(receive_error(), SocketError::malformed) << count;
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST_F(SessionSocket, name_without_end_is_ended) {
    Message message;
    std::memset(message.name, 'n', sizeof(message.name));
    ASSERT_TRUE(send_message(one_.get(), message).ok());
    auto received = receive_message(two_.get());
    EXPECT_EQ(std::string(received.value().message.name), std::string(31, 'n'));
}

TEST_F(SessionSocket, peer_that_does_not_read_makes_again_not_a_stall) {
    SocketError last = SocketError::system;
    for (int i = 0; i < 100'000 && last != SocketError::again; ++i) {
        if (auto sent = send_message(one_.get(), Message{}); !sent.ok()) {
            last = sent.error();
        }
    }
    EXPECT_EQ(last, SocketError::again);
}

class SocketFile : public testing::Test {
  protected:
    SocketFile() {
        char pattern[] = "/tmp/flue-socket-XXXXXX";
        directory_     = ::mkdtemp(pattern);
        path_          = directory_ + "/socket";
    }

    ~SocketFile() override { std::filesystem::remove_all(directory_); }

    std::string directory_;
    std::string path_;
};

TEST_F(SocketFile, listener_accepts_and_knows_the_peer) {
    auto listener = listen_at(path_.c_str(), 0660);
    ASSERT_TRUE(listener.ok());

    struct stat status {};

    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0660u);

    auto client = connect_to(path_.c_str());
    ASSERT_TRUE(client.ok());
    const UniqueFd accepted(::accept4(listener.value().get(), nullptr, nullptr, SOCK_CLOEXEC));
    const auto peer = peer_credentials(accepted.get());
    ASSERT_TRUE(peer.ok());
    EXPECT_EQ(peer.value().pid, ::getpid());
    EXPECT_EQ(peer.value().uid, ::getuid());
}

TEST_F(SocketFile, file_of_a_dead_listener_is_replaced_but_a_live_one_is_not) {
    { auto dead = listen_at(path_.c_str(), 0600); }
    ASSERT_TRUE(std::filesystem::exists(path_));
    auto live = listen_at(path_.c_str(), 0600);
    ASSERT_TRUE(live.ok());
    auto second = listen_at(path_.c_str(), 0600);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code, EADDRINUSE);
    EXPECT_TRUE(connect_to(path_.c_str()).ok());
}

TEST_F(SocketFile, plain_file_at_the_path_is_left_alone) {
    const UniqueFd file(::open(path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    auto refused = listen_at(path_.c_str(), 0600);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, EADDRINUSE);
    EXPECT_TRUE(std::filesystem::is_regular_file(path_));
}

TEST_F(SocketFile, path_that_is_too_long_is_refused) {
    const std::string path(200, 'p');
    EXPECT_EQ(listen_at(path.c_str(), 0600).error().code, ENAMETOOLONG);
    EXPECT_EQ(connect_to(path.c_str()).error().code, ENAMETOOLONG);
}

/// A socket of which the last close() would wait for an hour.
UniqueFd lingering_socket() {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const linger hour{.l_onoff = 1, .l_linger = 3600};
    EXPECT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &hour, sizeof(hour)), 0);
    return fd;
}

bool lingers(int fd) {
    linger asked{};
    socklen_t length = sizeof(asked);
    EXPECT_EQ(::getsockopt(fd, SOL_SOCKET, SO_LINGER, &asked, &length), 0);
    return asked.l_onoff != 0;
}

TEST_F(SessionSocket, a_descriptor_that_nobody_takes_is_let_go_with_its_message) {
    const UniqueFd taken   = lingering_socket();
    const UniqueFd ignored = lingering_socket();
    send_raw(sizeof(Message), {taken.get(), ignored.get()});
    UniqueFd kept;
    {
        auto received = receive_message(two_.get());
        ASSERT_TRUE(received.ok());
        kept = std::move(received.value().fds[0]);
    }
    EXPECT_FALSE(lingers(ignored.get()));
    EXPECT_TRUE(lingers(taken.get()));  // whoever took it may want it as it is
}

TEST_F(SessionSocket, all_of_too_many_descriptors_are_let_go) {
    constexpr size_t most = 253;
    std::vector<UniqueFd> sockets;
    std::vector<int> fds;
    for (size_t i = 0; i < most; ++i) {
        sockets.push_back(lingering_socket());
        fds.push_back(sockets.back().get());
    }
    const size_t before = open_descriptors();
    send_raw(sizeof(Message), fds);
    EXPECT_EQ(receive_error(), SocketError::malformed);
    EXPECT_EQ(open_descriptors(), before);
    for (const UniqueFd& socket : sockets) {
        EXPECT_FALSE(lingers(socket.get()));
    }
}

TEST_F(SessionSocket, hanging_up_lets_what_was_not_read_go_and_lets_nobody_send_more) {
    const UniqueFd first  = lingering_socket();
    const UniqueFd second = lingering_socket();
    send_raw(sizeof(Message), {first.get()});
    send_raw(0, {});
    send_raw(1, {second.get()});
    hang_up(two_.get());
    EXPECT_FALSE(lingers(first.get()));
    EXPECT_FALSE(lingers(second.get()));
    const auto sent = send_message(one_.get(), Message{});
    ASSERT_FALSE(sent.ok());
    EXPECT_EQ(sent.error(), SocketError::closed);
}

TEST_F(SessionSocket, an_abortive_linger_needs_no_letting_go) {
    const UniqueFd socket = lingering_socket();
    const linger abort{.l_onoff = 1, .l_linger = 0};
    ASSERT_EQ(::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof(abort)), 0);
    let_go(socket.get());
    EXPECT_TRUE(lingers(socket.get()));
    let_go(-1);  // no descriptor at all
}

}  // namespace
}  // namespace flue::queue
