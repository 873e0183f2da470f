#pragma once

#include <array>
#include <chrono>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "testbed/descriptor.hpp"
#include "testbed/namespace.hpp"

namespace flue::testbed {

/// Detour holds each frame that one interface receives for a while and then sends it on another, so
/// that the frames which took the straight way overtake it.  (No queueing discipline that every
/// kernel has delays a lone frame.)
class Detour {
  public:
    struct Way {
        std::string from;
        std::string to;
    };

    /// Pre: both interfaces of both ways exist in `place`.
    Detour(const Namespace& place, const std::array<Way, 2>& ways, std::chrono::microseconds delay);
    ~Detour();
    Detour(const Detour&)            = delete;
    Detour& operator=(const Detour&) = delete;

  private:
    struct Lane {
        Descriptor in;
        Descriptor out;
    };

    struct Held {
        std::chrono::steady_clock::time_point due;
        const Lane* lane = nullptr;
        std::vector<std::byte> frame;
    };

    void run();
    void take(const Lane& lane);
    void send_due();
    [[nodiscard]] int wait_ms() const;

    std::chrono::microseconds delay_;
    std::array<Lane, 2> lanes_;
    std::deque<Held> held_;
    Descriptor stop_;
    std::thread thread_;
};

}  // namespace flue::testbed
