#include <algorithm>

#include "chimney/impl.hpp"

namespace flue::chimney {

namespace {

uint8_t update_flags(const flue_state& block) {
    uint32_t flags = 0;
    flags |= (block.cached_flags & FLUE_CACHED_KEEP_ALIVE_RESTART) != 0
                 ? tcp::update_restart_keep_alive
                 : 0;
    flags |=
        (block.cached_flags & FLUE_CACHED_MAX_RT_RESTART) != 0 ? tcp::update_restart_max_rt : 0;
    flags |= (block.cached_flags & FLUE_CACHED_UPDATE_RCV_WND) != 0 ? tcp::update_tell_window : 0;
    return static_cast<uint8_t>(flags);
}

bool has_legal_cached_fields(const flue_state& block) {
    constexpr uint8_t known_flags = FLUE_CACHED_KEEP_ALIVE | FLUE_CACHED_NAGLE |
                                    FLUE_CACHED_KEEP_ALIVE_RESTART | FLUE_CACHED_MAX_RT_RESTART |
                                    FLUE_CACHED_UPDATE_RCV_WND;
    return (block.cached_flags & ~known_flags) == 0 && block.ttl != 0 &&
           block.flow_label < (1u << 20) && block.rcv_wnd_max > 0;
}

/// Constants stay what they are, whatever the block says.  R28
void apply(const flue_state& block, wire::FlowHeader& flow) {
    flow.ttl        = block.ttl;
    flow.tos        = block.tos;
    flow.flow_label = block.flow_label;
}

void apply(const flue_state& block, tcp::Parameters& parameters) {
    parameters.nagle          = (block.cached_flags & FLUE_CACHED_NAGLE) != 0;
    parameters.keep_alive     = (block.cached_flags & FLUE_CACHED_KEEP_ALIVE) != 0;
    parameters.ka_probe_count = block.ka_probe_count;
    parameters.rcv_wnd_max    = block.rcv_wnd_max;
    parameters.ka_timeout_ms  = block.ka_timeout_ms;
    parameters.ka_interval_ms = block.ka_interval_ms;
    parameters.max_rt_ms      = block.max_rt_ms;
}

}  // namespace

flue_status Chimney::Impl::check_link(const wire::MacAddress& source_mac,
                                      uint16_t vlan_id,
                                      uint16_t path_mtu) const {
    switch (environment.check_link(source_mac, vlan_id, path_mtu)) {
        case Environment::LinkCheck::ok:
            return FLUE_SUCCESS;
        case Environment::LinkCheck::unknown_mac:
            return FLUE_HW_ADDRESS_ENTRIES;
        case Environment::LinkCheck::unknown_vlan:
            return FLUE_VLAN_MISMATCH;  // R25
        case Environment::LinkCheck::mtu_too_large:
            return FLUE_PATH_MTU;
    }
    return FLUE_FAILURE;
}

void Chimney::Impl::update(Instant now, ConnIndex index, const flue_wr& wr) {
    const Connection& connection = connections[index];
    const auto finish            = [&](flue_status status, uint32_t bytes = 0) {
        complete(index, wr.wr_id, wr.opcode, status, bytes);
    };
    if (connection.state == OffloadState::held) {
        return finish(FLUE_INVALID_STATE);
    }
    if (connection.state == OffloadState::uploading) {
        return finish(FLUE_UPLOAD_IN_PROGRESS);  // R98
    }
    if (wr.sge_count != 1 || wr.flags != 0) {
        return finish(FLUE_BAD_REQUEST);
    }
    const auto block = read_block(connection.queue, wr.sge[0]);
    if (!block.ok()) {
        return finish(block.error(), sizeof(flue_state));
    }
    finish(apply_update(now, index, block.value()));
}

/// Checks everything before it changes anything.  R31
flue_status Chimney::Impl::apply_update(Instant now, ConnIndex index, const flue_state& block) {
    wire::FlowHeader flow = flows[index];
    if (!is_sound(block) || !has_legal_cached_fields(block)) {
        return FLUE_BAD_STATE;
    }
    if (block.rcv_wnd_max > options.rcv_wnd_limit) {
        return FLUE_TCP_RCV_WINDOW;
    }
    apply(block, flow);
    if (neighbor_of(index) == no_node) {
        std::ranges::copy(block.next_hop_mac, flow.next_hop_mac.begin());
    }
    if (path_links[index].path == no_node) {
        flow.path_mtu = block.path_mtu;
    }
    if (flow.path_mtu < path_mtu_min(flow.key.family)) {
        return FLUE_BAD_STATE;
    }
    const flue_status link = check_link(flow.source_mac, flow.vlan_id, flow.path_mtu);
    if (link != FLUE_SUCCESS) {
        return link;
    }
    tcp::Parameters parameters = engine.parameters(index);
    apply(block, parameters);
    parameters.mss = payload_mss(flow.key.family, flow.path_mtu, flow.remote_mss);
    flows[index]   = flow;
    engine.update(now, index, parameters, update_flags(block));
    return FLUE_SUCCESS;
}

void Chimney::Impl::invalidate(Instant /*now*/, ConnIndex index, const flue_wr& wr) {
    flue_status status = FLUE_SUCCESS;
    if (connections[index].state == OffloadState::held) {
        status = FLUE_INVALID_STATE;
    } else if ((connections[index].flags & flag_terminating) != 0) {
        status = FLUE_UPLOAD_IN_PROGRESS;
    } else if (wr.sge_count != 0 || wr.flags != 0) {
        status = FLUE_BAD_REQUEST;
    } else {
        stop_sending(index);
    }
    complete(index, wr.wr_id, wr.opcode, status, 0);
}

void Chimney::Impl::stop_sending(ConnIndex index) {
    Connection& connection = connections[index];
    if ((connection.flags & (flag_terminating | flag_reset)) != 0) {
        engine.stop(index);  // its end is under way: there is nothing to ask for
        return settle_later(index);
    }
    engine.invalidate(index);
    if (connection.state != OffloadState::orphaned) {
        connection.state = OffloadState::uploading;
    }
    if (connection.drain_deadline_ms != 0) {  // its DISCONNECT goes back with TERMINATE
        connection.drain_deadline_ms = 0;
        connection.flags &= static_cast<uint16_t>(~flag_deadline_abort);
    }
}

/// While a flow is held its segments are the kernel's, which hears of it too.
void Chimney::packet_too_big(Instant now, ConnIndex index, const wire::PacketTooBig& told) {
    Impl& impl = *impl_;
    if (index >= impl.connections.capacity() ||
        impl.connections[index].state == OffloadState::held) {
        return;
    }
    const wire::FlowHeader& flow = impl.flows[index];
    const uint16_t mss           = payload_mss(flow.key.family, told.next_hop_mtu, flow.remote_mss);
    impl.engine.packet_too_big(now, index, told.seq, mss);
}

}  // namespace flue::chimney
