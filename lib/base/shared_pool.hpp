#pragma once

#include <algorithm>
#include <cstdint>

#include "base/assert.hpp"
#include "base/relaxed.hpp"

namespace flue {

/// SharedPool divides a number of objects among users who do not trust each other.  Half of them
/// are set aside in equal parts, so that nobody can leave another with nothing; who has more than
/// its part takes from the other half, first come, first served.  It only counts.  Thread: one, but
/// for Part's figures.
class SharedPool {
  public:
    /// Part is what one user has.
    struct Part {
        uint32_t limit = UINT32_MAX;  ///< set before the first use
        Relaxed<uint32_t> used;
    };

    /// `users` is how many there can be at a time.
    SharedPool(uint32_t objects, uint32_t users)
        : guaranteed_(objects / std::max(1u, 2 * users)), common_(objects - guaranteed_ * users) {
        FLUE_ASSERT(users > 0 && users <= UINT32_MAX / 2);
    }

    /// room returns how many more the user may take now.
    [[nodiscard]] uint32_t room(const Part& part) const {
        const uint32_t used = part.used.get();
        const uint32_t own  = used < guaranteed_ ? guaranteed_ - used : 0;
        const uint32_t left = used < part.limit ? part.limit - used : 0;
        return std::min(own + common_ - common_used_, left);
    }

    /// Pre: count <= room(part).
    void take(Part& part, uint32_t count) { change(part, part.used.get() + count); }

    void give(Part& part, uint32_t count) {
        FLUE_ASSERT(part.used.get() >= count);
        change(part, part.used.get() - count);
    }

    [[nodiscard]] uint32_t guaranteed() const { return guaranteed_; }

    /// What all users have together.
    [[nodiscard]] uint32_t used() const { return used_; }

  private:
    void change(Part& part, uint32_t used) {
        common_used_ -= beyond(part.used.get());
        common_used_ += beyond(used);
        used_ += used - part.used.get();
        part.used.set(used);
        FLUE_ASSERT(common_used_ <= common_);
    }

    [[nodiscard]] uint32_t beyond(uint32_t used) const {
        return used > guaranteed_ ? used - guaranteed_ : 0;
    }

    uint32_t guaranteed_;
    uint32_t common_;
    uint32_t common_used_ = 0;
    uint32_t used_        = 0;
};

}  // namespace flue
