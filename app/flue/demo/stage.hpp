#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "testbed/bottle.hpp"
#include "testbed/capture.hpp"
#include "testbed/flued.hpp"
#include "testbed/ladder.hpp"
#include "testbed/telemetry_client.hpp"

namespace flue::demo {

/// A scene did not go as it must; the text names what was expected and what was seen.
class SceneFailure : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// expect throws SceneFailure("expected X, saw Y") unless the condition holds.
void expect(bool condition, const std::string& expected, const std::string& seen);

/// What a scene leaves for the ladder, filled in as it goes so that a failed scene can be drawn
/// too.
struct Record {
    uint16_t host_port   = 0;
    uint16_t remote_port = 0;
    std::vector<testbed::HostEvent> host;
};

/// Stage is where the scenes play: a bottle with a running target, a capture at the remote's
/// interface.
class Stage {
  public:
    explicit Stage(const testbed::FluedOptions& options);

    [[nodiscard]] const testbed::Namespace& remote() const { return bottle_.remote(); }

    [[nodiscard]] testbed::Flued& flued() { return flued_; }

    /// The segments of the record's connection, as far as it has gone.
    std::vector<testbed::CapturedSegment> segments(const Record& record);

    /// Errors: SceneFailure when frames are missing in what was captured so far.
    void expect_whole_capture();

    void forget_segments() { capture_.clear(); }

    /// Waits until the target uses no more than before the first scene: packet buffers,
    /// connections, region references. Errors: SceneFailure with each figure that is off.
    void expect_baseline();

  private:
    nlohmann::json usage();

    testbed::Bottle bottle_;
    testbed::Flued flued_;
    testbed::Capture capture_;
    nlohmann::json baseline_;
};

}  // namespace flue::demo
