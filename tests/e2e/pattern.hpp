#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/prng.hpp"

namespace flue::e2e {

/// Pattern is an endless stream of bytes of which every piece is known: random bytes repeated with
/// a prime period, so that a piece that was lost, doubled or moved by any power of two shows.
class Pattern {
  public:
    explicit Pattern(uint64_t seed) : tile_(period) {
        Prng prng(seed);
        for (uint8_t& byte : tile_) {
            byte = static_cast<uint8_t>(prng.next() >> 56);
        }
    }

    void write(uint64_t offset, std::span<uint8_t> out) const {
        for_each_piece(offset, out.size(), [&](size_t at, const uint8_t* bytes, size_t count) {
            std::memcpy(out.data() + at, bytes, count);
            return true;
        });
    }

    [[nodiscard]] bool matches(uint64_t offset, std::span<const uint8_t> bytes) const {
        return for_each_piece(
            offset, bytes.size(), [&](size_t at, const uint8_t* expected, size_t count) {
                return std::memcmp(bytes.data() + at, expected, count) == 0;
            });
    }

    static constexpr size_t period = 1'048'573;

  private:
    template <typename Piece>
    bool for_each_piece(uint64_t offset, size_t size, Piece&& piece) const {
        for (size_t at = 0; at < size;) {
            const size_t start = (offset + at) % period;
            const size_t count = std::min(period - start, size - at);
            if (!piece(at, tile_.data() + start, count)) {
                return false;
            }
            at += count;
        }
        return true;
    }

    std::vector<uint8_t> tile_;
};

}  // namespace flue::e2e
