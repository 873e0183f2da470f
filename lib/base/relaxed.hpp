#pragma once

#include <atomic>

namespace flue {

/// Relaxed is a figure that one thread writes and others may read at any moment; it orders nothing
/// else.  Cost: that of a plain variable.
template <typename T>
class Relaxed {
  public:
    Relaxed() = default;

    explicit Relaxed(T value) : value_(value) {}

    [[nodiscard]] T get() const { return value_.load(std::memory_order_relaxed); }

    void set(T value) { value_.store(value, std::memory_order_relaxed); }

    void add(T count) { set(static_cast<T>(get() + count)); }

    void subtract(T count) { set(static_cast<T>(get() - count)); }

  private:
    std::atomic<T> value_{};
};

}  // namespace flue
