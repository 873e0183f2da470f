#pragma once

#include <cstdint>

namespace flue::tcp {

/// Connection states.  Connections arrive synchronized, so there is no LISTEN and no SYN state; the numbers are those
/// of the offload contract and of enum flue_tcp_state.
///
///   established --close--> fin_wait_1 --ack of FIN--> fin_wait_2 --peer FIN--> time_wait
///        |                     +--peer FIN--> closing --ack of FIN--> time_wait
///        +--peer FIN--> close_wait --close--> last_ack --ack of FIN--> closed
///   any --RST out or in, give-up--> closed
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

}  // namespace flue::tcp
