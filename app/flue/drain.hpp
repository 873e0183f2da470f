#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>

namespace flue::cli {

struct DrainOptions {
    std::string socket_path = "/run/flued.sock";
    std::optional<pid_t> pid;  ///< none: `fd` is this process's, inherited
    int fd              = -1;
    uint32_t drain_ms   = 0;
    bool abort_at_limit = false;
};

/// drain has a target drain a connected socket and says what came of it.  Returns an exit status:
/// 0, the target has the connection; 1, it refused, and the socket is its owner's as before.
/// Errors: std::runtime_error: the target was not even asked.
int drain(const DrainOptions& options);

/// refusal_text says in words what a status and an errno of the target's answer mean.
std::string refusal_text(uint16_t status, uint32_t error);

}  // namespace flue::cli
