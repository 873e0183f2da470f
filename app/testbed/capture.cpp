#include "testbed/capture.hpp"

#include <algorithm>
#include <chrono>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "testbed/packet_socket.hpp"

namespace flue::testbed {
namespace {

constexpr unsigned block_bytes = 1 << 20;
constexpr unsigned block_count = 32;
constexpr unsigned snap_bytes  = 192;  // every header that decode_segment reads
constexpr unsigned retire_ms   = 5;    // the kernel hands an unfilled block over after this
constexpr auto settle          = std::chrono::milliseconds{4 * retire_ms};
// TPACKET_ALIGN, which warns in C++.
constexpr size_t address_offset =
    (sizeof(tpacket3_hdr) + TPACKET_ALIGNMENT - 1) / TPACKET_ALIGNMENT * TPACKET_ALIGNMENT;
constexpr auto stop_poll_interval = std::chrono::milliseconds{50};

template <typename Value>
void set_option(
    const Descriptor& socket, int level, int name, const Value& value, const char* what) {
    if (::setsockopt(socket.get(), level, name, &value, sizeof value) != 0) {
        throw_errno(what);
    }
}

void keep_headers_only(const Descriptor& socket) {
    sock_filter accept{.code = BPF_RET | BPF_K, .jt = 0, .jf = 0, .k = snap_bytes};
    const sock_fprog program{.len = 1, .filter = &accept};
    set_option(socket, SOL_SOCKET, SO_ATTACH_FILTER, program, "attaching the capture filter");
}

std::byte* map_ring(const Descriptor& socket) {
    set_option(socket, SOL_PACKET, PACKET_VERSION, int{TPACKET_V3}, "asking for a TPACKET_V3 ring");
    tpacket_req3 request{};
    request.tp_block_size     = block_bytes;
    request.tp_block_nr       = block_count;
    request.tp_frame_size     = 2048;
    request.tp_frame_nr       = block_bytes / 2048 * block_count;
    request.tp_retire_blk_tov = retire_ms;
    set_option(socket, SOL_PACKET, PACKET_RX_RING, request, "making a capture ring");
    void* ring = ::mmap(nullptr,
                        size_t{block_bytes} * block_count,
                        PROT_READ | PROT_WRITE,
                        MAP_SHARED,
                        socket.get(),
                        0);
    if (ring == MAP_FAILED) {
        throw_errno("mapping the capture ring");
    }
    return static_cast<std::byte*>(ring);
}

tpacket_hdr_v1& header_of_block(std::byte* ring, unsigned block) {
    return reinterpret_cast<tpacket_block_desc*>(ring + size_t{block} * block_bytes)->hdr.bh1;
}

}  // namespace

std::optional<CapturedSegment> decode_segment(const CapturedFrame& captured, Direction direction) {
    // The parser wants whole frames; what lies behind the headers does not matter to it.
    std::vector<std::byte> whole(captured.frame_bytes);
    std::copy_n(captured.head.begin(), std::min(captured.head.size(), whole.size()), whole.begin());
    wire::Frame frame;
    if (wire::parse_frame(whole, wire::Checksum::trust, frame) != wire::ParseResult::tcp) {
        return std::nullopt;
    }
    if (direction == Direction::to_remote) {
        std::swap(frame.key.local, frame.key.remote);
        std::swap(frame.key.local_port, frame.key.remote_port);
    }
    return CapturedSegment{.time_ns       = captured.time_ns,
                           .direction     = direction,
                           .flow          = frame.key,
                           .tcp           = frame.tcp,
                           .payload_bytes = frame.payload_bytes};
}

Capture::Capture(const Namespace& place, const std::string& interface)
    : socket_(inside(place, [&] { return packet_socket(interface, Listen::yes); })) {
    keep_headers_only(socket_);
    ring_   = map_ring(socket_);
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Capture::~Capture() {
    thread_.request_stop();
    thread_.join();
    ::munmap(ring_, size_t{block_bytes} * block_count);
}

void Capture::run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        pollfd waiting{.fd = socket_.get(), .events = POLLIN | POLLERR, .revents = 0};
        ::poll(&waiting, 1, static_cast<int>(stop_poll_interval.count()));
        const std::lock_guard lock{mutex_};
        while (read_block()) {
        }
    }
}

bool Capture::read_block() {
    tpacket_hdr_v1& header = header_of_block(ring_, block_);
    const std::atomic_ref<uint32_t> status{header.block_status};
    // Acquire: the frames were written before the kernel gave the block away; release: and are read
    // before it gets it.
    if ((status.load(std::memory_order_acquire) & TP_STATUS_USER) == 0) {
        return false;
    }
    const auto* frame = reinterpret_cast<const std::byte*>(&header) -
                        offsetof(tpacket_block_desc, hdr) + header.offset_to_first_pkt;
    for (uint32_t i = 0; i < header.num_pkts; ++i) {
        read_frame(frame);
        frame += reinterpret_cast<const tpacket3_hdr*>(frame)->tp_next_offset;
    }
    status.store(TP_STATUS_KERNEL, std::memory_order_release);
    block_ = (block_ + 1) % block_count;
    return true;
}

void Capture::read_frame(const std::byte* at) {
    const auto& header = *reinterpret_cast<const tpacket3_hdr*>(at);
    const auto& from   = *reinterpret_cast<const sockaddr_ll*>(at + address_offset);
    const auto way =
        from.sll_pkttype == PACKET_OUTGOING ? Direction::from_remote : Direction::to_remote;
    const CapturedFrame frame{.time_ns = int64_t{header.tp_sec} * 1'000'000'000 + header.tp_nsec,
                              .frame_bytes = header.tp_len,
                              .head        = {at + header.tp_mac, header.tp_snaplen}};
    if (auto segment = decode_segment(frame, way)) {
        segments_.push_back(*segment);
    }
}

std::vector<CapturedSegment> Capture::segments() {
    std::this_thread::sleep_for(settle);
    const std::lock_guard lock{mutex_};
    while (read_block()) {
    }
    return segments_;
}

void Capture::clear() {
    std::this_thread::sleep_for(settle);
    const std::lock_guard lock{mutex_};
    while (read_block()) {
    }
    segments_.clear();
}

uint64_t Capture::dropped() {
    tpacket_stats_v3 statistics{};
    socklen_t bytes = sizeof statistics;
    const std::lock_guard lock{mutex_};
    // Reading resets the kernel's counter.
    if (::getsockopt(socket_.get(), SOL_PACKET, PACKET_STATISTICS, &statistics, &bytes) == 0) {
        dropped_ += statistics.tp_drops;
    }
    return dropped_;
}

std::vector<CapturedSegment> of_flow(const std::vector<CapturedSegment>& segments,
                                     uint16_t host_port,
                                     uint16_t remote_port) {
    std::vector<CapturedSegment> picked;
    std::copy_if(segments.begin(),
                 segments.end(),
                 std::back_inserter(picked),
                 [&](const CapturedSegment& segment) {
                     return segment.flow.local_port == host_port &&
                            segment.flow.remote_port == remote_port;
                 });
    return picked;
}

}  // namespace flue::testbed
