#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "flue/flue.h"
#include "queue/host_rings.hpp"
#include "queue/region_memory.hpp"
#include "running_target.hpp"
#include "target/session.hpp"

/// The policy hold, message by message.
namespace flue::target {

namespace {

constexpr uint64_t region_bytes = 1 << 20;

Message hold_request(uint32_t hold_ms = 0) {
    Message request;
    request.host_loss = FLUE_LOSS_HOLD;
    request.hold_ms   = hold_ms;
    return request;
}

Message token_of(const Message& reply) {
    Message request;
    request.token = reply.token;
    return request;
}

uint32_t register_region(Host& host, const queue::HostRegion& region) {
    Message request;
    request.bytes       = region_bytes;
    const std::array fd = {region.fd.get()};
    const Message reply = host.ask(request, MessageType::register_region, fd).message;
    EXPECT_EQ(reply.status, static_cast<uint16_t>(SessionStatus::ok));
    return reply.region_key;
}

}  // namespace

class SessionHold : public TargetTest {
  protected:
    /// A session of which the host is gone, with what its next host has to show.
    Message left_alone(const Message& hello = hold_request()) {
        Host host{options_.socket_path};
        return token_of(host.ask(hello, MessageType::hello).message);
    }

    /// A host that has said hello as soon as there was room for its session.
    Host host_in_time(const Message& hello = {}) {
        for (int i = 0; i < 500; ++i) {
            Host host{options_.socket_path};
            if (host.try_first(hello, MessageType::hello) == SessionStatus::ok) {
                return host;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
        }
        ADD_FAILURE() << "the session before is still there";
        return Host{options_.socket_path};
    }
};

TEST_F(SessionHold, each_session_that_may_be_held_gets_a_token_of_its_own) {
    options_.hold_ms = 5000;
    with_host([&] {
        Host first{options_.socket_path};
        Host second{options_.socket_path};
        const Message one = first.ask(hold_request(), MessageType::hello).message;
        const Message two = second.ask(hold_request(100), MessageType::hello).message;
        EXPECT_NE(one.token, queue::Token{});
        EXPECT_NE(one.token, two.token);
        EXPECT_EQ(one.hold_ms, 5000u);
        EXPECT_EQ(two.hold_ms, 100u);
    });
}

TEST_F(SessionHold, other_sessions_get_no_token_and_unknown_policies_no_session) {
    with_host([&] {
        Host drained{options_.socket_path};
        const Message reply = drained.ask({}, MessageType::hello).message;
        EXPECT_EQ(reply.token, queue::Token{});
        EXPECT_EQ(reply.hold_ms, 0u);
        drained.leave();
        Host unknown{options_.socket_path};
        Message hello;
        hello.host_loss = FLUE_LOSS_HOLD + 1;
        EXPECT_EQ(unknown.status(hello, MessageType::hello), SessionStatus::bad_message);
        EXPECT_TRUE(unknown.closed_by_target());
    });
}

TEST_F(SessionHold, the_next_host_finds_queues_and_regions_with_their_contents) {
    with_host([&] {
        Message token;
        Message queue;
        uint32_t key = 0;
        {
            Host host{options_.socket_path};
            token       = token_of(host.ask(hold_request(), MessageType::hello).message);
            queue       = host.ask(queue_request(), MessageType::create_queue).message;
            auto region = queue::HostRegion::create(region_bytes, -1);
            std::memcpy(region.value().mapping.data(), "journal", 7);
            key = register_region(host, region.value());
        }
        Host next{options_.socket_path};
        const Message reply = next.ask(token, MessageType::reattach).message;
        ASSERT_EQ(reply.status, static_cast<uint16_t>(SessionStatus::ok));
        EXPECT_EQ(reply.token, token.token);
        EXPECT_EQ(reply.worker_count, 1u);

        Message last;
        queue::Received found = next.ask(last, MessageType::recover_queue);
        ASSERT_EQ(found.fd_count, 2u);
        EXPECT_EQ(found.message.queue_id, queue.queue_id);
        EXPECT_EQ(found.message.submission_entries, queue.submission_entries);
        EXPECT_EQ(found.message.completion_entries, queue.completion_entries);
        EXPECT_EQ(found.message.bytes, queue.bytes);
        last.queue_id = found.message.queue_id;
        EXPECT_EQ(next.status(last, MessageType::recover_queue), SessionStatus::bad_key);

        found = next.ask(last, MessageType::recover_region);
        ASSERT_EQ(found.fd_count, 1u);
        EXPECT_EQ(found.message.region_key, key);
        auto region = queue::HostRegion::map(std::move(found.fds[0]), found.message.bytes);
        ASSERT_TRUE(region.ok());
        EXPECT_EQ(std::memcmp(region.value().mapping.data(), "journal", 7), 0);
        last.region_key = key;
        EXPECT_EQ(next.status(last, MessageType::recover_region), SessionStatus::bad_key);
        EXPECT_EQ(next.status(last, MessageType::deregister_region), SessionStatus::ok);
    });
}

TEST_F(SessionHold, a_recovered_queue_is_served_and_wakes_its_next_host) {
    with_host([&] {
        Message token;
        {
            Host host{options_.socket_path};
            token = token_of(host.ask(hold_request(), MessageType::hello).message);
            (void)host.ask(queue_request(), MessageType::create_queue);
        }
        Host next{options_.socket_path};
        ASSERT_EQ(next.status(token, MessageType::reattach), SessionStatus::ok);
        const queue::Received found = next.ask({}, MessageType::recover_queue);
        ASSERT_EQ(found.fd_count, 2u);
        auto memory =
            queue::map_queue_memory(found.fds[0].get(), {1, 64, 128}, found.message.bytes);
        ASSERT_TRUE(memory.ok());
        queue::HostRings rings{memory.value()};
        rings.repair();
        ASSERT_TRUE(rings.arm());
        std::array<flue_wr, 1> wr{};
        wr[0].wr_id  = 42;
        wr[0].opcode = FLUE_OP_QUERY;
        ASSERT_EQ(rings.submissions(0).enqueue(wr), 1u);
        pollfd wake{found.fds[1].get(), POLLIN, 0};
        ASSERT_EQ(::poll(&wake, 1, 5000), 1);
        std::array<flue_wc, 1> wc{};
        ASSERT_EQ(rings.completions(0).dequeue(wc), 1u);
        EXPECT_EQ(wc[0].wr_id, 42u);
    });
}

TEST_F(SessionHold, a_session_that_has_a_host_is_busy) {
    with_host([&] {
        Host host{options_.socket_path};
        const Message token = token_of(host.ask(hold_request(), MessageType::hello).message);
        Host other{options_.socket_path};
        EXPECT_EQ(other.status(token, MessageType::reattach), SessionStatus::busy);
        EXPECT_TRUE(other.closed_by_target());
        EXPECT_EQ(host.status(queue_request(), MessageType::create_queue), SessionStatus::ok);
        host.leave();
        for (int i = 0; i < 3; ++i) {
            Host next{options_.socket_path};
            ASSERT_EQ(next.status(token, MessageType::reattach), SessionStatus::ok) << i;
        }
    });
}

TEST_F(SessionHold, a_wrong_token_is_refused_but_not_at_once) {
    with_host([&] {
        Message token = left_alone();
        token.token[15] ^= 1;
        Host guesser{options_.socket_path};
        guesser.send(token, MessageType::reattach);
        EXPECT_FALSE(guesser.readable(100)) << "who guesses has to wait";
        EXPECT_EQ(guesser.receive().message.status,
                  static_cast<uint16_t>(SessionStatus::bad_token));
        EXPECT_TRUE(guesser.closed_by_target());
        token.token[15] ^= 1;
        Host next{options_.socket_path};
        EXPECT_EQ(next.status(token, MessageType::reattach), SessionStatus::ok);
    });
}

TEST_F(SessionHold, the_zero_token_of_sessions_without_one_opens_nothing) {
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        Host guesser{options_.socket_path};
        EXPECT_EQ(guesser.status({}, MessageType::reattach), SessionStatus::bad_token);
    });
}

