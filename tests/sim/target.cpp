#include "target.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "world.hpp"

namespace flue::sim {

namespace {

enum What : uint32_t { what_turn, what_nic_done, what_intake };

constexpr uint32_t burst_max      = 32;
constexpr uint32_t check_every_us = 1'000;
constexpr uint32_t patience_us    = 1'000'000;

chimney::Options chimney_options(const WorldOptions& world) {
    const TargetOptions& drawn = world.target;
    chimney::Options options;
    options.receive_items                               = drawn.receive_items;
    options.time_wait_max                               = drawn.time_waits;
    options.time_wait_us                                = drawn.time_wait_us;
    options.rcv_wnd_limit                               = 4 << 20;
    options.push_timeout_us                             = drawn.push_us;
    options.sessions                                    = static_cast<uint32_t>(world.hosts.size());
    options.tcp.limits.connections                      = drawn.connections;
    options.tcp.limits.send_items                       = drawn.send_items;
    options.tcp.limits.receive_chunks                   = drawn.receive_chunks;
    options.tcp.limits.reassembly_blocks_per_connection = drawn.reassembly;
    options.tcp.seed                                    = world.seed;
    options.tcp.delayed_ack_us                          = drawn.delayed_ack_us;
    options.tcp.rto_min_us                              = drawn.rto_min_us;
    options.tcp.rto_max_us                              = drawn.rto_max_us;
    options.tcp.time_wait_us                            = drawn.time_wait_us;
    options.tcp.quantum_bytes                           = drawn.quantum_bytes;
    options.tcp.congestion = static_cast<tcp::CongestionControl>(drawn.congestion);
    options.tcp.pacing     = drawn.pacing;
    return options;
}

}  // namespace

Target::Target(World& world, uint32_t index)
    : world_(world), index_(index), chimney_(chimney_options(world.options()), *this) {
    wake();
}

Instant Target::now() const {
    return world_.now();
}

void Target::attach(queue::TargetQueue& queue) {
    chimney_.attach(queue);
    queues_.push_back(&queue);
}

void Target::lose(queue::TargetQueue& queue, chimney::HostLoss policy) {
    queue.abandon();
    std::erase(queues_, &queue);
    losing_.push_back({&queue, policy, now() + patience_us});
    wake();
}

/// What was posted is taken, as long as some of it can be.
uint32_t Target::take_last_requests() {
    uint32_t total = 0;
    std::erase_if(losing_, [&](Losing& losing) {
        const uint32_t count = chimney_.poll(now(), *losing.queue);
        total += count;
        if (count > 0) {
            losing.patience_until = now() + patience_us;
        }
        if (losing.queue->waiting() > 0 && now() < losing.patience_until) {
            return false;
        }
        chimney_.lose(now(), *losing.queue, losing.policy);
        lost_queues_.push_back(losing.queue);
        return true;
    });
    return total;
}

// ---------------------------------------------------------------- the loop

void Target::wake() {
    schedule(now() + world_.options().target.turn_us);
}

void Target::shut_port(uint64_t us) {
    if (now() > port_open_until_) {
        port_shut_until_ = now() + us;
        port_open_until_ = port_shut_until_ + us;
    }
}

void Target::set_intake(chimney::Intake intake, uint64_t us) {
    if (chimney_.intake() == chimney::Intake::open) {
        chimney_.set_intake(intake);
        takes_sends_ = takes_sends_ && intake != chimney::Intake::uploading_all;
        world_.events().after(us, *this, what_intake);
        wake();
    }
}

void Target::open_intake() {
    if (chimney_.intake() != chimney::Intake::open) {
        chimney_.set_intake(chimney::Intake::open);
        wake();
    }
}

void Target::schedule(Instant when) {
    if (!next_turn_.is_set() || when < next_turn_) {
        next_turn_ = when;
        world_.events().at(when, *this, what_turn, ++turn_number_);
    }
}

void Target::act(uint32_t what, uint64_t argument) {
    if (what == what_nic_done) {
        chimney_.drop_item(static_cast<tcp::ItemIndex>(argument));
        wake();
    } else if (what == what_intake) {
        open_intake();
    } else if (argument == turn_number_) {
        next_turn_ = {};
        turn();
    }
}

void Target::turn() {
    uint32_t done = receive_inbox();
    for (queue::TargetQueue* queue : queues_) {
        done += chimney_.poll(now(), *queue);
    }
    done += take_last_requests();
    chimney_.on_time(now());
    chimney_.advance(now());
    tell_of_losses();
    done += transmit();
    reap();
    forget_lost_queues();
    if (now() - last_check_ >= check_every_us) {
        last_check_ = now();
        check();
    }
    world_.completions_posted(index_);
    const TargetOptions& options = world_.options().target;
    if (done > 0 || !inbox_.empty()) {
        schedule(now() + options.turn_us);
        return;
    }
    const uint32_t idle    = world_.healed() ? std::max(options.idle_us, 20'000U) : options.idle_us;
    const Instant deadline = chimney_.engine().next_deadline();
    Instant next           = now() + idle;
    if (deadline.is_set()) {
        next = std::min(next, std::max(deadline, now() + options.turn_us));
    }
    schedule(next);
}

void Target::forget_lost_queues() {
    std::erase_if(lost_queues_, [this](queue::TargetQueue* queue) {
        const bool gone = chimney_.detachable(*queue);
        if (gone) {
            chimney_.detach(*queue);
        }
        return gone;
    });
}

// ---------------------------------------------------------------- frames in

void Target::receive(std::vector<std::byte> frame) {
    inbox_.push_back(std::move(frame));
    wake();
}

void Target::too_big(const wire::PacketTooBig& told) {
    if (const auto index = find(told.key); index && is_live(*index)) {
        chimney_.packet_too_big(now(), *index, told);
        wake();
    }
}

uint32_t Target::receive_inbox() {
    uint32_t count = 0;
    for (; count < burst_max && !inbox_.empty(); ++count) {
        std::vector<std::byte> frame = std::move(inbox_.front());
        inbox_.pop_front();
        take_in(std::move(frame));
    }
    return count;
}

void Target::take_in(std::vector<std::byte> bytes) {
    wire::Frame frame;
    if (wire::parse_frame(bytes, wire::Checksum::verify, frame) != wire::ParseResult::tcp) {
        return;
    }
    world_.delivered(frame);
    tcp::Segment segment{.tcp = frame.tcp, .payload = {}};
    if (frame.payload_bytes > 0) {
        segment.payload = keep(std::move(bytes), frame.payload_offset, frame.payload_bytes);
        if (segment.payload.region == 0) {
            return;  // no mbuf: to TCP a loss
        }
    }
    deliver(frame.key, segment);
}

void Target::deliver(const wire::FlowKey& key, const tcp::Segment& segment) {
    const auto index = find(key);
    if (!index) {
        release(segment.payload);
        return world_.exception(key, segment.tcp, segment.payload.length);
    }
    wire::TcpFields reply{};
    const uint64_t taken   = segments_taken();
    const auto disposition = chimney_.on_segment(now(), *index, segment, reply);
    if (segments_taken() > taken) {
        world_.heard(key, segment.tcp);
    }
    if (reply.flags != 0) {
        answer(key, reply);
    }
    switch (disposition) {
        using enum chimney::Chimney::Disposition;
        case consumed:
            return;
        case dropped:
            return release(segment.payload);
        case hold:
            if (held_[*index].size() < world_.options().target.held_max) {
                held_[*index].push_back({key, segment});
                ++held_count_;
            } else {
                release(segment.payload);
            }
            return;
        case exception:
            release(segment.payload);
            return world_.exception(key, segment.tcp, segment.payload.length);
    }
}

/// A timeout may forget what was reported, and every loss costs a part of the window.
void Target::tell_of_losses() {
    const tcp::Engine::Counters& counters = chimney_.engine().counters();
    if (counters.timeouts > timeouts_seen_) {
        world_.forgot(index_);
    }
    if (counters.timeouts + counters.fast_retransmits > losses_seen_) {
        world_.lost(index_);
    }
    timeouts_seen_ = counters.timeouts;
    losses_seen_   = counters.timeouts + counters.fast_retransmits;
}

/// Segments that TCP has processed to the end.
uint64_t Target::segments_taken() {
    const tcp::Engine::Counters& counters = chimney_.engine().counters();
    uint64_t taken                        = counters.segments_in;
    for (const uint64_t dropped : counters.drops) {
        taken -= dropped;
    }
    return taken;
}

std::optional<tcp::ConnIndex> Target::find(const wire::FlowKey& key) const {
    for (const Flow& flow : flows_) {
        if (flow.key == key) {
            return flow.index;
        }
    }
    return std::nullopt;
}

bool Target::is_live(tcp::ConnIndex index) const {
    std::array<chimney::Chimney::ConnectionInfo, 1> info;
    if (chimney_.list(index, info) == 0 || info[0].index != index) {
        return false;
    }
    return info[0].state == chimney::OffloadState::offloaded ||
           info[0].state == chimney::OffloadState::draining;
}

// ---------------------------------------------------------------- frames out

/// Only a TIME-WAIT record answers by itself.
void Target::answer(const wire::FlowKey& key, const wire::TcpFields& reply) {
    world_.ended(key);
    world_.send_control(key, reply, true);
}

uint32_t Target::transmit() {
    std::array<tcp::TxSegment, burst_max> batch;
    const uint32_t room  = now() < port_shut_until_ ? 0 : world_.options().target.batch;
    const uint32_t count = chimney_.transmit(now(), std::span(batch).first(room));
    for (uint32_t i = 0; i < count; ++i) {
        send(batch[i]);
    }
    return count;
}

void Target::send(const tcp::TxSegment& segment) {
    const wire::FlowHeader& flow = chimney_.flow(segment.conn);
    std::vector<std::byte> payload;
    payload.reserve(segment.payload_bytes);
    for (uint32_t i = 0; i < segment.slice_count; ++i) {
        const tcp::SendSlice& slice = segment.slices[i];
        const auto bytes            = chimney_.slice_bytes(slice);
        payload.insert(payload.end(), bytes.data, bytes.data + slice.length);
        const uint32_t nic_us = world_.options().target.nic_us;
        if (nic_us != 0 && bytes.dma_mapped) {
            chimney_.hold_item(slice.item);
            world_.events().after(nic_us, *this, what_nic_done, slice.item);
        }
    }
    ip_id_ = static_cast<uint16_t>(ip_id_ == 0xffff ? 0x8000 : ip_id_ + 1);
    std::vector<std::byte> frame(wire::header_bytes_max);
    const auto lengths = wire::build_headers(flow,
                                             segment.tcp,
                                             static_cast<uint32_t>(payload.size()),
                                             ip_id_,
                                             wire::TxChecksum::full,
                                             wire::sum_bytes(payload),
                                             frame);
    frame.resize(lengths.total());
    frame.insert(frame.end(), payload.begin(), payload.end());
    world_.emitted(flow.key, std::move(frame));
}

// ---------------------------------------------------------------- payloads

tcp::ByteRef Target::keep(std::vector<std::byte> bytes, uint32_t offset, uint32_t length) {
    if (payload_count_ >= world_.options().target.payloads) {
        return {};
    }
    if (free_payloads_.empty()) {
        free_payloads_.push_back(static_cast<uint32_t>(payloads_.size()));
        payloads_.emplace_back();
    }
    const uint32_t slot = free_payloads_.back();
    free_payloads_.pop_back();
    payloads_[slot] = std::move(bytes);
    ++payload_count_;
    return {.region = slot + 1, .offset = offset, .length = length};
}

void Target::release(const tcp::ByteRef& ref) {
    if (ref.region == 0) {
        return;
    }
    if (ref.region > payloads_.size() || payloads_[ref.region - 1].empty()) {
        return world_.findings().wrong("target %u: a payload comes back twice", index_);
    }
    payloads_[ref.region - 1] = {};
    free_payloads_.push_back(static_cast<uint32_t>(ref.region - 1));
    --payload_count_;
}

void Target::reap() {
    std::array<tcp::ByteRef, burst_max> released;
    for (uint32_t count = chimney_.take_released(released); count > 0;
         count          = chimney_.take_released(released)) {
        for (uint32_t i = 0; i < count; ++i) {
            release(released[i]);
        }
    }
}

void Target::copy_payload(const tcp::ByteRef& ref, std::span<std::byte> out) {
    const bool sound = ref.region > 0 && ref.region <= payloads_.size() &&
                       ref.offset + out.size() <= payloads_[ref.region - 1].size();
    if (!sound) {
        return world_.findings().wrong("target %u: a payload that is not there is read", index_);
    }
    std::copy_n(payloads_[ref.region - 1].begin() + ref.offset, out.size(), out.begin());
}

tcp::ByteRef Target::store_payload(std::span<const std::byte> bytes) {
    return keep({bytes.begin(), bytes.end()}, 0, static_cast<uint32_t>(bytes.size()));
}

// ---------------------------------------------------------------- flow table

chimney::Environment::LinkCheck Target::check_link(const wire::MacAddress& /*source_mac*/,
                                                   uint16_t /*vlan_id*/,
                                                   uint16_t /*mtu*/) const {
    return LinkCheck::ok;
}

chimney::Environment::ClaimResult Target::claim(const wire::FlowKey& key, tcp::ConnIndex index) {
    if (find(key)) {
        return {Claim::in_use};
    }
    flows_.push_back({key, index});
    return {Claim::ok};
}

void Target::rebind(const wire::FlowKey& key, tcp::ConnIndex index) {
    const auto flow =
        std::ranges::find_if(flows_, [&](const Flow& entry) { return entry.key == key; });
    if (flow == flows_.end()) {
        return world_.findings().wrong("target %u: rebinds a flow that it has not claimed", index_);
    }
    flow->index = index;
}

void Target::unclaim(const wire::FlowKey& key) {
    if (std::erase_if(flows_, [&](const Flow& entry) { return entry.key == key; }) != 1) {
        world_.findings().wrong("target %u: gives a flow up that it has not claimed", index_);
    }
    world_.unclaimed(key);
}

void Target::replay_held(tcp::ConnIndex index) {
    for (const Held& packet : std::exchange(held_[index], {})) {
        --held_count_;
        deliver(packet.key, packet.segment);
    }
}

void Target::release_held(tcp::ConnIndex index) {
    for (const Held& packet : std::exchange(held_[index], {})) {
        --held_count_;
        release(packet.segment.payload);
        world_.exception(packet.key, packet.segment.tcp, packet.segment.payload.length);
    }
}

void Target::drop_held(tcp::ConnIndex index) {
    for (const Held& packet : std::exchange(held_[index], {})) {
        --held_count_;
        release(packet.segment.payload);
    }
}

void Target::show_host(const wire::FlowHeader& /*flow*/, const wire::TcpFields& tcp) {
    if ((tcp.flags & wire::tcp_fin) == 0) {
        world_.findings().wrong("target %u: shows the kernel something that is no FIN", index_);
    }
}

// ---------------------------------------------------------------- checks

void Target::check() {
    std::array<chimney::Chimney::ConnectionInfo, 64> infos;
    const uint32_t count = chimney_.list(0, infos);
    for (uint32_t i = 0; i < count; ++i) {
        if (infos[i].state != chimney::OffloadState::held) {
            chimney_.engine().check_invariants(infos[i].index);
        }
    }
    for (const queue::TargetQueue* queue : queues_) {
        const auto& counters = queue->counters();
        if (counters.requests != counters.completions + queue->outstanding()) {
            world_.findings().wrong("target %u: requests do not add up", index_);
        }
        if (counters.completions_lost != 0) {
            world_.findings().wrong("target %u: completions were lost", index_);
        }
    }
}

void Target::check_home() {
    reap();
    const chimney::Chimney::Usage usage = chimney_.usage();
    const bool home =
        usage.tcp.connections == 0 && usage.tcp.send_items == 0 && usage.tcp.receive_chunks == 0 &&
        usage.held == 0 && usage.receive_items == 0 && usage.nic_references == 0 &&
        usage.time_waits == 0 && payload_count_ == 0 && flows_.empty() && held_count_ == 0;
    if (!home) {
        world_.findings().wrong("target %u: not everything is home", index_);
    }
    for (const queue::TargetQueue* queue : queues_) {
        if (!chimney_.detachable(*queue) || queue->outstanding() != 0) {
            world_.findings().wrong("target %u: a queue still has something outstanding", index_);
        }
    }
}

void Target::show() const {
    const chimney::Chimney::Usage usage = chimney_.usage();
    std::printf(
        "target %u: connections %u items %u chunks %u held %u requests %u nic %u time-waits %u"
        " payloads %u flows %zu packets %u lost queues %zu\n",
        index_,
        usage.tcp.connections,
        usage.tcp.send_items,
        usage.tcp.receive_chunks,
        usage.held,
        usage.receive_items,
        usage.nic_references,
        usage.time_waits,
        payload_count_,
        flows_.size(),
        held_count_,
        lost_queues_.size());
}

bool Target::is_empty() const {
    return flows_.empty() && losing_.empty() && lost_queues_.empty() &&
           chimney_.usage().nic_references == 0;
}

}  // namespace flue::sim
