#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace flue::sim {

/// Arrivals counts, for each byte of a stream, how often something happened to it; a FIN is one
/// byte more.  Offsets outside of any stream count for nothing.
class Arrivals {
  public:
    void add(uint32_t from, uint32_t to) {
        if (to <= from || to > bytes_max) {
            return;
        }
        if (counts_.size() < to) {
            counts_.resize(to);
        }
        for (uint32_t i = from; i < to; ++i) {
            counts_[i] = static_cast<uint8_t>(counts_[i] + (counts_[i] < most ? 1 : 0));
        }
    }

    void clear() { counts_.clear(); }

    [[nodiscard]] uint32_t at(uint32_t offset) const {
        return offset < counts_.size() ? counts_[offset] : 0;
    }

    /// Whether it happened to each of them.
    [[nodiscard]] bool all(uint32_t from, uint32_t to) const {
        return to <= counts_.size() &&
               std::find(counts_.begin() + from, counts_.begin() + to, 0) == counts_.begin() + to;
    }

    /// Whether it happened to one of them.
    [[nodiscard]] bool any(uint32_t from, uint32_t to) const {
        for (uint32_t i = from; i < to; ++i) {
            if (at(i) > 0) {
                return true;
            }
        }
        return false;
    }

    static constexpr uint32_t most = UINT8_MAX;  ///< counted no further

  private:
    static constexpr uint32_t bytes_max = 8 << 20;

    std::vector<uint8_t> counts_;
};

}  // namespace flue::sim
