#pragma once

#include <cstddef>
#include <cstdint>

#include <rte_ring_core.h>

#include "flue/abi.h"

namespace flue::queue {

/// The first bytes of struct rte_ring (name, flags, size, mask, capacity) stay private to each
/// side; what follows (head and tail words, then the slots) is shared.
constexpr size_t ring_private_bytes = 128;
static_assert(offsetof(rte_ring, prod) == ring_private_bytes,
              "another rte_ring: head and tail words lie elsewhere");
static_assert(offsetof(rte_ring, capacity) + sizeof(uint32_t) <= ring_private_bytes);
static_assert(offsetof(rte_ring, cons) > ring_private_bytes);

constexpr size_t page_bytes                   = 4096;

constexpr uint32_t worker_count_max           = 255;  ///< a handle's worker is 8 bits
constexpr uint32_t ring_entries_min           = 8;
constexpr uint32_t ring_entries_max           = 65536;
constexpr uint32_t submission_entries_default = 1024;
constexpr uint32_t completion_entries_default = 2048;

/// QueueGeometry is what a host queue's memory is made for.
struct QueueGeometry {
    uint32_t worker_count       = 0;
    uint32_t submission_entries = 0;  ///< per worker, a power of two
    uint32_t completion_entries = 0;  ///< per worker, a power of two

    /// valid is false for what no layout exists of.  Any value is legal.
    [[nodiscard]] constexpr bool valid() const {
        return worker_count >= 1 && worker_count <= worker_count_max &&
               valid_entries(submission_entries) && valid_entries(completion_entries);
    }

    friend constexpr bool operator==(const QueueGeometry&, const QueueGeometry&) = default;

  private:
    static constexpr bool valid_entries(uint32_t entries) {
        return entries >= ring_entries_min && entries <= ring_entries_max &&
               (entries & (entries - 1)) == 0;
    }
};

/// ShmLayout says where everything lies in the memfd of a host queue:
///
///   page 0..           one `armed` word a worker, each on a cache line of its own
///   then, per worker   submission ring | completion ring, each from a page of its own: head and
///   tail words, slots
///
/// Pre of all: geometry.valid(), worker < worker_count.
class ShmLayout {
  public:
    explicit constexpr ShmLayout(const QueueGeometry& geometry) : geometry_(geometry) {}

    [[nodiscard]] constexpr size_t armed_offset(uint32_t worker) const {
        return worker * cache_line_bytes;
    }

    [[nodiscard]] constexpr size_t armed_bytes() const {
        return whole_pages(geometry_.worker_count * cache_line_bytes);
    }

    [[nodiscard]] constexpr size_t submission_bytes() const {
        return ring_bytes<flue_wr>(geometry_.submission_entries);
    }

    [[nodiscard]] constexpr size_t completion_bytes() const {
        return ring_bytes<flue_wc>(geometry_.completion_entries);
    }

    [[nodiscard]] constexpr size_t worker_offset(uint32_t worker) const {
        return armed_bytes() + worker * worker_bytes();
    }

    [[nodiscard]] constexpr size_t worker_bytes() const {
        return submission_bytes() + completion_bytes();
    }

    [[nodiscard]] constexpr size_t submission_offset(uint32_t worker) const {
        return worker_offset(worker);
    }

    [[nodiscard]] constexpr size_t completion_offset(uint32_t worker) const {
        return worker_offset(worker) + submission_bytes();
    }

    [[nodiscard]] constexpr size_t total_bytes() const {
        return worker_offset(geometry_.worker_count);
    }

  private:
    static constexpr size_t cache_line_bytes = 64;

    static constexpr size_t whole_pages(size_t bytes) {
        return (bytes + page_bytes - 1) / page_bytes * page_bytes;
    }

    template <typename T>
    static constexpr size_t ring_bytes(uint32_t entries) {
        return whole_pages(sizeof(rte_ring) - ring_private_bytes + entries * sizeof(T));
    }

    QueueGeometry geometry_;
};

}  // namespace flue::queue
