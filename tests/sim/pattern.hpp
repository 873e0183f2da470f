#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace flue::sim {

/// Pattern is the content of one direction of one connection: byte n depends on key and n only, so
/// nobody has to keep what was sent to know what must arrive.
class Pattern {
  public:
    explicit Pattern(uint64_t key = 0) : key_(key) {}

    void fill(uint64_t offset, std::span<std::byte> out) const {
        for (size_t done = 0; done < out.size();) {
            const uint64_t at    = offset + done;
            const uint64_t bytes = word(at / 8) >> (8 * (at % 8));
            const size_t count   = out.size() - done < 8 - at % 8 ? out.size() - done : 8 - at % 8;
            std::memcpy(out.data() + done, &bytes, count);
            done += count;
        }
    }

    /// mismatch returns the index of the first byte that is not the stream's, or bytes.size().
    [[nodiscard]] size_t mismatch(uint64_t offset, std::span<const std::byte> bytes) const {
        for (size_t done = 0; done < bytes.size();) {
            const uint64_t at = offset + done;
            const uint64_t is = word(at / 8) >> (8 * (at % 8));
            const size_t count =
                bytes.size() - done < 8 - at % 8 ? bytes.size() - done : 8 - at % 8;
            if (std::memcmp(bytes.data() + done, &is, count) != 0) {
                size_t first = 0;
                while (bytes[done + first] == static_cast<std::byte>(is >> (8 * first))) {
                    ++first;
                }
                return done + first;
            }
            done += count;
        }
        return bytes.size();
    }

  private:
    [[nodiscard]] uint64_t word(uint64_t index) const {
        uint64_t z = key_ + index * 0x9e3779b97f4a7c15;
        z          = (z ^ (z >> 31)) * 0xbf58476d1ce4e5b9;
        return z ^ (z >> 29);
    }

    uint64_t key_;
};

}  // namespace flue::sim
