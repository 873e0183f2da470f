#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/prng.hpp"
#include "events.hpp"

namespace flue::sim {

class World;

/// Link carries the frames of all connections, and everything that a wire does to them.
class Link final : public Actor {
  public:
    explicit Link(World& world);

    /// send puts a frame of one end on its way to the other.
    void send(uint32_t connection, uint32_t from, std::vector<std::byte> frame);
    /// clog lets the frames of a connection wait.
    void clog(uint32_t connection, Instant until);
    /// lose drops what an end sends.
    void lose(uint32_t connection, uint32_t from, Instant until);
    void heal();

    void act(uint32_t what, uint64_t argument) override;

  private:
    struct Direction {
        Instant busy_until;
        Instant last_arrival;
        Instant clogged_until;
        Instant lost_until;
    };

    struct Flight {
        uint32_t connection = 0;
        uint32_t from       = 0;
        std::vector<std::byte> frame;
    };

    [[nodiscard]] bool loses(Direction& direction, uint32_t from);
    [[nodiscard]] bool marks(const Direction& direction);
    void deliver(Direction& direction,
                 uint32_t connection,
                 uint32_t from,
                 std::vector<std::byte> frame);

    World& world_;
    Prng prng_;
    Prng marks_;
    bool healed_ = false;
    std::vector<std::array<Direction, 2>> directions_;  ///< [connection][from]
    std::vector<Flight> flights_;
    std::vector<uint32_t> free_flights_;
};

}  // namespace flue::sim
