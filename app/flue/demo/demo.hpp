#pragma once

#include <string>

#include "testbed/flued.hpp"

namespace flue::demo {

struct DemoOptions {
    std::string scenes = "abcde";  ///< letters, in the order to play
    testbed::FluedOptions flued;
    bool colour = false;
};

/// run_demo plays the scenes in a bottle of their own and prints their ladders and a summary to
/// stdout.  Returns how many failed.  Pre: the process has one thread; it is in the bottle's
/// namespaces afterwards.
int run_demo(const DemoOptions& options);

}  // namespace flue::demo
