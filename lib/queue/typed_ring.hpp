#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <rte_ring_elem.h>

namespace flue::queue {

/// Ring is a typed view of a single-producer single-consumer rte_ring of fixed-size elements.  It
/// owns nothing.
///
///   slots      | free |  taken by the consumer next ...  | free |
///                     ^ cons.tail = cons.head            ^ prod.tail = prod.head
///
/// The indices run freely modulo 2^32 and are masked at each access.  They are shared, so they may
/// hold anything; capacity and mask are private to each side.  A burst never exceeds the capacity,
/// hence never leaves the slots.
template <typename T>
class Ring {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 4 == 0,
                  "rte_ring copies elements by 32-bit words");

  public:
    Ring() = default;

    explicit Ring(rte_ring* ring) : ring_(ring) {}

    /// enqueue appends as many elements as fit and returns how many.  Thread: one producer.
    [[nodiscard]] uint32_t enqueue(std::span<const T> elements) {
        return rte_ring_sp_enqueue_burst_elem(
            ring_, elements.data(), sizeof(T), burst(elements.size()), nullptr);
    }

    /// dequeue copies out as many elements as there are, up to elements.size().  Thread: one
    /// consumer.
    [[nodiscard]] uint32_t dequeue(std::span<T> elements) {
        return rte_ring_sc_dequeue_burst_elem(
            ring_, elements.data(), sizeof(T), burst(elements.size()), nullptr);
    }

    /// count returns how many elements wait, in [0, capacity()].  rte_ring_count reads the same
    /// words, but not atomically.
    [[nodiscard]] uint32_t count() const {
        const uint32_t prod_tail = __atomic_load_n(&ring_->prod.tail, __ATOMIC_ACQUIRE);
        const uint32_t cons_tail = __atomic_load_n(&ring_->cons.tail, __ATOMIC_ACQUIRE);
        return std::min((prod_tail - cons_tail) & ring_->mask, ring_->capacity);
    }

    [[nodiscard]] uint32_t free_count() const { return ring_->capacity - count(); }

    [[nodiscard]] uint32_t capacity() const { return ring_->capacity; }

    /// forget_enqueue drops what a producer had not finished appending when it was killed;
    /// forget_dequeue gives back what a consumer had not finished taking.  Thread: the one that
    /// follows it, before its first call.
    void forget_enqueue() {
        ring_->prod.head = __atomic_load_n(&ring_->prod.tail, __ATOMIC_ACQUIRE);
    }

    void forget_dequeue() {
        ring_->cons.head = __atomic_load_n(&ring_->cons.tail, __ATOMIC_ACQUIRE);
    }

    [[nodiscard]] rte_ring* get() const { return ring_; }

  private:
    [[nodiscard]] unsigned burst(size_t wanted) const {
        return static_cast<unsigned>(std::min<size_t>(wanted, ring_->capacity));
    }

    rte_ring* ring_ = nullptr;
};

}  // namespace flue::queue
