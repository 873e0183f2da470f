#pragma once

#include <cstdint>

#include "base/assert.hpp"

namespace flue {

/// The index that names nothing.
constexpr uint32_t no_index = UINT32_MAX;

/// The link of an element that is on no list.
constexpr uint32_t not_listed = UINT32_MAX;

/// IndexList is a first-in first-out list through one member of the elements of an array, by index
/// instead of pointer. An element is on the list or not, and knows which: its link is `not_listed`
/// when it is not.  An element cannot be taken out of the middle: whoever empties the list skips
/// what has lost its meaning. Thread: one.  Cost: O(1) each.
template <typename T, uint32_t T::*link>
class IndexList {
  public:
    [[nodiscard]] bool empty() const { return first_ == end_mark; }

    [[nodiscard]] uint32_t front() const { return empty() ? no_index : first_; }

    [[nodiscard]] static bool listed(const T& element) { return element.*link != not_listed; }

    void push_back(T* elements, uint32_t index) {
        FLUE_ASSERT(!listed(elements[index]));
        elements[index].*link = end_mark;
        if (empty()) {
            first_ = index;
        } else {
            elements[last_].*link = index;
        }
        last_ = index;
    }

    void push_front(T* elements, uint32_t index) {
        FLUE_ASSERT(!listed(elements[index]));
        elements[index].*link = first_;
        if (empty()) {
            last_ = index;
        }
        first_ = index;
    }

    /// pop_front returns the index of the first element.  Pre: not empty.
    uint32_t pop_front(T* elements) {
        FLUE_ASSERT(!empty());
        const uint32_t index  = first_;
        first_                = elements[index].*link;
        elements[index].*link = not_listed;
        return index;
    }

  private:
    static constexpr uint32_t end_mark = UINT32_MAX - 1;

    uint32_t first_                    = end_mark;
    uint32_t last_                     = end_mark;
};

}  // namespace flue
