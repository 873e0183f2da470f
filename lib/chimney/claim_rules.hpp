#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "wire/fields.hpp"

namespace flue::chimney {

/// LocalRange is a set of local addresses and ports.
struct LocalRange {
    wire::Family family = wire::Family::none;
    wire::IpAddress address{};
    uint8_t prefix_bits = 0;
    uint16_t first_port = 0;
    uint16_t last_port  = UINT16_MAX;

    [[nodiscard]] bool contains(const wire::FlowKey& key) const {
        if (key.family != family || key.local_port < first_port || key.local_port > last_port) {
            return false;
        }
        for (uint32_t bit = 0; bit < prefix_bits; bit += 8) {
            const uint32_t left = std::min(8u, prefix_bits - bit);
            const auto mask     = static_cast<uint8_t>(0xff00u >> left);
            if (((key.local[bit / 8] ^ address[bit / 8]) & mask) != 0) {
                return false;
            }
        }
        return true;
    }
};

/// ClaimRules say of which 4-tuples a session may claim any, by their local side.
struct ClaimRules {
    std::vector<LocalRange> ranges;  ///< empty: all

    [[nodiscard]] bool allow(const wire::FlowKey& key) const {
        return ranges.empty() || std::ranges::any_of(ranges, [&key](const LocalRange& range) {
                   return range.contains(key);
               });
    }
};

}  // namespace flue::chimney
