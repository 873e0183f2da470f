#pragma once

#include <csignal>
#include <functional>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <thread>
#include <unistd.h>

#include <rte_dev.h>

#include "queue/session_socket.hpp"
#include "target/target.hpp"

namespace flue::target {

using queue::Message;
using queue::MessageType;
using queue::SessionStatus;

/// A host that speaks the session protocol message by message.
class Host {
  public:
    explicit Host(const std::string& path) {
        auto socket = queue::connect_to(path.c_str());
        EXPECT_TRUE(socket.ok());
        socket_ = std::move(socket.value());
    }

    void send(Message message, MessageType type, std::span<const int> fds = {}) {
        message.type = static_cast<uint16_t>(type);
        message.tag  = ++tag_;
        EXPECT_TRUE(queue::send_message(socket_.get(), message, fds).ok());
    }

    queue::Received receive() {
        EXPECT_TRUE(queue::wait_readable(socket_.get(), 5000));
        auto received = queue::receive_message(socket_.get());
        EXPECT_TRUE(received.ok());
        return received.ok() ? std::move(received.value()) : queue::Received{};
    }

    queue::Received ask(const Message& message, MessageType type, std::span<const int> fds = {}) {
        send(message, type, fds);
        queue::Received received = receive();
        EXPECT_EQ(received.message.tag, tag_);
        EXPECT_EQ(received.message.type, static_cast<uint16_t>(type));
        return received;
    }

    SessionStatus status(const Message& message, MessageType type, std::span<const int> fds = {}) {
        return static_cast<SessionStatus>(ask(message, type, fds).message.status);
    }

    bool closed_by_target() {
        EXPECT_TRUE(queue::wait_readable(socket_.get(), 5000));
        const auto received = queue::receive_message(socket_.get());
        return !received.ok() && received.error() == queue::SocketError::closed;
    }

    bool readable(int timeout_ms) { return queue::wait_readable(socket_.get(), timeout_ms); }

    /// The answer to a first message, if the target has room for a session.
    std::optional<SessionStatus> try_first(Message first, MessageType type) {
        first.type = static_cast<uint16_t>(type);
        if (!queue::send_message(socket_.get(), first).ok()) {
            return std::nullopt;
        }
        EXPECT_TRUE(readable(5000));
        const auto received = queue::receive_message(socket_.get());
        return received.ok()
                   ? std::optional{static_cast<SessionStatus>(received.value().message.status)}
                   : std::nullopt;
    }

    void hello() { EXPECT_EQ(status({}, MessageType::hello), SessionStatus::ok); }

    void leave() { socket_.reset(); }

  private:
    UniqueFd socket_;
    uint32_t tag_ = 0;
};

inline Message queue_request() {
    Message request;
    request.submission_entries = 64;
    request.completion_entries = 128;
    return request;
}

/// A whole target on a net_null port; the test's body is the host, on a thread of its own.
class TargetTest : public testing::Test {
  protected:
    TargetTest() {
        options_.ports           = {port_};
        options_.exception_taps  = {"none"};
        options_.socket_path     = "/tmp/flue-unit-target-" + std::to_string(::getpid()) + ".sock";
        options_.connections     = 64;
        options_.time_waits      = 64;
        options_.rx_mbufs        = 4096;
        options_.idle_sleep_us   = 100;
        options_.quotas.sessions = 2;
        options_.quotas.queues   = 2;
        options_.quotas.regions  = 2;
        options_.quotas.region_bytes = 4 << 20;
    }

    // A target closes its ports for good, so each test brings one of its own.
    void SetUp() override { ASSERT_EQ(rte_eal_hotplug_add("vdev", port_.c_str(), ""), 0); }

    void TearDown() override { EXPECT_EQ(rte_eal_hotplug_remove("vdev", port_.c_str()), 0); }

    void with_host(const std::function<void()>& body) {
        Target target{options_};
        ASSERT_TRUE(target.start());
        std::thread host{[&] {
            body();
            ::kill(::getpid(), SIGTERM);
        }};
        target.run();
        host.join();
    }

    static inline int tests_ = 0;
    std::string port_        = "net_null_" + std::to_string(++tests_);
    Options options_;
};

}  // namespace flue::target
