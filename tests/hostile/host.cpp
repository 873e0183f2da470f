#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <sys/prctl.h>
#include <unistd.h>

#include "attacks.hpp"

/// A hostile host.  Usage: PROGRAM ATTACK SOCKET HANDLE LOCAL-PORT REMOTE-PORT
///
/// Says "ready" after the first round and goes on until it is killed.
int main(int argc, char** argv) {
    if (argc != 6) {
        std::fputs("usage: hostile-host ATTACK SOCKET HANDLE LOCAL-PORT REMOTE-PORT\n", stderr);
        return 2;
    }
    // The attack is to go through the target, not through the scheduler.
    (void)!::nice(10);
    const flue::hostile::Prey prey{
        .socket_path = argv[2],
        .handle      = std::strtoull(argv[3], nullptr, 0),
        .local_port  = static_cast<uint16_t>(std::atoi(argv[4])),
        .remote_port = static_cast<uint16_t>(std::atoi(argv[5])),
    };
    for (const flue::hostile::Attack& attack : flue::hostile::all_attacks()) {
        if (std::strcmp(attack.name, argv[1]) != 0) {
            continue;
        }
        try {
            for (bool first = true;; first = false) {
                attack.once(prey);
                if (first) {
                    std::puts("ready");
                    std::fflush(stdout);
                }
            }
        } catch (const std::exception& error) {
            std::printf("%s: %s\n", attack.name, error.what());
            return 1;
        }
    }
    std::fprintf(stderr, "no attack %s\n", argv[1]);
    return 2;
}
