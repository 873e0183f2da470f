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

std::string name_of(Direction direction) {
    return direction == Direction::to_remote ? "the host's side" : "the remote";
}

/// When the FIN of this direction was acknowledged.
int64_t fin_acknowledged_ns(const std::vector<CapturedSegment>& segments, Direction direction) {
    const auto fin =
        std::find_if(segments.begin(), segments.end(), [=](const CapturedSegment& segment) {
            return segment.direction == direction && segment.has(wire::tcp_fin);
        });
    expect(fin != segments.end(), "a FIN from " + name_of(direction), "none");
    const Seq end  = fin->tcp.seq + fin->payload_bytes + 1;
    const auto ack = std::find_if(fin, segments.end(), [=](const CapturedSegment& segment) {
        return segment.direction != direction && segment.has(wire::tcp_ack) &&
               segment.tcp.ack >= end;
    });
    expect(
        ack != segments.end(), "an acknowledgement of the FIN from " + name_of(direction), "none");
    return ack->time_ns;
}

}  // namespace

void expect_clean_close(const std::vector<CapturedSegment>& segments) {
    const int64_t closed_ns = std::max(fin_acknowledged_ns(segments, Direction::to_remote),
                                       fin_acknowledged_ns(segments, Direction::from_remote));
    expect(count(segments, Direction::to_remote, wire::tcp_rst) == 0,
           "no reset from the host's side",
           "one");
    // A FIN that was sent twice is acknowledged twice, and a kernel that has forgotten the
    // connection at the first acknowledgement resets the second.
    const bool reset =
        std::any_of(segments.begin(), segments.end(), [&](const CapturedSegment& segment) {
            return segment.has(wire::tcp_rst) && segment.time_ns < closed_ns;
        });
    expect(!reset, "no reset from the remote before both FINs were acknowledged", "one");
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
