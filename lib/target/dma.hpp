#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "target/port.hpp"

namespace flue::target {

/// DmaMapper lets the ports' devices read host regions in place.
class DmaMapper {
  public:
    explicit DmaMapper(std::span<const Port> ports) : ports_(ports) {}

    /// map returns whether every port can read the bytes now; without, their sends are copied.
    /// Virtual ports read through the address and need nothing.
    [[nodiscard]] bool map(std::span<std::byte> bytes, size_t page_bytes) const;
    /// unmap takes back what map did.  Pre: no port refers to the bytes.
    void unmap(std::span<std::byte> bytes) const;

  private:
    [[nodiscard]] bool has_device() const;

    std::span<const Port> ports_;
};

}  // namespace flue::target
