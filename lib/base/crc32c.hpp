#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace flue {

/// crc32c returns the CRC-32C (Castagnoli) of `bytes`, as iSCSI and SCTP use it.  Spec: RFC 3720
/// appendix B.4
[[nodiscard]] uint32_t crc32c(std::span<const std::byte> bytes);

}  // namespace flue
