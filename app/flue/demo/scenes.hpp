#pragma once

#include <array>
#include <string>

#include "flue/demo/stage.hpp"

namespace flue::demo {

/// A scene plays on the stage, fills in the record and returns one line of what it has verified.
/// Errors: any exception derived from std::exception.
using Play = std::string (*)(Stage& stage, Record& record);

std::string play_graceful(Stage& stage, Record& record);
std::string play_host_exit(Stage& stage, Record& record);
std::string play_abortive(Stage& stage, Record& record);
std::string play_half_close(Stage& stage, Record& record);
std::string play_upload(Stage& stage, Record& record);

struct Scene {
    char letter;
    const char* title;
    Play play;
};

constexpr std::array<Scene, 5> scenes{{
    {'a', "graceful: an HTTP body is handed over half sent, drained and closed", play_graceful},
    {'b',
     "host exit: the process ends right after posting, the target drains and closes all the same",
     play_host_exit},
    {'c',
     "abortive: the remote is reset at once, what was queued is reported aborted",
     play_abortive},
    {'d', "half-close: the remote goes on sending 16 MiB after our FIN", play_half_close},
    {'e', "upload: after traffic both ways the connection goes back to the kernel", play_upload},
}};

}  // namespace flue::demo
