#include "queue/target_queue.hpp"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <sys/socket.h>

#include "base/assert.hpp"

namespace flue::queue {

TargetQueue::TargetQueue(const Parts& parts) : parts_(parts) {
    FLUE_ASSERT(parts.submissions.get() != nullptr);
    FLUE_ASSERT(parts.completions.get() != nullptr);
    FLUE_ASSERT(parts.armed != nullptr);
}

uint32_t TargetQueue::room() const {
    if (abandoned_) {
        return parts_.completions.capacity();
    }
    const uint32_t free = parts_.completions.free_count();
    const uint32_t used = collected_ + outstanding_;
    return free > used ? free - used : 0;
}

uint32_t TargetQueue::take(std::span<flue_wr> out) {
    const uint32_t taken =
        parts_.submissions.dequeue(out.first(std::min<size_t>(out.size(), room())));
    outstanding_ += taken;
    counters_.requests += taken;
    return taken;
}

void TargetQueue::complete(const flue_wc& wc) {
    FLUE_ASSERT(outstanding_ > 0);
    --outstanding_;
    ++counters_.completions;
    collect(wc);
}

bool TargetQueue::post_event(const flue_wc& wc) {
    if (room() == 0) {
        return false;
    }
    ++counters_.events;
    collect(wc);
    return true;
}

void TargetQueue::collect(const flue_wc& wc) {
    if (abandoned_) {
        return;
    }
    if (collected_ == std::size(batch_)) {
        flush();
    }
    batch_[collected_++] = wc;
}

void TargetQueue::flush() {
    if (collected_ == 0) {
        return;
    }
    const uint32_t published = parts_.completions.enqueue({batch_, collected_});
    counters_.completions_lost += collected_ - published;
    collected_ = 0;
    // F0: orders the ring's tail before `armed`; pairs with F1 in the host's arm, which writes
    // `armed` and then looks at the tail.  At least one of the two sees the other's write, so no
    // host sleeps on a completion.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::atomic_ref<uint32_t> armed(*parts_.armed);
    if (armed.load(std::memory_order_relaxed) != 0) [[unlikely]] {
        armed.store(0, std::memory_order_relaxed);
        wake();
    }
}

void TargetQueue::wake() {
    ++counters_.wakeups;
    const char token = 1;
    // A full socket holds enough tokens to wake the host; one that is gone is noticed on the
    // session socket.
    [[maybe_unused]] const ssize_t sent =
        ::send(parts_.event_fd, &token, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace flue::queue
