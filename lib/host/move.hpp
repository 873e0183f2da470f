#pragma once

#include "flue/flue.h"
#include "host/host_queue.hpp"
#include "host/linux/socket_options.hpp"

namespace flue::host {

/// move_connection is flue_move, whose manual is flue.h.
[[nodiscard]] HandoffError move_connection(HostQueue& from,
                                           flue_conn conn,
                                           HostQueue& to,
                                           const flue_move_options& options,
                                           flue_move_result& result);

}  // namespace flue::host