TEST_F(SessionHold, another_user_is_refused_though_the_token_is_right) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "only root can be somebody else";
    }
    with_host([&] {
        const Message token = left_alone();
        ASSERT_EQ(::chmod(options_.socket_path.c_str(), 0666), 0);
        // The system call, unlike libc's function, changes this thread only.
        ASSERT_EQ(::syscall(SYS_setresuid, -1, 65534, -1), 0);
        Host other{options_.socket_path};
        ASSERT_EQ(::syscall(SYS_setresuid, -1, 0, -1), 0);
        EXPECT_EQ(other.status(token, MessageType::reattach), SessionStatus::not_permitted);
        Host next{options_.socket_path};
        EXPECT_EQ(next.status(token, MessageType::reattach), SessionStatus::ok);
    });
}

TEST_F(SessionHold, goodbye_and_mistakes_end_the_session_at_once) {
    options_.quotas.sessions = 1;
    with_host([&] {
        for (const MessageType last : {MessageType::goodbye, MessageType::hello}) {
            Host host = host_in_time(hold_request());
            host.send({}, last);
            host.leave();
            (void)host_in_time();
        }
    });
}

TEST_F(SessionHold, it_ends_when_nobody_takes_it_up_in_time) {
    options_.quotas.sessions = 1;
    with_host([&] {
        const Message token = left_alone(hold_request(50));
        (void)host_in_time();
        std::optional<SessionStatus> answer;
        // The session of the line before may still be there.
        while (!answer || answer == SessionStatus::quota) {
            Host late{options_.socket_path};
            answer = late.try_first(token, MessageType::reattach);
        }
        EXPECT_EQ(answer, SessionStatus::bad_token);
    });
}

