#pragma once

#include <array>
#include <cstdint>

#include <rte_mbuf.h>

#include "queue/typed_ring.hpp"

namespace flue::target {

/// TxQueue is a worker's way out of one port: a queue of its own, or a ring to worker 0, which
/// sends for it. Frames that the port has no room for now are kept, in order; the worker makes no
/// more until they are gone. Thread: one worker.
class TxQueue {
  public:
    static constexpr uint32_t frames_max = 128;

    struct Parts {
        uint16_t port  = 0;
        uint16_t queue = 0;
        queue::Ring<rte_mbuf*> relay;  ///< set: to worker 0, instead of the port's queue
    };

    explicit TxQueue(const Parts& parts) : parts_(parts) {}

    ~TxQueue() { rte_pktmbuf_free_bulk(frames_.data(), count_); }

    TxQueue(TxQueue&& other) noexcept
        : parts_(other.parts_), frames_(other.frames_), count_(other.count_) {
        other.count_ = 0;
    }

    TxQueue(const TxQueue&)            = delete;
    TxQueue& operator=(const TxQueue&) = delete;

    [[nodiscard]] uint32_t room() const { return frames_max - count_; }

    /// push takes a frame.  Owner: the queue.  False: no room, counted; the frame is still the
    /// caller's.
    [[nodiscard]] bool push(rte_mbuf* frame) {
        if (count_ == frames_max) {
            ++counters_.full;
            return false;
        }
        frame->port       = parts_.port;
        frames_[count_++] = frame;
        return true;
    }

    /// flush hands the frames on as far as there is room and returns how many went.
    uint32_t flush();

    struct Counters {
        uint64_t frames = 0;
        uint64_t full   = 0;  ///< frames refused
        uint64_t stalls = 0;  ///< flushes after which frames were left
    };

    [[nodiscard]] const Counters& counters() const { return counters_; }

  private:
    Parts parts_;
    std::array<rte_mbuf*, frames_max> frames_{};
    uint32_t count_ = 0;
    Counters counters_;
};

}  // namespace flue::target
