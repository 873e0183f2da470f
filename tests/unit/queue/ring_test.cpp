#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <numeric>
#include <sys/mman.h>
#include <vector>

#include <rte_ring.h>

#include "base/prng.hpp"
#include "base/unique_fd.hpp"
#include "queue/mapping.hpp"
#include "queue/shm_layout.hpp"
#include "queue/typed_ring.hpp"

namespace flue::queue {
namespace {

constexpr uint32_t entries    = 64;
constexpr size_t shared_bytes = 8192;

struct Pair {
    UniqueFd fd;
    RingMapping one;
    RingMapping two;
};

Pair make_pair_of_mappings() {
    Pair pair;
    pair.fd = UniqueFd(::memfd_create("ring_test", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(pair.fd.get(), shared_bytes), 0);
    pair.one = std::move(RingMapping::map(pair.fd.get(), 0, shared_bytes, entries).value());
    pair.two = std::move(RingMapping::map(pair.fd.get(), 0, shared_bytes, entries).value());
    pair.one.initialise_shared();
    return pair;
}

std::vector<flue_wr> numbered(uint64_t first, size_t count) {
    std::vector<flue_wr> requests(count);
    for (flue_wr& request : requests) {
        request.wr_id = first++;
    }
    return requests;
}

TEST(Ring, mapped_ring_equals_what_rte_ring_init_makes) {
    const Pair pair = make_pair_of_mappings();
    alignas(64) std::array<std::byte, sizeof(rte_ring)> reference{};
    auto* made = reinterpret_cast<rte_ring*>(reference.data());
    ASSERT_EQ(rte_ring_init(made, "flue", entries, RING_F_SP_ENQ | RING_F_SC_DEQ), 0);

    EXPECT_EQ(std::memcmp(pair.one.ring(), made, sizeof(rte_ring)), 0);
    EXPECT_EQ(std::memcmp(pair.two.ring(), made, sizeof(rte_ring)), 0);
}

TEST(Ring, elements_enqueued_through_one_mapping_come_out_of_the_other_in_order) {
    const Pair pair = make_pair_of_mappings();
    Ring<flue_wr> producer(pair.one.ring());
    Ring<flue_wr> consumer(pair.two.ring());
    uint64_t next = 0;
    for (uint64_t first = 0; first < 1000; first += 50) {
        ASSERT_EQ(producer.enqueue(numbered(first, 50)), 50u);
        std::vector<flue_wr> out(50);
        ASSERT_EQ(consumer.dequeue(out), 50u);
        for (const flue_wr& wr : out) {
            ASSERT_EQ(wr.wr_id, next++);
        }
    }
}

TEST(Ring, burst_beyond_capacity_takes_what_fits) {
    const Pair pair = make_pair_of_mappings();
    Ring<flue_wr> ring(pair.one.ring());
    EXPECT_EQ(ring.enqueue(numbered(0, 200)), entries - 1);
    EXPECT_EQ(ring.free_count(), 0u);
    EXPECT_EQ(ring.enqueue(numbered(0, 1)), 0u);
    std::vector<flue_wr> out(200);
    EXPECT_EQ(ring.dequeue(out), entries - 1);
    EXPECT_EQ(ring.dequeue(out), 0u);
}

TEST(Ring, what_a_killed_producer_had_not_finished_is_not_there_and_the_next_one_goes_on) {
    const Pair pair = make_pair_of_mappings();
    Ring<flue_wr> producer(pair.one.ring());
    Ring<flue_wr> consumer(pair.two.ring());
    ASSERT_EQ(producer.enqueue(numbered(0, 60)), 60u);
    pair.one.ring()->prod.head = 63;  // as after the first step of an enqueue of 3
    std::vector<flue_wr> out(64);
    ASSERT_EQ(consumer.dequeue(out), 60u);

    Ring<flue_wr> next(pair.one.ring());
    next.forget_enqueue();
    ASSERT_EQ(next.enqueue(numbered(100, 63)), 63u);
    ASSERT_EQ(consumer.dequeue(out), 63u);
    EXPECT_EQ(out.front().wr_id, 100u);
    EXPECT_EQ(consumer.count(), 0u);
}

TEST(Ring, what_a_killed_consumer_had_not_finished_taking_is_there_for_the_next_one) {
    const Pair pair = make_pair_of_mappings();
    Ring<flue_wr> producer(pair.one.ring());
    Ring<flue_wr> consumer(pair.two.ring());
    ASSERT_EQ(producer.enqueue(numbered(0, 10)), 10u);
    std::vector<flue_wr> out(4);
    ASSERT_EQ(consumer.dequeue(out), 4u);
    pair.two.ring()->cons.head = 7;  // as after the first step of a dequeue of 3

    Ring<flue_wr> next(pair.two.ring());
    next.forget_dequeue();
    out.resize(64);
    ASSERT_EQ(next.dequeue(out), 6u);
    EXPECT_EQ(out.front().wr_id, 4u);
    ASSERT_EQ(producer.enqueue(numbered(10, 63)), 63u) << "no slot is lost";
}

/// The page before the ring is read-only and the page behind it has no access, so leaving the slots
/// ends the process.
TEST(Ring, scribbled_head_and_tail_words_never_lead_outside_the_slots) {
    const Pair pair = make_pair_of_mappings();
    Ring<flue_wr> attacked(pair.one.ring());
    rte_ring* words = pair.two.ring();
    Prng prng(1);
    std::vector<flue_wr> burst(3 * entries);
    uint64_t moved = 0;
    for (int turn = 0; turn < 20'000; ++turn) {
        words->prod.head     = static_cast<uint32_t>(prng.next());
        words->prod.tail     = static_cast<uint32_t>(prng.next());
        words->cons.head     = static_cast<uint32_t>(prng.next());
        words->cons.tail     = static_cast<uint32_t>(prng.next());
        const size_t length  = 1 + prng.below(3 * entries);
        const uint32_t taken = attacked.dequeue(std::span(burst).first(length));
        const uint32_t put   = attacked.enqueue(std::span(burst).first(length));
        ASSERT_LT(taken, entries);
        ASSERT_LT(put, entries);
        ASSERT_LE(attacked.count(), attacked.capacity());
        ASSERT_LE(attacked.free_count(), attacked.capacity());
        moved += taken + put;
    }
    EXPECT_GT(moved, 0u);
    EXPECT_EQ(attacked.capacity(), entries - 1);
}

TEST(RingDeathTest, private_page_is_read_only) {
    const Pair pair = make_pair_of_mappings();
    EXPECT_DEATH(pair.one.ring()->size = 1 << 20, "");
}

TEST(RingDeathTest, page_behind_the_slots_has_no_access) {
    const Pair pair         = make_pair_of_mappings();
    volatile std::byte* end = pair.one.shared().data() + pair.one.shared().size();
    EXPECT_DEATH(*end = std::byte{1}, "");
}

}  // namespace
}  // namespace flue::queue
