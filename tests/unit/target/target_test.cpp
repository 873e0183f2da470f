#include <array>
#include <deque>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "queue/queue_memory.hpp"
#include "queue/region_memory.hpp"
#include "running_target.hpp"

namespace flue::target {

namespace {

/// Two connected sockets on the loopback interface.
struct LoopbackPair {
    LoopbackPair() {
        sockaddr_in address{};
        address.sin_family      = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        auto* name              = reinterpret_cast<sockaddr*>(&address);
        socklen_t length        = sizeof(address);
        EXPECT_EQ(::bind(listener.get(), name, length), 0);
        EXPECT_EQ(::listen(listener.get(), 1), 0);
        EXPECT_EQ(::getsockname(listener.get(), name, &length), 0);
        EXPECT_EQ(::connect(client.get(), name, length), 0);
        server = UniqueFd{::accept(listener.get(), nullptr, nullptr)};
    }

    UniqueFd listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    UniqueFd client{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    UniqueFd server;
};

}  // namespace

TEST_F(TargetTest, sigterm_ends_it_and_removes_the_socket) {
    with_host([&] { EXPECT_EQ(::access(options_.socket_path.c_str(), F_OK), 0); });
    EXPECT_NE(::access(options_.socket_path.c_str(), F_OK), 0);
}

TEST_F(TargetTest, hello_tells_workers_and_session) {
    with_host([&] {
        Host host{options_.socket_path};
        const Message reply = host.ask({}, MessageType::hello).message;
        EXPECT_EQ(reply.status, static_cast<uint16_t>(SessionStatus::ok));
        EXPECT_EQ(reply.worker_count, 1u);
        EXPECT_NE(reply.session_id, 0u);
    });
}

TEST_F(TargetTest, host_of_another_version_is_told_and_sent_away) {
    with_host([&] {
        Host host{options_.socket_path};
        Message message;
        message.version = queue::session_protocol_version + 1;
        EXPECT_EQ(host.status(message, MessageType::hello), SessionStatus::bad_version);
        EXPECT_TRUE(host.closed_by_target());
    });
}

TEST_F(TargetTest, request_before_hello_ends_the_session) {
    with_host([&] {
        Host host{options_.socket_path};
        host.send(queue_request(), MessageType::create_queue);
        EXPECT_TRUE(host.closed_by_target());
    });
}

TEST_F(TargetTest, queue_is_served_by_the_worker_until_destroyed) {
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        const queue::Received reply = host.ask(queue_request(), MessageType::create_queue);
        ASSERT_EQ(reply.message.status, static_cast<uint16_t>(SessionStatus::ok));
        ASSERT_EQ(reply.fd_count, 2u);
        auto rings = queue::map_queue_memory(reply.fds[0].get(), {1, 64, 128}, reply.message.bytes);
        ASSERT_TRUE(rings.ok());
        std::array<flue_wr, 1> wr{};
        wr[0].wr_id  = 42;
        wr[0].opcode = FLUE_OP_QUERY;
        ASSERT_EQ(rings.value().submissions(0).enqueue(wr), 1u);
        std::array<flue_wc, 1> wc{};
        while (rings.value().completions(0).dequeue(wc) == 0) {
            std::this_thread::yield();
        }
        EXPECT_EQ(wc[0].wr_id, 42u);
        EXPECT_EQ(wc[0].status, FLUE_BAD_CONNECTION);
        Message destroy;
        destroy.queue_id = reply.message.queue_id;
        EXPECT_EQ(host.status(destroy, MessageType::destroy_queue), SessionStatus::ok);
        EXPECT_EQ(host.status(destroy, MessageType::destroy_queue), SessionStatus::bad_key);
    });
}

