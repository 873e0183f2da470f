#pragma once

#include <optional>
#include <utility>

#include "base/assert.hpp"

namespace flue {

/// Result holds either a value or the reason why there is none.  For set-up and control paths.
template <typename T, typename E>
class [[nodiscard]] Result {
  public:
    Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
    Result(E error) : error_(error) {}             // NOLINT(google-explicit-constructor)

    [[nodiscard]] bool ok() const { return value_.has_value(); }

    [[nodiscard]] T& value() {
        FLUE_ASSERT(ok());
        return *value_;
    }

    [[nodiscard]] const T& value() const {
        FLUE_ASSERT(ok());
        return *value_;
    }

    [[nodiscard]] E error() const {
        FLUE_ASSERT(!ok());
        return error_;
    }

  private:
    std::optional<T> value_;
    E error_{};
};

}  // namespace flue
