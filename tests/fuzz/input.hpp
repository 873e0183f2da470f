#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

namespace flue::fuzz {

/// With the environment variable FLUE_FUZZ_CANARY, or the smoke test's --canary, each fuzzer does
/// one wrong thing between the code under test and what checks it.  A run that does not find it
/// could not find a bug either.
inline bool canary = std::getenv("FLUE_FUZZ_CANARY") != nullptr;

/// Input turns the bytes that the fuzzer made into numbers, front to back.  Past the end every
/// number is 0, so any input is a whole script.
class Input {
  public:
    explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}

    [[nodiscard]] bool empty() const { return bytes_.empty(); }

    [[nodiscard]] size_t size() const { return bytes_.size(); }

    uint8_t byte() {
        if (bytes_.empty()) {
            return 0;
        }
        const uint8_t value = bytes_.front();
        bytes_              = bytes_.subspan(1);
        return value;
    }

    /// number takes sizeof(T) bytes, the lowest first.
    template <std::unsigned_integral T>
    T number() {
        uint64_t value = 0;
        for (size_t i = 0; i < sizeof(T); ++i) {
            value |= uint64_t{byte()} << (8 * i);
        }
        return static_cast<T>(value);
    }

    /// below takes one byte and returns a number in [0, bound).  Pre: bound in [1, 256].
    uint8_t below(uint32_t bound) { return static_cast<uint8_t>(byte() % bound); }

    bool flag() { return (byte() & 1) != 0; }

    /// pick takes one byte and returns one of the choices.
    template <typename T, size_t N>
    T pick(const T (&choices)[N]) {
        return choices[below(N)];
    }

    /// near takes one byte and returns a distance in [-128, 127], modulo 2^32.
    uint32_t near() {
        const auto distance = static_cast<int8_t>(byte());
        return static_cast<uint32_t>(int32_t{distance});
    }

    /// take returns up to `count` bytes as they are.
    std::span<const uint8_t> take(size_t count) {
        const auto taken = bytes_.first(std::min(count, bytes_.size()));
        bytes_           = bytes_.subspan(taken.size());
        return taken;
    }

    /// fill copies into a structure without pointers; what the input lacks stays as it was.
    template <typename T>
    void fill(T& object) {
        const auto taken = take(sizeof(T));
        if (!taken.empty()) {
            std::memcpy(static_cast<void*>(&object), taken.data(), taken.size());
        }
    }

  private:
    std::span<const uint8_t> bytes_;
};

}  // namespace flue::fuzz

/// What a fuzzer is: libFuzzer calls it, or driver.cpp.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
