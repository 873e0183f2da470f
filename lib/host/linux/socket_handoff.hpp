#pragma once

#include "flue/flue.h"
#include "host/host_queue.hpp"
#include "host/linux/socket_options.hpp"

namespace flue::host {

/// offload_socket and upload_socket are flue_socket_offload and flue_socket_upload, whose manual is
/// flue.h. They block until the target has answered; a target that goes away is noticed.
/// Completions of the caller's requests that arrive meanwhile are kept for later polls.
[[nodiscard]] HandoffError offload_socket(HostQueue& queue,
                                          int fd,
                                          const flue_socket_offload_options& options,
                                          flue_socket_offload_result& result);

[[nodiscard]] Result<UniqueFd, HandoffError> upload_socket(
    HostQueue& queue, flue_conn conn, const flue_socket_upload_options& options);

}  // namespace flue::host
