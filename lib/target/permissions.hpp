#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "chimney/claim_rules.hpp"
#include "queue/session_socket.hpp"

namespace flue::target {

/// Permissions say who may open a session, and what its session may claim.
struct Permissions {
    mode_t socket_mode = 0660;
    std::string socket_group;         ///< name or number; empty: that of the process
    std::vector<uid_t> allow_uids;    ///< empty: whoever may write to the socket
    std::vector<uid_t> raw_uids;      ///< empty: 0 and the target's own
    chimney::ClaimRules claim_rules;  ///< bind everybody

    /// may_connect: this process may open a session.  The target's own always may.
    [[nodiscard]] bool may_connect(const queue::PeerCredentials& peer) const;
    /// is_raw: this process may claim connections without a proof.  The target's own always may.
    [[nodiscard]] bool is_raw(const queue::PeerCredentials& peer) const;
};

/// parse_local_range reads ADDR[/PREFIX][:PORT[-PORT]], where an IPv6 address stands in [].
/// Nothing: that is not one.
std::optional<chimney::LocalRange> parse_local_range(std::string_view text);

/// find_group returns the number of a group given by name or number.
std::optional<gid_t> find_group(const std::string& name);

}  // namespace flue::target
