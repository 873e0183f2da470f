#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tcp/engine.hpp"

namespace flue::scripts {

/// Line is one line of a script, cut into words.
struct Line {
    uint32_t number = 0;
    std::string text;
    std::vector<std::string> words;
};

/// Script is a file of send and expect lines; README.md says what they may be.
struct Script {
    std::string file;
    std::vector<Line> lines;

    static Script parse(const std::string& file, const std::string& text);
};

/// Where sequence numbers begin: a script counts from 1 on both sides.
struct Isn {
    uint32_t local  = 0;
    uint32_t remote = 0;
};

/// play runs a script against an engine of its own under a virtual clock.  Returns nothing when all
/// went as it says, else what did not: file and line, what was expected, what came, and everything
/// that went over the wire so far.
std::optional<std::string> play(const Script& script, Isn isn);

}  // namespace flue::scripts
