#pragma once

#include <cstdint>
#include <memory>

#include "flue/flue.h"
#include "host/session.hpp"
#include "queue/region_memory.hpp"

/// flue_mr is a region, registered with the target from creation to flue_mr_destroy.
struct flue_mr {
    std::shared_ptr<flue::host::Session> session;
    flue::queue::HostRegion region;
    uint32_t key = 0;
};
