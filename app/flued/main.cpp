#include <csignal>
#include <cstdlib>
#include <pthread.h>

#include "options.hpp"
#include "target/eal.hpp"
#include "target/target.hpp"

namespace {

/// The control thread takes these from a descriptor; every thread inherits the mask.
void block_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
    const flue::CommandLine line = flue::split_command_line(argc, argv);
    const flue::Parsed parsed    = flue::parse_options(line);
    if (!parsed.options) {
        return parsed.exit_code;
    }
    block_signals();
    flue::target::Eal eal;
    if (!eal.start(line.eal_argc, line.eal_argv)) {
        return EXIT_FAILURE;
    }
    flue::target::Target target{*parsed.options};
    if (!target.start()) {
        return EXIT_FAILURE;
    }
    target.run();
    return EXIT_SUCCESS;
}
