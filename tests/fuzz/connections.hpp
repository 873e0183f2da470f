#pragma once

#include "input.hpp"
#include "tcp/engine.hpp"

/// Connections to be adopted: each number is ordinary or at an edge, and nothing need fit together.
namespace flue::fuzz {

inline tcp::Parameters any_parameters(Input& in) {
    tcp::Parameters parameters;
    const uint8_t flags       = in.byte();
    parameters.timestamps     = (flags & 1) != 0;
    parameters.sack           = (flags & 2) != 0;
    parameters.nagle          = (flags & 4) != 0;
    parameters.keep_alive     = (flags & 8) != 0;
    parameters.snd_wind_shift = in.pick<uint8_t>({0, 7, 14});
    parameters.rcv_wind_shift = in.pick<uint8_t>({0, 7, 14});
    parameters.ka_probe_count = in.pick<uint8_t>({0, 1, 9});
    parameters.mss            = in.pick<uint16_t>({1460, 0, 88, UINT16_MAX});
    parameters.rcv_wnd_max    = in.pick({65535U, 1U, 3000U, 1U << 30});
    parameters.ka_timeout_ms  = in.pick({1000U, 0U, UINT32_MAX});
    parameters.ka_interval_ms = in.pick({1000U, 0U, UINT32_MAX});
    parameters.max_rt_ms      = in.pick({0U, 1U, 5000U, UINT32_MAX});
    return parameters;
}

inline tcp::Delegated any_state(Input& in) {
    using tcp::State;
    static constexpr State states[] = {State::established,
                                       State::established,
                                       State::close_wait,
                                       State::fin_wait_1,
                                       State::fin_wait_2,
                                       State::closing,
                                       State::last_ack,
                                       State::time_wait};
    tcp::Delegated state;
    state.state                = in.pick(states);
    state.rcv_nxt              = Seq{in.pick({5000U, 0U, 0xffff'fff0U, 0x7fff'fff0U})};
    state.rcv_wnd              = in.pick({65535U, 0U, 1U, 1000U, 1U << 30});
    state.snd_una              = Seq{in.pick({9000U, 0U, 0xffff'fff0U, 0x7fff'fff0U})};
    const uint32_t in_flight   = in.pick({0U, 1U, 2U, 3000U, 1U << 30});
    state.snd_max              = state.snd_una + in_flight;
    state.snd_nxt              = in.flag() ? state.snd_una : state.snd_max;
    state.snd_wnd              = in.pick({65535U, 0U, 1U, 1000U, 65535U << 14});
    state.max_snd_wnd          = in.pick({0U, 65535U, 1U << 30});
    state.snd_wl1              = state.rcv_nxt + in.near();
    state.cwnd                 = in.pick({14600U, 0U, 1U, UINT32_MAX});
    state.ssthresh             = in.pick({UINT32_MAX, 0U, 3000U});
    state.srtt_us_x8           = in.pick({0U, 8000U, UINT32_MAX});
    state.rttvar_us_x4         = in.pick({0U, 2000U, UINT32_MAX});
    state.ts_recent            = in.pick({0U, 7U, UINT32_MAX});
    state.ts_recent_age_ms     = in.pick({0U, 1000U, UINT32_MAX});
    state.ts_time              = in.pick({0U, 77U, 0xffff'ff00U});
    state.total_rt_ms          = in.pick({0U, 1000U, UINT32_MAX});
    state.dup_ack_count        = in.pick<uint8_t>({0, 3, 255});
    state.retransmit_count     = in.pick<uint8_t>({0, 1, 255});
    state.ka_probes_unanswered = in.pick<uint8_t>({0, 255});
    state.ka_delta_ms          = in.pick({-1, 0, 1, 5000, INT32_MAX});
    state.retransmit_delta_ms  = in.pick({-1, 0, 1, 5000, INT32_MAX});
    state.recover              = state.snd_una + in.near();
    state.sack_count           = in.below(wire::sack_ranges_max + 1);
    for (uint32_t i = 0; i < state.sack_count; ++i) {
        state.sack[i].start = state.snd_una + in.near();
        state.sack[i].end   = state.sack[i].start + in.near();
    }
    return state;
}

}  // namespace flue::fuzz
