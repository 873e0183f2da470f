#include "target/drain.hpp"

#include <array>
#include <cstddef>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <vector>

#include "flue/drain.h"

namespace flue::target {

namespace {

using queue::Message;
using queue::MessageType;
using queue::SessionStatus;

// The public message is the protocol's, with what senders need of it.
static_assert(sizeof(flue_drain_message) == sizeof(Message));
static_assert(offsetof(flue_drain_message, status) == offsetof(Message, status));
static_assert(offsetof(flue_drain_message, drain_ms) == offsetof(Message, drain_ms));
static_assert(offsetof(flue_drain_message, flags) == offsetof(Message, flags));
static_assert(offsetof(flue_drain_message, error) == offsetof(Message, error));
static_assert(FLUE_DRAIN_VERSION == queue::session_protocol_version);
static_assert(FLUE_DRAIN_TYPE == static_cast<unsigned>(MessageType::drain));
static_assert(FLUE_DRAIN_ABORT_AT_DEADLINE ==
              static_cast<unsigned>(queue::DrainFlag::abort_at_deadline));
static_assert(FLUE_DRAIN_SHUTTING_DOWN == static_cast<unsigned>(SessionStatus::shutting_down));
static_assert(FLUE_DRAIN_NOT_PERMITTED == static_cast<unsigned>(SessionStatus::not_permitted));
static_assert(FLUE_DRAIN_BAD_SOCKET == static_cast<unsigned>(SessionStatus::bad_socket));
static_assert(FLUE_DRAIN_BUSY == static_cast<unsigned>(SessionStatus::busy));
static_assert(FLUE_DRAIN_REFUSED == static_cast<unsigned>(SessionStatus::refused));

class Taker : public DrainTaker {
  public:
    void take(DrainRequest&& request) override { taken.push_back(std::move(request)); }

    void finish() override {}

    [[nodiscard]] bool finished() const override { return true; }

    std::vector<DrainRequest> taken;
};

class DrainOffer : public testing::Test {
  protected:
    DrainOffer() {
        std::array<int, 2> ends{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
        target_ = UniqueFd(ends[0]);
        sender_ = UniqueFd(ends[1]);
    }

    static Message drain() {
        Message message;
        message.type = static_cast<uint16_t>(MessageType::drain);
        return message;
    }

    void send(const Message& message, uint32_t descriptors) {
        const std::array fds{sender_.get(), sender_.get()};
        ASSERT_TRUE(
            queue::send_message(sender_.get(), message, std::span{fds}.first(descriptors)).ok());
    }

    SessionStatus offer(DrainTaker* taker) {
        auto received = queue::receive_message(target_.get());
        offer_drain(taker, {std::move(received.value()), std::move(target_), {}});
        const auto answer = queue::receive_message(sender_.get());
        return answer.ok() ? static_cast<SessionStatus>(answer.value().message.status)
                           : SessionStatus::ok;
    }

    UniqueFd target_;
    UniqueFd sender_;
    Taker taker_;
};

}  // namespace

TEST_F(DrainOffer, a_drain_is_told_from_other_first_messages_without_being_taken) {
    EXPECT_FALSE(is_drain(target_.get()));
    send({}, 0);
    EXPECT_FALSE(is_drain(target_.get()));
    ASSERT_TRUE(queue::receive_message(target_.get()).ok());
    send(drain(), 1);
    EXPECT_TRUE(is_drain(target_.get()));
    const auto received = queue::receive_message(target_.get());
    ASSERT_TRUE(received.ok());
    EXPECT_EQ(received.value().fd_count, 1u);
}

TEST_F(DrainOffer, half_a_message_is_none) {
    const Message message = drain();
    ASSERT_EQ(::send(sender_.get(), &message, 64, 0), 64);
    EXPECT_FALSE(is_drain(target_.get()));
}

TEST_F(DrainOffer, a_well_formed_one_is_the_takers) {
    Message message  = drain();
    message.drain_ms = 7;
    message.flags    = FLUE_DRAIN_ABORT_AT_DEADLINE;
    send(message, 1);
    EXPECT_EQ(offer(&taker_), SessionStatus::ok);
    ASSERT_EQ(taker_.taken.size(), 1u);
    EXPECT_EQ(taker_.taken[0].received.message.drain_ms, 7u);
}

TEST_F(DrainOffer, others_are_answered_and_not_taken) {
    Message other_version = drain();
    other_version.version = 1;
    send(other_version, 1);
    EXPECT_EQ(offer(&taker_), SessionStatus::bad_version);
    EXPECT_TRUE(taker_.taken.empty());
}

TEST_F(DrainOffer, unknown_flags_are_refused) {
    Message message = drain();
    message.flags   = 1u << 31;
    send(message, 1);
    EXPECT_EQ(offer(&taker_), SessionStatus::bad_message);
    EXPECT_TRUE(taker_.taken.empty());
}

TEST_F(DrainOffer, no_descriptor_or_two_are_refused) {
    send(drain(), 2);
    EXPECT_EQ(offer(&taker_), SessionStatus::bad_message);
    EXPECT_TRUE(taker_.taken.empty());
}

TEST_F(DrainOffer, a_refused_socket_that_lingers_keeps_its_option) {
    UniqueFd connection(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const linger minutes{.l_onoff = 1, .l_linger = 600};
    ASSERT_EQ(::setsockopt(connection.get(), SOL_SOCKET, SO_LINGER, &minutes, sizeof(minutes)), 0);
    const int fd = connection.get();
    for (int i = 0; i < 40; ++i) {
        ASSERT_TRUE(queue::send_message(sender_.get(), drain(), {&fd, 1}).ok());
        auto received = queue::receive_message(target_.get());
        refuse_drain({std::move(received.value()), UniqueFd{}, {}}, SessionStatus::busy);
        linger now{};
        socklen_t length = sizeof(now);
        ASSERT_EQ(::getsockopt(fd, SOL_SOCKET, SO_LINGER, &now, &length), 0);
        if (i == 0) {
            EXPECT_EQ(now.l_linger, 600);
        }
    }
}

TEST_F(DrainOffer, without_a_taker_nothing_is_permitted) {
    send(drain(), 1);
    EXPECT_EQ(offer(nullptr), SessionStatus::not_permitted);
}

}  // namespace flue::target
