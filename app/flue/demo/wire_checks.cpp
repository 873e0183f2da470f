#include "flue/demo/wire_checks.hpp"

#include <algorithm>

#include "flue/demo/stage.hpp"

namespace flue::demo {
namespace {

using testbed::CapturedSegment;
using testbed::Direction;

auto count(const std::vector<CapturedSegment>& segments, Direction direction, uint8_t flags) {
    return std::count_if(segments.begin(), segments.end(), [=](const CapturedSegment& segment) {
        return segment.direction == direction && segment.has(flags);
    });
}

}  // namespace

void expect_clean_close(const std::vector<CapturedSegment>& segments) {
    for (const auto direction : {Direction::to_remote, Direction::from_remote}) {
        const std::string who =
            direction == Direction::to_remote ? "the host's side" : "the remote";
        expect(count(segments, direction, wire::tcp_fin) > 0, "a FIN from " + who, "none");
        expect(count(segments, direction, wire::tcp_rst) == 0, "no reset from " + who, "one");
    }
}

int64_t expect_reset_only(const std::vector<CapturedSegment>& segments) {
    expect(count(segments, Direction::to_remote, wire::tcp_fin) == 0,
           "no FIN beside the reset",
           "one");
    const auto is_reset = [](const CapturedSegment& segment) {
        return segment.direction == Direction::to_remote && segment.has(wire::tcp_rst);
    };
    const auto first = std::find_if(segments.begin(), segments.end(), is_reset);
    expect(first != segments.end(), "a reset on the wire", "none");
    const bool silent = std::all_of(first, segments.end(), [&](const CapturedSegment& segment) {
        return segment.direction == Direction::from_remote || is_reset(segment);
    });
    expect(silent, "nothing from the target after its reset", "a segment");
    return first->time_ns;
}

void expect_silent_until(const std::vector<CapturedSegment>& segments, int64_t time_ns) {
    for (const auto& segment : segments) {
        const bool closing = segment.has(wire::tcp_fin) || segment.has(wire::tcp_rst);
        expect(
            segment.time_ns >= time_ns || segment.direction == Direction::from_remote || !closing,
            "no FIN and no reset from the host's side before the sockets close",
            "one");
    }
}

}  // namespace flue::demo
