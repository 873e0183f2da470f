#pragma once

#include "base/seq.hpp"

namespace flue::tcp {

/// acceptable: whether a segment of seg_len sequence numbers occupies any of the receive window.
/// Spec: RFC 9293 §3.10.7.4, table 6
[[nodiscard]] constexpr bool acceptable(Seq rcv_nxt,
                                        uint32_t rcv_wnd,
                                        Seq seg_seq,
                                        uint32_t seg_len) {
    const auto inside = [&](Seq seq) { return rcv_nxt <= seq && seq < rcv_nxt + rcv_wnd; };
    if (rcv_wnd == 0) {
        return seg_len == 0 && seg_seq == rcv_nxt;
    }
    if (seg_len == 0) {
        return inside(seg_seq);
    }
    return inside(seg_seq) || inside(seg_seq + (seg_len - 1));
}

}  // namespace flue::tcp
