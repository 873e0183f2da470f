#pragma once

#include "base/seq.hpp"

namespace flue::tcp {

/// acceptable: whether a segment of seg_len sequence numbers occupies any of the receive window.
/// Spec: RFC 9293 §3.10.7.4, table 6, which forgets the segment that laps over both edges: it is
/// acceptable, too.
[[nodiscard]] constexpr bool acceptable(Seq rcv_nxt,
                                        uint32_t rcv_wnd,
                                        Seq seg_seq,
                                        uint32_t seg_len) {
    if (rcv_wnd == 0) {
        return seg_len == 0 && seg_seq == rcv_nxt;
    }
    const bool begins_in_time = seg_seq < rcv_nxt + rcv_wnd;
    return begins_in_time && rcv_nxt <= (seg_len == 0 ? seg_seq : seg_seq + (seg_len - 1));
}

}  // namespace flue::tcp
