#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "flue/flue.h"
#include "flue/flue.hpp"
#include "queue/session_socket.hpp"

namespace flue::host {
namespace {

using queue::Message;
using queue::MessageType;
using queue::SessionStatus;

class Session : public testing::Test {
  protected:
    Session() {
        char pattern[] = "/tmp/flue-session-XXXXXX";
        directory_     = ::mkdtemp(pattern);
        path_          = directory_ + "/socket";
    }

    ~Session() override { std::filesystem::remove_all(directory_); }

    /// expect_open_fails opens a session and expects this errno and these words in the error text.
    void expect_open_fails(int code, const std::string& words) {
        errno = 0;
        EXPECT_EQ(flue_open(path_.c_str(), nullptr), nullptr);
        EXPECT_EQ(errno, code);
        const std::string text = flue_error_text();
        EXPECT_NE(text.find(words), std::string::npos) << text;
    }

    /// answer_once accepts one host, reads its hello and sends what `change` makes of it; then it
    /// hangs up.
    std::jthread answer_once(std::function<void(Message&)> change) {
        auto listener = queue::listen_at(path_.c_str(), 0600);
        EXPECT_TRUE(listener.ok());
        return std::jthread([listener = std::move(listener.value()), change = std::move(change)] {
            EXPECT_TRUE(queue::wait_readable(listener.get(), 10'000));
            const UniqueFd host(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
            EXPECT_TRUE(queue::wait_readable(host.get(), 10'000));
            Message message = queue::receive_message(host.get()).value().message;
            change(message);
            EXPECT_TRUE(queue::send_message(host.get(), message).ok());
        });
    }

    std::string directory_;
    std::string path_;
};

TEST_F(Session, open_without_a_target_says_how_to_start_one) {
    expect_open_fails(ENOENT, "start flued with --socket");
}

TEST_F(Session, open_after_the_target_stopped_says_so) {
    { auto stopped = queue::listen_at(path_.c_str(), 0600); }
    expect_open_fails(ECONNREFUSED, "start it again");
}

TEST_F(Session, open_without_permission_says_so) {
    auto listener = queue::listen_at(path_.c_str(), 0600);
    ASSERT_TRUE(listener.ok());
    ASSERT_EQ(::chmod(path_.c_str(), 0), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        // Root may write to any socket file, nobody may not.
        const bool dropped = ::geteuid() != 0 || ::setresuid(65534, 65534, 65534) == 0;
        expect_open_fails(EACCES, "no permission");
        ::_exit(dropped && !HasFailure() ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST_F(Session, open_of_another_programs_socket_says_so) {
    const UniqueFd stream(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(::bind(stream.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(::listen(stream.get(), 1), 0);
    expect_open_fails(EPROTOTYPE, "another program's socket");
}

TEST_F(Session, open_of_a_path_that_is_too_long_says_so) {
    path_ = std::string(200, 'p');
    expect_open_fails(ENAMETOOLONG, "107");
}

TEST_F(Session, open_without_a_path_fails) {
    EXPECT_EQ(flue_open(nullptr, nullptr), nullptr);
    EXPECT_EQ(errno, EINVAL);
}

TEST_F(Session, target_of_another_version_is_told_apart) {
    const auto target = answer_once(
        [](Message& m) { m.status = static_cast<uint16_t>(SessionStatus::bad_version); });
    expect_open_fails(EPROTONOSUPPORT, "same release");
}

TEST_F(Session, target_that_hangs_up_at_once_is_told_apart) {
    auto listener = queue::listen_at(path_.c_str(), 0600);
    ASSERT_TRUE(listener.ok());
    const std::jthread target([&] {
        EXPECT_TRUE(queue::wait_readable(listener.value().get(), 10'000));
        const UniqueFd host(::accept4(listener.value().get(), nullptr, nullptr, SOCK_CLOEXEC));
    });
    expect_open_fails(ECONNRESET, "see its log");
}

TEST_F(Session, answers_that_make_no_sense_are_refused) {
    {
        const auto target = answer_once([](Message& m) { m.worker_count = 0; });
        expect_open_fails(EPROTO, "0 workers");
    }
    {
        const auto target = answer_once([](Message& m) { m.worker_count = 256; });
        expect_open_fails(EPROTO, "256 workers");
    }
    {
        const auto target = answer_once([](Message& m) { m.tag += 1; });
        expect_open_fails(EPROTO, "something else");
    }
}

TEST_F(Session, hello_carries_name_and_policy) {
    Message seen;
    {
        const auto target = answer_once([&](Message& m) {
            seen           = m;
            m.worker_count = 2;
        });
        const flue_open_options options{
            "a very long name that does not fit into it", FLUE_LOSS_ABORT, 0};
        flue_context* context = flue_open(path_.c_str(), &options);
        ASSERT_NE(context, nullptr) << flue_error_text();
        EXPECT_EQ(flue_worker_count(context), 2u);
        flue_close(context);
    }
    EXPECT_EQ(seen.type, static_cast<uint16_t>(MessageType::hello));
    EXPECT_EQ(seen.version, queue::session_protocol_version);
    EXPECT_EQ(seen.host_loss, static_cast<uint32_t>(FLUE_LOSS_ABORT));
    EXPECT_STREQ(seen.name, "a very long name that does not ");
}

TEST_F(Session, hello_carries_the_time_to_hold_and_its_answer_the_token) {
    Message seen;
    const auto target = answer_once([&](Message& m) {
        seen           = m;
        m.worker_count = 1;
        m.hold_ms      = 500;
        m.token.fill(7);
    });
    const flue_open_options options{"", FLUE_LOSS_HOLD, 1000};
    flue_context* context = flue_open(path_.c_str(), &options);
    ASSERT_NE(context, nullptr) << flue_error_text();
    ASSERT_NE(flue_token(context), nullptr);
    EXPECT_EQ(flue_token(context)[15], 7);
    EXPECT_EQ(seen.hold_ms, 1000u);
    flue_close(context);
}

TEST_F(Session, session_that_is_not_held_has_no_token) {
    const auto target     = answer_once([](Message& m) { m.worker_count = 1; });
    flue_context* context = flue_open(path_.c_str(), nullptr);
    ASSERT_NE(context, nullptr) << flue_error_text();
    EXPECT_EQ(flue_token(context), nullptr);
    flue_close(context);
}

TEST_F(Session, reattach_tells_refusals_apart) {
    const uint8_t token[FLUE_TOKEN_BYTES] = {1, 2, 3};

    struct Case {
        SessionStatus status;
        int code;
        const char* words;
    };

    for (const Case& c : {Case{SessionStatus::busy, EBUSY, "has a host"},
                          Case{SessionStatus::bad_token, ENOENT, "no session waits"},
                          Case{SessionStatus::not_permitted, EACCES, "not permitted"}}) {
        const auto target =
            answer_once([&](Message& m) { m.status = static_cast<uint16_t>(c.status); });
        EXPECT_EQ(flue_reattach(path_.c_str(), token), nullptr);
        EXPECT_EQ(errno, c.code);
        const std::string text = flue_error_text();
        EXPECT_NE(text.find(c.words), std::string::npos) << text;
    }
    EXPECT_EQ(flue_reattach(path_.c_str(), nullptr), nullptr);
    EXPECT_EQ(errno, EINVAL);
}

TEST_F(Session, queue_of_a_geometry_nobody_can_make_is_refused_here) {
    const auto target     = answer_once([](Message& m) { m.worker_count = 1; });
    flue_context* context = flue_open(path_.c_str(), nullptr);
    ASSERT_NE(context, nullptr) << flue_error_text();
    const flue_hq_options options{1000, 0};
    EXPECT_EQ(flue_hq_create(context, &options), nullptr);
    EXPECT_EQ(errno, EINVAL);
    flue_close(context);
}

TEST_F(Session, cpp_wrapper_throws_errno_and_text) {
    try {
        const Context context(path_.c_str());
        FAIL() << "opened a session with nobody";
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code().value(), ENOENT);
        EXPECT_NE(std::string(error.what()).find("start flued"), std::string::npos);
    }
}

}  // namespace
}  // namespace flue::host
