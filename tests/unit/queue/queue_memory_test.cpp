#include "queue/queue_memory.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <vector>

namespace flue::queue {
namespace {

constexpr QueueGeometry geometry{3, 64, 128};

TEST(QueueMemory, target_makes_what_the_host_can_map_and_all_rings_are_separate) {
    auto target = TargetQueueMemory::create(geometry);
    ASSERT_TRUE(target.ok());
    const TargetQueueMemory& memory = target.value();
    auto host = map_queue_memory(memory.memory_fd(), geometry, memory.bytes());
    ASSERT_TRUE(host.ok());

    for (uint32_t worker = 0; worker < geometry.worker_count; ++worker) {
        flue_wr wr{};
        wr.wr_id = 100 + worker;
        EXPECT_EQ(host.value().submissions(worker).enqueue({&wr, 1}), 1u);
        flue_wc wc{};
        wc.wr_id = 200 + worker;
        EXPECT_EQ(memory.parts(worker).completions.enqueue({&wc, 1}), 1u);
        *host.value().armed(worker) = 300 + worker;
    }
    for (uint32_t worker = 0; worker < geometry.worker_count; ++worker) {
        std::vector<flue_wr> wr(2);
        EXPECT_EQ(memory.parts(worker).submissions.dequeue(wr), 1u);
        EXPECT_EQ(wr[0].wr_id, 100 + worker);
        std::vector<flue_wc> wc(2);
        EXPECT_EQ(host.value().completions(worker).dequeue(wc), 1u);
        EXPECT_EQ(wc[0].wr_id, 200 + worker);
        EXPECT_EQ(*memory.parts(worker).armed, 300 + worker);
    }
}

TEST(QueueMemory, memfd_can_neither_shrink_nor_grow_and_has_all_its_pages) {
    auto target  = TargetQueueMemory::create(geometry);
    const int fd = target.value().memory_fd();
    EXPECT_EQ(::ftruncate(fd, 4096), -1);
    EXPECT_EQ(::ftruncate(fd, 1 << 30), -1);

    struct stat status {};

    ASSERT_EQ(::fstat(fd, &status), 0);
    EXPECT_EQ(static_cast<uint64_t>(status.st_size), target.value().bytes());
    EXPECT_EQ(static_cast<uint64_t>(status.st_blocks) * 512, target.value().bytes());
}

TEST(QueueMemory, memory_on_a_wished_node_works_whether_there_is_numa_or_not) {
    const std::vector<int> nodes{0, -1, 4711};
    auto target = TargetQueueMemory::create(geometry, nodes);
    ASSERT_TRUE(target.ok());
    EXPECT_EQ(target.value().parts(2).submissions.free_count(), 63u);
}

TEST(QueueMemory, geometry_that_is_not_valid_is_refused) {
    auto target = TargetQueueMemory::create(QueueGeometry{1, 100, 128});
    ASSERT_FALSE(target.ok());
    EXPECT_EQ(target.error().code, EINVAL);
}

TEST(QueueMemory, host_refuses_a_memfd_of_another_size_or_without_seal) {
    auto target                     = TargetQueueMemory::create(geometry);
    const TargetQueueMemory& memory = target.value();
    QueueGeometry larger            = geometry;
    larger.completion_entries *= 2;
    EXPECT_FALSE(map_queue_memory(memory.memory_fd(), larger, memory.bytes()).ok());
    EXPECT_FALSE(
        map_queue_memory(memory.memory_fd(), larger, ShmLayout(larger).total_bytes()).ok());
    EXPECT_FALSE(map_queue_memory(memory.memory_fd(), QueueGeometry{}, memory.bytes()).ok());
    EXPECT_FALSE(map_queue_memory(-1, geometry, memory.bytes()).ok());

    const UniqueFd unsealed(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(unsealed.get(), static_cast<off_t>(memory.bytes())), 0);
    auto refused = map_queue_memory(unsealed.get(), geometry, memory.bytes());
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, EPROTO);
}

}  // namespace
}  // namespace flue::queue
