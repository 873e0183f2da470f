#include "queue/shm_layout.hpp"

#include <gtest/gtest.h>

namespace flue::queue {
namespace {

TEST(ShmLayout, regions_follow_each_other_page_aligned_without_overlap) {
    for (const uint32_t workers : {1u, 2u, 63u, 64u, 65u, worker_count_max}) {
        const QueueGeometry geometry{workers, 1024, 2048};
        ASSERT_TRUE(geometry.valid());
        const ShmLayout layout(geometry);
        size_t end = layout.armed_bytes();
        EXPECT_GE(end, layout.armed_offset(workers - 1) + sizeof(uint32_t));
        for (uint32_t worker = 0; worker < workers; ++worker) {
            EXPECT_EQ(layout.submission_offset(worker), end);
            EXPECT_EQ(layout.submission_offset(worker) % page_bytes, 0u);
            end += layout.submission_bytes();
            EXPECT_EQ(layout.completion_offset(worker), end);
            EXPECT_EQ(layout.completion_offset(worker) % page_bytes, 0u);
            end += layout.completion_bytes();
        }
        EXPECT_EQ(layout.total_bytes(), end);
    }
}

TEST(ShmLayout, rings_have_room_for_indices_and_all_slots) {
    for (uint32_t entries = ring_entries_min; entries <= ring_entries_max; entries *= 2) {
        const ShmLayout layout(QueueGeometry{1, entries, entries});
        const size_t indices = sizeof(rte_ring) - ring_private_bytes;
        EXPECT_GE(layout.submission_bytes(), indices + size_t{entries} * 64);
        EXPECT_GE(layout.completion_bytes(), indices + size_t{entries} * 32);
    }
}

TEST(QueueGeometry, anything_but_powers_of_two_within_limits_is_not_valid) {
    EXPECT_TRUE((QueueGeometry{1, 8, 65536}.valid()));
    EXPECT_FALSE((QueueGeometry{0, 8, 8}.valid()));
    EXPECT_FALSE((QueueGeometry{256, 8, 8}.valid()));
    EXPECT_FALSE((QueueGeometry{UINT32_MAX, 8, 8}.valid()));
    for (const uint32_t entries : {0u, 1u, 4u, 9u, 1000u, 131072u, 1u << 31, UINT32_MAX}) {
        EXPECT_FALSE((QueueGeometry{1, entries, 8}.valid())) << entries;
        EXPECT_FALSE((QueueGeometry{1, 8, entries}.valid())) << entries;
    }
}

}  // namespace
}  // namespace flue::queue
