#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "base/assert.hpp"
#include "base/index_list.hpp"

namespace flue {

/// Place of a timer in a TimerWheel's slot; kept by the owner beside what the timer is for.
struct TimerLink {
    uint32_t next = no_index;
    uint32_t prev = no_index;  ///< of the first in a slot: slot_bit | slot
};

/// TimerWheel is a hierarchical timing wheel of four levels of 256 slots over timers that somebody
/// else stores and that are named by index.  A tick is whatever the caller says; ticks are modulo
/// 2^32 and a timer may lie up to 2^31 - 1 ticks ahead, so with ticks of a millisecond nothing
/// wraps for 24 days.
///
/// The owner tells it where link and due tick of a timer are:
///     TimerLink& timer_link(uint32_t index);
///     uint32_t timer_due(uint32_t index) const;
/// The due tick must not change while the timer is in the wheel.
///
/// Thread: one.  Cost: add and remove O(1); advance O(timers moved + slots passed that hold
/// something).
class TimerWheel {
  public:
    [[nodiscard]] bool empty() const { return count_ == 0; }

    [[nodiscard]] uint32_t count() const { return count_; }

    /// add puts a timer in.  A due tick that is not after the wheel's present tick is taken by the
    /// next advance that moves the wheel.  Pre: not in the wheel; `now` is not before any earlier
    /// `now`.
    template <typename Owner>
    void add(Owner& owner, uint32_t now, uint32_t index) {
        FLUE_ASSERT(index < slot_bit);
        if (count_ == 0 && !advancing_) {
            present_ = now;
        }
        const uint32_t due = owner.timer_due(index);
        // From `now`, of which the wheel may be behind: from there a timer may lie further ahead
        // than half of all ticks.
        const int64_t ahead = int64_t{static_cast<int32_t>(due - now)} + (now - present_);
        place(owner, index, ahead > 0 ? due : present_ + 1);
        ++count_;
    }

    template <typename Owner>
    void remove(Owner& owner, uint32_t index) {
        FLUE_ASSERT(count_ > 0);
        const TimerLink link = owner.timer_link(index);
        if (link.next != no_index) {
            owner.timer_link(link.next).prev = link.prev;
        }
        if ((link.prev & slot_bit) == 0) {
            owner.timer_link(link.prev).next = link.next;
        } else {
            set_head(link.prev & ~slot_bit, link.next);
        }
        --count_;
    }

    /// advance moves the wheel to `now` and calls expired(index) for each timer due on the way,
    /// which is then no longer in the wheel; expired may add and remove any timer.
    template <typename Owner, typename Expired>
    void advance(Owner& owner, uint32_t now, Expired&& expired) {
        advancing_ = true;
        while (count_ > 0) {
            const uint32_t tick = next_tick();
            if (static_cast<int32_t>(now - tick) < 0) {
                break;
            }
            present_ = tick;
            cascade(owner);
            const uint32_t slot = tick & slot_mask;
            while (heads_[slot] != no_index) {
                const uint32_t index = heads_[slot];
                remove(owner, index);
                expired(index);
            }
        }
        advancing_ = false;
        if (static_cast<int32_t>(now - present_) > 0) {
            present_ = now;
        }
    }

    /// next_tick returns the tick at which advance has something to do: never after the first due
    /// timer, maybe before. Pre: not empty.
    [[nodiscard]] uint32_t next_tick() const {
        FLUE_ASSERT(count_ > 0);
        uint32_t distance = UINT32_MAX;
        for (uint32_t level = 0; level < level_count; ++level) {
            const uint32_t shift  = level * level_bits;
            const uint32_t origin = present_ >> shift;
            const uint32_t slots  = slots_to_next(level, origin & slot_mask);
            if (slots != 0) {
                const uint32_t start = (origin + slots) << shift;
                distance             = start - present_ < distance ? start - present_ : distance;
            }
        }
        FLUE_ASSERT(distance != UINT32_MAX);
        return present_ + distance;
    }

  private:
    static constexpr uint32_t level_bits      = 8;
    static constexpr uint32_t slots_per_level = 1U << level_bits;
    static constexpr uint32_t slot_mask       = slots_per_level - 1;
    static constexpr uint32_t level_count     = 4;
    static constexpr uint32_t slot_bit        = 0x80000000;
    static constexpr uint32_t bits_per_word   = 64;
    static constexpr uint32_t words_per_level = slots_per_level / bits_per_word;

    template <typename Owner>
    void place(Owner& owner, uint32_t index, uint32_t due) {
        const uint32_t ahead = due - present_;
        const uint32_t level =
            ahead == 0 ? 0 : (static_cast<uint32_t>(std::bit_width(ahead)) - 1) / level_bits;
        const uint32_t slot = level * slots_per_level + ((due >> (level * level_bits)) & slot_mask);
        const uint32_t second   = heads_[slot];
        owner.timer_link(index) = TimerLink{second, slot_bit | slot};
        if (second != no_index) {
            owner.timer_link(second).prev = index;
        }
        set_head(slot, index);
    }

    /// Moves what the higher levels hold for the block that begins at present_ down.
    template <typename Owner>
    void cascade(Owner& owner) {
        for (uint32_t level = level_count - 1; level > 0; --level) {
            const uint32_t shift = level * level_bits;
            if ((present_ & ((1U << shift) - 1)) != 0) {
                continue;
            }
            const uint32_t slot = level * slots_per_level + ((present_ >> shift) & slot_mask);
            uint32_t index      = heads_[slot];
            set_head(slot, no_index);
            while (index != no_index) {
                const uint32_t next = owner.timer_link(index).next;
                place(owner, index, owner.timer_due(index));
                index = next;
            }
        }
    }

    void set_head(uint32_t slot, uint32_t index) {
        heads_[slot]       = index;
        const uint64_t bit = uint64_t{1} << (slot % bits_per_word);
        uint64_t& word     = occupied_[slot / bits_per_word];
        word               = index == no_index ? word & ~bit : word | bit;
    }

    /// Slots from `from` to the next occupied one of a level, in [1, 256]; 0 when the level is
    /// empty.
    [[nodiscard]] uint32_t slots_to_next(uint32_t level, uint32_t from) const {
        const uint64_t* words = &occupied_[level * words_per_level];
        uint32_t at           = (from + 1) & slot_mask;
        uint32_t passed       = 1;
        while (passed <= slots_per_level) {
            const uint64_t word = words[at / bits_per_word] >> (at % bits_per_word);
            if (word != 0) {
                const uint32_t found = passed + static_cast<uint32_t>(std::countr_zero(word));
                return found <= slots_per_level ? found : 0;
            }
            const uint32_t step = bits_per_word - at % bits_per_word;
            passed += step;
            at = (at + step) & slot_mask;
        }
        return 0;
    }

    static constexpr std::array<uint32_t, level_count * slots_per_level> empty_heads() {
        std::array<uint32_t, level_count * slots_per_level> heads{};
        heads.fill(no_index);
        return heads;
    }

    std::array<uint32_t, level_count* slots_per_level> heads_ = empty_heads();
    std::array<uint64_t, level_count * words_per_level> occupied_{};
    uint32_t present_ = 0;
    uint32_t count_   = 0;
    bool advancing_   = false;
};

}  // namespace flue
