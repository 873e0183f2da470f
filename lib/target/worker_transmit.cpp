#include <algorithm>

#include <rte_ethdev.h>

#include "base/assert.hpp"
#include "target/worker.hpp"

namespace flue::target {

uint32_t Worker::transmit() {
    const uint32_t room = std::min(transmit_room(), builder_.reserve());
    if (room == 0) {
        return 0;
    }
    const uint32_t count = chimney_->transmit(now_, std::span{burst_->segments}.first(room));
    for (const tcp::TxSegment& segment : std::span{burst_->segments}.first(count)) {
        send(segment);
    }
    return count;
}

uint32_t Worker::transmit_room() const {
    // Half of each queue stays for frames from the kernel.
    uint32_t room = burst_max;
    for (const Side& side : sides_) {
        const uint32_t free = side.tx.room();
        room = std::min(room, free > TxQueue::frames_max / 2 ? free - TxQueue::frames_max / 2 : 0);
    }
    return room;
}

void Worker::send(const tcp::TxSegment& segment) {
    std::array<PayloadPiece, tcp::slices_per_segment_max> payload;
    FLUE_ASSERT(segment.slice_count <= payload.size());
    for (uint8_t i = 0; i < segment.slice_count; ++i) {
        const tcp::SendSlice& slice = segment.slices[i];
        const auto bytes            = chimney_->slice_bytes(slice);
        payload[i]                  = {{bytes.data, slice.length}, bytes.dma_mapped, slice.item};
    }
    Side& side      = side_of(segment.conn);
    rte_mbuf* frame = builder_.build(side.wire,
                                     chimney_->flow(segment.conn),
                                     segment.tcp,
                                     std::span{payload}.first(segment.slice_count));
    if (frame != nullptr) {
        const bool taken = side.tx.push(frame);
        FLUE_ASSERT(taken);
        count_out(side, segment, *frame);
    }
}

Worker::Side& Worker::side_of(tcp::ConnIndex index) {
    FLUE_ASSERT(index < side_by_connection_.size());
    uint8_t& side = side_by_connection_[index];
    if (side >= sides_.size()) {
        // Nothing has come in on it yet: the address that it sends from says which port.
        side = side_with(chimney_->flow(index).source_mac);
    }
    return sides_[side];
}

uint8_t Worker::side_with(const wire::MacAddress& mac) const {
    const auto same_mac = [&mac](const Side& candidate) { return candidate.port->mac == mac; };
    const auto found    = std::ranges::find_if(sides_, same_mac);
    return found == sides_.end() ? uint8_t{0} : static_cast<uint8_t>(found - sides_.begin());
}

uint32_t Worker::flush_sides() {
    uint32_t sent = 0;
    for (Side& side : sides_) {
        sent += side.tx.flush();
    }
    return sent;
}

uint32_t Worker::relay() {
    if (parts_.index != 0) {
        return 0;
    }
    uint32_t total = 0;
    for (const Lanes& lanes : parts_.lanes.subspan(1)) {
        queue::Ring<rte_mbuf*> outbound = lanes.outbound;
        if (outbound.get() == nullptr) {
            continue;
        }
        const uint32_t room = std::min(transmit_room(), burst_max);
        std::array<rte_mbuf*, burst_max> frames;
        const uint32_t count = outbound.dequeue(std::span{frames}.first(room));
        for (rte_mbuf* frame : std::span{frames}.first(count)) {
            const bool taken = side_of(frame).tx.push(frame);
            FLUE_ASSERT(taken);
        }
        total += count;
    }
    return total;
}

void Worker::reclaim() {
    builder_.collect();
    if (builder_.outstanding() == 0) {
        return;
    }
    for (const Side& side : sides_) {
        if (side.port->freeing == Port::Freeing::on_request &&
            parts_.index < side.port->tx_queues) {
            (void)rte_eth_tx_done_cleanup(side.port->id, parts_.index, 0);
        }
    }
}

void Worker::free_released() {
    std::array<tcp::ByteRef, burst_max> released;
    std::array<rte_mbuf*, burst_max> packets;
    uint32_t count = 0;
    do {
        count = chimney_->take_released(released);
        for (uint32_t i = 0; i < count; ++i) {
            packets[i] = reinterpret_cast<rte_mbuf*>(released[i].region);
        }
        rte_pktmbuf_free_bulk(packets.data(), count);
    } while (count == burst_max);
}

}  // namespace flue::target
