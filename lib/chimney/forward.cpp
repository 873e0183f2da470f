#include <algorithm>
#include <array>
#include <cstring>

#include "chimney/impl.hpp"
#include "wire/frame.hpp"
#include "wire/layout.hpp"

// FORWARD: a segment that reached the host another way.  R61, R62, contract 2.9

namespace flue::chimney {

namespace {

constexpr uint32_t piece_bytes  = Environment::store_payload_bytes_max;
constexpr uint32_t pieces_max   = (FLUE_FORWARD_BYTES_MAX + piece_bytes - 1) / piece_bytes;
constexpr uint8_t flags_of_last = wire::tcp_fin | wire::tcp_psh;

/// What the host is to do with its segment.  What RFC 9293 drops on its way is processed, too.
flue_status status_of(tcp::Drop drop, bool is_reset) {
    if (drop == tcp::Drop::connection_closed) {
        return is_reset ? FLUE_REQUEST_ABORTED : FLUE_UPLOAD_IN_PROGRESS;
    }
    if (drop == tcp::Drop::connection_stopped || drop == tcp::Drop::urgent) {
        return FLUE_UPLOAD_IN_PROGRESS;  // the host keeps it and processes it itself
    }
    return drop == tcp::Drop::no_chunk ? FLUE_RESOURCES : FLUE_SUCCESS;
}

}  // namespace

flue_status Chimney::Impl::may_forward(ConnIndex index) const {
    const Connection& connection = connections[index];
    if (connection.state == OffloadState::held) {
        return FLUE_INVALID_STATE;  // R62
    }
    if ((connection.flags & flag_terminating) != 0) {
        return FLUE_UPLOAD_IN_PROGRESS;
    }
    if ((connection.flags & flag_reset) != 0) {
        return FLUE_REQUEST_ABORTED;
    }
    return connection.state == OffloadState::uploading ? FLUE_UPLOAD_IN_PROGRESS : FLUE_SUCCESS;
}

/// The header is copied before it is looked at, the payload only ever copied.  The checksum is the
/// host's to verify, which alone has the IP header that it covers.
Result<ForwardedSegment, flue_status> Chimney::Impl::read_segment(ConnIndex index,
                                                                  const flue_sge& sge) const {
    const auto range = queues[connections[index].queue].queue->regions().resolve(sge);
    if (!range) {
        return FLUE_BAD_REGION;
    }
    std::array<std::byte, wire::tcp_bytes + wire::tcp_options_bytes_max> header;
    const std::span copied = std::span(header).first(std::min<size_t>(header.size(), sge.length));
    std::memcpy(copied.data(), range->data, copied.size());

    ForwardedSegment segment;
    wire::FlowKey ports;
    const uint32_t header_bytes = wire::parse_tcp(copied, ports, segment.tcp);
    const wire::FlowKey& key    = flows[index].key;
    if (header_bytes == 0 || ports.local_port != key.local_port ||
        ports.remote_port != key.remote_port) {
        return FLUE_BAD_REQUEST;
    }
    segment.payload = {range->data + header_bytes, sge.length - header_bytes};
    if ((segment.tcp.flags & (wire::tcp_rst | wire::tcp_syn)) != 0) {
        segment.payload = {};  // only its own sequence number may count.  R86, R87
    }
    return segment;
}

/// The pieces of a payload follow each other as segments of their own.  All are stored before the
/// first is processed, so that without memory nothing has been done.
flue_status Chimney::Impl::process_segment(Instant now,
                                           ConnIndex index,
                                           const ForwardedSegment& forwarded) {
    std::array<tcp::ByteRef, pieces_max> pieces{};
    uint32_t count = 0;
    for (auto rest = forwarded.payload; !rest.empty() || count == 0; ++count) {
        const auto bytes = rest.first(std::min<size_t>(rest.size(), piece_bytes));
        rest             = rest.subspan(bytes.size());
        pieces[count]    = bytes.empty() ? tcp::ByteRef{} : environment.store_payload(bytes);
        if (pieces[count].region == 0 && !bytes.empty()) {
            refused_payloads.insert(refused_payloads.end(), pieces.begin(), pieces.begin() + count);
            return FLUE_RESOURCES;
        }
    }
    tcp::Segment segment{.tcp = forwarded.tcp, .payload = {}};
    tcp::Drop first      = tcp::Drop::none;
    const bool may_reset = engine.state(index) != tcp::State::time_wait;
    for (uint32_t i = 0; i < count; ++i) {
        const bool is_last = i + 1 == count;
        segment.tcp.flags  = static_cast<uint8_t>(is_last ? forwarded.tcp.flags
                                                          : forwarded.tcp.flags & ~flags_of_last);
        segment.payload    = pieces[i];
        const auto outcome = process(now, index, segment);
        first              = i == 0 ? outcome.drop : first;
        if (!outcome.payload_kept && pieces[i].region != 0) {
            refused_payloads.push_back(pieces[i]);
        }
        segment.tcp.seq += pieces[i].length;
    }
    if (may_reset && (forwarded.tcp.flags & wire::tcp_rst) != 0 && first == tcp::Drop::none) {
        note_reset(index);
    }
    return status_of(first, (connections[index].flags & flag_reset) != 0);
}

void Chimney::Impl::forward(Instant now, ConnIndex index, const flue_wr& wr) {
    const auto refuse_with = [&](flue_status status, uint32_t bytes) {
        complete(index, wr.wr_id, wr.opcode, status, bytes);
    };
    if (const flue_status status = may_forward(index); status != FLUE_SUCCESS) {
        return refuse_with(status, 0);
    }
    if (wr.sge_count != 1) {
        return refuse_with(FLUE_BAD_REQUEST, 0);
    }
    if (wr.sge[0].length < wire::tcp_bytes) {
        return refuse_with(FLUE_BAD_LENGTH, wire::tcp_bytes);
    }
    if (wr.sge[0].length > FLUE_FORWARD_BYTES_MAX) {
        return refuse_with(FLUE_BAD_LENGTH, FLUE_FORWARD_BYTES_MAX);
    }
    const auto segment = read_segment(index, wr.sge[0]);
    if (!segment.ok()) {
        return refuse_with(segment.error(), 0);
    }
    if (refused_payloads.size() + pieces_max > refused_payloads.capacity()) {
        return refuse_with(FLUE_RESOURCES, 0);  // until the worker has fetched what was refused
    }
    const flue_status status = process_segment(now, index, segment.value());
    if (status != FLUE_SUCCESS) {
        return refuse_with(status, 0);
    }
    ++counters.forwards;
    complete(index, wr.wr_id, wr.opcode, FLUE_SUCCESS, 0);
}

}  // namespace flue::chimney
