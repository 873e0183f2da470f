#include "target/tcp_stats.hpp"

#include <rte_ethdev.h>

#include "target/worker.hpp"

namespace flue::target {

static_assert(ports_max >= RTE_MAX_ETHPORTS);

namespace {

constexpr std::array counted{&TcpStats::in_segments,
                             &TcpStats::in_errors,
                             &TcpStats::in_octets,
                             &TcpStats::out_segments,
                             &TcpStats::retransmitted_segments,
                             &TcpStats::out_resets,
                             &TcpStats::out_datagrams,
                             &TcpStats::out_octets,
                             &TcpStats::established_reset};

uint32_t version_index(wire::Family family) {
    return family == wire::Family::ipv6 ? 1 : 0;
}

}  // namespace

TcpStats TcpStats::since(const TcpStats& start) const {
    TcpStats result = *this;
    for (const auto figure : counted) {
        result.*figure -= start.*figure;
    }
    return result;
}

void TcpStats::add(const TcpStats& other) {
    for (const auto figure : counted) {
        this->*figure += other.*figure;
    }
    established += other.established;
}

void Worker::count_in(Side& side, const wire::Frame& frame) {
    TcpStats& stats = side.stats[version_index(frame.key.family)];
    ++stats.in_segments;
    stats.in_octets += uint32_t{frame.payload_offset} + frame.payload_bytes - frame.l2_bytes;
}

/// A frame with a wrong checksum still says whose it pretends to be.
void Worker::count_bad_checksum(Side& side, std::span<const std::byte> bytes) {
    wire::Frame frame;
    if (wire::parse_frame(bytes, wire::Checksum::trust, frame) == wire::ParseResult::tcp &&
        flows_.find(frame.key)) {
        count_in(side, frame);
        ++side.stats[version_index(frame.key.family)].in_errors;
    }
}

void Worker::count_out(Side& side, const tcp::TxSegment& segment, const rte_mbuf& frame) {
    const wire::FlowHeader& flow = chimney_->flow(segment.conn);
    const uint32_t l2_bytes      = RTE_ETHER_HDR_LEN + (flow.vlan_id != 0 ? RTE_VLAN_HLEN : 0u);
    TcpStats& stats              = side.stats[version_index(flow.key.family)];
    stats.out_segments += segment.repeats != tcp::Repeats::everything ? 1 : 0;
    stats.retransmitted_segments += segment.repeats != tcp::Repeats::nothing ? 1 : 0;
    stats.out_resets += (segment.tcp.flags & wire::tcp_rst) != 0 ? 1 : 0;
    ++stats.out_datagrams;
    stats.out_octets += frame.pkt_len - l2_bytes;
}

PortTcpStats Worker::tcp_stats(size_t port) const {
    PortTcpStats stats = sides_[port].stats;
    for (uint32_t version = 0; version < ip_versions; ++version) {
        const auto group =
            chimney_->engine().group(static_cast<uint32_t>(port) * ip_versions + version);
        stats[version].established       = group.established;
        stats[version].established_reset = group.established_reset;
    }
    return stats;
}

void Worker::copy_tcp_stats(WorkerSnapshot& snapshot) const {
    for (size_t port = 0; port < sides_.size(); ++port) {
        const PortTcpStats stats = tcp_stats(port);
        for (uint32_t version = 0; version < ip_versions; ++version) {
            snapshot.tcp[port][version] = stats[version].since(sides_[port].stats_cleared[version]);
        }
    }
}

void Worker::clear_tcp_stats() {
    for (size_t port = 0; port < sides_.size(); ++port) {
        sides_[port].stats_cleared = tcp_stats(port);
    }
}

}  // namespace flue::target
