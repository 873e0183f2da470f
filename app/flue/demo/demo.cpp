#include "flue/demo/demo.hpp"

#include <algorithm>
#include <cstdio>
#include <signal.h>
#include <stdexcept>

#include "flue/demo/scenes.hpp"
#include "testbed/namespace.hpp"

namespace flue::demo {
namespace {

void print(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
}

const Scene& scene_of(char letter) {
    const auto found = std::find_if(scenes.begin(), scenes.end(), [letter](const Scene& scene) {
        return scene.letter == letter;
    });
    if (found == scenes.end()) {
        throw std::runtime_error(std::string("there is no scene '") + letter +
                                 "'; there are a, b, c, d and e");
    }
    return *found;
}

/// Plays one scene, draws it and returns its summary line; `failed` says how it went.
std::string play(const Scene& scene, Stage& stage, bool colour, bool& failed) {
    print(std::string("\n") + scene.letter + ") " + scene.title + "\n\n");
    Record record;
    std::string summary;
    try {
        summary = scene.play(stage, record);
        stage.expect_whole_capture();
        stage.expect_baseline();
        summary += "; nothing left in the target";
        failed = false;
    } catch (const std::exception& error) {
        summary = std::string("FAILED: ") + error.what();
        failed  = true;
    }
    print(testbed::draw_ladder(record.host, stage.segments(record), {.colour = colour}));
    stage.forget_segments();
    print("\n   " + summary + "\n");
    return std::string("  ") + scene.letter + "  " + (failed ? "" : "ok: ") + summary + "\n";
}

}  // namespace

int run_demo(const DemoOptions& options) {
    for (const char letter : options.scenes) {
        scene_of(letter);
    }
    testbed::enter_bottle();
    print("Starting flued in a network of its own: kernel TCP and curl at " +
          std::string(testbed::Bottle::remote_ipv4) + ", a veth pair, no root.\n");
    auto target = options.flued;
    // The target runs 2MSL of the connections it closed; a minute a scene would try the audience's
    // patience.
    target.flued_options.insert(target.flued_options.end(), {"--time-wait-ms", "500"});
    Stage stage{target};
    std::string summary = "\nSummary\n";
    int failures        = 0;
    for (const char letter : options.scenes) {
        bool failed = false;
        summary += play(scene_of(letter), stage, options.colour, failed);
        failures += failed ? 1 : 0;
        if (failed && !stage.flued().running()) {
            summary += "  flued has ended; the end of its log:\n" + stage.flued().log_tail();
            break;
        }
    }
    if (stage.flued().running()) {
        const auto exit = stage.flued().stop(SIGINT);
        summary +=
            exit.ok() ? "  flued left in order\n" : "  FAILED: flued: " + to_string(exit) + "\n";
        failures += exit.ok() ? 0 : 1;
    }
    print(summary);
    return failures;
}

}  // namespace flue::demo
