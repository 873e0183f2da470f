#include "target/log.hpp"

namespace flue::target {

uint32_t log_type =
    static_cast<uint32_t>(rte_log_register_type_and_pick_level("flue", RTE_LOG_INFO));

}  // namespace flue::target
