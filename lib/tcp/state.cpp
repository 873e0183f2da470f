#include "tcp/state.hpp"

#include <array>

namespace flue::tcp {

namespace {

using enum State;
using detail::bit;

/// By the state that is left: where it may go.
constexpr std::array<uint32_t, state_count> moves = [] {
    std::array<uint32_t, state_count> table{};
    const auto row   = [&](State from) -> uint32_t& { return table[static_cast<uint32_t>(from)]; };
    row(established) = bit(fin_wait_1) | bit(close_wait) | bit(closed);
    row(fin_wait_1)  = bit(fin_wait_2) | bit(closing) | bit(closed);
    row(fin_wait_2)  = bit(time_wait) | bit(closed);
    row(close_wait)  = bit(last_ack) | bit(closed);
    row(closing)     = bit(time_wait) | bit(closed);
    row(last_ack)    = bit(closed);
    row(time_wait)   = bit(closed);
    return table;
}();

}  // namespace

bool legal_move(State from, State to) {
    return detail::contains(moves[static_cast<uint32_t>(from)], to);
}

const char* to_string(State state) {
    switch (state) {
        case closed:
            return "closed";
        case established:
            return "established";
        case fin_wait_1:
            return "fin_wait_1";
        case fin_wait_2:
            return "fin_wait_2";
        case close_wait:
            return "close_wait";
        case closing:
            return "closing";
        case last_ack:
            return "last_ack";
        case time_wait:
            return "time_wait";
    }
    return "unknown";
}

}  // namespace flue::tcp
