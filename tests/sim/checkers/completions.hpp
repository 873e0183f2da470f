#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>

#include "findings.hpp"
#include "flue/abi.h"

namespace flue::sim {

/// What a request was, for the one that gets its completion.
struct Posted {
    uint64_t wr_id  = 0;
    uint32_t end    = 0;  ///< the host's own number of the connection
    uint8_t opcode  = 0;
    uint8_t flags   = 0;
    uint32_t offset = 0;  ///< SEND, DISCONNECT: of its first byte in the stream
    uint32_t length = 0;
    uint32_t slot   = 0;  ///< of the memory that it names
};

/// CompletionChecker sees every request and every completion of one queue: each request completes
/// once, in order per connection and direction.
class CompletionChecker {
  public:
    explicit CompletionChecker(Findings& findings) : findings_(findings) {}

    void posted(const Posted& request) {
        lanes_[{request.end, direction(request.opcode)}].push_back(request);
        ++outstanding_;
    }

    /// completed returns the request, or one with opcode 0 when there is none.
    Posted completed(uint32_t end, const flue_wc& wc) {
        std::deque<Posted>& lane = lanes_[{end, direction(wc.opcode)}];
        if (lane.empty()) {
            findings_.wrong(
                "end %u: a completion of opcode %u that nobody waits for", end, wc.opcode);
            return {};
        }
        const Posted request = lane.front();
        if (request.wr_id != wc.wr_id || request.opcode != wc.opcode) {
            findings_.wrong(
                "end %u: completion of request %llu, opcode %u, before that of %llu, %u",
                end,
                static_cast<unsigned long long>(wc.wr_id),
                wc.opcode,
                static_cast<unsigned long long>(request.wr_id),
                request.opcode);
            return {};
        }
        lane.pop_front();
        --outstanding_;
        return request;
    }

    /// outstanding_of returns how many requests of a connection wait in the direction of `opcode`.
    [[nodiscard]] uint32_t outstanding_of(uint32_t end, uint8_t opcode) const {
        const auto lane = lanes_.find({end, direction(opcode)});
        return lane == lanes_.end() ? 0 : static_cast<uint32_t>(lane->second.size());
    }

    [[nodiscard]] uint32_t outstanding() const { return outstanding_; }

  private:
    /// Sends with disconnects, receives, and each of the others by itself.
    static uint8_t direction(uint8_t opcode) {
        return opcode == FLUE_OP_DISCONNECT ? uint8_t{FLUE_OP_SEND} : opcode;
    }

    struct Lane {
        uint32_t end;
        uint8_t direction;
        friend auto operator<=>(const Lane&, const Lane&) = default;
    };

    Findings& findings_;
    std::map<Lane, std::deque<Posted>> lanes_;
    uint32_t outstanding_ = 0;
};

}  // namespace flue::sim
