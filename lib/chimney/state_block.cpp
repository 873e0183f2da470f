#include "chimney/state_block.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "base/crc32c.hpp"

namespace flue::chimney {

namespace {

constexpr uint16_t tcp_header_bytes  = 20;
constexpr uint16_t ipv4_header_bytes = 20;
constexpr uint16_t ipv6_header_bytes = 40;
constexpr uint16_t mss_min           = 88;            // what Linux accepts as least (TCP_MIN_MSS)
constexpr uint32_t window_max        = 65535u << 14;  // RFC 7323 §2.3
constexpr uint8_t backoff_max        = 31;            // a timeout of 2^31 us is past any limit

uint32_t checksum_of(flue_state block) {
    block.checksum = 0;
    return crc32c(std::as_bytes(std::span(&block, 1)));
}

bool has_legal_address(const flue_state& block) {
    if (block.family == 6) {
        return true;
    }
    const auto is_zero = [](uint8_t byte) { return byte == 0; };
    return block.family == 4 && std::all_of(block.local_addr + 4, block.local_addr + 16, is_zero) &&
           std::all_of(block.remote_addr + 4, block.remote_addr + 16, is_zero);
}

/// DCTCP is nothing without marks.  RFC 8257 §3
bool has_legal_congestion(const flue_state& block) {
    const bool ecn = (block.const_flags & FLUE_CONST_ECN) != 0;
    return block.congestion <= FLUE_CONGESTION_DCTCP &&
           (ecn || block.congestion != FLUE_CONGESTION_DCTCP);
}

bool has_legal_constants(const flue_state& block) {
    constexpr uint8_t known_flags =
        FLUE_CONST_TIMESTAMPS | FLUE_CONST_SACK | FLUE_CONST_WINDOW_SCALING | FLUE_CONST_ECN;
    constexpr uint8_t known_cached_flags = FLUE_CACHED_KEEP_ALIVE | FLUE_CACHED_NAGLE |
                                           FLUE_CACHED_KEEP_ALIVE_RESTART |
                                           FLUE_CACHED_MAX_RT_RESTART | FLUE_CACHED_UPDATE_RCV_WND;
    const bool scaling      = (block.const_flags & FLUE_CONST_WINDOW_SCALING) != 0;
    const uint8_t shift_max = scaling ? 14 : 0;
    const uint16_t mtu_min  = path_mtu_min(static_cast<wire::Family>(block.family));
    return (block.const_flags & ~known_flags) == 0 && block.snd_wind_shift <= shift_max &&
           block.rcv_wind_shift <= shift_max && block.remote_mss >= mss_min &&
           block.path_mtu >= mtu_min && block.ttl != 0 && block.vlan_id < 4095 &&
           block.flow_label < (1u << 20) && (block.cached_flags & ~known_cached_flags) == 0 &&
           block.reserved == 0;
}

/// What the peer reported lies above snd_una and was sent; the rest of the array is zero.
bool has_legal_sack(const flue_state& block) {
    if (block.sack_count > FLUE_SACK_MAX) {
        return false;
    }
    const uint32_t flight = block.snd_max - block.snd_una;
    for (uint32_t i = 0; i < FLUE_SACK_MAX; ++i) {
        const flue_sack_range& range = block.sack[i];
        const uint32_t start         = range.start - block.snd_una;
        const uint32_t end           = range.end - block.snd_una;
        const bool fits  = i < block.sack_count && 0 < start && start < end && end <= flight;
        const bool empty = i >= block.sack_count && range.start == 0 && range.end == 0;
        if (!fits && !empty) {
            return false;
        }
    }
    return true;
}

bool has_legal_recovery(const flue_state& block) {
    const bool recovers  = (block.delegated_flags & FLUE_DELEGATED_RECOVERY) != 0;
    const uint32_t ahead = block.recover - block.snd_una;
    return (block.delegated_flags & ~FLUE_DELEGATED_RECOVERY) == 0 &&
           block.delegated_reserved == 0 && block.backoff <= backoff_max &&
           block.ka_delta_ms >= -1 && block.retransmit_delta_ms >= -1 &&
           (!recovers || (0 < ahead && ahead <= block.snd_max - block.snd_una));
}

/// Sequence numbers that contradict each other are a mistake of the giver; the engine relies on
/// their order.
bool has_legal_sequence(const flue_state& block) {
    const uint32_t sent  = block.snd_nxt - block.snd_una;
    const uint32_t known = block.snd_max - block.snd_una;
    return sent <= known && known <= window_max + 1 && block.snd_wnd <= window_max &&
           block.rcv_wnd <= window_max && block.rcv_wnd_max > 0 && block.cwnd > 0;
}

bool may_be_offloaded(uint8_t state) {
    switch (state) {
        case FLUE_TCP_ESTABLISHED:
        case FLUE_TCP_FIN_WAIT_1:
        case FLUE_TCP_FIN_WAIT_2:
        case FLUE_TCP_CLOSE_WAIT:
        case FLUE_TCP_CLOSING:
        case FLUE_TCP_LAST_ACK:
            return true;
        default:
            return false;  // R15
    }
}

wire::FlowKey key_of(const flue_state& block) {
    wire::FlowKey key;
    std::memcpy(key.local.data(), block.local_addr, key.local.size());
    std::memcpy(key.remote.data(), block.remote_addr, key.remote.size());
    key.local_port  = block.local_port;
    key.remote_port = block.remote_port;
    key.family      = static_cast<wire::Family>(block.family);
    return key;
}

wire::FlowHeader flow_of(const flue_state& block) {
    wire::FlowHeader flow;
    flow.key = key_of(block);
    std::memcpy(flow.source_mac.data(), block.source_mac, flow.source_mac.size());
    std::memcpy(flow.next_hop_mac.data(), block.next_hop_mac, flow.next_hop_mac.size());
    flow.vlan_id    = block.vlan_id;
    flow.ttl        = block.ttl;
    flow.tos        = block.tos;
    flow.flow_label = block.flow_label;
    flow.path_mtu   = block.path_mtu;
    flow.remote_mss = block.remote_mss;
    return flow;
}

tcp::Parameters parameters_of(const flue_state& block) {
    tcp::Parameters parameters;
    parameters.timestamps     = (block.const_flags & FLUE_CONST_TIMESTAMPS) != 0;
    parameters.sack           = (block.const_flags & FLUE_CONST_SACK) != 0;
    parameters.nagle          = (block.cached_flags & FLUE_CACHED_NAGLE) != 0;
    parameters.keep_alive     = (block.cached_flags & FLUE_CACHED_KEEP_ALIVE) != 0;
    parameters.ecn            = (block.const_flags & FLUE_CONST_ECN) != 0;
    parameters.congestion     = static_cast<tcp::CongestionControl>(block.congestion);
    parameters.snd_wind_shift = block.snd_wind_shift;
    parameters.rcv_wind_shift = block.rcv_wind_shift;
    parameters.ka_probe_count = block.ka_probe_count;
    parameters.mss =
        payload_mss(static_cast<wire::Family>(block.family), block.path_mtu, block.remote_mss);
    parameters.rcv_wnd_max    = block.rcv_wnd_max;
    parameters.ka_timeout_ms  = block.ka_timeout_ms;
    parameters.ka_interval_ms = block.ka_interval_ms;
    parameters.max_rt_ms      = block.max_rt_ms;
    parameters.family         = static_cast<wire::Family>(block.family);
    return parameters;
}

tcp::Delegated delegated_of(const flue_state& block) {
    tcp::Delegated state;
    state.state                = static_cast<tcp::State>(block.tcp_state);
    state.rcv_nxt              = Seq{block.rcv_nxt};
    state.rcv_wnd              = block.rcv_wnd;
    state.snd_una              = Seq{block.snd_una};
    state.snd_nxt              = Seq{block.snd_nxt};
    state.snd_max              = Seq{block.snd_max};
    state.snd_wnd              = block.snd_wnd;
    state.max_snd_wnd          = std::min(std::max(block.max_snd_wnd, block.snd_wnd), window_max);
    state.snd_wl1              = Seq{block.snd_wl1};
    state.cwnd                 = block.cwnd;
    state.ssthresh             = block.ssthresh;
    state.srtt_us_x8           = block.srtt_us_x8;
    state.rttvar_us_x4         = block.rttvar_us_x4;
    state.ts_recent            = block.ts_recent;
    state.ts_recent_age_ms     = block.ts_recent_age_ms;
    state.ts_time              = block.ts_time;
    state.total_rt_ms          = block.total_rt_ms;
    state.dup_ack_count        = block.dup_ack_count;
    state.retransmit_count     = block.retransmit_count;
    state.backoff              = block.backoff;
    state.recovery             = (block.delegated_flags & FLUE_DELEGATED_RECOVERY) != 0;
    state.ka_probes_unanswered = block.ka_probes_unanswered;
    state.ka_delta_ms          = block.ka_delta_ms;
    state.retransmit_delta_ms  = block.retransmit_delta_ms;
    state.recover              = Seq{block.recover};
    state.sack_count           = block.sack_count;
    for (uint32_t i = 0; i < block.sack_count; ++i) {
        state.sack[i] = {.start = Seq{block.sack[i].start}, .end = Seq{block.sack[i].end}};
    }
    return state;
}

}  // namespace

uint16_t payload_mss(wire::Family family, uint16_t path_mtu, uint16_t remote_mss) {
    const uint16_t ip_bytes = family == wire::Family::ipv6 ? ipv6_header_bytes : ipv4_header_bytes;
    const int room          = path_mtu - ip_bytes - tcp_header_bytes;
    return static_cast<uint16_t>(std::clamp<int>(room, 1, remote_mss));
}

uint16_t path_mtu_in_use(const wire::FlowHeader& flow, uint16_t mss) {
    const wire::Family family = flow.key.family;
    const uint16_t ip_bytes = family == wire::Family::ipv6 ? ipv6_header_bytes : ipv4_header_bytes;
    const bool has_learned  = mss < payload_mss(family, flow.path_mtu, flow.remote_mss);
    return has_learned ? static_cast<uint16_t>(mss + ip_bytes + tcp_header_bytes) : flow.path_mtu;
}

bool is_sound(const flue_state& block) {
    return block.version == FLUE_STATE_VERSION && block.size == sizeof(flue_state) &&
           block.checksum == checksum_of(block);
}

Result<wire::FlowKey, flue_status> read_flow_key(const flue_state& block) {
    if (!is_sound(block) || !has_legal_address(block)) {
        return FLUE_BAD_STATE;
    }
    return key_of(block);
}

Result<StateBlock, flue_status> read_state_block(const flue_state& block, uint32_t rcv_wnd_limit) {
    if (!is_sound(block) || !has_legal_address(block) || !has_legal_constants(block) ||
        !has_legal_congestion(block) || !has_legal_sequence(block) || !has_legal_sack(block) ||
        !has_legal_recovery(block)) {
        return FLUE_BAD_STATE;
    }
    if (!may_be_offloaded(block.tcp_state)) {
        return FLUE_INVALID_STATE;
    }
    if (block.rcv_wnd_max > rcv_wnd_limit || block.receive_backlog_bytes > rcv_wnd_limit) {
        return FLUE_TCP_RCV_WINDOW;  // R26
    }
    return StateBlock{.flow                  = flow_of(block),
                      .parameters            = parameters_of(block),
                      .delegated             = delegated_of(block),
                      .receive_backlog_bytes = block.receive_backlog_bytes};
}

void write_constant_and_cached(const wire::FlowHeader& flow,
                               const tcp::Parameters& parameters,
                               flue_state& block) {
    block             = {};
    block.family      = static_cast<uint8_t>(flow.key.family);
    block.const_flags = static_cast<uint8_t>(
        (parameters.timestamps ? FLUE_CONST_TIMESTAMPS : 0) |
        (parameters.sack ? FLUE_CONST_SACK : 0) | (parameters.ecn ? FLUE_CONST_ECN : 0) |
        (parameters.snd_wind_shift != 0 || parameters.rcv_wind_shift != 0
             ? FLUE_CONST_WINDOW_SCALING
             : 0));
    block.cached_flags = static_cast<uint8_t>((parameters.keep_alive ? FLUE_CACHED_KEEP_ALIVE : 0) |
                                              (parameters.nagle ? FLUE_CACHED_NAGLE : 0));
    block.snd_wind_shift = parameters.snd_wind_shift;
    block.rcv_wind_shift = parameters.rcv_wind_shift;
    block.local_port     = flow.key.local_port;
    block.remote_port    = flow.key.remote_port;
    std::memcpy(block.local_addr, flow.key.local.data(), flow.key.local.size());
    std::memcpy(block.remote_addr, flow.key.remote.data(), flow.key.remote.size());
    std::memcpy(block.source_mac, flow.source_mac.data(), flow.source_mac.size());
    std::memcpy(block.next_hop_mac, flow.next_hop_mac.data(), flow.next_hop_mac.size());
    block.vlan_id        = flow.vlan_id;
    block.ttl            = flow.ttl;
    block.tos            = flow.tos;
    block.flow_label     = flow.flow_label;
    block.path_mtu       = path_mtu_in_use(flow, parameters.mss);
    block.remote_mss     = flow.remote_mss;
    block.congestion     = static_cast<uint8_t>(parameters.congestion);
    block.rcv_wnd_max    = parameters.rcv_wnd_max;
    block.ka_timeout_ms  = parameters.ka_timeout_ms;
    block.ka_interval_ms = parameters.ka_interval_ms;
    block.ka_probe_count = parameters.ka_probe_count;
    block.max_rt_ms      = parameters.max_rt_ms;
}

void write_delegated(const tcp::Delegated& state,
                     uint32_t send_backlog,
                     uint32_t receive_backlog,
                     flue_state& block,
                     uint32_t send_backlog_wanted) {
    block.version              = FLUE_STATE_VERSION;
    block.size                 = sizeof(flue_state);
    block.tcp_state            = static_cast<uint8_t>(state.state);
    block.rcv_nxt              = state.rcv_nxt.value;
    block.rcv_wnd              = state.rcv_wnd;
    block.snd_una              = state.snd_una.value;
    block.snd_nxt              = state.snd_nxt.value;
    block.snd_max              = state.snd_max.value;
    block.snd_wnd              = state.snd_wnd;
    block.max_snd_wnd          = state.max_snd_wnd;
    block.snd_wl1              = state.snd_wl1.value;
    block.cwnd                 = state.cwnd;
    block.ssthresh             = state.ssthresh;
    block.srtt_us_x8           = state.srtt_us_x8;
    block.rttvar_us_x4         = state.rttvar_us_x4;
    block.ts_recent            = state.ts_recent;
    block.ts_recent_age_ms     = state.ts_recent_age_ms;
    block.ts_time              = state.ts_time;
    block.total_rt_ms          = state.total_rt_ms;
    block.dup_ack_count        = state.dup_ack_count;
    block.retransmit_count     = state.retransmit_count;
    block.backoff              = std::min(state.backoff, backoff_max);
    block.delegated_flags      = state.recovery ? FLUE_DELEGATED_RECOVERY : 0;
    block.delegated_reserved   = 0;
    block.ka_probes_unanswered = state.ka_probes_unanswered;
    block.ka_delta_ms          = state.ka_delta_ms;
    block.retransmit_delta_ms  = state.retransmit_delta_ms;
    block.recover              = state.recover.value;
    block.sack_count           = state.sack_count;
    for (uint32_t i = 0; i < FLUE_SACK_MAX; ++i) {
        const bool used = i < state.sack_count;
        block.sack[i]   = {.start = used ? state.sack[i].start.value : 0,
                           .end   = used ? state.sack[i].end.value : 0};
    }
    block.send_backlog_bytes        = send_backlog;
    block.receive_backlog_bytes     = receive_backlog;
    block.send_backlog_wanted_bytes = send_backlog_wanted;
    block.checksum                  = checksum_of(block);
}

}  // namespace flue::chimney
