#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "base/system_error.hpp"
#include "base/unique_fd.hpp"
#include "flue/abi.h"
#include "queue/mapping.hpp"
#include "queue/shm_layout.hpp"
#include "queue/target_queue.hpp"
#include "queue/typed_ring.hpp"

namespace flue::queue {

/// QueueRings owns one process's mapping of a host queue's memory; both sides have one.
class QueueRings {
  public:
    QueueRings() = default;

    /// map maps a memfd of which the size has been checked.  Pre: geometry.valid().
    static Result<QueueRings, SystemError> map(int memory_fd, const QueueGeometry& geometry);

    /// Pre of all: worker < worker_count.
    [[nodiscard]] Ring<flue_wr> submissions(uint32_t worker) const;
    [[nodiscard]] Ring<flue_wc> completions(uint32_t worker) const;
    /// The word that the host sets to 1 before it sleeps.
    [[nodiscard]] uint32_t* armed(uint32_t worker) const;

    [[nodiscard]] const QueueGeometry& geometry() const { return geometry_; }

    /// place asks for NUMA nodes, one a worker (-1: any).  Pre: nothing has been touched.
    void place(std::span<const int> worker_nodes);
    /// initialise makes all rings empty.  Thread: before anyone uses them.
    void initialise();

  private:
    QueueGeometry geometry_;
    Mapping armed_;
    std::vector<RingMapping> rings_;  ///< [2 * worker] submission, [2 * worker + 1] completion
};

/// TargetQueueMemory is the target's side of a host queue: it makes the memory and the wake socket.
class TargetQueueMemory {
  public:
    TargetQueueMemory() = default;

    /// create makes a memfd that can neither shrink nor grow, with all its pages allocated, and
    /// maps it. `worker_nodes`: shape [0, worker_count) or empty; NUMA node of each worker, -1 =
    /// any. Errors: EINVAL for a geometry that is not valid; else what the system says.
    static Result<TargetQueueMemory, SystemError> create(const QueueGeometry& geometry,
                                                         std::span<const int> worker_nodes = {});

    /// parts returns worker's end; `regions` and `session_id` are left to the caller.
    [[nodiscard]] TargetQueue::Parts parts(uint32_t worker) const;

    /// The two descriptors of the create_queue reply, in this order.  They stay ours.
    [[nodiscard]] int memory_fd() const { return memory_.get(); }

    [[nodiscard]] int host_wake_fd() const { return host_wake_.get(); }

    /// close_host_wake drops our copy of the host's end, after the reply was sent.
    void close_host_wake() { host_wake_.reset(); }

    /// renew_wake makes another host end, for the next host; the one before is of no use any more.
    /// Our end keeps its descriptor, so workers may use it meanwhile.
    Result<bool, SystemError> renew_wake();

    [[nodiscard]] uint64_t bytes() const { return ShmLayout(geometry()).total_bytes(); }

    [[nodiscard]] const QueueGeometry& geometry() const { return rings_.geometry(); }

  private:
    UniqueFd memory_;
    UniqueFd target_wake_;
    UniqueFd host_wake_;
    QueueRings rings_;
};

/// map_queue_memory is the host's side: it checks what the target sent and maps it.  `bytes` and
/// `geometry` come from the reply.  Errors: EPROTO when size and geometry do not fit together; else
/// what the system says.
Result<QueueRings, SystemError> map_queue_memory(int memory_fd,
                                                 const QueueGeometry& geometry,
                                                 uint64_t bytes);

}  // namespace flue::queue
