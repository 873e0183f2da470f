#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include <rte_ring_elem.h>

namespace flue::queue {

/// Ring is a typed view of a single-producer single-consumer rte_ring of fixed-size elements.  It owns nothing.
template <typename T>
class Ring {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 4 == 0, "rte_ring copies elements by 32-bit words");

  public:
    Ring() = default;
    explicit Ring(rte_ring* ring) : ring_(ring) {}

    [[nodiscard]] uint32_t enqueue(std::span<const T> elements) {
        return rte_ring_sp_enqueue_burst_elem(
            ring_, elements.data(), sizeof(T), static_cast<unsigned>(elements.size()), nullptr);
    }

    [[nodiscard]] uint32_t dequeue(std::span<T> elements) {
        return rte_ring_sc_dequeue_burst_elem(
            ring_, elements.data(), sizeof(T), static_cast<unsigned>(elements.size()), nullptr);
    }

    [[nodiscard]] uint32_t count() const { return rte_ring_count(ring_); }
    [[nodiscard]] uint32_t free_count() const { return rte_ring_free_count(ring_); }
    [[nodiscard]] rte_ring* get() const { return ring_; }

  private:
    rte_ring* ring_ = nullptr;
};

}  // namespace flue::queue
