#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "testbed/capture.hpp"

namespace flue::testbed {

/// What the host did or was told: a work request, a work completion, a system call.
struct HostEvent {
    int64_t time_ns = 0;   ///< CLOCK_REALTIME
    std::string text;      ///< one line, up to 34 columns
    bool routine = false;  ///< one of many alike, which a long run may swallow
};

/// now_ns reads the clock of the captures.
int64_t now_ns();

struct LadderStyle {
    bool colour = false;
    size_t kept_rows =
        4;  ///< rows shown at both ends of a run of routine rows; longer ones are summed up
};

/// draw_ladder draws one connection: the host's events on the left, its segments between the target
/// and the remote on the right, each on a line of its own in the order of their times.  Sequence
/// numbers are relative to each side's first segment; a SYN has 0.  Plain data and pure ACKs are
/// routine: of a long run of them the middle is summed up.
///
///        ms  host                               target remote
///     0.000                                     |<-------------------------------------- SYN seq 0
///     --| 1.204  SEND 1.0 MiB                       | | 1.250 |-- PSH ACK seq 1 ack 80 len 1448
///     ------------------>|
///                                               :   46,320 segments, 63.9 MiB -->  23,160 <-- :
std::string draw_ladder(const std::vector<HostEvent>& host,
                        const std::vector<CapturedSegment>& segments,
                        const LadderStyle& style);

/// "45.1 MiB", "812 B".
std::string human_bytes(uint64_t bytes);
/// "1,234,567".
std::string human_count(uint64_t count);

}  // namespace flue::testbed
