#pragma once

#include <span>
#include <string>

#include "flue/abi.h"

namespace flue::hostile {

/// What an attack knows of the target and of its victim.
struct Prey {
    std::string socket_path;
    flue_conn handle     = FLUE_NO_CONN;  ///< of an honest connection
    uint16_t local_port  = 0;             ///< its 4-tuple, between the bottle's IPv4 addresses
    uint16_t remote_port = 0;
};

/// Attack is one way to be hostile: `once` is done over and over again until the process is killed.
/// Errors: an exception, when the target lets it have what it must not.
struct Attack {
    const char* name;
    const char* counter;  ///< of /flue/refusals: this one moves
    bool raw;             ///< by a host that needs no proof for what it claims
    void (*once)(const Prey&);
};

std::span<const Attack> all_attacks();

/// The program that carries them out; set by main().
extern std::string hostile_program;

}  // namespace flue::hostile
