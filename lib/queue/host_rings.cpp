#include "queue/host_rings.hpp"

#include <algorithm>
#include <atomic>

namespace flue::queue {

HostRings::HostRings(const QueueRings& rings) {
    for (uint32_t worker = 0; worker < rings.geometry().worker_count; ++worker) {
        ends_.push_back(
            End{rings.submissions(worker), rings.completions(worker), rings.armed(worker)});
    }
}

bool HostRings::has_completions() const {
    return std::any_of(
        ends_.begin(), ends_.end(), [](const End& end) { return end.completions.count() != 0; });
}

bool HostRings::arm() {
    set_armed(1);
    // F1: orders `armed` before the look at the tails; pairs with F0 in TargetQueue::flush.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!has_completions()) {
        return true;
    }
    disarm();
    return false;
}

void HostRings::disarm() {
    set_armed(0);
}

void HostRings::repair() {
    for (End& end : ends_) {
        end.submissions.forget_enqueue();
        end.completions.forget_dequeue();
    }
    disarm();
}

void HostRings::set_armed(uint32_t value) {
    for (const End& end : ends_) {
        std::atomic_ref<uint32_t>(*end.armed).store(value, std::memory_order_relaxed);
    }
}

}  // namespace flue::queue