TEST_F(SessionHold, it_counts_as_a_session_and_its_next_host_gets_in_all_the_same) {
    options_.quotas.sessions = 1;
    with_host([&] {
        const Message token = left_alone();
        Host another{options_.socket_path};
        EXPECT_EQ(another.status({}, MessageType::hello), SessionStatus::quota);
        EXPECT_TRUE(another.closed_by_target());
        Host next{options_.socket_path};
        EXPECT_EQ(next.status(token, MessageType::reattach), SessionStatus::ok);
    });
}

TEST_F(SessionHold, a_target_that_holds_nothing_says_so) {
    options_.hold_ms         = 0;
    options_.quotas.sessions = 1;
    with_host([&] {
        {
            Host host{options_.socket_path};
            EXPECT_EQ(host.ask(hold_request(), MessageType::hello).message.hold_ms, 0u);
        }
        (void)host_in_time();
    });
}

TEST_F(SessionHold, regions_that_each_keep_a_descriptor_have_a_quota_of_their_own) {
    options_.quotas.held_regions = 1;
    with_host([&] {
        auto region = queue::HostRegion::create(region_bytes, -1);
        Message request;
        request.bytes       = region_bytes;
        const std::array fd = {region.value().fd.get()};
        Host host{options_.socket_path};
        ASSERT_EQ(host.status(hold_request(), MessageType::hello), SessionStatus::ok);
        EXPECT_EQ(host.status(request, MessageType::register_region, fd), SessionStatus::ok);
        EXPECT_EQ(host.status(request, MessageType::register_region, fd), SessionStatus::quota);
    });
}

TEST(WorkerMail, queues_that_change_hands_wait_for_no_answer) {
    const std::array<Lanes, 1> lanes{};
    WorkerMail mail(lanes);
    mail.post(0, {.kind = ControlMessage::Kind::attach});
    mail.post(0, {.kind = ControlMessage::Kind::reattach});
    EXPECT_EQ(mail.unanswered(), 0u);
    mail.post(0, {.kind = ControlMessage::Kind::fence});
    EXPECT_EQ(mail.unanswered(), 1u);
}

}  // namespace flue::target
