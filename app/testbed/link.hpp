#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "base/prng.hpp"
#include "testbed/descriptor.hpp"
#include "testbed/namespace.hpp"

namespace flue::testbed {

/// What a Link does to the frames of each direction.
struct LinkQuality {
    std::chrono::microseconds delay{0};  ///< one way
    uint64_t bits_per_second = 0;        ///< 0 = as fast as the machine goes
    /// The longest wait for the frames before, at bits_per_second; what would wait longer is lost.
    std::chrono::microseconds queue{std::chrono::milliseconds{20}};
    unsigned loss_permille = 0;  ///< [0, 999]: TCP segments that disappear
    unsigned late_permille = 0;  ///< [0, 999]: those that the ones behind them may overtake
    std::chrono::microseconds late_by{2000};
};

/// Link is a wire made of two TAPs and a thread between them, with the delay, the rate, the queue
/// and the losses of a long one; the latter from a seed, alone for each direction.
///
/// An RST is never lost: it is sent once, and who loses it may never learn of it.
class Link {
  public:
    struct End {
        const Namespace& place;
        std::string interface;
    };

    /// Makes the two interfaces, which live as long as the link.  They are down.
    Link(const End& near, const End& far, uint64_t seed);
    ~Link();
    Link(const Link&)            = delete;
    Link& operator=(const Link&) = delete;

    /// For frames that come from now on.  The counts begin afresh.
    void set(const LinkQuality& quality);

    /// What became of the frames.
    struct Counts {
        uint64_t carried   = 0;
        uint64_t bytes_max = 0;  ///< of the longest one
        uint64_t lost      = 0;  ///< by chance
        uint64_t late      = 0;
        uint64_t crowded   = 0;  ///< lost for want of room in the queue
    };

    [[nodiscard]] Counts counts();

  private:
    using Clock = std::chrono::steady_clock;

    struct Lane {
        int in  = -1;
        int out = -1;
        Prng chance;
        Clock::time_point idle_at;  ///< when the last frame that was taken has left
    };

    struct Held {
        Clock::time_point due;
        uint64_t number = 0;
        int out         = -1;
        std::vector<std::byte> frame;

        bool operator>(const Held& other) const {
            return due != other.due ? due > other.due : number > other.number;
        }
    };

    void run();
    void take(Lane& lane);
    void take_one(Lane& lane, std::vector<std::byte> frame);
    void send_due();

    std::array<Descriptor, 2> taps_;
    std::array<Lane, 2> lanes_;
    std::priority_queue<Held, std::vector<Held>, std::greater<>> held_;
    uint64_t taken_ = 0;
    Descriptor stop_;
    std::mutex mutex_;  ///< guards the next two
    LinkQuality quality_;
    Counts counts_;
    std::thread thread_;
};

}  // namespace flue::testbed
