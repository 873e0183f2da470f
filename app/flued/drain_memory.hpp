#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "flue/flue.h"

namespace flue {

/// FreeSpace keeps the free ranges of [0, bytes).  Cost: O(log of their number) and, to find one
/// that fits, O(their number).
class FreeSpace {
  public:
    explicit FreeSpace(uint64_t bytes);

    /// take returns where `bytes` bytes are free, which then they are not.  Pre: bytes > 0.
    [[nodiscard]] std::optional<uint64_t> take(uint64_t bytes);
    /// give makes a range that was taken, or the end of one, free again.
    void give(uint64_t offset, uint64_t bytes);

    [[nodiscard]] const std::map<uint64_t, uint64_t>& ranges() const { return free_; }

  private:
    std::map<uint64_t, uint64_t> free_;  ///< offset to bytes; no two of them touch
};

/// DrainMemory is what drains borrow for their bytes: memory regions, made when they are needed and
/// kept.  A deregistration waits for the workers, so one region a drain would be dear.
class DrainMemory {
  public:
    /// Owner: the session is the caller's, and outlives this.
    DrainMemory(flue_context* session, uint64_t bytes_max);
    ~DrainMemory();
    DrainMemory(const DrainMemory&)            = delete;
    DrainMemory& operator=(const DrainMemory&) = delete;

    struct Piece {
        size_t region   = 0;
        flue_mr* mr     = nullptr;
        uint32_t key    = 0;  ///< of mr
        uint64_t offset = 0;
        uint64_t bytes  = 0;

        [[nodiscard]] const void* data() const {
            return static_cast<const std::byte*>(flue_mr_data(mr)) + offset;
        }
    };

    /// take.  Errors: EAGAIN: others have to give theirs back first; ENOBUFS: more than there ever
    /// is, or the session gets no region.
    [[nodiscard]] std::optional<Piece> take(uint64_t bytes, int& error);
    /// give takes a piece back; the target refers to none of it any more.
    void give(const Piece& piece);
    /// trim gives back what lies behind the first `bytes` bytes.
    void trim(Piece& piece, uint64_t bytes);

  private:
    struct Region {
        flue_mr* mr;
        FreeSpace space;
    };

    [[nodiscard]] bool add_region(uint64_t bytes);

    flue_context* session_;
    uint64_t bytes_left_;  ///< that may still become regions
    uint64_t bytes_max_;
    std::vector<Region> regions_;
};

}  // namespace flue
