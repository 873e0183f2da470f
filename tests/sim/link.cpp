#include "link.hpp"

#include <algorithm>
#include <utility>

#include "codepoint.hpp"
#include "world.hpp"

namespace flue::sim {

namespace {

constexpr uint32_t million = 1'000'000;

}  // namespace

Link::Link(World& world)
    : world_(world),
      prng_(world.options().seed ^ 0x11),
      marks_(world.options().seed ^ 0xce),
      directions_(world.options().connections.size()) {
}

void Link::send(uint32_t connection, uint32_t from, std::vector<std::byte> frame) {
    if (world_.too_big(connection, from, frame)) {
        return;
    }
    Direction& direction       = directions_[connection][from];
    const LinkOptions& options = world_.options().link;
    const Instant now          = world_.now();
    const bool full            = direction.busy_until > now + options.queue_us;
    const bool marked          = marks(direction) && mark_congestion(frame);
    direction.busy_until       = std::max(direction.busy_until, now) + options.frame_us;
    if (loses(direction, from) || full) {
        world_.trace().add(now, Record::frame_lost, {connection, from});
        return;
    }
    if (marked) {
        world_.trace().add(now, Record::frame_marked, {connection, from});
    }
    if (!healed_ && prng_.chance(options.flip_ppm, million)) {
        const uint32_t bit = prng_.below(static_cast<uint32_t>(frame.size() * 8));
        frame[bit / 8] ^= std::byte{1} << (bit % 8);
    }
    if (!healed_ && prng_.chance(options.duplicate_ppm, million)) {
        deliver(direction, connection, from, frame);
    }
    deliver(direction, connection, from, std::move(frame));
}

bool Link::loses(Direction& direction, uint32_t from) {
    if (healed_) {
        return false;
    }
    const bool lost = prng_.chance(world_.options().link.loss_ppm[from], million);
    return lost || world_.now() < direction.lost_until;
}

/// As a router with active queue management: by chance, and when there is a queue.
bool Link::marks(const Direction& direction) {
    const LinkOptions& options = world_.options().link;
    const bool by_chance       = marks_.chance(options.mark_ppm, million) && !healed_;
    const bool by_queue =
        options.mark_us != 0 && direction.busy_until > world_.now() + options.mark_us;
    return by_chance || by_queue;
}

void Link::deliver(Direction& direction,
                   uint32_t connection,
                   uint32_t from,
                   std::vector<std::byte> frame) {
    const LinkOptions& options = world_.options().link;
    const uint32_t jitter      = prng_.below(options.jitter_us + 1);
    const bool reordered       = !healed_ && prng_.chance(options.reorder_ppm, million);
    Instant at                 = direction.busy_until + options.delay_us + jitter;
    if (reordered) {
        at = at + prng_.below(options.reorder_us + 1);
    } else {
        at                     = std::max({at, direction.last_arrival, direction.clogged_until});
        direction.last_arrival = at;
    }
    uint32_t slot = static_cast<uint32_t>(flights_.size());
    if (free_flights_.empty()) {
        flights_.emplace_back();
    } else {
        slot = free_flights_.back();
        free_flights_.pop_back();
    }
    flights_[slot] = {.connection = connection, .from = from, .frame = std::move(frame)};
    world_.events().at(at, *this, 0, slot);
}

void Link::act(uint32_t /*what*/, uint64_t argument) {
    Flight flight = std::move(flights_[argument]);
    free_flights_.push_back(static_cast<uint32_t>(argument));
    world_.arrive(flight.connection, 1 - flight.from, std::move(flight.frame));
}

void Link::clog(uint32_t connection, Instant until) {
    for (Direction& direction : directions_[connection]) {
        direction.clogged_until = until;
    }
}

void Link::lose(uint32_t connection, uint32_t from, Instant until) {
    directions_[connection][from].lost_until = until;
}

void Link::heal() {
    healed_ = true;
}

}  // namespace flue::sim
