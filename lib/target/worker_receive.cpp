#include <rte_ethdev.h>
#include <rte_prefetch.h>

#include "base/assert.hpp"
#include "target/worker.hpp"
#include "wire/icmp.hpp"

namespace flue::target {

namespace {

bool port_verified(const rte_mbuf* packet) {
    const uint64_t l4 = packet->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    const uint64_t ip = packet->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    // IPv6 has no header checksum: "unknown" is all that a port can say of it.
    return l4 == RTE_MBUF_F_RX_L4_CKSUM_GOOD && ip != RTE_MBUF_F_RX_IP_CKSUM_BAD &&
           (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD ||
            (packet->packet_type & RTE_PTYPE_L3_MASK) == RTE_PTYPE_L3_IPV6);
}

}  // namespace

uint32_t Worker::receive_all() {
    uint32_t total = receive_passed_on();
    for (Side& side : sides_) {
        for (uint16_t i = 0; i < side.rx_queue_count; ++i) {
            total += receive_queue(side, static_cast<uint16_t>(side.first_rx_queue + i));
        }
    }
    return total;
}

uint32_t Worker::receive_queue(Side& side, uint16_t queue) {
    std::array<rte_mbuf*, burst_max> packets;
    const uint16_t count = rte_eth_rx_burst(side.port->id, queue, packets.data(), burst_max);
    receive(side, std::span{packets}.first(count), !side.port->own_rx_queue);
    counters_.rx_frames += count;
    return count;
}

uint32_t Worker::receive_passed_on() {
    const queue::Ring<rte_mbuf*>& ring = parts_.lanes[parts_.index].inbound;
    if (ring.get() == nullptr) {
        return 0;
    }
    std::array<rte_mbuf*, burst_max> packets;
    queue::Ring<rte_mbuf*> inbound = ring;
    const uint32_t count           = inbound.dequeue(packets);
    // Nearly always all of one port: a run of packets of the same port is one burst.
    for (uint32_t first = 0; first < count;) {
        uint32_t end = first + 1;
        while (end < count && packets[end]->port == packets[first]->port) {
            ++end;
        }
        receive(side_of(packets[first]), std::span{packets}.subspan(first, end - first), false);
        first = end;
    }
    return count;
}

void Worker::receive(Side& side, std::span<rte_mbuf* const> packets, bool distribute) {
    FLUE_ASSERT(packets.size() <= burst_max);
    burst_->side  = &side;
    burst_->count = 0;
    for (size_t i = 0; i < packets.size(); ++i) {
        if (i + 1 < packets.size()) {
            rte_prefetch0(rte_pktmbuf_mtod(packets[i + 1], void*));
        }
        wire::Frame& frame = burst_->frames[burst_->count];
        if (!parse(side, packets[i], frame)) {
            note_too_big(packets[i]);
            side.exceptions.to_kernel(packets[i]);
            continue;
        }
        if (distribute) {
            if (const uint16_t owner = parts_.steering->owner(frame.key); owner != parts_.index) {
                pass_on(owner, packets.subspan(i, 1));
                continue;
            }
        }
        burst_->packets[burst_->count] = packets[i];
        burst_->keys[burst_->count]    = &frame.key;
        ++burst_->count;
    }
    look_up();
}

bool Worker::parse(Side& side, rte_mbuf* packet, wire::Frame& frame) {
    if (packet->nb_segs > 1 && rte_pktmbuf_linearize(packet) != 0) {
        ++counters_.malformed;
        return false;
    }
    const std::span bytes{rte_pktmbuf_mtod(packet, const std::byte*), rte_pktmbuf_data_len(packet)};
    const bool verified = side.port->rx_checksum && port_verified(packet);
    switch (wire::parse_frame(
        bytes, verified ? wire::Checksum::trust : wire::Checksum::verify, frame)) {
        using enum wire::ParseResult;
        case tcp:
            return true;
        case not_ip:
        case not_tcp:
            ++counters_.not_tcp;
            return false;
        case fragment:
            ++counters_.fragments;
            note_fragment(bytes);
            return false;
        case ip_options:
            ++counters_.ip_options;
            return false;
        case malformed:
            ++counters_.malformed;
            return false;
        case bad_checksum:
            ++counters_.bad_checksum;
            count_bad_checksum(side, bytes);
            return false;
    }
    return false;
}

void Worker::note_fragment(std::span<const std::byte> bytes) {
    if (!chimney_->wants_fragments()) {
        return;
    }
    const auto key = wire::first_fragment_flow(bytes);
    if (const auto index = key ? flows_.find(*key) : std::nullopt) {
        chimney_->note_fragment(*index);
    }
}

/// ICMP comes to worker 0, for RSS hashes TCP only; where a port sends it elsewhere, timeouts tell
/// the connection in the end.
void Worker::note_too_big(const rte_mbuf* packet) {
    const auto told = wire::parse_packet_too_big(
        {rte_pktmbuf_mtod(packet, const std::byte*), rte_pktmbuf_data_len(packet)});
    if (!told || heed(*told) || parts_.index != 0) {
        return;
    }
    const uint16_t owner                 = parts_.steering->owner(told->key);
    queue::Ring<wire::PacketTooBig> lane = parts_.lanes[owner].too_big;
    if (lane.get() != nullptr && lane.enqueue({&*told, 1}) == 0) {
        ++counters_.too_big_lost;
    }
}

/// What worker 0 was told of connections here.
void Worker::take_too_big() {
    queue::Ring<wire::PacketTooBig> lane = parts_.lanes[parts_.index].too_big;
    std::array<wire::PacketTooBig, 8> told;
    const uint32_t count = lane.get() == nullptr ? 0 : lane.dequeue(told);
    for (const wire::PacketTooBig& message : std::span{told}.first(count)) {
        (void)heed(message);
    }
}

bool Worker::heed(const wire::PacketTooBig& told) {
    const auto index = flows_.find(told.key);
    if (index) {
        ++counters_.too_big;
        chimney_->packet_too_big(now_, *index, told);
    }
    return index.has_value();
}

void Worker::pass_on(uint16_t owner, std::span<rte_mbuf* const> packet) {
    queue::Ring<rte_mbuf*> ring = parts_.lanes[owner].inbound;
    if (ring.enqueue(packet) == 1) {
        ++counters_.passed_on;
        return;
    }
    ++counters_.passed_on_lost;
    rte_pktmbuf_free(packet.front());
}

void Worker::look_up() {
    const uint32_t count = burst_->count;
    const uint64_t hits  = flows_.find_burst(std::span{burst_->keys}.first(count), burst_->values);
    const uint64_t changes = table_changes_;
    for (uint32_t i = 0; i < count; ++i) {
        if ((hits >> i & 1) != 0) {
            chimney_->prefetch(FlowTable::index_of(burst_->values[i]));
        }
    }
    for (uint32_t i = 0; i < count; ++i) {
        std::optional<tcp::ConnIndex> index;
        if (table_changes_ != changes) [[unlikely]] {
            // A segment before this one has ended a flow, perhaps this one's.
            index = flows_.find(burst_->frames[i].key);
        } else if ((hits >> i & 1) != 0) {
            index = FlowTable::index_of(burst_->values[i]);
        }
        if (index) {
            deliver(*burst_->side, *index, burst_->packets[i], burst_->frames[i]);
        } else {
            ++counters_.unknown_flow;
            burst_->side->exceptions.to_kernel(burst_->packets[i]);
        }
    }
}

void Worker::deliver(Side& side, tcp::ConnIndex index, rte_mbuf* packet, const wire::Frame& frame) {
    tcp::Segment segment;
    segment.tcp     = frame.tcp;
    segment.payload = {
        reinterpret_cast<uintptr_t>(packet), frame.payload_offset, frame.payload_bytes};
    if (index < side_by_connection_.size()) {
        side_by_connection_[index] = static_cast<uint8_t>(&side - sides_.data());
    }
    wire::TcpFields reply;
    const auto disposition = chimney_->on_segment(now_, index, segment, reply);
    if (reply.flags != 0) {
        respond(side, packet, frame, reply);
    }
    if (disposition == chimney::Chimney::Disposition::consumed ||
        disposition == chimney::Chimney::Disposition::dropped) {
        count_in(side, frame);
    }
    switch (disposition) {
        using enum chimney::Chimney::Disposition;
        case consumed:
            return;
        case dropped:
            rte_pktmbuf_free(packet);
            return;
        case hold:
            keep(index, packet);
            return;
        case exception:
            side.exceptions.to_kernel(packet);
            return;
    }
}

void Worker::keep(tcp::ConnIndex index, rte_mbuf* packet) {
    if (held_.push(index, packet)) {
        ++counters_.held;
        return;
    }
    // To TCP a loss like one on the wire.
    ++counters_.hold_overflows;
    rte_pktmbuf_free(packet);
}

void Worker::respond(Side& side,
                     const rte_mbuf* packet,
                     const wire::Frame& frame,
                     const wire::TcpFields& reply) {
    const auto* ethernet = rte_pktmbuf_mtod(packet, const rte_ether_hdr*);
    wire::FlowHeader flow;
    flow.key = frame.key;
    std::copy_n(ethernet->dst_addr.addr_bytes, flow.source_mac.size(), flow.source_mac.begin());
    std::copy_n(ethernet->src_addr.addr_bytes, flow.next_hop_mac.size(), flow.next_hop_mac.begin());
    if (frame.l2_bytes > RTE_ETHER_HDR_LEN) {
        const auto* tag = reinterpret_cast<const rte_vlan_hdr*>(ethernet + 1);
        flow.vlan_id    = rte_be_to_cpu_16(tag->vlan_tci) & 0x0fff;
    }
    if (rte_mbuf* answer = builder_.build(side.wire, flow, reply, {});
        answer != nullptr && !side.tx.push(answer)) {
        rte_pktmbuf_free(answer);
    }
}

Worker::Side& Worker::side_of(const rte_mbuf* packet) {
    const uint8_t side = side_by_port_[packet->port];
    FLUE_ASSERT(side < sides_.size());
    return sides_[side];
}

}  // namespace flue::target
