#pragma once

#include <optional>
#include <span>
#include <vector>

#include "flue/flue.h"

namespace flue::host {

/// bytes_of returns how many bytes a SEND or DISCONNECT carries.
[[nodiscard]] uint64_t bytes_of(const flue_wr& wr);

/// unacknowledged_sends returns the requests whose bytes are the last `backlog` of all that were
/// posted.  A DISCONNECT stays even without bytes: its FIN was not acknowledged.  Nothing: the list
/// has fewer bytes than that.
[[nodiscard]] std::optional<std::vector<flue_wr>> unacknowledged_sends(
    std::span<const flue_wr> listed, uint64_t backlog);

/// find_region returns the region with a key, or null.
[[nodiscard]] const flue_mr* find_region(std::span<flue_mr* const> regions, uint32_t key);

/// are_legal_sends: all are SENDs and graceful DISCONNECTs of `conn`, in memory of these regions.
[[nodiscard]] bool are_legal_sends(std::span<const flue_wr> sends,
                                   flue_conn conn,
                                   std::span<flue_mr* const> regions);

}  // namespace flue::host
