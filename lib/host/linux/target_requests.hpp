#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "flue/flue.h"
#include "host/host_queue.hpp"
#include "host/linux/socket_options.hpp"

namespace flue::host {

/// error_of translates how a request ended into errno and a sentence; success is no error.
[[nodiscard]] HandoffError error_of(const flue_wc& wc);

/// request carries one request out, waiting as long as the target lives.  On an error `wc` has a
/// status of its own.
[[nodiscard]] HandoffError request(HostQueue& queue, const flue_wr& wr, flue_wc& wc);

/// post_all posts every request, waiting for room.  Errors: ECONNRESET, the target has gone.
[[nodiscard]] HandoffError post_all(HostQueue& queue, std::span<const flue_wr> requests);

/// Room is part of a memory region that a caller lends, given out from the front.
class Room {
  public:
    Room(const flue_mr& mr, uint64_t offset, uint64_t bytes)
        : mr_(&mr), offset_(offset), bytes_(bytes) {}

    /// valid: the region has these bytes.
    [[nodiscard]] bool valid() const;

    /// Piece is memory with the name that the target knows it by.
    struct Piece {
        std::span<std::byte> bytes;
        flue_sge sge{};
    };

    /// take gives out the next bytes.  Pre: left() >= bytes.
    [[nodiscard]] Piece take(uint64_t bytes);

    [[nodiscard]] uint64_t left() const { return bytes_ - used_; }

    [[nodiscard]] uint64_t used() const { return used_; }

  private:
    const flue_mr* mr_;
    uint64_t offset_;
    uint64_t bytes_;
    uint64_t used_ = 0;
};

/// take_back_fin turns a state whose FIN is in flight into the one before the FIN was sent, and
/// tells whether it did. SENDs cannot follow a FIN, so data that is in flight before one needs
/// this; the FIN then follows as a DISCONNECT, which to the peer is a retransmission.
bool take_back_fin(flue_state& state);

/// put_state seals a state and writes it into a piece; get_state reads one that the target has
/// written.
void put_state(const Room::Piece& piece, flue_state& state);
[[nodiscard]] flue_state get_state(const Room::Piece& piece);

}  // namespace flue::host
