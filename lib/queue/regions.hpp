#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/result.hpp"
#include "flue/abi.h"

namespace flue::queue {

/// Regions is the target's table of one session's memory regions.
///
/// A key is slot | generation << 16, so that a key from before a deregistration never names the
/// region after it. Thread: `add`, `close`, `reopen`, `references` and `remove` belong to the
/// control thread; `resolve`, `acquire`, `release` to any worker, each with its own column of
/// reference counts. The control thread publishes an entry with a store-release of its key (R1);
/// workers read the key with a load-acquire (R0 pairs with R1).  A worker publishes that it is done
/// with a region's bytes with a store-release of its count (R3); the control thread reads that with
/// a load-acquire (R2 pairs with R3).
///
/// A worker that resolved a key just before it was closed may acquire it just after.  So after
/// `close`, each worker must have passed a point where it holds nothing that it resolved without
/// acquiring (the end of a loop turn) before `references` means anything.
class Regions {
  public:
    struct Mapping {
        std::byte* base = nullptr;
        uint64_t bytes  = 0;
        bool dma_mapped = false;  ///< every port can read it: sends may be zero-copy
    };

    /// Pre: slots in [1, 65536], workers >= 1.
    Regions(uint32_t slots, uint32_t workers);
    ~Regions();
    Regions(const Regions&)            = delete;
    Regions& operator=(const Regions&) = delete;

    /// add publishes a mapping and returns its key, or nothing when the table is full.
    [[nodiscard]] std::optional<uint32_t> add(const Mapping& mapping);
    /// close makes the key invalid for new requests; existing references live on.  False: no such
    /// key.
    [[nodiscard]] bool close(uint32_t key);
    /// reopen makes a closed key valid again.  Pre: closed, not removed.
    void reopen(uint32_t key);
    /// references returns how many references `worker` still has on a closed key.  Pre: see above.
    [[nodiscard]] uint32_t references(uint32_t key, uint32_t worker) const;
    /// remove frees the slot and returns its mapping, which the caller unmaps.  Pre: closed, no
    /// worker has references.
    Mapping remove(uint32_t key);

    /// What a valid scatter/gather entry resolves to.
    struct Range {
        std::byte* data = nullptr;
        bool dma_mapped = false;
    };

    /// resolve checks key, generation and bounds (without overflow).  Any value of `sge` is legal.
    [[nodiscard]] std::optional<Range> resolve(const flue_sge& sge) const;
    /// acquire and release count one reference of `worker` on the region of a key that resolve
    /// accepted; release may come after close.
    void acquire(uint32_t key, uint32_t worker);
    void release(uint32_t key, uint32_t worker);

  private:
    struct Slot;
    [[nodiscard]] Slot& slot_of(uint32_t key) const;
    [[nodiscard]] std::atomic<uint32_t>& count_of(uint32_t key, uint32_t worker) const;

    uint32_t slots_;
    uint32_t workers_;
    uint32_t column_;  ///< slots_, rounded up so that no two workers write one cache line
    std::unique_ptr<Slot[]> table_;
    std::unique_ptr<std::atomic<uint32_t>[]> references_;  ///< [worker * column_ + slot]
};

}  // namespace flue::queue
