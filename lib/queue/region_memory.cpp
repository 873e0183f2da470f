#include "queue/region_memory.hpp"

#include <cerrno>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <utility>

#include "queue/shm_layout.hpp"

namespace flue::queue {

namespace {

constexpr size_t huge_page_bytes = size_t{2} << 20;

constexpr size_t round_up(size_t bytes, size_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

/// populate makes every page of a mapping present, or says that it could not; an access could only
/// fault.
bool populate(const Mapping& mapping) {
    return ::madvise(mapping.data(), mapping.bytes(), MADV_POPULATE_WRITE) == 0;
}

Result<HostRegion, SystemError> create_with(size_t bytes, int node, unsigned memfd_flags) {
    HostRegion region;
    region.huge_pages = (memfd_flags & MFD_HUGETLB) != 0;
    region.fd =
        UniqueFd(::memfd_create("flue-region", MFD_CLOEXEC | MFD_ALLOW_SEALING | memfd_flags));
    if (!region.fd.valid()) {
        return SystemError::last("memfd_create");
    }
    if (::ftruncate(region.fd.get(), static_cast<off_t>(bytes)) != 0) {
        return SystemError::last("ftruncate");
    }
    auto mapped = Mapping::map_shared(region.fd.get(), 0, bytes);
    if (!mapped.ok()) {
        return mapped.error();
    }
    region.mapping = std::move(mapped.value());
    place_on_node({region.mapping.data(), bytes}, node);
    if (!populate(region.mapping)) {
        return SystemError::last("madvise(MADV_POPULATE_WRITE)");
    }
    if (::fcntl(region.fd.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
        return SystemError::last("fcntl(F_ADD_SEALS)");
    }
    return region;
}

/// forbid_holes makes sure that no page of a mapped memfd can be taken away.
bool forbid_holes(int memfd) {
    return ::fcntl(memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0;
}

}  // namespace

Result<HostRegion, SystemError> HostRegion::create(size_t bytes, int node, Pages pages) {
    if (bytes == 0 || bytes > SIZE_MAX / 2) {
        return SystemError{EINVAL, "HostRegion::create"};
    }
    if (bytes >= huge_page_bytes && pages == Pages::any) {
        auto huge = create_with(round_up(bytes, huge_page_bytes), node, MFD_HUGETLB | MFD_HUGE_2MB);
        if (huge.ok()) {
            return huge;
        }
    }
    return create_with(round_up(bytes, page_bytes), node, 0);
}

Result<HostRegion, SystemError> HostRegion::map(UniqueFd memfd, uint64_t bytes) {
    struct stat status {};

    if (::fstat(memfd.get(), &status) != 0) {
        return SystemError::last("fstat");
    }
    const int seals = ::fcntl(memfd.get(), F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || bytes == 0 ||
        bytes > static_cast<uint64_t>(status.st_size)) {
        return SystemError{EPROTO, "HostRegion::map"};
    }
    auto mapped = Mapping::map_shared(memfd.get(), 0, bytes);
    if (!mapped.ok()) {
        return mapped.error();
    }
    HostRegion region;
    region.fd      = std::move(memfd);
    region.mapping = std::move(mapped.value());
    return region;
}

Result<TargetRegion, SessionStatus> TargetRegion::map(int memfd,
                                                      uint64_t bytes,
                                                      uint64_t bytes_max,
                                                      bool mapped_again) {
    const int seals = ::fcntl(memfd, F_GET_SEALS);
    if (seals < 0) {
        return SessionStatus::bad_descriptor;
    }
    if ((seals & F_SEAL_SHRINK) == 0) {
        return SessionStatus::not_sealed;
    }

    // The size is read after the seal was seen: from then on it can only grow.
    struct stat status {};

    struct statfs system {};

    if (::fstat(memfd, &status) != 0 || ::fstatfs(memfd, &system) != 0) {
        return SessionStatus::bad_descriptor;
    }
    if (bytes == 0 || bytes > static_cast<uint64_t>(status.st_size)) {
        return SessionStatus::bad_message;
    }
    const bool huge_pages = system.f_type == HUGETLBFS_MAGIC;
    TargetRegion region;
    region.bytes             = bytes;
    region.page_bytes        = huge_pages ? static_cast<size_t>(system.f_bsize) : queue::page_bytes;

    const size_t whole_pages = round_up(bytes, region.page_bytes);
    if (whole_pages > bytes_max) {
        return SessionStatus::quota;
    }
    auto mapped = Mapping::map_shared(memfd, 0, whole_pages);
    if (!mapped.ok()) {
        return mapped.error().code == ENOMEM ? SessionStatus::no_memory
                                             : SessionStatus::bad_descriptor;
    }
    region.mapping = std::move(mapped.value());
    if ((huge_pages || !mapped_again) && !forbid_holes(memfd)) {
        return SessionStatus::not_sealed;
    }
    if (!populate(region.mapping)) {
        return SessionStatus::no_memory;
    }
    return region;
}

}  // namespace flue::queue
