#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "testbed/descriptor.hpp"

namespace flue::testbed {

/// telemetry_path returns where a DPDK process with this --file-prefix listens, by DPDK's own rule:
/// below $RUNTIME_DIRECTORY, else /var/run for root, else $XDG_RUNTIME_DIR, else /tmp.
std::string telemetry_path(const std::string& file_prefix);

/// TelemetryClient asks a running flued for its counters, over the socket that rte_telemetry
/// serves.
class TelemetryClient {
  public:
    /// Errors: std::runtime_error that says what to do when nobody listens.
    explicit TelemetryClient(const std::string& file_prefix);

    /// The answer to a command such as "/flue/conns", with `parameters` after a comma; null when
    /// the command gives nothing.  Errors: std::runtime_error.
    nlohmann::json ask(const std::string& command, const std::string& parameters = {});

  private:
    std::string receive();

    Descriptor socket_;
    size_t answer_bytes_max_ = 16384;
};

}  // namespace flue::testbed
