#include "target/worker.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <rte_ethdev.h>
#include <rte_lcore.h>

#include "base/assert.hpp"

namespace flue::target {

namespace {

constexpr uint8_t side_unknown       = UINT8_MAX;
constexpr uint32_t idle_before_sleep = 1024;

chimney::Options chimney_options(const Worker::Parts& parts) {
    const Options& options = *parts.options;
    chimney::Options result;
    result.worker                    = parts.index;
    result.receive_items             = options.receive_items;
    result.time_wait_max             = options.time_waits;
    result.time_wait_us              = options.time_wait_ms * 1000;
    result.rcv_wnd_limit             = options.rcv_wnd_limit;
    result.paths                     = options.paths;
    result.neighbors                 = options.neighbors;
    result.nce_stale_ms              = options.nce_stale_ms;
    result.advice                    = options.advice;
    result.tcp.limits.connections    = options.connections;
    result.tcp.limits.send_items     = options.send_items;
    result.tcp.limits.receive_chunks = Worker::receive_chunks(options);
    result.tcp.time_wait_us          = options.time_wait_ms * 1000;
    result.tcp.seed                  = parts.seed;
    result.tcp.congestion            = options.congestion;
    result.tcp.pacing                = options.pacing;
    result.sessions                  = options.quotas.sessions;
    result.claim_rules               = options.permissions.claim_rules;
    return result;
}

HoldQueues::Limits hold_limits(const Options& options) {
    return {options.connections, Worker::held_packets_max(options), options.hold_packets};
}

FrameBuilder::Parts builder_parts(const Worker::Parts& parts, ItemReferences* references) {
    const uint16_t mtu = std::ranges::max(parts.ports, {}, &Port::mtu).mtu;
    return {parts.pools,
            references,
            parts.lanes[parts.index].freed,
            parts.lcore,
            parts.options->copy_below_bytes,
            mtu};
}

FrameTarget frame_target(const Port& port) {
    return {port.mac, port.tx_checksum, port.zero_copy() ? port.tx_segments_max : uint16_t{1}};
}

}  // namespace

Worker::Worker(const Parts& parts, FlowTable flows)
    : parts_(parts),
      clock_(rte_get_tsc_hz()),
      now_(clock_.at(Clock::cycles())),
      flows_(std::move(flows)),
      held_(hold_limits(*parts.options)),
      builder_(builder_parts(parts, this)),
      side_by_port_(RTE_MAX_ETHPORTS, side_unknown),
      side_by_connection_(parts.options->connections, side_unknown),
      chimney_(std::make_unique<chimney::Chimney>(chimney_options(parts), *this)),
      burst_(std::make_unique<Burst>()) {
    // Beside its queues a session may have as many that it destroyed and that are not let go yet.
    const Quotas& quotas = parts.options->quotas;
    const size_t queues  = 2 * size_t{quotas.sessions} * quotas.queues;
    queues_.reserve(queues);
    losses_.reserve(queues + quotas.sessions);
    add_sides(parts);
}

Worker::~Worker() = default;

void Worker::add_sides(const Parts& parts) {
    FLUE_ASSERT(parts.ports.size() <= ports_max);
    FLUE_ASSERT(parts.taps.empty() || parts.taps.size() == parts.ports.size());
    sides_.reserve(parts.ports.size());
    for (size_t i = 0; i < parts.ports.size(); ++i) {
        const Port& port   = parts.ports[i];
        const bool relayed = port.tx_queues == 1 && parts.index != 0;
        const TxQueue::Parts tx{
            port.id,
            relayed ? uint16_t{0} : parts.index,
            relayed ? parts.lanes[parts.index].outbound : queue::Ring<rte_mbuf*>{}};
        ExceptionPath::Parts exceptions;
        if (!parts.taps.empty() && parts.taps[i].id != no_port) {
            const Port& tap = parts.taps[i];
            FLUE_ASSERT(parts.index < tap.tx_queues);
            exceptions = {true, tap.id, parts.index, parts.index < tap.rx_queues};
        }
        side_by_port_[port.id]   = static_cast<uint8_t>(i);
        const FrameTarget kernel = {.mac = port.mac, .tx_checksum = false, .segments_max = 1};
        const uint16_t first     = port.own_rx_queue ? parts.index : uint16_t{0};
        const uint16_t count     = port.own_rx_queue  ? uint16_t{1}
                                   : parts.index == 0 ? port.rx_queues
                                                      : uint16_t{0};
        sides_.push_back(Side{&port,
                              frame_target(port),
                              kernel,
                              first,
                              count,
                              TxQueue{tx},
                              ExceptionPath{exceptions},
                              {},
                              {}});
    }
}

void Worker::run(const std::atomic<bool>& stop) {
    const uint32_t sleep_us = parts_.idle_sleep_us;
    while (!stop.load(std::memory_order_relaxed)) {
        idle_turns_ = turn() ? 0 : idle_turns_ + 1;
        if (sleep_us > 0 && idle_turns_ > idle_before_sleep) {
            rte_delay_us_sleep(sleep_us);
        }
    }
}

bool Worker::turn() {
    const uint64_t start = Clock::cycles();
    if (turn_started_ != 0) {
        (busy_ ? counters_.busy_cycles : counters_.idle_cycles) += start - turn_started_;
        (busy_ ? counters_.busy_turns : counters_.idle_turns) += 1;
    }
    turn_started_ = start;
    now_          = clock_.at(start);
    busy_         = work();
    return busy_;
}

bool Worker::work() {
    uint32_t done = receive_all();
    for (Side& side : sides_) {
        done += side.exceptions.from_kernel(side.tx);
    }
    // A flow's segments must be the kernel's before its host learns that they are held: the kernel
    // answers one that comes after its socket was closed with an RST.
    flush_exceptions();
    for (queue::TargetQueue* queue : queues_) {
        const uint32_t taken = chimney_->poll(now_, *queue);
        counters_.requests += taken;
        done += taken;
    }
    chimney_->on_time(now_);
    done += transmit();
    chimney_->advance(now_);
    free_released();
    flush_exceptions();
    done += relay();
    done += flush_sides();
    done += take_messages();
    if (done == 0) {
        reclaim();
    }
    return done > 0;
}

void Worker::flush_exceptions() {
    for (Side& side : sides_) {
        side.exceptions.flush();
    }
}

// ---------------------------------------------------------------- chimney::Environment

chimney::Environment::LinkCheck Worker::check_link(const wire::MacAddress& source_mac,
                                                   uint16_t vlan_id,
                                                   uint16_t mtu) const {
    const std::vector<uint16_t>& vlans = parts_.options->vlans;
    const bool is_own                  = source_mac == wire::MacAddress{};
    bool is_known                      = false;
    uint16_t mtu_max                   = 0;
    for (const Port& port : parts_.ports) {
        if (is_own || port.mac == source_mac) {
            is_known = true;
            mtu_max  = std::max(mtu_max, port.mtu);
        }
    }
    if (!is_known) {
        return LinkCheck::unknown_mac;
    }
    if (vlan_id != 0 && !vlans.empty() && std::ranges::find(vlans, vlan_id) == vlans.end()) {
        return LinkCheck::unknown_vlan;
    }
    return mtu > mtu_max ? LinkCheck::mtu_too_large : LinkCheck::ok;
}

chimney::Environment::ClaimResult Worker::claim(const wire::FlowKey& key, tcp::ConnIndex index) {
    FLUE_ASSERT(index < side_by_connection_.size());
    const uint16_t owner = parts_.steering->owner(key);
    if (owner != parts_.index) {
        return {Claim::not_owner, owner};
    }
    if (const auto holder = flows_.find(key)) {
        return {.claim = Claim::in_use, .holder = *holder};
    }
    if (!flows_.set(key, index)) {
        return {Claim::no_room};
    }
    side_by_connection_[index] = side_unknown;
    return {Claim::ok};
}

uint8_t Worker::port_of(tcp::ConnIndex index, const wire::FlowHeader& flow) {
    const uint8_t side = side_by_connection_[index];
    return side < sides_.size() ? side : side_with(flow.source_mac);
}

void Worker::rebind(const wire::FlowKey& key, tcp::ConnIndex index) {
    const bool known = flows_.set(key, index);
    FLUE_ASSERT(known);
    ++table_changes_;
}

void Worker::unclaim(const wire::FlowKey& key) {
    flows_.erase(key);
    ++table_changes_;
}

void Worker::replay_held(tcp::ConnIndex index) {
    std::array<rte_mbuf*, burst_max> packets;
    // What has to be held again goes to the back: no more than are there now.
    uint32_t left = held_.count(index);
    while (left > 0) {
        const uint32_t count =
            held_.take(index, std::span{packets}.first(std::min(left, burst_max)));
        FLUE_ASSERT(count > 0);
        left -= count;
        for (rte_mbuf* packet : std::span{packets}.first(count)) {
            wire::Frame frame;
            Side& side = side_of(packet);
            const std::span bytes{rte_pktmbuf_mtod(packet, const std::byte*),
                                  rte_pktmbuf_data_len(packet)};
            // It was looked up before it was held, so its checksum is known to be good.
            const auto parsed = wire::parse_frame(bytes, wire::Checksum::trust, frame);
            FLUE_ASSERT(parsed == wire::ParseResult::tcp);
            deliver(side, index, packet, frame);
        }
    }
}

void Worker::release_held(tcp::ConnIndex index) {
    rte_mbuf* packet = nullptr;
    while (held_.take(index, {&packet, 1}) == 1) {
        side_of(packet).exceptions.to_kernel(packet);
    }
}

void Worker::drop_held(tcp::ConnIndex index) {
    rte_mbuf* packet = nullptr;
    while (held_.take(index, {&packet, 1}) == 1) {
        rte_pktmbuf_free(packet);
    }
}

void Worker::show_host(const wire::FlowHeader& flow, const wire::TcpFields& tcp) {
    wire::FlowHeader remote = flow;
    std::swap(remote.key.local, remote.key.remote);
    std::swap(remote.key.local_port, remote.key.remote_port);
    const auto same_mac = [&flow](const Side& side) { return side.port->mac == flow.source_mac; };
    const auto found    = std::ranges::find_if(sides_, same_mac);
    Side& side          = found == sides_.end() ? sides_.front() : *found;
    remote.source_mac   = flow.next_hop_mac;
    remote.next_hop_mac = side.port->mac;
    if (rte_mbuf* frame = builder_.build(side.kernel, remote, tcp, {}); frame != nullptr) {
        side.exceptions.to_kernel(frame);
    }
}

void Worker::copy_payload(const tcp::ByteRef& ref, std::span<std::byte> out) {
    FLUE_ASSERT(out.size() <= ref.length);
    const auto* packet   = reinterpret_cast<const rte_mbuf*>(ref.region);
    const auto len       = static_cast<uint32_t>(out.size());
    const void* contents = rte_pktmbuf_read(packet, ref.offset, len, out.data());
    FLUE_ASSERT(contents != nullptr);
    if (contents != out.data()) {
        std::memcpy(out.data(), contents, len);
    }
}

tcp::ByteRef Worker::store_payload(std::span<const std::byte> bytes) {
    FLUE_ASSERT(bytes.size() <= store_payload_bytes_max);
    rte_mbuf* packet = rte_pktmbuf_alloc(parts_.pools.rx);
    if (packet == nullptr) {
        return {};
    }
    const auto len = static_cast<uint16_t>(bytes.size());
    char* room     = rte_pktmbuf_append(packet, len);
    FLUE_ASSERT(room != nullptr);
    std::memcpy(room, bytes.data(), len);
    return {reinterpret_cast<uintptr_t>(packet), 0, len};
}

}  // namespace flue::target
