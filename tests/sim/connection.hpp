#pragma once

#include <array>
#include <cstdint>

#include "base/seq.hpp"
#include "checkers/arrivals.hpp"
#include "options.hpp"
#include "pattern.hpp"
#include "wire/frame.hpp"

namespace flue::sim {

/// What is true of one end of a connection, whoever owns it: what the checkers measure against.
struct End {
    const EndOptions* options = nullptr;
    wire::FlowKey key;       ///< as this end sees it
    Pattern out;             ///< what it sends
    uint8_t route      = 0;  ///< the target that its frames go to, if it is a chimney's

    uint32_t posted    = 0;      ///< bytes of its stream that it was told to send
    bool fin_ordered   = false;  ///< and then a FIN
    bool reset_ordered = false;  ///< it may send an RST.  R78
    bool invalidated   = false;  ///< nothing may be sent.  R33
    uint32_t mtu       = 0;      ///< the largest path MTU that it may still send with
    bool lost          = false;  ///< its host is dead
    bool over          = false;  ///< nobody owns it: the kernel answers
    bool drains        = false;  ///< its host died, and what was posted will be sent
    bool abandoned     = false;  ///< its owner gave up: the stream may end anywhere
    bool kernel_reset  = false;  ///< the kernel has answered with an RST

    // what was seen on the wire
    Seq sent_end;  ///< one past the highest sequence number that it sent
    Seq acked;     ///< the highest ACK that it sent
    Seq edge;      ///< the right edge that it advertised
    Seq limit;     ///< the right edge that the other end has shown it
    Seq fin_seq;   ///< of its FIN
    uint32_t ts_val = 0;
    bool has_ts     = false;
    bool fin_sent   = false;
    bool reset_sent = false;

    // what has reached it
    Arrivals arrived;     ///< of the other end's stream
    Arrivals told_twice;  ///< of these, by D-SACK
    Arrivals reported;    ///< of its own stream, by the other end's SACK
    Seq heard_ack;  ///< the highest ACK; a block that begins below it is from a peer that lies
    bool marked     = false;  ///< data with congestion experienced
    bool may_reduce = false;  ///< it has heard ECE since its last CWR, or has lost something
    bool sent_again = false;

    [[nodiscard]] Seq first() const { return Seq{options->iss} + 1; }

    [[nodiscard]] uint32_t offset_of(Seq seq) const { return bytes_between(first(), seq); }
};

struct Connection {
    const ConnectionOptions* options = nullptr;
    uint32_t index                   = 0;
    std::array<End, 2> ends;

    /// Everything that was sent must arrive, and nobody may see a reset.
    [[nodiscard]] bool must_end_well() const {
        for (const End& end : ends) {
            if (end.reset_ordered || end.lost || end.abandoned) {
                return false;
            }
        }
        return true;
    }

    /// What every frame of an end has in common.
    [[nodiscard]] wire::FlowHeader flow(uint32_t from) const {
        wire::FlowHeader header;
        header.key          = ends[from].key;
        header.source_mac   = {2, 0, 0, 0, 0, static_cast<uint8_t>(from)};
        header.next_hop_mac = {2, 0, 0, 0, 0, static_cast<uint8_t>(1 - from)};
        header.vlan_id      = options->vlan_id;
        header.path_mtu     = options->mtu;
        header.remote_mss   = options->mss;
        return header;
    }
};

}  // namespace flue::sim
