#pragma once

#include <array>
#include <cstdint>

#include "base/relaxed.hpp"
#include "base/shared_pool.hpp"
#include "flue/abi.h"

namespace flue::queue {

/// SessionShare is what one session may have and has of one worker, all its queues together.
/// Thread: limits are set before the first use; the rest is the worker's, and others may read it.
struct SessionShare {
    static constexpr uint32_t statuses = 64;

    uint32_t session_id                = 0;
    /// The session may claim any 4-tuple that the rules allow; else only one that it was granted.
    bool raw          = true;
    uint32_t held_max = UINT32_MAX;

    SharedPool::Part connections;  ///< granted and held ones too
    SharedPool::Part requests;     ///< taken and not completed
    SharedPool::Part paths;
    SharedPool::Part neighbors;
    Relaxed<uint32_t> held;        ///< 4-tuples held, granted ones too
    Relaxed<uint64_t> waits;       ///< polls that left requests in their ring for want of a share
    std::array<Relaxed<uint64_t>, statuses> refusals;  ///< by enum flue_status

    uint32_t grants_front = UINT32_MAX;  ///< the chimney's list of granted 4-tuples
    uint32_t initiates    = 0;           ///< HOLDs and OFFLOADs that wait for the end of a pause

    void count_refusal(uint8_t status) { refusals[status % statuses].add(1); }
};

}  // namespace flue::queue
