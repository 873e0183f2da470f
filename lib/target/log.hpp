#pragma once

#include <cstdint>

#include <rte_log.h>

namespace flue::target {

/// The EAL's log type "flue": `--log-level flue:debug` shows more, `--syslog` takes it along.
extern uint32_t log_type;

}  // namespace flue::target

/// FLUE_LOG writes one line.  An error says what to do next.
#define FLUE_LOG(level, format, ...)  \
    rte_log(RTE_LOG_##level,          \
            ::flue::target::log_type, \
            "flue: " format "\n" __VA_OPT__(, ) __VA_ARGS__)
