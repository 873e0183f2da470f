#include "queue/region_memory.hpp"

#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

namespace flue::queue {
namespace {

constexpr size_t megabyte = size_t{1} << 20;

UniqueFd memfd(size_t bytes, int seals, unsigned flags = 0) {
    UniqueFd fd(::memfd_create("region_test", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
    if (seals != 0) {
        EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    }
    return fd;
}

SessionStatus map_status(int fd, uint64_t bytes) {
    auto mapped = TargetRegion::map(fd, bytes);
    return mapped.ok() ? SessionStatus::ok : mapped.error();
}

TEST(RegionMemory, bytes_the_host_writes_are_what_the_target_reads) {
    auto host = HostRegion::create(100'000, -1);
    ASSERT_TRUE(host.ok());
    EXPECT_GE(host.value().mapping.bytes(), 100'000u);
    auto target = TargetRegion::map(host.value().fd.get(), host.value().mapping.bytes());
    ASSERT_TRUE(target.ok());
    host.value().mapping.data()[99'999] = std::byte{42};
    EXPECT_EQ(target.value().mapping.data()[99'999], std::byte{42});
}

TEST(RegionMemory, host_region_cannot_shrink) {
    auto host = HostRegion::create(megabyte, 0);
    ASSERT_TRUE(host.ok());
    EXPECT_EQ(::ftruncate(host.value().fd.get(), 0), -1);
}

TEST(RegionMemory, the_next_host_maps_what_the_one_before_has_made) {
    auto host = HostRegion::create(megabyte, -1);
    ASSERT_TRUE(host.ok());
    host.value().mapping.data()[5000] = std::byte{42};
    UniqueFd copy(::dup(host.value().fd.get()));
    auto next = HostRegion::map(std::move(copy), megabyte);
    ASSERT_TRUE(next.ok());
    EXPECT_EQ(next.value().mapping.bytes(), megabyte);
    EXPECT_EQ(next.value().mapping.data()[5000], std::byte{42});
    next.value().mapping.data()[5000] = std::byte{43};
    EXPECT_EQ(host.value().mapping.data()[5000], std::byte{43});
}

TEST(RegionMemory, the_next_host_refuses_what_could_fault) {
    EXPECT_FALSE(HostRegion::map(UniqueFd{}, megabyte).ok());
    EXPECT_FALSE(HostRegion::map(memfd(megabyte, 0), megabyte).ok());
    EXPECT_FALSE(HostRegion::map(memfd(megabyte, F_SEAL_SHRINK), megabyte + 1).ok());
    EXPECT_FALSE(HostRegion::map(memfd(megabyte, F_SEAL_SHRINK), 0).ok());
}

TEST(RegionMemory, host_region_of_no_or_absurd_size_is_refused) {
    EXPECT_FALSE(HostRegion::create(0, -1).ok());
    EXPECT_FALSE(HostRegion::create(SIZE_MAX, -1).ok());
    EXPECT_FALSE(HostRegion::create(size_t{1} << 62, -1).ok());
}

TEST(RegionMemory, memfd_that_may_shrink_is_not_mapped) {
    EXPECT_EQ(map_status(memfd(megabyte, 0).get(), megabyte), SessionStatus::not_sealed);
    EXPECT_EQ(map_status(memfd(megabyte, F_SEAL_GROW).get(), megabyte), SessionStatus::not_sealed);
}

TEST(RegionMemory, length_of_zero_or_beyond_the_file_is_not_mapped) {
    const UniqueFd fd = memfd(megabyte, F_SEAL_SHRINK);
    EXPECT_EQ(map_status(fd.get(), 0), SessionStatus::bad_message);
    EXPECT_EQ(map_status(fd.get(), megabyte + 1), SessionStatus::bad_message);
    EXPECT_EQ(map_status(fd.get(), UINT64_MAX), SessionStatus::bad_message);
    EXPECT_EQ(map_status(fd.get(), megabyte - 1), SessionStatus::ok);
}

TEST(RegionMemory, descriptor_that_is_no_writable_memfd_is_not_mapped) {
    const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
    EXPECT_EQ(map_status(-1, 4096), SessionStatus::bad_descriptor);
    EXPECT_EQ(map_status(file.get(), 4096), SessionStatus::bad_descriptor);
    EXPECT_EQ(map_status(event.get(), 4096), SessionStatus::bad_descriptor);

    const UniqueFd writable = memfd(megabyte, F_SEAL_SHRINK);
    const std::string path  = "/proc/self/fd/" + std::to_string(writable.get());
    const UniqueFd read_only(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(read_only.valid());
    EXPECT_EQ(map_status(read_only.get(), megabyte), SessionStatus::bad_descriptor);
    EXPECT_EQ(map_status(memfd(megabyte, F_SEAL_SHRINK | F_SEAL_WRITE).get(), megabyte),
              SessionStatus::bad_descriptor);
}

TEST(RegionMemory, whole_pages_count_towards_what_the_host_may_have) {
    const UniqueFd fd  = memfd(megabyte, F_SEAL_SHRINK);
    const auto refused = TargetRegion::map(fd.get(), 4097, 4097);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error(), SessionStatus::quota);
    EXPECT_TRUE(TargetRegion::map(fd.get(), 4097, 8192).ok());
}

// An access to a page that is being punched out waits until that is done: a worker would.
TEST(RegionMemory, host_punches_no_hole_into_what_the_target_has_mapped) {
    const UniqueFd fd = memfd(megabyte, F_SEAL_SHRINK);
    auto target       = TargetRegion::map(fd.get(), megabyte);
    ASSERT_TRUE(target.ok());
    EXPECT_NE(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    EXPECT_EQ(errno, EPERM);
}

TEST(RegionMemory, holes_in_a_region_for_a_next_host_only_read_as_zeros) {
    const UniqueFd fd = memfd(megabyte, F_SEAL_SHRINK);
    auto target       = TargetRegion::map(fd.get(), megabyte, UINT64_MAX, true);
    ASSERT_TRUE(target.ok());
    target.value().mapping.data()[5000] = std::byte{1};
    ASSERT_EQ(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, megabyte), 0);
    EXPECT_EQ(target.value().mapping.data()[5000], std::byte{0});
}

/// Huge pages are reserved for the time of one test, where the machine lets us.
class HugePages : public testing::Test {
  protected:
    static constexpr const char* path = "/proc/sys/vm/nr_hugepages";

    void SetUp() override {
        std::ifstream(path) >> before_;
        std::ofstream(path) << before_ + 4;
        const UniqueFd probe(::memfd_create("probe", MFD_CLOEXEC | MFD_HUGETLB));
        void* base = MAP_FAILED;
        if (::ftruncate(probe.get(), 4 * megabyte) == 0) {
            base = ::mmap(nullptr, 4 * megabyte, PROT_READ, MAP_SHARED, probe.get(), 0);
        }
        if (base == MAP_FAILED) {
            GTEST_SKIP() << "no huge pages here";
        }
        ::munmap(base, 4 * megabyte);
    }

    void TearDown() override { std::ofstream(path) << before_; }

    long before_ = 0;
};

TEST_F(HugePages, are_used_for_a_large_region_and_cannot_be_taken_away_once_it_is_mapped) {
    auto host = HostRegion::create(3 * megabyte, -1);
    ASSERT_TRUE(host.ok());
    ASSERT_TRUE(host.value().huge_pages);
    EXPECT_EQ(host.value().mapping.bytes(), 4 * megabyte);
    const int fd = host.value().fd.get();
    auto target  = TargetRegion::map(fd, 4 * megabyte);
    ASSERT_TRUE(target.ok());
    EXPECT_EQ(target.value().page_bytes, 2 * megabyte);
    EXPECT_EQ(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * megabyte), -1);
    host.value().mapping.data()[0] = std::byte{7};
    EXPECT_EQ(target.value().mapping.data()[0], std::byte{7});
}

TEST_F(HugePages, that_could_be_taken_away_are_not_mapped) {
    const UniqueFd fd = memfd(2 * megabyte, F_SEAL_SHRINK | F_SEAL_SEAL, MFD_HUGETLB);
    EXPECT_EQ(map_status(fd.get(), 2 * megabyte), SessionStatus::not_sealed);
}

TEST_F(HugePages, are_left_alone_by_a_host_that_asks_for_ordinary_ones) {
    auto host = HostRegion::create(4 * megabyte, -1, HostRegion::Pages::ordinary);
    ASSERT_TRUE(host.ok());
    EXPECT_FALSE(host.value().huge_pages);
}

TEST_F(HugePages, are_not_wasted_on_a_small_region) {
    auto host = HostRegion::create(megabyte, -1);
    ASSERT_TRUE(host.ok());
    EXPECT_FALSE(host.value().huge_pages);
    EXPECT_EQ(host.value().mapping.bytes(), megabyte);
}

}  // namespace
}  // namespace flue::queue
