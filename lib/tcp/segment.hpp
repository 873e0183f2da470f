#pragma once

#include <array>
#include <cstdint>

#include "wire/fields.hpp"

namespace flue::tcp {

using ConnIndex             = uint32_t;
constexpr ConnIndex no_conn = UINT32_MAX;
using ItemIndex             = uint32_t;
constexpr ItemIndex no_item = UINT32_MAX;

/// ByteRef names bytes that the engine never reads.  `region` means something to the caller only:
/// an mbuf, a mapped memory region, an arena.
struct ByteRef {
    uint64_t region = 0;
    uint32_t offset = 0;
    uint32_t length = 0;
};

/// A segment that has arrived: header fields and where its payload lies.
struct Segment {
    wire::TcpFields tcp;
    ByteRef payload;
};

/// Part of a send item: the bytes [offset, offset + length) of it.
struct SendSlice {
    ItemIndex item  = no_item;
    uint32_t offset = 0;
    uint32_t length = 0;
};

constexpr uint32_t slices_per_segment_max = 4;

/// How much of a segment was sent before.  R119
enum class Repeats : uint8_t { nothing, something, everything };

/// A segment to be sent.  Payload is the concatenation of its slices.
struct TxSegment {
    ConnIndex conn = no_conn;
    wire::TcpFields tcp{};
    uint32_t payload_bytes = 0;
    uint8_t slice_count    = 0;
    Repeats repeats        = Repeats::nothing;
    std::array<SendSlice, slices_per_segment_max> slices{};
};

}  // namespace flue::tcp
