#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.hpp"
#include "base/system_error.hpp"

struct rte_ring;

namespace flue::queue {

/// Mapping owns pages mapped into this process.
class Mapping {
  public:
    Mapping() = default;

    Mapping(std::byte* base, size_t bytes) : base_(base), bytes_(bytes) {}

    ~Mapping() { reset(); }

    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    Mapping(const Mapping&)            = delete;
    Mapping& operator=(const Mapping&) = delete;

    /// map_shared maps [offset, offset + bytes) of a descriptor for reading and writing.
    static Result<Mapping, SystemError> map_shared(int fd, size_t offset, size_t bytes);

    [[nodiscard]] std::byte* data() const { return base_; }

    [[nodiscard]] size_t bytes() const { return bytes_; }

    void reset();

  private:
    std::byte* base_ = nullptr;
    size_t bytes_    = 0;
};

/// RingMapping owns one ring: a private, read-only page that ends with the ring's configuration,
/// the shared pages right behind it, and a page without access behind those.
///
///   | private page          cfg | head, tail words | slots ...  | no access |
///                           ^ rte_ring*
///                               ^ shared from here on
///
/// Whatever the other side writes into the shared pages, size and mask stay what they are, so each
/// access of the ring calls lies in the slots.
class RingMapping {
  public:
    RingMapping() = default;

    /// map maps `shared_bytes` from `offset` of `fd` and configures a ring of `entries` slots. Pre:
    /// entries is a power of two and its slots fit.  Head and tail words are left as they are.
    static Result<RingMapping, SystemError> map(int fd,
                                                size_t offset,
                                                size_t shared_bytes,
                                                uint32_t entries);

    [[nodiscard]] rte_ring* ring() const { return ring_; }

    [[nodiscard]] std::span<std::byte> shared() const;

    /// initialise_shared writes the head and tail words of an empty ring.  Thread: before anyone
    /// uses the ring.
    void initialise_shared();

  private:
    Mapping pages_;
    rte_ring* ring_ = nullptr;
};

/// place_on_node asks that pages of a shared mapping that nobody has touched yet come from a NUMA
/// node; -1 is any.  A wish: where there is no NUMA, or no such node, it does nothing.
void place_on_node(std::span<std::byte> pages, int node);

/// node_of_cpu returns the NUMA node of a CPU, -1 when unknown.
[[nodiscard]] int node_of_cpu(int cpu);
/// current_node returns the node that the calling thread runs on now, -1 when unknown.
[[nodiscard]] int current_node();

}  // namespace flue::queue
