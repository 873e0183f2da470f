#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <pthread.h>
#include <sys/resource.h>

#include "drain_service.hpp"
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

/// Sessions, regions and drains that wait cost descriptors, of which a shell grants 1024.
void allow_many_descriptors() {
    constexpr rlim_t enough = 65'536;
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < enough) {
        limit.rlim_cur = std::min(limit.rlim_max, enough);
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/// run_target works until it is asked to end.  False: it could not start.
bool run_target(const flue::target::Options& options, flue::DrainService* drains) {
    flue::target::Target target{options, drains};
    if (!target.start()) {
        return false;
    }
    if (drains != nullptr && drains->start()) {
        flue::register_drain_telemetry(drains);
    }
    target.run();
    flue::register_drain_telemetry(nullptr);
    return true;
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
    allow_many_descriptors();
    // Outlives the target, in whose end its thread sees that it is over.
    std::optional<flue::DrainService> drains;
    if (parsed.options->drains.at_a_time > 0) {
        drains.emplace(*parsed.options);
    }
    return run_target(*parsed.options, drains ? &*drains : nullptr) ? EXIT_SUCCESS : EXIT_FAILURE;
}
