#pragma once

#include <array>
#include <string_view>

#include "flue/abi.h"

/// What Linux calls the congestion controls of enum flue_congestion.
namespace flue::host {

using CongestionName = std::array<char, 16>;  ///< TCP_CA_NAME_MAX, zero at the end

struct NamedCongestion {
    flue_congestion kind;
    const char* name;
};

constexpr std::array named_congestions{NamedCongestion{FLUE_CONGESTION_CUBIC, "cubic"},
                                       NamedCongestion{FLUE_CONGESTION_NEWRENO, "reno"},
                                       NamedCongestion{FLUE_CONGESTION_DCTCP, "dctcp"}};

/// congestion_named returns FLUE_CONGESTION_DEFAULT for one that flue has not.
constexpr flue_congestion congestion_named(std::string_view name) {
    for (const NamedCongestion& known : named_congestions) {
        if (name == known.name) {
            return known.kind;
        }
    }
    return FLUE_CONGESTION_DEFAULT;
}

/// congestion_name returns a null pointer for FLUE_CONGESTION_DEFAULT, and for what is none.
constexpr const char* congestion_name(uint8_t congestion) {
    for (const NamedCongestion& known : named_congestions) {
        if (congestion == known.kind) {
            return known.name;
        }
    }
    return nullptr;
}

}  // namespace flue::host
