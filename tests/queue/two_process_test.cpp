// The shim and lib/queue against a target in another process, over a real socket and real shared
// memory.

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <set>
#include <sys/mman.h>
#include <thread>
#include <vector>

#include "base/crc32c.hpp"
#include "base/prng.hpp"
#include "flue/flue.hpp"
#include "host/host_queue.hpp"
#include "process.hpp"
#include "queue/queue_memory.hpp"

namespace flue::test {
namespace {

constexpr unsigned workers = 3;

flue_conn conn_of(uint64_t worker) {
    return worker << 56 | uint64_t{1} << 24 | 1;
}

flue_wr request(uint8_t opcode, uint64_t wr_id, flue_conn conn) {
    flue_wr wr{};
    wr.opcode = opcode;
    wr.wr_id  = wr_id;
    wr.conn   = conn;
    return wr;
}

class TwoProcesses : public testing::Test {
  protected:
    void open(uint32_t submission_entries = 0, uint32_t completion_entries = 0) {
        context_ = flue_open(target_.socket_path().c_str(), nullptr);
        ASSERT_NE(context_, nullptr) << flue_error_text();
        const flue_hq_options options{submission_entries, completion_entries};
        hq_ = flue_hq_create(context_, &options);
        ASSERT_NE(hq_, nullptr) << flue_error_text();
    }

    ~TwoProcesses() override {
        flue_hq_destroy(hq_);
        flue_close(context_);
        if (::testing::Test::HasFailure() || !target_.alive()) {
            return;
        }
        EXPECT_TRUE(eventually([&] { return target_.shared_mappings() == 0; }))
            << "the target keeps memory mapped";
    }

