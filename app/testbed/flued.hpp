#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "testbed/bottle.hpp"
#include "testbed/process.hpp"

namespace flue::testbed {

struct FluedOptions {
    std::string program;  ///< path of the flued binary
    unsigned worker_count   = 1;
    unsigned first_cpu      = 0;
    bool pinned             = true;  ///< each worker to a CPU; false: they go where there is room
    unsigned memory_mib     = 512;
    std::string file_prefix = "flue";
    std::string socket_path = "/run/flued.sock";
    std::string tap         = "flue0";  ///< "none": it tells the kernel nothing, another one does
    std::vector<std::string> eal_options;    ///< more, before the --
    std::vector<std::string> flued_options;  ///< more, behind it
};

/// Flued is a target that owns the wire of a Bottle: no hugepages, net_af_packet, a TAP with the
/// host's addresses.
class Flued {
  public:
    /// Returns when the target takes sessions and the two hosts can reach each other through it.
    /// Errors: std::runtime_error with the end of its log.
    Flued(const Bottle& bottle, const FluedOptions& options);

    [[nodiscard]] const FluedOptions& options() const { return options_; }

    [[nodiscard]] pid_t pid() const { return child_.pid(); }

    [[nodiscard]] bool running() const { return !child_.ended(); }

    /// Sends a signal and goes on.
    void signal(int signal_number) const { child_.signal(signal_number); }

    /// Waits for its end.
    ChildExit wait(std::chrono::milliseconds timeout = std::chrono::seconds{20}) {
        return child_.wait(timeout);
    }

    /// Sends a signal and waits for the end.  SIGINT asks it to leave in order; ok() of the result
    /// says whether it did.
    ChildExit stop(int signal_number, std::chrono::milliseconds timeout = std::chrono::seconds{10});
    /// What it has logged.
    [[nodiscard]] std::string log() const;
    /// The end of it, for an error message.
    [[nodiscard]] std::string log_tail() const;

  private:
    void await(const std::string& what, const std::function<bool()>& reached) const;

    FluedOptions options_;
    std::string log_path_;
    Child child_;
};

}  // namespace flue::testbed
