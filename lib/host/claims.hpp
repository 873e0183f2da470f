#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "flue/abi.h"

namespace flue::host {

/// Claims keeps a copy of each HOLD and OFFLOAD until its completion.  Which worker owns a flow
/// only the target knows, so such a request goes to a guessed worker; on FLUE_NOT_OWNER the copy is
/// posted again to the worker that owns it. In the ring the request's wr_id is the claim's tag, so
/// that its completion finds it.  Tags of different Claims differ, so that completions of a host
/// that had the queue before are not taken for our own.  Thread: the queue's.
class Claims {
  public:
    /// `salt`: a random number that tells these tags from those of others.
    explicit Claims(uint32_t capacity, uint64_t salt = 0);

    /// add keeps a copy and returns the request to post; nothing when all places are taken.
    [[nodiscard]] std::optional<flue_wr> add(const flue_wr& wr);
    /// cancel forgets a request that could not be posted.  Pre: `tagged` comes from add.
    void cancel(const flue_wr& tagged);

    enum class Answer : uint8_t {
        deliver,  ///< `wc` is the caller's: its wr_id is the posted one again
        reroute,  ///< the request waits in `rerouted` to be posted again
    };
    /// answer looks at a completion of a HOLD or OFFLOAD.
    [[nodiscard]] Answer answer(flue_wc& wc, uint32_t worker_count);

    struct Rerouted {
        flue_wr wr;
        uint32_t worker;
    };

    /// Requests to post again, first to last; the caller pops what it posted.
    std::deque<Rerouted> rerouted;

    static bool is_claim(uint8_t opcode) {
        return opcode == FLUE_OP_HOLD || opcode == FLUE_OP_OFFLOAD;
    }

    /// Claims without completion yet.
    [[nodiscard]] uint32_t outstanding() const;

  private:
    struct Claim {
        flue_wr wr;  ///< as the caller posted it
        uint32_t reroutes = 0;
        bool used         = false;
    };

    [[nodiscard]] uint64_t tag_of(uint32_t index) const { return salt_ | index; }

    uint64_t salt_;  ///< the upper half of each tag
    std::vector<Claim> claims_;
    std::vector<uint32_t> free_;  ///< indices, last in first out
};

}  // namespace flue::host
