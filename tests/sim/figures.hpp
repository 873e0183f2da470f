#pragma once

#include <array>
#include <cstdint>

#include "chimney/chimney.hpp"
#include "options.hpp"

namespace flue::sim {

/// Figures adds up what a series of runs has been through: what never happens is not tested.
struct Figures {
    uint64_t worlds      = 0;
    uint64_t connections = 0;
    uint64_t events      = 0;
    uint64_t virtual_us  = 0;
    uint64_t ended_well  = 0;  ///< connections of which every byte had to arrive, both ways
    std::array<uint64_t, fault_count> faults{};
    chimney::Chimney::Counters chimney;
    tcp::Engine::Counters engine;

    void add(chimney::Chimney& target);
    void print() const;
};

}  // namespace flue::sim