TEST_F(TargetTest, queues_beyond_the_quota_are_refused_until_one_is_destroyed) {
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        Message destroy;
        destroy.queue_id = host.ask(queue_request(), MessageType::create_queue).message.queue_id;
        EXPECT_EQ(host.status(queue_request(), MessageType::create_queue), SessionStatus::ok);
        EXPECT_EQ(host.status(queue_request(), MessageType::create_queue), SessionStatus::quota);
        EXPECT_EQ(host.status(destroy, MessageType::destroy_queue), SessionStatus::ok);
        EXPECT_EQ(host.status(queue_request(), MessageType::create_queue), SessionStatus::ok);
    });
}

TEST_F(TargetTest, region_is_registered_and_deregistered_and_its_key_dies) {
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        auto region = queue::HostRegion::create(1 << 20, -1);
        ASSERT_TRUE(region.ok());
        Message request;
        request.bytes       = 1 << 20;
        const std::array fd = {region.value().fd.get()};
        Message deregister;
        deregister.region_key =
            host.ask(request, MessageType::register_region, fd).message.region_key;
        EXPECT_EQ(host.status(deregister, MessageType::deregister_region), SessionStatus::ok);
        EXPECT_EQ(host.status(deregister, MessageType::deregister_region), SessionStatus::bad_key);
    });
}

TEST_F(TargetTest, unsealed_region_is_refused) {
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        const UniqueFd memfd{::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
        ASSERT_EQ(::ftruncate(memfd.get(), 4096), 0);
        Message request;
        request.bytes       = 4096;
        const std::array fd = {memfd.get()};
        EXPECT_EQ(host.status(request, MessageType::register_region, fd),
                  SessionStatus::not_sealed);
    });
}

TEST_F(TargetTest, region_bytes_beyond_the_quota_are_refused) {
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        auto region = queue::HostRegion::create(8 << 20, -1);
        ASSERT_TRUE(region.ok());
        Message request;
        request.bytes       = 8 << 20;
        const std::array fd = {region.value().fd.get()};
        EXPECT_EQ(host.status(request, MessageType::register_region, fd), SessionStatus::quota);
    });
}

TEST_F(TargetTest, hosts_that_vanish_make_room_for_others) {
    with_host([&] {
        for (int i = 0; i < 8; ++i) {
            Host host{options_.socket_path};
            host.hello();
            EXPECT_EQ(host.status(queue_request(), MessageType::create_queue), SessionStatus::ok);
            host.send(queue_request(), MessageType::create_queue);
            host.leave();
            // The quota of two sessions holds for those being cleaned up too.
            std::this_thread::sleep_for(std::chrono::milliseconds{20});
        }
    });
}

TEST_F(TargetTest, a_socket_shown_gives_its_tuple_once_and_to_this_session) {
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        const LoopbackPair pair;
        const std::array fd = {pair.client.get()};
        EXPECT_EQ(host.status({}, MessageType::claim, fd), SessionStatus::ok);
        const Message again = host.ask({}, MessageType::claim, fd).message;
        EXPECT_EQ(again.status, static_cast<uint16_t>(SessionStatus::refused));
        EXPECT_EQ(again.error, static_cast<uint32_t>(EADDRINUSE));
        Host other{options_.socket_path};
        other.hello();
        EXPECT_EQ(other.status({}, MessageType::claim, fd), SessionStatus::refused);
        // With the session its grants end.
        EXPECT_EQ(host.status({}, MessageType::goodbye), SessionStatus::ok);
        while (other.status({}, MessageType::claim, fd) != SessionStatus::ok) {
            std::this_thread::yield();
        }
    });
}

