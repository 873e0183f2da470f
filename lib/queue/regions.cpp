#include "queue/regions.hpp"

#include <utility>

#include "base/assert.hpp"

namespace flue::queue {

namespace {

constexpr uint32_t slot_bits      = 16;
constexpr uint32_t slot_mask      = (1u << slot_bits) - 1;
constexpr uint32_t no_key         = 0;  ///< generations start at 1
constexpr uint32_t counts_in_line = 64 / sizeof(uint32_t);

constexpr uint32_t next_generation(uint32_t generation) {
    return generation == UINT16_MAX ? 1 : generation + 1;
}

}  // namespace

struct Regions::Slot {
    std::atomic<uint32_t> key = no_key;  ///< no_key: nothing that workers may resolve
    uint32_t generation       = 1;       ///< of the next key
    uint32_t closed_key       = no_key;  ///< closed and not yet removed
    Mapping mapping;
};

Regions::Regions(uint32_t slots, uint32_t workers)
    : slots_(slots),
      workers_(workers),
      column_((slots + counts_in_line - 1) / counts_in_line * counts_in_line),
      table_(std::make_unique<Slot[]>(slots)),
      references_(std::make_unique<std::atomic<uint32_t>[]>(size_t{column_} * workers)) {
    FLUE_ASSERT(slots >= 1 && slots <= slot_mask + 1);
    FLUE_ASSERT(workers >= 1);
}

Regions::~Regions() = default;

std::optional<uint32_t> Regions::add(const Mapping& mapping) {
    for (uint32_t index = 0; index < slots_; ++index) {
        Slot& slot = table_[index];
        if (slot.key.load(std::memory_order_relaxed) != no_key || slot.closed_key != no_key) {
            continue;
        }
        const uint32_t key = index | slot.generation << slot_bits;
        slot.generation    = next_generation(slot.generation);
        slot.mapping       = mapping;
        slot.key.store(key, std::memory_order_release);  // R1
        return key;
    }
    return std::nullopt;
}

bool Regions::close(uint32_t key) {
    const uint32_t index = key & slot_mask;
    if (key == no_key || index >= slots_ ||
        table_[index].key.load(std::memory_order_relaxed) != key) {
        return false;
    }
    table_[index].closed_key = key;
    table_[index].key.store(no_key, std::memory_order_relaxed);
    return true;
}

void Regions::reopen(uint32_t key) {
    Slot& slot = slot_of(key);
    FLUE_ASSERT(slot.closed_key == key);
    slot.closed_key = no_key;
    slot.key.store(key, std::memory_order_release);  // R1
}

uint32_t Regions::references(uint32_t key, uint32_t worker) const {
    FLUE_ASSERT(slot_of(key).closed_key == key);
    return count_of(key, worker).load(std::memory_order_acquire);  // R2
}

Regions::Mapping Regions::remove(uint32_t key) {
    Slot& slot = slot_of(key);
    FLUE_ASSERT(slot.closed_key == key);
    for (uint32_t worker = 0; worker < workers_; ++worker) {
        FLUE_ASSERT(count_of(key, worker).load(std::memory_order_acquire) == 0);
    }
    slot.closed_key = no_key;
    return std::exchange(slot.mapping, Mapping{});
}

std::optional<Regions::Range> Regions::resolve(const flue_sge& sge) const {
    const uint32_t index = sge.mr & slot_mask;
    if (index >= slots_ || sge.mr == no_key) {
        return std::nullopt;
    }
    const Slot& slot = table_[index];
    if (slot.key.load(std::memory_order_acquire) != sge.mr) {  // R0
        return std::nullopt;
    }
    const Mapping& mapping = slot.mapping;
    if (sge.length > mapping.bytes || sge.offset > mapping.bytes - sge.length) {
        return std::nullopt;
    }
    return Range{mapping.base + sge.offset, mapping.dma_mapped};
}

void Regions::acquire(uint32_t key, uint32_t worker) {
    std::atomic<uint32_t>& count = count_of(key, worker);
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void Regions::release(uint32_t key, uint32_t worker) {
    std::atomic<uint32_t>& count = count_of(key, worker);
    const uint32_t references    = count.load(std::memory_order_relaxed);
    FLUE_ASSERT(references > 0);
    count.store(references - 1, std::memory_order_release);  // R3
}

Regions::Slot& Regions::slot_of(uint32_t key) const {
    FLUE_ASSERT((key & slot_mask) < slots_);
    return table_[key & slot_mask];
}

std::atomic<uint32_t>& Regions::count_of(uint32_t key, uint32_t worker) const {
    FLUE_ASSERT((key & slot_mask) < slots_);
    FLUE_ASSERT(worker < workers_);
    return references_[size_t{worker} * column_ + (key & slot_mask)];
}

}  // namespace flue::queue
