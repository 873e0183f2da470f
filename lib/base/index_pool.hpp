#pragma once

#include <cstdint>
#include <memory>

#include "base/assert.hpp"
#include "base/index_list.hpp"

namespace flue {

/// IndexPool is a fixed number of elements, handed out by index, last given back first taken.
/// `link` is a member that the pool uses while an element is free and the taker may use otherwise.
/// Thread: one.  Cost: O(1) each; memory is allocated by the constructor only.
template <typename T, uint32_t T::*link>
class IndexPool {
  public:
    explicit IndexPool(uint32_t capacity)
        : elements_(std::make_unique<T[]>(capacity)), capacity_(capacity), free_count_(capacity) {
        for (uint32_t index = 0; index < capacity; ++index) {
            elements_[index].*link = index + 1 < capacity ? index + 1 : no_index;
        }
        first_free_ = capacity > 0 ? 0 : no_index;
    }

    [[nodiscard]] uint32_t capacity() const { return capacity_; }

    [[nodiscard]] uint32_t free_count() const { return free_count_; }

    [[nodiscard]] uint32_t used_count() const { return capacity_ - free_count_; }

    T& operator[](uint32_t index) {
        FLUE_ASSERT(index < capacity_);
        return elements_[index];
    }

    const T& operator[](uint32_t index) const {
        FLUE_ASSERT(index < capacity_);
        return elements_[index];
    }

    /// take returns the index of an element whose content is what its last user left there.  Pre:
    /// free_count() > 0.
    [[nodiscard]] uint32_t take() {
        FLUE_ASSERT(free_count_ > 0);
        const uint32_t index = first_free_;
        first_free_          = elements_[index].*link;
        --free_count_;
        return index;
    }

    void give(uint32_t index) {
        FLUE_ASSERT(index < capacity_);
        FLUE_ASSERT(free_count_ < capacity_);
        elements_[index].*link = first_free_;
        first_free_            = index;
        ++free_count_;
    }

  private:
    std::unique_ptr<T[]> elements_;
    uint32_t capacity_;
    uint32_t free_count_;
    uint32_t first_free_ = no_index;
};

}  // namespace flue
