#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <pthread.h>

#include <rte_eal.h>

namespace {

/// The EAL without huge pages, devices or privileges; its files go to a directory of our own.
int start_eal() {
    char directory[] = "/tmp/flue-unit-target-XXXXXX";
    if (mkdtemp(directory) == nullptr || setenv("RUNTIME_DIRECTORY", directory, 1) != 0) {
        return -1;
    }
    const char* arguments[] = {"unit-target",
                               "-l",
                               "0",
                               "--no-huge",
                               "-m",
                               "192",
                               "--no-pci",
                               "--no-shconf",
                               "--no-telemetry",
                               "--log-level=error",
                               "--vdev=net_ring0"};
    const int result =
        rte_eal_init(static_cast<int>(std::size(arguments)), const_cast<char**>(arguments));
    std::filesystem::remove_all(directory);
    return result;
}

}  // namespace

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    if (start_eal() < 0) {
        std::fputs("the EAL does not start\n", stderr);
        return EXIT_FAILURE;
    }
    const int result = RUN_ALL_TESTS();
    rte_eal_cleanup();
    return result;
}
