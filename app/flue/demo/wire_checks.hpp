#pragma once

#include <vector>

#include "testbed/capture.hpp"

namespace flue::demo {

/// What the remote's interface saw of a close.  Errors, of all: SceneFailure.

/// Both ends sent a FIN and had it acknowledged, and nobody reset the connection.
void expect_clean_close(const std::vector<testbed::CapturedSegment>& segments);

/// The host's side ended with one kind of segment: a reset.  Nothing but resets follows the first
/// one, and no FIN precedes it.  Returns its time.
int64_t expect_reset_only(const std::vector<testbed::CapturedSegment>& segments);

/// Neither a FIN nor a reset came from the host's side before `time_ns`.
void expect_silent_until(const std::vector<testbed::CapturedSegment>& segments, int64_t time_ns);

}  // namespace flue::demo
