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
/// A key is slot | generation << 16, so that a key from before a deregistration never names the region after it.
/// Thread: `add`, `close` and `remove` belong to the control thread; `resolve`, `acquire`, `release` to any worker,
/// each with its own column of reference counts.  The control thread publishes an entry with a store-release of its key
/// (R1); workers read the key with a load-acquire (R0 pairs with R1).
class Regions {
  public:
    struct Mapping {
        std::byte* base   = nullptr;
        uint64_t bytes    = 0;
        bool dma_mapped   = false;  ///< every port can read it: sends may be zero-copy
    };

    Regions(uint32_t slots, uint32_t workers);

    /// add publishes a mapping and returns its key, or nothing when the table is full.
    [[nodiscard]] std::optional<uint32_t> add(const Mapping& mapping);
    /// close makes the key invalid for new requests; existing references live on.  False: no such key.
    [[nodiscard]] bool close(uint32_t key);
    /// references returns how many references worker `worker` still has on a closed key.
    [[nodiscard]] uint32_t references(uint32_t key, uint32_t worker) const;
    /// remove frees the slot and returns its mapping, which the caller unmaps.  Pre: closed, no references.
    Mapping remove(uint32_t key);

    /// What a valid scatter/gather entry resolves to.
    struct Range {
        std::byte* data = nullptr;
        bool dma_mapped = false;
    };
    /// resolve checks key, generation and bounds (without overflow).  Any value of `sge` is legal.
    [[nodiscard]] std::optional<Range> resolve(const flue_sge& sge) const;
    /// acquire and release count one reference of `worker` on the region of a key that resolve accepted.
    void acquire(uint32_t key, uint32_t worker);
    void release(uint32_t key, uint32_t worker);

  private:
    struct Slot;
    uint32_t slots_;
    uint32_t workers_;
    std::unique_ptr<Slot[]> table_;
    std::unique_ptr<uint32_t[]> references_;  ///< [worker * slots_ + slot]
};

}  // namespace flue::queue
