#include "queue/queue_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "base/assert.hpp"

namespace flue::queue {

namespace {

/// make_memory returns an open-ended memfd of `bytes`, not yet sealed and without pages.
Result<UniqueFd, SystemError> make_memory(size_t bytes) {
    UniqueFd fd(::memfd_create("flue-queue", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd.valid()) {
        return SystemError::last("memfd_create");
    }
    if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
        return SystemError::last("ftruncate");
    }
    return fd;
}

/// fill_and_seal allocates all pages, so that no later access can want memory, and fixes the size.
Result<bool, SystemError> fill_and_seal(int fd, size_t bytes) {
    if (::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) != 0) {
        return SystemError::last("fallocate");
    }
    if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return SystemError::last("fcntl(F_ADD_SEALS)");
    }
    return true;
}

}  // namespace

Result<QueueRings, SystemError> QueueRings::map(int memory_fd, const QueueGeometry& geometry) {
    FLUE_ASSERT(geometry.valid());
    const ShmLayout layout(geometry);
    QueueRings rings;
    rings.geometry_ = geometry;

    auto armed      = Mapping::map_shared(memory_fd, 0, layout.armed_bytes());
    if (!armed.ok()) {
        return armed.error();
    }
    rings.armed_ = std::move(armed.value());

    rings.rings_.reserve(2 * size_t{geometry.worker_count});
    for (uint32_t worker = 0; worker < geometry.worker_count; ++worker) {
        auto submission = RingMapping::map(memory_fd,
                                           layout.submission_offset(worker),
                                           layout.submission_bytes(),
                                           geometry.submission_entries);
        if (!submission.ok()) {
            return submission.error();
        }
        auto completion = RingMapping::map(memory_fd,
                                           layout.completion_offset(worker),
                                           layout.completion_bytes(),
                                           geometry.completion_entries);
        if (!completion.ok()) {
            return completion.error();
        }
        rings.rings_.push_back(std::move(submission.value()));
        rings.rings_.push_back(std::move(completion.value()));
    }
    return rings;
}

Ring<flue_wr> QueueRings::submissions(uint32_t worker) const {
    FLUE_ASSERT(worker < geometry_.worker_count);
    return Ring<flue_wr>(rings_[2 * size_t{worker}].ring());
}

Ring<flue_wc> QueueRings::completions(uint32_t worker) const {
    FLUE_ASSERT(worker < geometry_.worker_count);
    return Ring<flue_wc>(rings_[2 * size_t{worker} + 1].ring());
}

uint32_t* QueueRings::armed(uint32_t worker) const {
    FLUE_ASSERT(worker < geometry_.worker_count);
    return reinterpret_cast<uint32_t*>(armed_.data() + ShmLayout(geometry_).armed_offset(worker));
}

void QueueRings::place(std::span<const int> worker_nodes) {
    for (uint32_t worker = 0; worker < worker_nodes.size() && worker < geometry_.worker_count;
         ++worker) {
        place_on_node(rings_[2 * size_t{worker}].shared(), worker_nodes[worker]);
        place_on_node(rings_[2 * size_t{worker} + 1].shared(), worker_nodes[worker]);
    }
}

void QueueRings::initialise() {
    for (RingMapping& ring : rings_) {
        ring.initialise_shared();
    }
}

Result<TargetQueueMemory, SystemError> TargetQueueMemory::create(
    const QueueGeometry& geometry, std::span<const int> worker_nodes) {
    if (!geometry.valid()) {
        return SystemError{EINVAL, "TargetQueueMemory::create"};
    }
    const size_t bytes = ShmLayout(geometry).total_bytes();
    auto memory        = make_memory(bytes);
    if (!memory.ok()) {
        return memory.error();
    }
    auto rings = QueueRings::map(memory.value().get(), geometry);
    if (!rings.ok()) {
        return rings.error();
    }
    rings.value().place(worker_nodes);
    if (auto filled = fill_and_seal(memory.value().get(), bytes); !filled.ok()) {
        return filled.error();
    }
    rings.value().initialise();

    int wake[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, wake) != 0) {
        return SystemError::last("socketpair");
    }
    TargetQueueMemory made;
    made.memory_      = std::move(memory.value());
    made.rings_       = std::move(rings.value());
    made.target_wake_ = UniqueFd(wake[0]);
    made.host_wake_   = UniqueFd(wake[1]);
    return made;
}

Result<bool, SystemError> TargetQueueMemory::renew_wake() {
    int wake[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, wake) != 0) {
        return SystemError::last("socketpair");
    }
    const UniqueFd ours(wake[0]);
    UniqueFd hosts(wake[1]);
    if (::dup3(ours.get(), target_wake_.get(), O_CLOEXEC) < 0) {
        return SystemError::last("dup3");
    }
    host_wake_ = std::move(hosts);
    return true;
}

TargetQueue::Parts TargetQueueMemory::parts(uint32_t worker) const {
    TargetQueue::Parts parts;
    parts.submissions = rings_.submissions(worker);
    parts.completions = rings_.completions(worker);
    parts.armed       = rings_.armed(worker);
    parts.event_fd    = target_wake_.get();
    return parts;
}

Result<QueueRings, SystemError> map_queue_memory(int memory_fd,
                                                 const QueueGeometry& geometry,
                                                 uint64_t bytes) {
    struct stat status {};

    if (::fstat(memory_fd, &status) != 0) {
        return SystemError::last("fstat");
    }
    const int seals = ::fcntl(memory_fd, F_GET_SEALS);
    const bool fits = geometry.valid() && bytes == ShmLayout(geometry).total_bytes() &&
                      static_cast<uint64_t>(status.st_size) == bytes;
    const bool size_kept = seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
    if (!fits || !size_kept) {
        return SystemError{EPROTO, "map_queue_memory"};
    }
    return QueueRings::map(memory_fd, geometry);
}

}  // namespace flue::queue
