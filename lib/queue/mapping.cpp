#include "queue/mapping.hpp"

#include <cstdio>
#include <new>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <sys/mman.h>
#include <utility>

#include <rte_ring_core.h>

#include "base/assert.hpp"
#include "queue/shm_layout.hpp"

namespace flue::queue {

namespace {

Result<Mapping, SystemError> map_at(
    void* address, size_t bytes, int protection, int flags, int fd, size_t offset) {
    void* base = ::mmap(address, bytes, protection, flags, fd, static_cast<off_t>(offset));
    if (base == MAP_FAILED) {
        return SystemError::last("mmap");
    }
    return Mapping(static_cast<std::byte*>(base), bytes);
}

/// configure writes what rte_ring_init would write into the private part, for a ring of one
/// producer and one consumer.
void configure(rte_ring& ring, uint32_t entries) {
    std::snprintf(ring.name, sizeof(ring.name), "flue");
    ring.flags    = RING_F_SP_ENQ | RING_F_SC_DEQ;
    ring.memzone  = nullptr;
    ring.size     = entries;
    ring.mask     = entries - 1;
    ring.capacity = entries - 1;
}

}  // namespace

Mapping::Mapping(Mapping&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
    if (this != &other) {
        reset();
        base_  = std::exchange(other.base_, nullptr);
        bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
}

Result<Mapping, SystemError> Mapping::map_shared(int fd, size_t offset, size_t bytes) {
    return map_at(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
}

void Mapping::reset() {
    if (base_ != nullptr) {
        ::munmap(base_, bytes_);
        base_  = nullptr;
        bytes_ = 0;
    }
}

Result<RingMapping, SystemError> RingMapping::map(int fd,
                                                  size_t offset,
                                                  size_t shared_bytes,
                                                  uint32_t entries) {
    FLUE_ASSERT(shared_bytes % page_bytes == 0);
    FLUE_ASSERT(entries != 0 && (entries & (entries - 1)) == 0);

    const size_t reserved_bytes = page_bytes + shared_bytes + page_bytes;
    auto reserved = map_at(nullptr, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!reserved.ok()) {
        return reserved.error();
    }
    RingMapping mapped;
    mapped.pages_                 = std::move(reserved.value());
    std::byte* const shared       = mapped.pages_.data() + page_bytes;
    std::byte* const private_page = mapped.pages_.data();
    if (::mmap(shared,
               shared_bytes,
               PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_FIXED,
               fd,
               static_cast<off_t>(offset)) == MAP_FAILED) {
        return SystemError::last("mmap");
    }
    if (::mprotect(private_page, page_bytes, PROT_READ | PROT_WRITE) != 0) {
        return SystemError::last("mprotect");
    }
    mapped.ring_ = reinterpret_cast<rte_ring*>(shared - ring_private_bytes);
    configure(*mapped.ring_, entries);
    if (::mprotect(private_page, page_bytes, PROT_READ) != 0) {
        return SystemError::last("mprotect");
    }
    return mapped;
}

std::span<std::byte> RingMapping::shared() const {
    return {pages_.data() + page_bytes, pages_.bytes() - 2 * page_bytes};
}

void RingMapping::initialise_shared() {
    ring_->prod.head      = 0;
    ring_->prod.tail      = 0;
    ring_->prod.sync_type = RTE_RING_SYNC_ST;
    ring_->cons.head      = 0;
    ring_->cons.tail      = 0;
    ring_->cons.sync_type = RTE_RING_SYNC_ST;
}

void place_on_node(std::span<std::byte> pages, int node) {
    if (node < 0 || pages.empty() || ::numa_available() < 0 || node > ::numa_max_node()) {
        return;
    }
    bitmask* nodes = ::numa_allocate_nodemask();
    ::numa_bitmask_setbit(nodes, static_cast<unsigned>(node));
    // A wish: when it fails, the kernel's own placement stays.
    ::mbind(pages.data(), pages.size(), MPOL_PREFERRED, nodes->maskp, nodes->size + 1, 0);
    ::numa_bitmask_free(nodes);
}

int node_of_cpu(int cpu) {
    return ::numa_available() < 0 ? -1 : ::numa_node_of_cpu(cpu);
}

int current_node() {
    return node_of_cpu(::sched_getcpu());
}

}  // namespace flue::queue
