#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "wire/fields.hpp"

namespace flue::target {

/// Steering says which worker owns a flow: the one whose queue the port's RSS sends its packets to.
///
/// Every port gets the same key and an indirection table in which bucket b leads to queue b mod
/// workers, taken modulo the smallest table of all ports; so all ports and the software that stands
/// in for a port without RSS agree.
class Steering {
  public:
    static constexpr uint32_t key_bytes        = 40;
    static constexpr uint16_t buckets_software = 128;

    /// Pre: workers > 0; buckets, the size of the smallest indirection table, is a power of two.
    Steering(uint16_t workers, uint16_t buckets);

    /// owner returns the worker to which the segments of this flow come.
    [[nodiscard]] uint16_t owner(const wire::FlowKey& key) const {
        return workers_ == 1 ? uint16_t{0} : queue_of_bucket(hash(key));
    }

    [[nodiscard]] uint16_t queue_of_bucket(uint32_t bucket) const {
        return static_cast<uint16_t>((bucket & bucket_mask_) % workers_);
    }

    /// hash is the Toeplitz hash of the 4-tuple as a port computes it on a received segment.
    [[nodiscard]] uint32_t hash(const wire::FlowKey& key) const;

    [[nodiscard]] static const std::array<uint8_t, key_bytes>& rss_key();

  private:
    uint16_t workers_;
    uint32_t bucket_mask_;
    alignas(4) std::array<uint8_t, key_bytes> converted_key_{};  ///< as rte_softrss_be wants it
};

}  // namespace flue::target
