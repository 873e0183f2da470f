#pragma once

#include <cstdint>

namespace flue::tcp {

/// Connection states.  Connections arrive synchronized, so there is no LISTEN and no SYN state; the
/// numbers are those of the offload contract and of enum flue_tcp_state.
///
///   established --FIN out--> fin_wait_1 --ack of FIN--> fin_wait_2 --peer FIN--> time_wait
///   --2MSL--> closed
///        |                     +--peer FIN--> closing --ack of FIN--> time_wait
///        +--peer FIN--> close_wait --FIN out--> last_ack --ack of FIN--> closed
///   any --RST out (host) or in (peer), given up (timer)--> closed
///
/// A FIN that is queued behind data changes nothing before it is on the wire.
enum class State : uint8_t {
    closed      = 0,
    established = 4,
    fin_wait_1  = 5,
    fin_wait_2  = 6,
    close_wait  = 7,
    closing     = 8,
    last_ack    = 9,
    time_wait   = 10,
};

constexpr uint32_t state_count = 11;

const char* to_string(State state);

/// legal_move: whether a connection may go from one state to the other.  Spec: RFC 9293 §3.3.2
[[nodiscard]] bool legal_move(State from, State to);

namespace detail {

constexpr bool contains(uint32_t states, State state) {
    return ((states >> static_cast<uint32_t>(state)) & 1U) != 0;
}

constexpr uint32_t bit(State state) {
    return 1U << static_cast<uint32_t>(state);
}

}  // namespace detail

/// The FIN of this side was put on the wire, acknowledged or not.
[[nodiscard]] constexpr bool fin_was_sent(State state) {
    using enum State;
    using detail::bit;
    return detail::contains(
        bit(fin_wait_1) | bit(fin_wait_2) | bit(closing) | bit(last_ack) | bit(time_wait), state);
}

/// The FIN of this side is on the wire and not acknowledged.
[[nodiscard]] constexpr bool fin_is_outstanding(State state) {
    using enum State;
    using detail::bit;
    return detail::contains(bit(fin_wait_1) | bit(closing) | bit(last_ack), state);
}

/// What RFC 4022 counts in tcpCurrEstab.  R119
[[nodiscard]] constexpr bool counts_as_established(State state) {
    using enum State;
    using detail::bit;
    return detail::contains(bit(established) | bit(close_wait), state);
}

/// The peer may still send data.
[[nodiscard]] constexpr bool peer_may_send(State state) {
    using enum State;
    using detail::bit;
    return detail::contains(bit(established) | bit(fin_wait_1) | bit(fin_wait_2), state);
}

}  // namespace flue::tcp
