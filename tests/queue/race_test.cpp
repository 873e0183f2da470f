// Both ends of a queue as two threads on one mapping, so that ThreadSanitizer sees every access of
// both.

#include <array>
#include <atomic>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <thread>
#include <vector>

#include "base/prng.hpp"
#include "queue/host_rings.hpp"
#include "queue/queue_memory.hpp"
#include "queue/regions.hpp"

namespace flue::queue {
namespace {

constexpr uint32_t workers = 2;
constexpr QueueGeometry geometry{workers, 64, 32};

/// Payload stands for the bytes of a region: plain memory that changes hands with each request and
/// completion.
struct Payload {
    uint64_t request    = 0;
    uint64_t completion = 0;
};

class QueueRace : public testing::Test {
  protected:
    TargetQueue worker_end(uint32_t worker) {
        TargetQueue::Parts parts = memory_.parts(worker);
        parts.submissions        = rings_.submissions(worker);
        parts.completions        = rings_.completions(worker);
        parts.armed              = rings_.armed(worker);
        return TargetQueue(parts);
    }

    /// run_worker answers `count` requests; now and then it pauses, so that the host falls asleep.
    void run_worker(uint32_t worker, uint64_t count) {
        TargetQueue end = worker_end(worker);
        Prng prng(worker);
        flue_wr burst[8];
        for (uint64_t done = 0; done < count;) {
            const uint32_t taken = end.take(burst);
            for (const flue_wr& wr : std::span(burst, taken)) {
                Payload& payload   = payloads_[wr.conn];
                payload.completion = payload.request + 1;
                flue_wc wc{};
                wc.wr_id = wr.wr_id;
                wc.conn  = wr.conn;
                end.complete(wc);
            }
            done += taken;
            if (taken == 0 || prng.chance(1, 4)) {
                std::this_thread::yield();
            }
            end.flush();
        }
        wakeups_ += end.counters().wakeups;
        EXPECT_EQ(end.counters().completions_lost, 0u);
    }

    /// sleep_until_woken returns false when no wake came in time.
    bool sleep_until_woken() {
        pollfd item{memory_.host_wake_fd(), POLLIN, 0};
        if (::poll(&item, 1, 20'000) != 1) {
            return false;
        }
        char tokens[64];
        return ::recv(item.fd, tokens, sizeof(tokens), MSG_DONTWAIT) > 0;
    }

    TargetQueueMemory memory_ = std::move(TargetQueueMemory::create(geometry).value());
    QueueRings rings_         = std::move(
        map_queue_memory(memory_.memory_fd(), memory_.geometry(), memory_.bytes()).value());
    std::array<Payload, workers * 64> payloads_{};
    std::atomic<uint64_t> wakeups_ = 0;
};

TEST_F(QueueRace, host_that_sleeps_whenever_it_can_gets_every_completion_and_the_bytes_behind_it) {
    constexpr uint64_t count = 50'000;
    std::vector<std::jthread> threads;
    for (uint32_t worker = 0; worker < workers; ++worker) {
        threads.emplace_back([this, worker] { run_worker(worker, count); });
    }
    HostRings host(rings_);
    std::array<uint64_t, workers> posted{};
    std::array<uint64_t, workers> completed{};
    uint64_t sleeps = 0;
    while (completed[0] + completed[1] < workers * count) {
        uint32_t progress = 0;
        for (uint32_t worker = 0; worker < workers; ++worker) {
            // At most 64 requests are out, so the payload of a new one has come back.
            if (posted[worker] < count && posted[worker] - completed[worker] < 64) {
                flue_wr wr{};
                wr.wr_id                   = posted[worker];
                wr.conn                    = worker * 64 + posted[worker] % 64;
                payloads_[wr.conn].request = wr.wr_id;
                const uint32_t taken       = host.submissions(worker).enqueue({&wr, 1});
                posted[worker] += taken;
                progress += taken;
            }
            flue_wc wc[16];
            const uint32_t got = host.completions(worker).dequeue(wc);
            for (const flue_wc& done : std::span(wc, got)) {
                ASSERT_EQ(done.wr_id, completed[worker]++);
                ASSERT_EQ(payloads_[done.conn].completion, done.wr_id + 1);
            }
            progress += got;
        }
        if (progress == 0 && host.arm()) {
            ++sleeps;
            ASSERT_TRUE(sleep_until_woken()) << "asleep although completions came";
        }
    }
    threads.clear();
    EXPECT_GT(sleeps, 0u);
    EXPECT_GE(wakeups_, sleeps);
}

/// A region's bytes are given back to the allocator as soon as nothing refers to them: a late
/// access is a race.
TEST(RegionsRace, bytes_of_a_removed_region_are_touched_by_no_worker) {
    constexpr uint32_t rounds = 50;
    Regions regions(4, workers);
    std::atomic<uint32_t> key = 0;
    std::atomic<bool> stop    = false;
    std::array<std::atomic<uint64_t>, workers> turns{};
    std::atomic<uint64_t> reads = 0;

    const auto work             = [&](uint32_t worker) {
        while (!stop.load(std::memory_order_relaxed)) {
            const uint32_t seen = key.load(std::memory_order_relaxed);
            if (const auto range = regions.resolve(flue_sge{seen, 1, 0})) {
                regions.acquire(seen, worker);
                std::this_thread::yield();
                if (*range->data == std::byte{1}) {
                    reads.fetch_add(1, std::memory_order_relaxed);
                }
                regions.release(seen, worker);
            }
            turns[worker].store(turns[worker].load(std::memory_order_relaxed) + 1,
                                std::memory_order_release);
            std::this_thread::yield();
        }
    };
    std::vector<std::jthread> threads;
    for (uint32_t worker = 0; worker < workers; ++worker) {
        threads.emplace_back(work, worker);
    }
    const auto await_turn = [&](uint32_t worker) {
        const uint64_t before = turns[worker].load(std::memory_order_acquire);
        while (turns[worker].load(std::memory_order_acquire) < before + 2) {
            std::this_thread::yield();
        }
    };
    for (uint32_t round = 0; round < rounds; ++round) {
        auto bytes          = std::make_unique<std::byte>(std::byte{1});
        const uint32_t made = regions.add({bytes.get(), 1, false}).value();
        key.store(made, std::memory_order_relaxed);
        await_turn(round % workers);
        ASSERT_TRUE(regions.close(made));
        for (uint32_t worker = 0; worker < workers; ++worker) {
            await_turn(worker);
            while (regions.references(made, worker) != 0) {
                std::this_thread::yield();
            }
        }
        (void)regions.remove(made);
        *bytes = std::byte{0};
    }
    stop = true;
    threads.clear();
    EXPECT_GT(reads, 0u);
}

}  // namespace
}  // namespace flue::queue
