// Frames as they come from a NIC: wire::parse_frame reads any bytes, and what build_headers wrote;
// wire::parse_packet_too_big any ICMP message.

#include <memory>

#include "base/assert.hpp"
#include "input.hpp"
#include "wire/bytes.hpp"
#include "wire/frame.hpp"
#include "wire/icmp.hpp"
#include "wire/layout.hpp"

namespace {

using namespace flue;
using namespace flue::wire;
using fuzz::Input;

/// Bytes in memory of exactly their size.
struct Buffer {
    explicit Buffer(size_t count) : bytes(std::make_unique<std::byte[]>(count)), size(count) {}

    [[nodiscard]] std::span<std::byte> span() const { return {bytes.get(), size}; }

    std::unique_ptr<std::byte[]> bytes;
    size_t size;
};

bool same(const Frame& a, const Frame& b) {
    return a.key == b.key && a.payload_offset == b.payload_offset &&
           a.payload_bytes == b.payload_bytes && a.tcp.seq == b.tcp.seq && a.tcp.ack == b.tcp.ack &&
           a.tcp.sack == b.tcp.sack && a.tcp.ts_val == b.tcp.ts_val;
}

/// parse reads with and without checksums; what it says of a frame lies in the frame.
ParseResult parse(std::span<const std::byte> bytes, Frame& frame) {
    const ParseResult trusting = parse_frame(bytes, Checksum::trust, frame);
    FLUE_ASSERT(trusting != ParseResult::bad_checksum);
    Frame verified;
    const ParseResult result = parse_frame(bytes, Checksum::verify, verified);
    FLUE_ASSERT(result == trusting || result == ParseResult::bad_checksum);
    if (trusting != ParseResult::tcp) {
        return trusting;
    }
    FLUE_ASSERT(result != ParseResult::tcp || same(frame, verified));
    FLUE_ASSERT(frame.key.family != Family::none);
    FLUE_ASSERT(frame.tcp.sack_count <= sack_ranges_max);
    FLUE_ASSERT(frame.payload_offset >= frame.l2_bytes + frame.l3_bytes + tcp_bytes);
    FLUE_ASSERT(size_t{frame.payload_offset} + frame.payload_bytes <= bytes.size());
    return result;
}

void parse_anything(Input& in) {
    const auto raw = in.take(in.size());
    const Buffer buffer(raw.size());
    std::ranges::copy(std::as_bytes(raw), buffer.span().begin());
    Frame frame;
    const ParseResult result = parse(buffer.span(), frame);
    const auto too_big       = parse_packet_too_big(buffer.span());
    FLUE_ASSERT(!too_big || result == ParseResult::not_tcp);
}

/// An ICMP message of any bytes in a packet that is sound around it, to whom it quotes.
void parse_any_message(Input& in) {
    const bool ipv4    = in.flag();
    const size_t l3    = ipv4 ? ipv4_bytes : ipv6_bytes;
    const uint8_t kind = ipv4 ? protocol_icmp : protocol_icmpv6;
    const auto raw     = in.take(1280);
    if (raw.size() < 8) {
        return;
    }
    const Buffer buffer(ethernet_bytes + l3 + raw.size());
    const auto packet  = buffer.span().subspan(ethernet_bytes);
    const auto message = packet.subspan(l3);
    store16(&buffer.bytes[ethernet_type_offset], ipv4 ? ethertype_ipv4 : ethertype_ipv6);
    store8(&packet[0], ipv4 ? 0x45 : 0x60);
    store16(&packet[ipv4 ? 2 : 4], static_cast<uint16_t>(raw.size() + (ipv4 ? l3 : 0)));
    store8(&packet[ipv4 ? 9 : 6], kind);
    std::ranges::copy(std::as_bytes(raw), message.begin());
    const size_t source = ipv4 ? 8 + 12 : 8 + 8;  // of what is quoted
    const size_t size   = ipv4 ? ipv4_address_bytes : ipv6_address_bytes;
    if (raw.size() >= source + size) {
        std::ranges::copy(message.subspan(source, size), packet.subspan(ipv4 ? 16 : 24).begin());
    }
    store16(&message[2], 0);
    const uint32_t length = kind + static_cast<uint32_t>(raw.size());
    const uint32_t pseudo = ipv4 ? 0 : sum_bytes(packet.subspan(8, 2 * size), length);
    store16(&message[2], fold_checksum(sum_bytes(message, pseudo)));
    if (ipv4) {
        store16(&packet[ipv4_checksum_offset], 0);
        store16(&packet[ipv4_checksum_offset], fold_checksum(sum_bytes(packet.first(l3))));
    }

    const auto told   = parse_packet_too_big(buffer.span());
    const bool is_one = ipv4 ? load16(&message[0]) == 0x0304 : load8(&message[0]) == 2;
    FLUE_ASSERT(!told || is_one);
    FLUE_ASSERT(!told || told->key.family == (ipv4 ? Family::ipv4 : Family::ipv6));
    FLUE_ASSERT(!told || raw.size() >= 8 + l3 + 8);
    FLUE_ASSERT(!fuzz::canary || !told);
}

void seal(std::span<std::byte> packet, bool ipv4) {
    const size_t address   = ipv4 ? 12 : 8;
    const uint32_t ip      = ipv4 ? ipv4_bytes : ipv6_bytes;
    const auto segment     = packet.subspan(ip);
    const uint32_t size    = ipv4 ? ipv4_address_bytes : ipv6_address_bytes;
    const uint32_t pseudo  = sum_bytes(packet.subspan(address, 2 * size),
                                      protocol_tcp + static_cast<uint32_t>(segment.size()));
    const size_t tcp_field = tcp_checksum_offset;
    store16(&segment[tcp_field], 0);
    store16(&segment[tcp_field], fold_checksum(sum_bytes(segment, pseudo)));
    if (ipv4) {
        store16(&packet[ipv4_checksum_offset], 0);
        store16(&packet[ipv4_checksum_offset], fold_checksum(sum_bytes(packet.first(ip))));
    }
}

/// A TCP header of any bytes, options above all, in a packet that is sound around it.
void parse_any_segment(Input& in) {
    const bool ipv4     = in.flag();
    const bool tagged   = in.flag();
    const uint8_t words = in.below(16);
    const size_t l2     = ethernet_bytes + (tagged ? vlan_tag_bytes : 0);
    const size_t l3     = ipv4 ? ipv4_bytes : ipv6_bytes;
    const auto raw      = in.take(1500);
    if (raw.size() < tcp_bytes) {
        return;
    }
    const Buffer buffer(l2 + l3 + raw.size());
    const auto packet = buffer.span().subspan(l2);
    store16(&buffer.bytes[ethernet_type_offset], ethertype_vlan);
    store16(&buffer.bytes[l2 - 2], ipv4 ? ethertype_ipv4 : ethertype_ipv6);
    store8(&packet[0], ipv4 ? 0x45 : 0x60);
    store16(&packet[ipv4 ? 2 : 4], static_cast<uint16_t>(raw.size() + (ipv4 ? l3 : 0)));
    store8(&packet[ipv4 ? 9 : 6], protocol_tcp);
    std::ranges::copy(std::as_bytes(raw), packet.subspan(l3).begin());
    store8(&packet[l3 + 12], static_cast<uint8_t>(words << 4));
    seal(packet, ipv4);
    Frame frame;
    const ParseResult result = parse(buffer.span(), frame);
    const bool header_fits   = words >= tcp_bytes / 4 && size_t{words} * 4 <= raw.size();
    FLUE_ASSERT(result == (header_fits ? ParseResult::tcp : ParseResult::malformed));
}

FlowHeader any_flow(Input& in) {
    FlowHeader flow;
    flow.key.family      = in.flag() ? Family::ipv4 : Family::ipv6;
    const size_t address = flow.key.family == Family::ipv4 ? ipv4_address_bytes : 16;
    std::ranges::copy(in.take(address), flow.key.local.begin());
    std::ranges::copy(in.take(address), flow.key.remote.begin());
    flow.key.local_port  = in.number<uint16_t>();
    flow.key.remote_port = in.number<uint16_t>();
    flow.vlan_id         = in.number<uint16_t>() % 4095;
    flow.ttl             = in.byte();
    flow.tos             = in.byte();
    flow.flow_label      = in.number<uint32_t>() & 0xfffff;
    return flow;
}

TcpFields any_fields(Input& in) {
    TcpFields tcp;
    tcp.seq            = Seq{in.number<uint32_t>()};
    tcp.ack            = Seq{in.number<uint32_t>()};
    tcp.window         = in.number<uint16_t>();
    tcp.urgent         = in.number<uint16_t>();
    tcp.flags          = in.byte();
    tcp.has_timestamps = in.flag();
    tcp.ecn_capable    = (tcp.flags & 1) != 0;
    tcp.sack_count     = in.below(sack_ranges_max + 1);
    tcp.ts_val         = tcp.has_timestamps ? in.number<uint32_t>() : 0;
    tcp.ts_ecr         = tcp.has_timestamps ? in.number<uint32_t>() : 0;
    for (uint32_t i = 0; i < tcp.sack_count; ++i) {
        tcp.sack[i].start = Seq{in.number<uint32_t>()};
        tcp.sack[i].end   = Seq{in.number<uint32_t>()};
    }
    return tcp;
}

/// What is read back is what was written, and the checksum is good.
void build_and_parse(Input& in) {
    const FlowHeader flow = any_flow(in);
    TcpFields tcp         = any_fields(in);
    const auto payload    = std::as_bytes(in.take(in.below(64)));
    const Buffer room(header_bytes_max);
    const uint16_t ip_id = static_cast<uint16_t>(0x8000 | in.number<uint16_t>());
    const uint32_t count = static_cast<uint32_t>(payload.size());
    const auto lengths =
        build_headers(flow, tcp, count, ip_id, TxChecksum::full, sum_bytes(payload), room.span());
    FLUE_ASSERT(lengths.total() <= header_bytes_max);
    FLUE_ASSERT(lengths.l4 == tcp_bytes + option_bytes(tcp));
    const Buffer whole(lengths.total() + payload.size());
    std::ranges::copy(room.span().first(lengths.total()), whole.span().begin());
    std::ranges::copy(payload, whole.span().subspan(lengths.total()).begin());

    Frame frame;
    FLUE_ASSERT(parse(whole.span(), frame) == ParseResult::tcp);
    const bool crowded = tcp.has_timestamps && tcp.sack_count > 3;
    tcp.sack_count     = crowded ? 3 : tcp.sack_count;
    tcp.sack[3]        = crowded ? SackRange{} : tcp.sack[3];
    tcp.window         = static_cast<uint16_t>(tcp.window + (fuzz::canary && crowded ? 1 : 0));
    FLUE_ASSERT(frame.key.local == flow.key.remote && frame.key.remote == flow.key.local);
    FLUE_ASSERT(frame.key.local_port == flow.key.remote_port);
    FLUE_ASSERT(frame.key.remote_port == flow.key.local_port);
    FLUE_ASSERT(frame.key.family == flow.key.family);
    FLUE_ASSERT(frame.l2_bytes == lengths.l2 && frame.l3_bytes == lengths.l3);
    FLUE_ASSERT(frame.payload_offset == lengths.total() && frame.payload_bytes == count);
    FLUE_ASSERT(frame.tcp.seq == tcp.seq && frame.tcp.ack == tcp.ack);
    FLUE_ASSERT(frame.tcp.window == tcp.window && frame.tcp.urgent == tcp.urgent);
    FLUE_ASSERT(frame.tcp.flags == tcp.flags);
    FLUE_ASSERT(!frame.tcp.congestion_experienced);
    FLUE_ASSERT(frame.tcp.has_timestamps == tcp.has_timestamps);
    FLUE_ASSERT(frame.tcp.ts_val == tcp.ts_val && frame.tcp.ts_ecr == tcp.ts_ecr);
    FLUE_ASSERT(frame.tcp.sack_count == tcp.sack_count && frame.tcp.sack == tcp.sack);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in({data, size});
    switch (in.below(4)) {
        case 0:
            parse_anything(in);
            break;
        case 1:
            parse_any_segment(in);
            break;
        case 2:
            build_and_parse(in);
            break;
        default:
            parse_any_message(in);
            break;
    }
    return 0;
}
