#pragma once

#include <cstdint>
#include <queue>
#include <vector>

#include "base/instant.hpp"

namespace flue::sim {

/// Something that events happen to.
class Actor {
  public:
    virtual ~Actor()                                   = default;
    virtual void act(uint32_t what, uint64_t argument) = 0;
};

/// Events is the one queue and the one clock of a world: ordered by time, then by insertion.
class Events {
  public:
    explicit Events(Instant start) : now_(start) {}

    [[nodiscard]] Instant now() const { return now_; }

    [[nodiscard]] bool empty() const { return queue_.empty(); }

    [[nodiscard]] Instant next() const { return queue_.top().at; }

    [[nodiscard]] uint64_t count() const { return count_; }

    void at(Instant when, Actor& actor, uint32_t what, uint64_t argument = 0) {
        queue_.push({when < now_ ? now_ : when, count_++, &actor, what, argument});
    }

    void after(uint64_t delay_us, Actor& actor, uint32_t what, uint64_t argument = 0) {
        at(now_ + delay_us, actor, what, argument);
    }

    /// step moves the clock to the next event and lets it happen.  Pre: not empty.
    void step() {
        const Event event = queue_.top();
        queue_.pop();
        now_ = event.at;
        event.actor->act(event.what, event.argument);
    }

  private:
    struct Event {
        Instant at;
        uint64_t number;
        Actor* actor;
        uint32_t what;
        uint64_t argument;
    };

    struct Later {
        bool operator()(const Event& a, const Event& b) const {
            return a.at != b.at ? b.at < a.at : b.number < a.number;
        }
    };

    std::priority_queue<Event, std::vector<Event>, Later> queue_;
    Instant now_;
    uint64_t count_ = 0;
};

}  // namespace flue::sim
