#pragma once

#include <span>

#include "wire/bytes.hpp"
#include "wire/layout.hpp"

namespace flue::wire {

struct EtherType {
    uint16_t value    = 0;
    uint32_t l2_bytes = 0;  ///< 0: the frame is too short to say
};

/// read_ethertype reads the type that a frame's payload has.  One 802.1Q tag may stand before it.
inline EtherType read_ethertype(std::span<const std::byte> bytes) {
    if (bytes.size() < ethernet_bytes) {
        return {};
    }
    const uint16_t first = load16(&bytes[ethernet_type_offset]);
    if (first != ethertype_vlan) {
        return {first, ethernet_bytes};
    }
    if (bytes.size() < ethernet_bytes + vlan_tag_bytes) {
        return {};
    }
    return {load16(&bytes[ethernet_type_offset + vlan_tag_bytes]), ethernet_bytes + vlan_tag_bytes};
}

}  // namespace flue::wire
