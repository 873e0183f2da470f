#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "testbed/descriptor.hpp"
#include "testbed/namespace.hpp"
#include "wire/frame.hpp"

namespace flue::testbed {

enum class Direction : uint8_t { to_remote, from_remote };

/// A TCP segment as it passed the remote's interface.
struct CapturedSegment {
    int64_t time_ns     = 0;  ///< CLOCK_REALTIME
    Direction direction = Direction::to_remote;
    wire::FlowKey flow;  ///< as the host sees it: local is the host's end, in both directions
    wire::TcpFields tcp;
    uint32_t payload_bytes = 0;

    [[nodiscard]] bool has(uint8_t flags) const { return (tcp.flags & flags) == flags; }
};

struct CapturedFrame {
    int64_t time_ns      = 0;
    uint32_t frame_bytes = 0;         ///< on the wire
    std::span<const std::byte> head;  ///< at least all headers
};

/// decode_segment reads a captured frame; none when it is not a TCP segment.
std::optional<CapturedSegment> decode_segment(const CapturedFrame& captured, Direction direction);

/// Capture records the TCP segments that pass an interface, from its construction until stop(). The
/// kernel writes the frames' headers into a ring of 32 MiB (some 100,000 frames), which a thread
/// empties.
class Capture {
  public:
    Capture(const Namespace& place, const std::string& interface);
    ~Capture();
    Capture(const Capture&)            = delete;
    Capture& operator=(const Capture&) = delete;

    /// What was captured so far, oldest first.  Everything that was on the wire before the call is
    /// included.
    std::vector<CapturedSegment> segments();
    /// Forgets what was captured so far.
    void clear();
    /// Frames that the ring had no room for, since the construction; 0 or the record has holes.
    uint64_t dropped();

  private:
    void run(const std::stop_token& stop);
    bool read_block();
    void read_frame(const std::byte* header);

    Descriptor socket_;
    std::byte* ring_ = nullptr;
    unsigned block_  = 0;
    std::mutex mutex_;  ///< guards the rest
    std::vector<CapturedSegment> segments_;
    uint64_t dropped_ = 0;
    std::jthread thread_;
};

/// of_flow picks the segments of the connection between these two ports.
std::vector<CapturedSegment> of_flow(const std::vector<CapturedSegment>& segments,
                                     uint16_t host_port,
                                     uint16_t remote_port);

}  // namespace flue::testbed
