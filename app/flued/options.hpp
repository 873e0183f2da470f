#pragma once

#include <optional>

#include "target/options.hpp"

namespace flue {

/// A command line in two halves: the EAL's, and what stands behind `--`.
struct CommandLine {
    int eal_argc      = 0;
    int flued_argc    = 0;
    char** eal_argv   = nullptr;
    char** flued_argv = nullptr;  ///< flued_argv[0] is the program's name
};

/// split_command_line cuts at the first `--`, which it overwrites.
CommandLine split_command_line(int argc, char** argv);

/// parse_options returns the options, or, when the program is done (help was asked for, or a
/// mistake was reported), nothing and what to exit with.
struct Parsed {
    std::optional<target::Options> options;
    int exit_code = 0;
};

Parsed parse_options(const CommandLine& line);

}  // namespace flue