TEST_F(TargetTest, what_proves_nothing_is_refused_by_name) {
    options_.permissions.claim_rules.ranges.push_back(*parse_local_range("10.0.0.0/8"));
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        const LoopbackPair pair;
        const std::array connected = {pair.client.get()};
        const std::array listening = {pair.listener.get()};
        EXPECT_EQ(host.status({}, MessageType::claim, listening), SessionStatus::bad_socket);
        const linger minutes{.l_onoff = 1, .l_linger = 600};
        linger now{};
        socklen_t length = sizeof(now);
        ASSERT_EQ(::setsockopt(connected[0], SOL_SOCKET, SO_LINGER, &minutes, sizeof(minutes)), 0);
        EXPECT_EQ(host.status({}, MessageType::claim, connected), SessionStatus::not_permitted);
        ASSERT_EQ(::getsockopt(connected[0], SOL_SOCKET, SO_LINGER, &now, &length), 0);
        EXPECT_EQ(now.l_linger, 600) << "options are the owner's";
        const linger none{};
        ::setsockopt(connected[0], SOL_SOCKET, SO_LINGER, &none, sizeof(none));
        host.send({}, MessageType::claim);
        EXPECT_TRUE(host.closed_by_target());
    });
}

TEST_F(TargetTest, tuples_beyond_the_quota_of_held_ones_are_refused) {
    options_.quotas.held = 1;
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        const LoopbackPair first;
        const LoopbackPair second;
        const std::array one = {first.client.get()};
        const std::array two = {second.client.get()};
        EXPECT_EQ(host.status({}, MessageType::claim, one), SessionStatus::ok);
        EXPECT_EQ(host.status({}, MessageType::claim, two), SessionStatus::quota);
    });
}

TEST_F(TargetTest, socket_has_the_mode_and_the_group_that_were_asked_for) {
    options_.permissions.socket_mode  = 0600;
    options_.permissions.socket_group = std::to_string(::getegid());
    with_host([&] {
        struct stat status {};

        EXPECT_EQ(::stat(options_.socket_path.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777, 0600u);
        EXPECT_EQ(status.st_gid, ::getegid());
    });
}

TEST_F(TargetTest, a_host_too_many_is_told_why_and_sent_away) {
    with_host([&] {
        Host first{options_.socket_path};
        first.hello();
        Host second{options_.socket_path};
        second.hello();
        Host third{options_.socket_path};
        const Message refusal = third.receive().message;
        EXPECT_EQ(refusal.type, static_cast<uint16_t>(MessageType::hello));
        EXPECT_EQ(refusal.status, static_cast<uint16_t>(SessionStatus::quota));
        EXPECT_TRUE(third.closed_by_target());
    });
}

TEST_F(TargetTest, one_user_leaves_places_for_others) {
    options_.quotas.sessions = 8;
    with_host([&] {
        std::deque<Host> hosts;
        for (int i = 0; i < 6; ++i) {
            hosts.emplace_back(options_.socket_path).hello();
        }
        Host one_more{options_.socket_path};
        EXPECT_EQ(one_more.receive().message.status, static_cast<uint16_t>(SessionStatus::quota));
    });
}

TEST_F(TargetTest, queues_that_still_wait_for_their_end_are_bounded_too) {
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        // As fast as it can: the workers' answers to losses may come later than the replies.
        for (int i = 0; i < 64; ++i) {
            const Message made = host.ask(queue_request(), MessageType::create_queue).message;
            const auto status  = static_cast<SessionStatus>(made.status);
            EXPECT_TRUE(status == SessionStatus::ok || status == SessionStatus::quota);
            Message destroy;
            destroy.queue_id = made.queue_id;
            EXPECT_EQ(host.status(destroy, MessageType::destroy_queue),
                      status == SessionStatus::ok ? SessionStatus::ok : SessionStatus::bad_key);
        }
    });
}

TEST_F(TargetTest, goodbye_is_answered_then_the_session_ends) {
    with_host([&] {
        Host host{options_.socket_path};
        host.hello();
        EXPECT_EQ(host.status({}, MessageType::goodbye), SessionStatus::ok);
        EXPECT_TRUE(host.closed_by_target());
    });
}

TEST_F(TargetTest, unknown_port_does_not_start) {
    options_.ports = {"net_nobody"};
    Target target{options_};
    EXPECT_FALSE(target.start());
}

}  // namespace flue::target
