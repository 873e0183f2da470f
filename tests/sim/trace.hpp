#pragma once

#include <bit>
#include <cstdint>
#include <initializer_list>

#include "base/instant.hpp"

namespace flue::sim {

/// What a trace records.  The numbers go into the hash, so that they only ever grow.
enum class Record : uint8_t {
    world        = 1,
    frame_out    = 2,
    frame_in     = 3,
    frame_lost   = 4,
    request      = 5,
    completion   = 6,
    event        = 7,
    fault        = 8,
    phase        = 9,
    turn         = 10,
    state        = 11,
    frame_marked = 12,
    too_big      = 13,
};

/// Trace is the hash of everything that happens in a run, in order, and with `print` its text.
/// Words are values with a meaning, never memory: no padding and no pointer goes in.
class Trace {
  public:
    explicit Trace(bool print) : print_(print) {}

    void add(Instant now, Record record, std::initializer_list<uint64_t> words) {
        mix(now.us);
        mix(static_cast<uint64_t>(record));
        for (const uint64_t word : words) {
            mix(word);
        }
        if (print_) {
            show(now, record, words);
        }
    }

    [[nodiscard]] uint64_t hash() const { return hash_; }

    [[nodiscard]] bool prints() const { return print_; }

  private:
    void mix(uint64_t word) { hash_ = (std::rotl(hash_, 23) ^ word) * 0x9e3779b97f4a7c15; }

    static void show(Instant now, Record record, std::initializer_list<uint64_t> words);

    uint64_t hash_ = 0xcbf29ce484222325;
    bool print_;
};

}  // namespace flue::sim
