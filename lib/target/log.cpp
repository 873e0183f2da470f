#include "target/log.hpp"

namespace flue::target {

int log_type = rte_log_register_type_and_pick_level("flue", RTE_LOG_INFO);

}  // namespace flue::target
