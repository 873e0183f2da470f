#include "tcp/window.hpp"

#include <gtest/gtest.h>

namespace flue::tcp {

namespace {

struct Case {
    const char* what;
    uint32_t rcv_wnd;
    int32_t from;  ///< seg_seq - rcv_nxt
    uint32_t seg_len;
    bool accepted;
};

}  // namespace

/// The table of RFC 9293 §3.10.7.4, at each edge, and across the wrap of sequence numbers.
TEST(Acceptable, follows_the_table_of_rfc_9293_at_every_edge) {
    constexpr Case cases[] = {
        {"empty, window shut, at the front", 0, 0, 0, true},
        {"empty, window shut, behind", 0, -1, 0, false},
        {"empty, window shut, ahead", 0, 1, 0, false},
        {"empty, at the front", 10, 0, 0, true},
        {"empty, last in the window", 10, 9, 0, true},
        {"empty, first past the window", 10, 10, 0, false},
        {"empty, behind", 10, -1, 0, false},
        {"text, window shut, at the front", 0, 0, 1, false},
        {"text, window shut, behind", 0, -1, 1, false},
        {"text, at the front", 10, 0, 5, true},
        {"text, fills the window", 10, 0, 10, true},
        {"text, more than the window", 10, 0, 11, true},
        {"text, last number only", 10, 9, 5, true},
        {"text, first past the window", 10, 10, 1, false},
        {"text, old", 10, -5, 5, false},
        {"text, old but for the last number", 10, -5, 6, true},
        {"text, laps over both edges", 10, -5, 30, true},
        {"text, far behind", 10, -1000, 5, false},
        {"text, far ahead", 10, 1000, 5, false},
    };
    for (const Case& c : cases) {
        for (const Seq rcv_nxt : {Seq{1000}, Seq{0}, Seq{0xffff'fffb}, Seq{0x7fff'fffb}}) {
            const Seq seg_seq = Seq{rcv_nxt.value + static_cast<uint32_t>(c.from)};
            EXPECT_EQ(acceptable(rcv_nxt, c.rcv_wnd, seg_seq, c.seg_len), c.accepted)
                << c.what << ", rcv_nxt " << rcv_nxt.value;
        }
    }
}

}  // namespace flue::tcp
