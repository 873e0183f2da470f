#pragma once

#include <cstdint>

#include "base/result.hpp"
#include "base/system_error.hpp"
#include "base/unique_fd.hpp"
#include "queue/mapping.hpp"
#include "queue/session_protocol.hpp"

namespace flue::queue {

/// HostRegion is the host's side of a memory region: a memfd that can not shrink, mapped.
struct HostRegion {
    UniqueFd fd;
    Mapping mapping;
    bool huge_pages = false;

    /// create makes a region of at least `bytes` (whole pages), zeroed, all its pages allocated,
    /// preferably on `node`
    /// (-1: any).  Pages of 2 MiB are used where the region is at least that large and the system
    /// has them free, unless asked for ordinary ones.
    enum class Pages : uint8_t { any, ordinary };
    static Result<HostRegion, SystemError> create(size_t bytes, int node, Pages pages = Pages::any);
    /// map maps the memfd of a region that another process has made.  Errors: EPROTO when it is
    /// none or shorter than `bytes`; else what the system says.
    static Result<HostRegion, SystemError> map(UniqueFd memfd, uint64_t bytes);
};

/// TargetRegion is the target's mapping of a region that a host registered.
struct TargetRegion {
    Mapping mapping;
    uint64_t bytes    = 0;  ///< as registered; the mapping may be longer
    size_t page_bytes = 0;
    UniqueFd memfd;  ///< kept by the caller, for a host that takes the region up again

    /// map checks a received memfd and maps it.  After that nothing the host does to the memfd can
    /// make an access fail: it can not shrink (F_SEAL_SHRINK), and all its pages are there.  Nor
    /// can holes be punched any more (F_SEAL_FUTURE_WRITE, set here): of huge pages there may be
    /// none to fill a hole with, and an access to an ordinary one waits for as long as the punching
    /// takes. The seal also forbids further writable mappings.  With `mapped_again`, for a host
    /// that the next one follows, ordinary pages go without it. Cost: touches each page. Errors:
    /// bad_descriptor (no memfd, or not writable), not_sealed, bad_message (length 0 or beyond the
    /// file), no_memory, quota (more than `bytes_max` in whole pages, which may be huge).
    static Result<TargetRegion, SessionStatus> map(int memfd,
                                                   uint64_t bytes,
                                                   uint64_t bytes_max = UINT64_MAX,
                                                   bool mapped_again  = false);
};

}  // namespace flue::queue