    flue_wc wait_one() {
        flue_wc wc{};
        EXPECT_EQ(flue_wait(hq_, &wc, 1, 10'000), 1u) << std::strerror(errno);
        return wc;
    }

    flue_wc post_and_wait(const flue_wr& wr) {
        EXPECT_EQ(flue_post(hq_, &wr, 1), 1u);
        return wait_one();
    }

    EchoTarget target_{workers};
    flue_context* context_ = nullptr;
    flue_hq* hq_           = nullptr;
};

TEST_F(TwoProcesses, open_session_knows_the_workers) {
    open();
    EXPECT_EQ(flue_worker_count(context_), workers);
}

/// exchange posts `count` requests as fast as the rings take them and checks that each is completed
/// once and in order.
void exchange(flue_hq* hq, uint64_t count, unsigned burst) {
    std::array<uint64_t, workers> posted{};
    std::array<uint64_t, workers> completed{};
    uint64_t posted_all  = 0;
    uint64_t done        = 0;
    uint64_t short_posts = 0;
    std::vector<flue_wr> wr(burst);
    std::vector<flue_wc> wc(burst);
    while (done < count) {
        const auto want = static_cast<unsigned>(std::min<uint64_t>(burst, count - posted_all));
        for (unsigned i = 0; i < want; ++i) {
            const uint64_t worker = (posted_all + i) / 7 % workers;
            wr[i]                 = request(FLUE_OP_TERMINATE, 0, conn_of(worker));
        }
        std::array<uint64_t, workers> next = posted;
        for (unsigned i = 0; i < want; ++i) {
            wr[i].wr_id = next[wr[i].conn >> 56]++;
        }
        const unsigned taken = flue_post(hq, wr.data(), want);
        for (unsigned i = 0; i < taken; ++i) {
            ++posted[wr[i].conn >> 56];
        }
        posted_all += taken;
        short_posts += taken < want ? 1 : 0;
        // Poll only when nothing can be posted any more, so that the rings are full both ways.
        if (taken == want && posted_all < count) {
            continue;
        }
        while (const unsigned got = flue_poll(hq, wc.data(), burst)) {
            for (unsigned i = 0; i < got; ++i) {
                const uint64_t worker = wc[i].conn >> 56;
                ASSERT_EQ(wc[i].status, FLUE_SUCCESS);
                ASSERT_EQ(wc[i].wr_id, completed[worker]++);
            }
            done += got;
        }
        ::sched_yield();
    }
    EXPECT_EQ(posted, completed);
    EXPECT_GT(short_posts, 0u) << "the rings never were full";
}

TEST_F(TwoProcesses, million_requests_through_full_rings_complete_once_and_in_order) {
    open();
    exchange(hq_, 1'000'000, 64);
}

TEST_F(TwoProcesses, smallest_rings_and_bursts_beyond_them_lose_nothing) {
    open(8, 8);
    exchange(hq_, 10'000, 256);
}

TEST_F(TwoProcesses, host_that_sleeps_before_each_completion_is_woken_each_time) {
    open();
    for (uint64_t i = 0; i < 5'000; ++i) {
        const flue_wc wc = post_and_wait(request(FLUE_OP_TERMINATE, i, conn_of(i % workers)));
        ASSERT_EQ(wc.wr_id, i);
    }
}

TEST_F(TwoProcesses, bytes_of_a_region_are_seen_by_both_sides) {
    open();
    for (const size_t bytes : {size_t{1}, size_t{5000}, size_t{3} << 20}) {
        flue_mr* mr = flue_mr_create(context_, bytes);
        ASSERT_NE(mr, nullptr) << flue_error_text();
        ASSERT_GE(flue_mr_bytes(mr), bytes);
        const std::span data(static_cast<std::byte*>(flue_mr_data(mr)), bytes);
        Prng prng(bytes);
        for (std::byte& byte : data) {
            byte = static_cast<std::byte>(prng.next());
        }
        const auto half    = static_cast<uint32_t>(bytes / 2);
        flue_wr send       = request(FLUE_OP_SEND, 1, conn_of(1));
        send.sge_count     = 2;
        send.sge[0]        = {flue_mr_key(mr), half, 0};
        send.sge[1]        = {flue_mr_key(mr), static_cast<uint32_t>(bytes) - half, half};
        const flue_wc sent = post_and_wait(send);
        EXPECT_EQ(sent.status, FLUE_SUCCESS);
        EXPECT_EQ(sent.bytes, bytes);
        EXPECT_EQ(sent.info, static_cast<uint16_t>(crc32c(data)));

        flue_wr receive   = request(FLUE_OP_RECV, 0xab, conn_of(2));
        receive.sge_count = 1;
        receive.sge[0]    = {flue_mr_key(mr), static_cast<uint32_t>(bytes), 0};
        EXPECT_EQ(post_and_wait(receive).bytes, bytes);
        EXPECT_TRUE(std::all_of(
            data.begin(), data.end(), [](std::byte byte) { return byte == std::byte{0xab}; }));
        EXPECT_EQ(flue_mr_destroy(mr), 0);
        EXPECT_EQ(post_and_wait(send).status, FLUE_BAD_REGION);
    }
}

TEST_F(TwoProcesses, region_in_use_is_destroyed_only_when_the_target_has_let_go) {
    open();
    flue_mr* mr   = flue_mr_create(context_, 4096);
    flue_wr query = request(FLUE_OP_QUERY, 1, conn_of(0));
    query.sge[0]  = {flue_mr_key(mr), 16, 0};
    ASSERT_EQ(flue_post(hq_, &query, 1), 1u);
    ASSERT_EQ(post_and_wait(request(FLUE_OP_TERMINATE, 2, conn_of(0))).wr_id, 2u)
        << "the query has been taken";

    std::atomic<bool> destroyed = false;
    std::thread destroyer([&] {
        EXPECT_EQ(flue_mr_destroy(mr), 0);
        destroyed = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(destroyed);
    EXPECT_EQ(post_and_wait(request(FLUE_OP_RELEASE, 3, conn_of(0))).wr_id, 1u);
    EXPECT_EQ(wait_one().wr_id, 3u);
    destroyer.join();
}

TEST_F(TwoProcesses, claims_end_at_the_worker_that_owns_the_flow) {
    open(8, 8);
    constexpr uint64_t claims = 1000;
    std::set<uint64_t> seen;
    uint64_t posted = 0;
    while (seen.size() < claims) {
        flue_wr wr =
            request(posted % 2 == 0 ? FLUE_OP_HOLD : FLUE_OP_OFFLOAD, 5000 + posted, FLUE_NO_CONN);
        wr.host_handle = posted;
        if (posted < claims && flue_post(hq_, &wr, 1) == 1) {
            ++posted;
            continue;
        }
        flue_wc wc[64];
        const unsigned count = flue_wait(hq_, wc, 64, 10'000);
        ASSERT_GT(count, 0u) << std::strerror(errno);
        for (const flue_wc& done : std::span(wc, count)) {
            ASSERT_EQ(done.status, FLUE_SUCCESS) << flue_status_name(done.status);
            ASSERT_EQ(done.wr_id, 5000 + done.host_handle);
            ASSERT_EQ(done.conn >> 56, done.host_handle % workers);
            ASSERT_TRUE(seen.insert(done.host_handle).second);
        }
    }
}

TEST_F(TwoProcesses, handle_of_a_worker_that_does_not_exist_is_answered_not_lost) {
    open();
    EXPECT_EQ(post_and_wait(request(FLUE_OP_TERMINATE, 9, conn_of(200))).wr_id, 9u);
}

TEST_F(TwoProcesses, events_of_a_host_that_does_not_poll_arrive_when_it_does) {
    open(64, 8);
    std::vector<flue_wr> wr(60, request(FLUE_OP_DISCONNECT, 1, conn_of(0)));
    ASSERT_EQ(flue_post(hq_, wr.data(), 60), 60u);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    unsigned completions = 0;
    unsigned events      = 0;
    while (completions + events < 120) {
        const flue_wc wc = wait_one();
        (wc.opcode == FLUE_OP_DISCONNECT ? completions : events) += 1;
        ASSERT_FALSE(HasFailure());
    }
    EXPECT_EQ(completions, 60u);
    EXPECT_EQ(events, 60u);
}

// ---------------------------------------------------------------- waiting inside the shim

TEST_F(TwoProcesses, execute_returns_its_own_completion_and_keeps_the_others_in_order) {
    open();
    for (uint64_t i = 1; i <= 3; ++i) {
        const flue_wr wr = request(FLUE_OP_TERMINATE, i, conn_of(0));
        ASSERT_EQ(flue_post(hq_, &wr, 1), 1u);
    }
    const auto done = hq_->queue->execute(request(FLUE_OP_TERMINATE, 0, conn_of(0)), 10'000);
    ASSERT_TRUE(done.has_value());
    for (uint64_t i = 1; i <= 3; ++i) {
        EXPECT_EQ(wait_one().wr_id, i);
    }
    flue_wc wc;
    EXPECT_EQ(flue_poll(hq_, &wc, 1), 0u);
    EXPECT_EQ(errno, EAGAIN);
}

TEST_F(TwoProcesses, wait_for_finds_a_completion_that_was_kept_earlier) {
    open();
    for (uint64_t i = 1; i <= 3; ++i) {
        const flue_wr wr = request(FLUE_OP_TERMINATE, i, conn_of(0));
        ASSERT_EQ(flue_post(hq_, &wr, 1), 1u);
    }
    for (const uint64_t wanted : {3u, 1u, 2u}) {
        const auto found =
            hq_->queue->wait_for([&](const flue_wc& wc) { return wc.wr_id == wanted; }, 10'000);
        ASSERT_TRUE(found.has_value());
        EXPECT_EQ(found->wr_id, wanted);
    }
}

TEST_F(TwoProcesses, execute_that_timed_out_never_shows_its_late_completion) {
    open();
    flue_mr* mr   = flue_mr_create(context_, 4096);
    flue_wr query = request(FLUE_OP_QUERY, 0, conn_of(0));
    query.sge[0]  = {flue_mr_key(mr), 16, 0};
    EXPECT_FALSE(hq_->queue->execute(query, 20).has_value());
    EXPECT_EQ(errno, ETIMEDOUT);
    EXPECT_EQ(post_and_wait(request(FLUE_OP_RELEASE, 77, conn_of(0))).wr_id, 77u);
    EXPECT_EQ(flue_mr_destroy(mr), 0);
}

TEST_F(TwoProcesses, signal_ends_a_wait_of_the_caller_but_none_inside_the_shim) {
    open();

    struct sigaction action {};

    action.sa_handler = [](int) {};
    ASSERT_EQ(::sigaction(SIGUSR1, &action, nullptr), 0);
    const pthread_t waiting = ::pthread_self();
    std::atomic<bool> stop  = false;
    std::jthread disturber([&] {
        while (!stop) {
            ::pthread_kill(waiting, SIGUSR1);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    });
    flue_wc wc;
    EXPECT_EQ(flue_wait(hq_, &wc, 1, 10'000), 0u);
    EXPECT_EQ(errno, EINTR);
    const auto nothing = hq_->queue->wait_for([](const flue_wc&) { return true; }, 30);
    EXPECT_FALSE(nothing.has_value());
    EXPECT_EQ(errno, ETIMEDOUT);
    stop = true;
}

// ---------------------------------------------------------------- somebody dies

TEST_F(TwoProcesses, wait_times_out_when_nothing_comes) {
    open();
    flue_wc wc;
    EXPECT_EQ(flue_wait(hq_, &wc, 1, 10), 0u);
    EXPECT_EQ(errno, ETIMEDOUT);
}

TEST_F(TwoProcesses, killed_target_ends_a_sleeping_wait) {
    open();
    std::thread killer([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        target_.signal(SIGKILL);
    });
    flue_wc wc;
    EXPECT_EQ(flue_wait(hq_, &wc, 1, -1), 0u);
    EXPECT_EQ(errno, ECONNRESET);
    EXPECT_NE(std::string(flue_error_text()).find("start it again"), std::string::npos);
    killer.join();
}

TEST_F(TwoProcesses, killed_target_is_noticed_by_every_call_and_none_hangs) {
    open();
    flue_mr* mr      = flue_mr_create(context_, 4096);
    const flue_wr wr = request(FLUE_OP_TERMINATE, 1, conn_of(0));
    ASSERT_EQ(flue_post(hq_, &wr, 1), 1u);
    target_.kill();

    unsigned completions = 0;
    flue_wc wc;
    EXPECT_TRUE(eventually([&] {
        for (int i = 0; i < 1000; ++i) {
            completions += flue_poll(hq_, &wc, 1);
        }
        return errno == ECONNRESET;
    }));
    EXPECT_LE(completions, 1u);
    EXPECT_EQ(flue_post(hq_, &wr, 1), 0u);
    EXPECT_EQ(errno, ECONNRESET);
    EXPECT_EQ(flue_hq_arm(hq_), -1);
    EXPECT_EQ(errno, ECONNRESET);
    EXPECT_EQ(flue_mr_destroy(mr), -1);
    EXPECT_EQ(errno, ECONNRESET);
    EXPECT_EQ(flue_mr_create(context_, 4096), nullptr);
    EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(TwoProcesses, host_that_only_posts_notices_a_killed_target) {
    open();
    target_.kill();
    const flue_wr wr = request(FLUE_OP_TERMINATE, 1, conn_of(0));
    EXPECT_TRUE(eventually([&] {
        for (int i = 0; i < 1000; ++i) {
            if (flue_post(hq_, &wr, 1) == 0 && errno == ECONNRESET) {
                return true;
            }
        }
        return false;
    }));
}

/// A host that works as hard as it can until it is killed.
[[noreturn]] void run_host(const std::string& path) {
    flue_context* context = flue_open(path.c_str(), nullptr);
    flue_mr* mr           = flue_mr_create(context, 1 << 20);
    flue_hq* hq           = flue_hq_create(context, nullptr);
    flue_wr wr            = request(FLUE_OP_SEND, 1, conn_of(0));
    wr.sge_count          = 1;
    wr.sge[0]             = {flue_mr_key(mr), 1000, 0};
    flue_wc wc[32];
    while (true) {
        for (uint64_t worker = 0; worker < workers; ++worker) {
            wr.conn = conn_of(worker);
            (void)flue_post(hq, &wr, 1);
        }
        (void)flue_poll(hq, wc, 32);
    }
}

TEST_F(TwoProcesses, hosts_killed_at_any_moment_leave_nothing_in_the_target) {
    Prng prng(4711);
    for (int round = 0; round < 30; ++round) {
        const pid_t host = ::fork();
        if (host == 0) {
            run_host(target_.socket_path());
        }
        std::this_thread::sleep_for(std::chrono::microseconds(prng.below(20'000)));
        ::kill(host, SIGKILL);
        ::waitpid(host, nullptr, 0);
    }
    EXPECT_TRUE(target_.alive());
    EXPECT_TRUE(eventually([&] { return target_.shared_mappings() == 0; }));
    open();
    EXPECT_EQ(post_and_wait(request(FLUE_OP_TERMINATE, 5, conn_of(0))).wr_id, 5u);
}

// ---------------------------------------------------------------- a hostile host

/// HostileHost speaks the session protocol and then writes what it likes into the shared memory.
class HostileHost {
  public:
    explicit HostileHost(const std::string& path)
        : socket_(std::move(queue::connect_to(path.c_str()).value())) {
        queue::Message hello;
        hello.type = static_cast<uint16_t>(queue::MessageType::hello);
        (void)ask(hello);
        queue::Message create;
        create.type               = static_cast<uint16_t>(queue::MessageType::create_queue);
        create.submission_entries = 64;
        create.completion_entries = 64;
        queue_                    = ask(create);
        const size_t bytes        = queue_.message.bytes;
        memory_ = std::move(queue::Mapping::map_shared(queue_.fds[0].get(), 0, bytes).value());
    }

    void scribble(Prng& prng, int writes) {
        const queue::ShmLayout layout(queue::QueueGeometry{workers, 64, 64});
        for (int i = 0; i < writes; ++i) {
            const uint32_t worker = prng.below(workers);
            const bool submission = prng.chance(1, 2);
            const size_t ring =
                submission ? layout.submission_offset(worker) : layout.completion_offset(worker);
            const bool index_word = prng.chance(3, 4);
            const size_t in_ring  = index_word ? (prng.chance(1, 2) ? 0u : 128u) + 4 * prng.below(2)
                                               : 4 * prng.below(1024);
            const auto value      = static_cast<uint32_t>(prng.next());
            std::memcpy(memory_.data() + ring + in_ring, &value, sizeof(value));
            if (prng.chance(1, 16)) {
                std::memcpy(memory_.data() + layout.armed_offset(worker), &value, sizeof(value));
            }
        }
    }

  private:
    queue::Received ask(const queue::Message& message) {
        EXPECT_TRUE(queue::send_message(socket_.get(), message).ok());
        EXPECT_TRUE(queue::wait_readable(socket_.get(), 10'000));
        return std::move(queue::receive_message(socket_.get()).value());
    }

    UniqueFd socket_;
    queue::Received queue_;
    queue::Mapping memory_;
};

TEST_F(TwoProcesses, host_that_scribbles_over_all_shared_memory_harms_nobody_else) {
    open();
    HostileHost hostile(target_.socket_path());
    Prng prng(99);
    for (uint64_t round = 0; round < 300; ++round) {
        hostile.scribble(prng, 5000);
        const flue_wc wc =
            post_and_wait(request(FLUE_OP_TERMINATE, round, conn_of(round % workers)));
        ASSERT_EQ(wc.wr_id, round);
        ASSERT_TRUE(target_.alive());
    }
}

}  // namespace
}  // namespace flue::test
