#pragma once

#include "base/result.hpp"
#include "flue/abi.h"
#include "tcp/engine.hpp"
#include "wire/fields.hpp"

namespace flue::chimney {

/// A struct flue_state in the terms of the layers below.
struct StateBlock {
    wire::FlowHeader flow;
    tcp::Parameters parameters;
    tcp::Delegated delegated;
    uint32_t receive_backlog_bytes = 0;
};

/// is_sound: version, size and checksum fit.
bool is_sound(const flue_state& block);

/// read_flow_key checks the block's version, size and checksum and reads what names the connection.
/// Any content is legal.  Errors: FLUE_BAD_STATE.
Result<wire::FlowKey, flue_status> read_flow_key(const flue_state& block);

/// read_state_block reads and checks a whole block that a host hands over.
/// Errors: FLUE_BAD_STATE, FLUE_INVALID_STATE (a TCP state that cannot be offloaded, R15),
/// FLUE_TCP_RCV_WINDOW (R26).
Result<StateBlock, flue_status> read_state_block(const flue_state& block, uint32_t rcv_wnd_limit);

/// write_delegated writes the delegated fields and seals the block; constant and cached fields stay
/// as they are.  R10, R14
void write_delegated(const tcp::Delegated& state,
                     uint32_t send_backlog,
                     uint32_t receive_backlog,
                     flue_state& block,
                     uint32_t send_backlog_wanted = UINT32_MAX);

/// write_constant_and_cached writes the other fields, for QUERY.  Call before write_delegated.
void write_constant_and_cached(const wire::FlowHeader& flow,
                               const tcp::Parameters& parameters,
                               flue_state& block);

/// payload_mss returns min(path MTU - headers, remote MSS), options not taken off.
uint16_t payload_mss(wire::Family family, uint16_t path_mtu, uint16_t remote_mss);

/// path_mtu_in_use returns the flow's path MTU, or a smaller one that `mss`, the engine's, comes
/// from: the path has taught it.
uint16_t path_mtu_in_use(const wire::FlowHeader& flow, uint16_t mss);

/// path_mtu_min returns what every path of the family lets through.  RFC 791, RFC 8200 §5
constexpr uint16_t path_mtu_min(wire::Family family) {
    return family == wire::Family::ipv6 ? 1280 : 68;
}

}  // namespace flue::chimney
