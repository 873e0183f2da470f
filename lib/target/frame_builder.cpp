#include "target/frame_builder.hpp"

#include <algorithm>
#include <cstring>

#include <rte_lcore.h>

#include "base/assert.hpp"

namespace flue::target {

namespace {

uint32_t sum_of(std::span<const PayloadPiece> payload) {
    uint32_t sum = 0;
    bool odd     = false;
    for (const PayloadPiece& piece : payload) {
        sum = wire::sum_bytes(piece.bytes, sum, odd);
        odd = odd != (piece.bytes.size() % 2 == 1);
    }
    return sum;
}

void ask_for_checksums(rte_mbuf* frame, wire::Family family, const wire::HeaderLengths& lengths) {
    frame->l2_len = lengths.l2 & 0x7f;  // a field of 7 bits
    frame->l3_len = lengths.l3;
    frame->l4_len = lengths.l4;
    frame->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
    frame->ol_flags |= family == wire::Family::ipv4 ? RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM
                                                    : RTE_MBUF_F_TX_IPV6;
}

void append(rte_mbuf* frame, std::span<const std::byte> bytes) {
    char* const room = rte_pktmbuf_append(frame, static_cast<uint16_t>(bytes.size()));
    FLUE_ASSERT(room != nullptr);
    std::memcpy(room, bytes.data(), bytes.size());
}

}  // namespace

FrameBuilder::FrameBuilder(const Parts& parts) : parts_(parts) {
    FLUE_ASSERT(parts.references != nullptr);
}

FrameBuilder::~FrameBuilder() {
    rte_pktmbuf_free_bulk(headers_.data(), header_count_);
}

uint32_t FrameBuilder::reserve() {
    const uint32_t missing = batch_max - header_count_;
    if (missing > 0 && rte_pktmbuf_alloc_bulk(
                           parts_.pools.header, headers_.data() + header_count_, missing) == 0) {
        header_count_ = batch_max;
    }
    return header_count_;
}

rte_mbuf* FrameBuilder::take_header() {
    return header_count_ > 0 ? headers_[--header_count_] : rte_pktmbuf_alloc(parts_.pools.header);
}

FrameBuilder::Placement FrameBuilder::placement(const FrameTarget& target,
                                                std::span<const PayloadPiece> payload,
                                                uint32_t bytes) const {
    if (bytes <= parts_.copy_below_bytes) {
        return Placement::beside;
    }
    const bool mapped =
        std::ranges::all_of(payload, [](const PayloadPiece& piece) { return piece.dma_mapped; });
    return mapped && payload.size() < target.segments_max ? Placement::attached : Placement::copied;
}

rte_mbuf* FrameBuilder::build(const FrameTarget& target,
                              const wire::FlowHeader& flow,
                              const wire::TcpFields& tcp,
                              std::span<const PayloadPiece> payload) {
    uint32_t bytes = 0;
    for (const PayloadPiece& piece : payload) {
        bytes += static_cast<uint32_t>(piece.bytes.size());
    }
    if (bytes > parts_.payload_bytes_max) {
        ++counters_.too_long;
        return nullptr;
    }
    const Placement place = placement(target, payload, bytes);
    rte_mbuf* frame =
        place == Placement::copied ? rte_pktmbuf_alloc(parts_.pools.copy) : take_header();
    if (frame == nullptr) {
        ++counters_.no_memory;
        return nullptr;
    }
    write_headers(frame, target, flow, tcp, payload, bytes);
    if (place != Placement::attached) {
        std::ranges::for_each(payload,
                              [frame](const PayloadPiece& piece) { append(frame, piece.bytes); });
        counters_.copied_bytes += bytes;
        return frame;
    }
    if (!attach(frame, payload)) {
        ++counters_.no_memory;
        rte_pktmbuf_free(frame);
        return nullptr;
    }
    counters_.zero_copy_bytes += bytes;
    return frame;
}

void FrameBuilder::write_headers(rte_mbuf* frame,
                                 const FrameTarget& target,
                                 const wire::FlowHeader& flow,
                                 const wire::TcpFields& tcp,
                                 std::span<const PayloadPiece> payload,
                                 uint32_t bytes) {
    ip_id_               = static_cast<uint16_t>((ip_id_ + 1) | 0x8000);  // R44
    const auto checksum  = target.tx_checksum ? wire::TxChecksum::pseudo : wire::TxChecksum::full;
    const uint32_t sum   = target.tx_checksum ? 0 : sum_of(payload);
    const std::span room = {rte_pktmbuf_mtod(frame, std::byte*), rte_pktmbuf_tailroom(frame)};
    const wire::HeaderLengths lengths =
        wire::build_headers(flow, tcp, bytes, ip_id_, checksum, sum, room);
    if (wire::is_zero(flow.source_mac)) {
        std::memcpy(room.data() + target.mac.size(), target.mac.data(), target.mac.size());
    }
    frame->data_len = static_cast<uint16_t>(lengths.total());
    frame->pkt_len  = lengths.total();
    if (target.tx_checksum) {
        ask_for_checksums(frame, flow.key.family, lengths);
    }
}

bool FrameBuilder::attach(rte_mbuf* frame, std::span<const PayloadPiece> payload) {
    rte_mbuf* last = frame;
    for (const PayloadPiece& piece : payload) {
        rte_mbuf* part = rte_pktmbuf_alloc(parts_.pools.payload);
        if (part == nullptr) {
            return false;
        }
        auto* attachment = static_cast<Attachment*>(rte_mbuf_to_priv(part));
        *attachment      = Attachment{
            {.free_cb = on_freed, .fcb_opaque = attachment, .refcnt = 1}, this, piece.item};
        auto* bytes    = const_cast<std::byte*>(piece.bytes.data());
        const auto len = static_cast<uint16_t>(piece.bytes.size());
        // Virtual ports read through the address; regions are mapped for devices only where IOVA is
        // the address.
        rte_pktmbuf_attach_extbuf(
            part, bytes, reinterpret_cast<rte_iova_t>(bytes), len, &attachment->shared);
        part->data_len = len;
        part->pkt_len  = len;
        parts_.references->hold(piece.item);
        ++held_;
        last->next = part;
        last       = part;
        frame->nb_segs++;
        frame->pkt_len += len;
    }
    return true;
}

void FrameBuilder::on_freed(void* /*bytes*/, void* opaque) {
    const auto* attachment = static_cast<const Attachment*>(opaque);
    FrameBuilder& builder  = *attachment->builder;
    if (rte_lcore_id() == builder.parts_.lcore) {
        ++builder.dropped_;
        builder.parts_.references->drop(attachment->item);
        return;
    }
    const uint32_t sent = builder.parts_.home.enqueue({&attachment->item, 1});
    FLUE_ASSERT(sent == 1);
}

void FrameBuilder::collect() {
    std::array<tcp::ItemIndex, batch_max> items{};
    if (parts_.home.get() == nullptr) {
        return;
    }
    const uint32_t count = parts_.home.dequeue(items);
    for (const tcp::ItemIndex item : std::span{items}.first(count)) {
        ++dropped_;
        parts_.references->drop(item);
    }
}

}  // namespace flue::target
