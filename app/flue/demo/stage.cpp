#include "flue/demo/stage.hpp"

#include <chrono>
#include <thread>

namespace flue::demo {
namespace {

constexpr auto settle_limit = std::chrono::seconds{5};

/// Every figure of `now` that is not what it was: "rx_mbufs: 3, was 0".
std::string differences(const nlohmann::json& before, const nlohmann::json& now) {
    std::string text;
    for (const auto& [name, value] : now.items()) {
        if (before.value(name, nlohmann::json{}) != value) {
            text += (text.empty() ? "" : "; ") + name + ": " + value.dump() + ", was " +
                    before.value(name, nlohmann::json{}).dump();
        }
    }
    return text;
}

}  // namespace

void expect(bool condition, const std::string& expected, const std::string& seen) {
    if (!condition) {
        throw SceneFailure("expected " + expected + ", saw " + seen);
    }
}

Stage::Stage(const testbed::FluedOptions& options)
    : flued_(bottle_, options),
      capture_(bottle_.remote(), testbed::Bottle::far_end),
      baseline_(usage()) {
}

std::vector<testbed::CapturedSegment> Stage::segments(const Record& record) {
    return testbed::of_flow(capture_.segments(), record.host_port, record.remote_port);
}

void Stage::expect_whole_capture() {
    const uint64_t missing = capture_.dropped();
    expect(missing == 0, "a capture without holes", std::to_string(missing) + " frames missing");
}

nlohmann::json Stage::usage() {
    return testbed::TelemetryClient{flued_.options().file_prefix}.ask("/flue/usage");
}

void Stage::expect_baseline() {
    const auto deadline = std::chrono::steady_clock::now() + settle_limit;
    std::string left    = differences(baseline_, usage());
    while (!left.empty() && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds{20});
        left = differences(baseline_, usage());
    }
    expect(left.empty(), "the target to hold no more than before the scene", left);
}

}  // namespace flue::demo
