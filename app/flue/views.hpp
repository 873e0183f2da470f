#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "testbed/telemetry_client.hpp"

namespace flue::cli {

/// What `flue stats` and `flue conns` ask for, and how people see it.

/// {"ports": {...}, "stats": {...}, "drops": {...}, "usage": {...}, "tcp_stats": {...}}
nlohmann::json fetch_stats(testbed::TelemetryClient& client);
/// The connections of all workers, one object each.
nlohmann::json fetch_conns(testbed::TelemetryClient& client);

/// command has a target's workers do something: "pause", "upload_all" or "resume".  Returns what to
/// tell the user.  Errors: std::runtime_error.
std::string command(testbed::TelemetryClient& client, const std::string& name);

/// Figures in columns; drop reasons that never occurred are left out, the others are explained by
/// `texts`.
std::string stats_text(const nlohmann::json& stats, const nlohmann::json& texts);
/// One line a connection, as ss does it.
std::string conns_text(const nlohmann::json& conns);

}  // namespace flue::cli
