#include "worker_rig.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <rte_cycles.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_tcp.h>

#include "base/crc32c.hpp"

namespace flue::bench {

namespace {

constexpr uint32_t burst         = 32;
constexpr uint32_t state_stride  = 256;
constexpr uint32_t local_iss     = 1'000;
constexpr uint32_t remote_iss    = 2'000;
constexpr uint32_t headers_bytes = 66;  ///< Ethernet, IPv4, TCP with timestamps

void require(bool ok, const char* what) {
    if (!ok) {
        std::fprintf(stderr, "worker bench: %s\n", what);
        std::exit(1);
    }
}

rte_ring* make_ring(const char* name, unsigned element_bytes, unsigned entries) {
    rte_ring* ring = rte_ring_create_elem(
        name, element_bytes, entries, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    require(ring != nullptr, "no memory for a ring");
    return ring;
}

/// A port's name is not free again at once.
std::string next_name() {
    static int made = 0;
    return "bench" + std::to_string(made++);
}

}  // namespace

WorkerRig::WorkerRig(const Shape& shape) : shape_(shape), handles_(shape.connections) {
    options_.connections     = shape.connections;
    options_.time_waits      = 1'024;
    options_.send_items      = 131'072;
    options_.receive_items   = 131'072;
    options_.rx_mbufs        = 65'535;
    options_.hold_packets    = 8;
    options_.quotas.sessions = 1;
    options_.rcv_wnd_limit   = 1 << 20;
    open_port();
    make_memory();

    auto flows = target::FlowTable::create(
        "bench_flows", options_.connections + options_.time_waits, SOCKET_ID_ANY);
    require(flows.has_value(), "no memory for the flow table");
    const target::Worker::Parts parts{
        0, rte_lcore_id(), &options_, &steering_, pools_, lanes_, ports_, {}, 1, 0};
    worker_.emplace(parts, std::move(*flows));

    target::ControlMessage attach;
    attach.kind  = target::ControlMessage::Kind::attach;
    attach.queue = queue_.get();
    require(lanes_[0].requests.enqueue(std::span{&attach, 1}) == 1, "the queue was not attached");
    worker_->turn();
}

WorkerRig::~WorkerRig() {
    worker_.reset();
    rte_eth_dev_stop(ports_[0].id);
    rte_eth_dev_close(ports_[0].id);
    run_peer();
    for (rte_mbuf* left = nullptr;
         rte_ring_dequeue(from_peer_, reinterpret_cast<void**>(&left)) == 0;) {
        rte_pktmbuf_free(left);
    }
    for (rte_ring* ring : rings_) {
        rte_ring_free(ring);
    }
    target::free_pools(pools_);
    rte_mempool_free(peer_pool_);
}

void WorkerRig::open_port() {
    to_peer_       = make_ring("bench_tx", sizeof(void*), 131'072);
    from_peer_     = make_ring("bench_rx", sizeof(void*), 131'072);
    rings_         = {to_peer_, from_peer_};
    const int port = rte_eth_from_rings(
        next_name().c_str(), &from_peer_, 1, &to_peer_, 1, static_cast<unsigned>(rte_socket_id()));
    require(port >= 0, "no port of rings");

    const auto pools = target::create_pools({.worker           = 0,
                                             .socket           = SOCKET_ID_ANY,
                                             .rx_mbufs         = options_.rx_mbufs,
                                             .tx_mbufs         = 131'071,
                                             .copy_below_bytes = options_.copy_below_bytes,
                                             .mtu              = 1500,
                                             .shared           = false});
    require(pools.has_value(), "no memory for mbufs");
    pools_     = *pools;
    peer_pool_ = rte_pktmbuf_pool_create("bench_peer", 131'071, 256, 0, 2'048, SOCKET_ID_ANY);
    require(peer_pool_ != nullptr, "no memory for the far end's mbufs");

    target::Port& p   = ports_[0];
    p.id              = static_cast<uint16_t>(port);
    p.name            = "bench";
    p.mac             = {2, 0, 0, 0, 0, 1};
    p.mtu             = 1500;
    p.is_virtual      = true;
    p.rx_descriptors  = 1024;
    p.tx_descriptors  = 1024;
    p.tx_segments_max = 8;
    p.tx_checksum     = shape_.checksum_by_port;
    p.rx_checksum     = true;
    p.freeing         = target::Port::Freeing::at_once;
    rte_eth_conf conf{};
    require(rte_eth_dev_configure(p.id, 1, 1, &conf) == 0 &&
                rte_eth_rx_queue_setup(p.id, 0, 1024, rte_socket_id(), nullptr, pools_.rx) == 0 &&
                rte_eth_tx_queue_setup(p.id, 0, 1024, rte_socket_id(), nullptr) == 0 &&
                rte_eth_dev_start(p.id) == 0,
            "the port does not start");
    lanes_[0].requests = queue::Ring<target::ControlMessage>{
        make_ring("bench_requests", sizeof(target::ControlMessage), 64)};
    lanes_[0].replies = queue::Ring<target::ControlMessage>{
        make_ring("bench_replies", sizeof(target::ControlMessage), 64)};
    lanes_[0].snapshots =
        queue::Ring<target::WorkerSnapshot*>{make_ring("bench_snapshots", sizeof(void*), 64)};
    for (rte_ring* ring :
         {lanes_[0].requests.get(), lanes_[0].replies.get(), lanes_[0].snapshots.get()}) {
        rings_.push_back(ring);
    }
}

void WorkerRig::make_memory() {
    auto made = queue::TargetQueueMemory::create({1, ring_entries, ring_entries});
    require(made.ok(), "no queue memory");
    queue_memory_ = std::move(made.value());
    auto mapped   = queue::map_queue_memory(
        queue_memory_.memory_fd(), queue_memory_.geometry(), queue_memory_.bytes());
    require(mapped.ok(), "the queue memory cannot be mapped");
    host_rings_ = std::move(mapped.value());

    payload_at_ = uint64_t{shape_.connections} * state_stride;
    memory_.resize(payload_at_ + shape_.payload_bytes);
    regions_       = std::make_unique<queue::Regions>(8, 1);
    const auto key = regions_->add({memory_.data(), memory_.size(), true});
    require(key.has_value(), "no region");
    region_key_                     = *key;

    queue::TargetQueue::Parts parts = queue_memory_.parts(0);
    parts.regions                   = regions_.get();
    parts.share                     = nullptr;
    queue_                          = std::make_unique<queue::TargetQueue>(parts);
}

void WorkerRig::write_state(uint32_t index) {
    flue_state state{};
    state.version         = FLUE_STATE_VERSION;
    state.size            = sizeof(state);
    state.family          = 4;
    state.const_flags     = FLUE_CONST_TIMESTAMPS | FLUE_CONST_SACK | FLUE_CONST_WINDOW_SCALING;
    state.snd_wind_shift  = 7;
    state.rcv_wind_shift  = 7;
    state.local_addr[0]   = 10;
    state.local_addr[3]   = 1;
    state.remote_addr[0]  = 11;
    state.remote_addr[2]  = static_cast<uint8_t>(index >> 24U);
    state.remote_addr[3]  = static_cast<uint8_t>(index >> 16U);
    state.local_port      = 80;
    state.remote_port     = static_cast<uint16_t>(index);
    state.remote_mss      = 1'460;
    state.next_hop_mac[0] = 2;
    state.next_hop_mac[5] = 2;
    state.path_mtu        = 1'500;
    state.ttl             = 64;
    state.rcv_wnd_max     = 65'536;
    state.tcp_state       = FLUE_TCP_ESTABLISHED;
    state.rcv_nxt         = remote_iss;
    state.rcv_wnd         = 65'536;
    state.snd_una = state.snd_nxt = state.snd_max = local_iss;
    state.snd_wnd = state.max_snd_wnd = 4 << 20;
    state.snd_wl1                     = remote_iss;
    state.cwnd                        = 1 << 20;
    state.ssthresh                    = UINT32_MAX;
    state.srtt_us_x8                  = 8 * 1'000;
    state.rttvar_us_x4                = 4 * 1'000;
    state.ts_recent                   = 1;
    state.recover                     = local_iss;
    state.ka_delta_ms                 = -1;
    state.retransmit_delta_ms         = -1;
    state.checksum                    = crc32c(std::as_bytes(std::span(&state, 1)));
    std::memcpy(memory_.data() + uint64_t{index} * state_stride, &state, sizeof(state));
}

flue_wr WorkerRig::request(uint32_t index, uint8_t opcode, uint8_t flags) const {
    flue_wr wr{};
    wr.wr_id       = index;
    wr.conn        = handles_[index];
    wr.opcode      = opcode;
    wr.flags       = flags;
    wr.host_handle = index;
    return wr;
}

flue_sge WorkerRig::payload(uint32_t length) const {
    return {.mr = region_key_, .length = length, .offset = payload_at_};
}

flue_sge WorkerRig::state_of(uint32_t index) const {
    return {
        .mr = region_key_, .length = sizeof(flue_state), .offset = uint64_t{index} * state_stride};
}

void WorkerRig::offload() {
    for (uint32_t i = 0; i < shape_.connections; ++i) {
        write_state(i);
    }
    const uint64_t before = completed;
    for (uint32_t i = 0; i < shape_.connections; ++i) {
        flue_wr wr   = request(i, FLUE_OP_OFFLOAD);
        wr.conn      = FLUE_ON_WORKER(0);
        wr.sge_count = 1;
        wr.sge[0]    = state_of(i);
        post(wr);
    }
    settle(before + shape_.connections);
}

void WorkerRig::terminate() {
    const uint64_t before = completed;
    for (uint32_t i = 0; i < shape_.connections; ++i) {
        flue_wr wr   = request(i, FLUE_OP_TERMINATE);
        wr.sge_count = 1;
        wr.sge[0]    = state_of(i);
        post(wr);
    }
    settle(before + shape_.connections);
}

void WorkerRig::post(const flue_wr& wr) {
    waiting_.push_back(wr);
    if (waiting_.size() - waiting_from_ >= 1'024) {
        turn();
    }
}

/// No more than the completion ring takes, so that the worker is never held up by this host.
void WorkerRig::send_waiting() {
    const size_t left   = waiting_.size() - waiting_from_;
    const size_t room   = ring_entries / 2 - std::min(outstanding_, ring_entries / 2);
    const size_t count  = std::min({left, room, size_t{1'024}});
    auto submissions    = host_rings_.submissions(0);
    const uint32_t sent = submissions.enqueue(std::span{waiting_}.subspan(waiting_from_, count));
    waiting_from_ += sent;
    outstanding_ += sent;
    if (waiting_from_ == waiting_.size()) {
        waiting_.clear();
        waiting_from_ = 0;
    }
}

void WorkerRig::turn() {
    send_waiting();
    const uint64_t start = rte_rdtsc_precise();
    worker_->turn();
    cycles += rte_rdtsc_precise() - start;
    run_peer();
    take_completions();
}

void WorkerRig::settle(uint64_t completions) {
    for (uint64_t idle = 0; idle < 1'000'000 && completed < completions;) {
        const uint64_t before = completed + frames;
        turn();
        idle = completed + frames == before ? idle + 1 : 0;
    }
    require(completed >= completions, "requests that never completed");
}

void WorkerRig::take_completions() {
    std::array<flue_wc, 64> wcs;
    auto ring      = host_rings_.completions(0);
    uint32_t count = 0;
    do {
        count = ring.dequeue(wcs);
        for (const flue_wc& wc : std::span{wcs}.first(count)) {
            if (wc.opcode >= FLUE_EVENT_DISCONNECT) {
                continue;
            }
            ++completed;
            --outstanding_;
            if (wc.status != FLUE_SUCCESS && failed++ == 0) {
                std::printf("request %u of connection %llu: status %u, info %u\n",
                            wc.opcode,
                            static_cast<unsigned long long>(wc.wr_id),
                            wc.status,
                            wc.info);
            }
            if (wc.opcode == FLUE_OP_OFFLOAD) {
                handles_[wc.wr_id] = wc.conn;
            }
        }
    } while (count == wcs.size());
}

uint64_t WorkerRig::transmit_bare(uint64_t count) {
    std::array<char, headers_bytes> headers{};
    std::array<rte_mbuf*, burst> packets;
    uint64_t spent = 0;
    peer           = PeerMode::sink;
    for (uint64_t sent = 0; sent < count; sent += burst) {
        const uint64_t start = rte_rdtsc_precise();
        require(rte_pktmbuf_alloc_bulk(pools_.header, packets.data(), burst) == 0, "no mbufs");
        for (rte_mbuf* packet : packets) {
            std::memcpy(rte_pktmbuf_append(packet, headers_bytes), headers.data(), headers.size());
        }
        require(rte_eth_tx_burst(ports_[0].id, 0, packets.data(), burst) == burst,
                "the far end's ring is full");
        spent += rte_rdtsc_precise() - start;
        run_peer();
    }
    return spent;
}

// ---------------------------------------------------------------- the far end

void WorkerRig::run_peer() {
    std::array<rte_mbuf*, burst> packets;
    uint32_t count = 0;
    do {
        count = rte_ring_dequeue_burst(
            to_peer_, reinterpret_cast<void**>(packets.data()), burst, nullptr);
        frames += count;
        for (rte_mbuf* packet : std::span{packets}.first(count)) {
            answer(packet);
        }
    } while (count > 0);
}

/// Everything it needs to know stands in the segment.
void WorkerRig::answer(rte_mbuf* frame) {
    const auto* ip    = rte_pktmbuf_mtod_offset(frame, const rte_ipv4_hdr*, RTE_ETHER_HDR_LEN);
    const auto* tcp   = reinterpret_cast<const rte_tcp_hdr*>(ip + 1);
    const uint32_t l4 = (tcp->data_off >> 4U) * 4U;
    const uint32_t data =
        rte_pktmbuf_pkt_len(frame) - RTE_ETHER_HDR_LEN - uint32_t{sizeof(*ip)} - l4;
    const bool fin      = (tcp->tcp_flags & RTE_TCP_FIN_FLAG) != 0;
    const uint32_t seq  = rte_be_to_cpu_32(tcp->recv_ack);
    const uint32_t next = rte_be_to_cpu_32(tcp->sent_seq) + data + (fin ? 1 : 0);
    bytes += data;
    switch (peer) {
        case PeerMode::sink:
            break;
        case PeerMode::close:
            if (fin) {
                reply(frame, RTE_TCP_ACK_FLAG, seq, next);
                reply(frame, RTE_TCP_ACK_FLAG | RTE_TCP_FIN_FLAG, seq, next);
            } else if (data > 0) {
                reply(frame, RTE_TCP_ACK_FLAG, seq, next);
            }
            break;
        case PeerMode::ack:
            if (data > 0 && (frames % 2 == 0 || data < 1'400)) {
                reply(frame, RTE_TCP_ACK_FLAG, seq, next);
            }
            break;
    }
    rte_pktmbuf_free(frame);
}

void WorkerRig::reply(rte_mbuf* frame, uint8_t flags, uint32_t seq, uint32_t ack) {
    rte_mbuf* out = rte_pktmbuf_alloc(peer_pool_);
    require(out != nullptr, "the far end has no memory");
    char* to = rte_pktmbuf_append(out, headers_bytes);
    std::memcpy(to, rte_pktmbuf_mtod(frame, const char*), headers_bytes);
    auto* ethernet = reinterpret_cast<rte_ether_hdr*>(to);
    auto* ip       = reinterpret_cast<rte_ipv4_hdr*>(ethernet + 1);
    auto* tcp      = reinterpret_cast<rte_tcp_hdr*>(ip + 1);
    std::swap(ethernet->src_addr, ethernet->dst_addr);
    const rte_be32_t source = ip->src_addr;
    ip->src_addr            = ip->dst_addr;
    ip->dst_addr            = source;
    const rte_be16_t port   = tcp->src_port;
    tcp->src_port           = tcp->dst_port;
    tcp->dst_port           = port;
    ip->total_length        = rte_cpu_to_be_16(headers_bytes - RTE_ETHER_HDR_LEN);
    tcp->sent_seq           = rte_cpu_to_be_32(seq);
    tcp->recv_ack           = rte_cpu_to_be_32(ack);
    tcp->tcp_flags          = flags;
    tcp->rx_win             = rte_cpu_to_be_16(32'768);
    char* times = reinterpret_cast<char*>(tcp + 1) + 4;  // behind two NOPs, kind and length
    std::array<char, 4> echo;
    std::memcpy(echo.data(), times, 4);
    const uint32_t own = rte_cpu_to_be_32(1'000);
    std::memcpy(times, &own, 4);
    std::memcpy(times + 4, echo.data(), 4);
    out->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    require(rte_ring_enqueue(from_peer_, out) == 0, "the far end's ring is full");
}

}  // namespace flue::bench
