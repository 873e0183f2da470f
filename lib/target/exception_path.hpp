#pragma once

#include <array>
#include <cstdint>

#include <rte_mbuf.h>

#include "target/tx_queue.hpp"

namespace flue::target {

/// ExceptionPath carries everything that is not an offloaded connection between a wire port and the
/// kernel's TAP, unchanged, in both directions.  When a side is full the frame is dropped and
/// counted, as a network interface does. Thread: one worker, which has a queue of its own on the
/// TAP.
class ExceptionPath {
  public:
    static constexpr uint16_t burst_max = 32;

    struct Parts {
        bool enabled   = false;
        uint16_t tap   = 0;  ///< ethdev port
        uint16_t queue = 0;
        bool receives  = false;  ///< there is an RX queue for this worker too
    };

    explicit ExceptionPath(const Parts& parts) : parts_(parts) {}

    ~ExceptionPath() { rte_pktmbuf_free_bulk(batch_.data(), count_); }

    ExceptionPath(ExceptionPath&& other) noexcept
        : parts_(other.parts_), batch_(other.batch_), count_(other.count_) {
        other.count_ = 0;
    }

    ExceptionPath(const ExceptionPath&)            = delete;
    ExceptionPath& operator=(const ExceptionPath&) = delete;

    /// to_kernel takes a frame.  Owner: the path, in any case.
    void to_kernel(rte_mbuf* frame);
    /// flush gives the collected frames to the TAP.
    void flush();
    /// from_kernel passes a burst of the kernel's frames on to the wire and returns how many came.
    uint32_t from_kernel(TxQueue& wire);

    struct Counters {
        uint64_t to_kernel           = 0;
        uint64_t to_kernel_dropped   = 0;
        uint64_t from_kernel         = 0;
        uint64_t from_kernel_dropped = 0;
    };

    [[nodiscard]] const Counters& counters() const { return counters_; }

  private:
    Parts parts_;
    std::array<rte_mbuf*, burst_max> batch_{};
    uint16_t count_ = 0;
    Counters counters_;
};

}  // namespace flue::target
