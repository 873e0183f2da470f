#pragma once

#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/crc32c.hpp"
#include "chimney/chimney.hpp"
#include "queue/queue_memory.hpp"

namespace flue::chimney {

inline std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

/// A segment that the chimney sent, payload included.
struct SentSegment {
    wire::TcpFields tcp;
    std::string payload;
    ConnIndex conn = tcp::no_conn;
    wire::FlowHeader flow;  ///< what the frame was built with
};

/// World is a worker without a NIC around a real chimney and engine: one host queue on real shared
/// memory, one memory region, a flow table, and a peer of which each segment is written by hand.
/// Time moves only when told.
class World : public Environment {
  public:
    static constexpr uint64_t region_bytes = 1 << 20;
    static constexpr uint32_t rcv_nxt      = 5000;  ///< of every connection that state() describes
    static constexpr uint32_t snd_nxt      = 9000;

    explicit World(uint32_t completion_entries = 256, const Options& chimney_options = options())
        : regions(4, 1), arena_(region_bytes), chimney_(chimney_options, *this) {
        const queue::QueueGeometry geometry{
            .worker_count = 1, .submission_entries = 256, .completion_entries = completion_entries};
        auto created = queue::TargetQueueMemory::create(geometry);
        FLUE_ASSERT(created.ok());
        memory_     = std::move(created.value());
        auto mapped = queue::map_queue_memory(memory_.memory_fd(), geometry, memory_.bytes());
        FLUE_ASSERT(mapped.ok());
        host_ = std::move(mapped.value());
        region_key =
            *regions.add({.base = arena_.data(), .bytes = region_bytes, .dma_mapped = true});
        auto parts       = memory_.parts(0);
        parts.regions    = &regions;
        parts.session_id = 7;
        target_queue     = std::make_unique<queue::TargetQueue>(parts);
        chimney_.attach(*target_queue);
    }

    static Options options() {
        Options options;
        options.receive_items             = 256;
        options.time_wait_max             = 8;
        options.tcp.limits.connections    = 8;
        options.tcp.limits.send_items     = 64;
        options.tcp.limits.receive_chunks = 256;
        return options;
    }

    // ------------------------------------------------------------------------------------------
    // the host

    /// state describes an established connection to port 80 of 10.0.0.2, nothing outstanding either
    /// way.
    static flue_state state(uint8_t tcp_state = FLUE_TCP_ESTABLISHED, uint16_t remote_port = 80) {
        flue_state block{};
        block.version             = FLUE_STATE_VERSION;
        block.size                = sizeof(block);
        block.family              = 4;
        block.const_flags         = FLUE_CONST_WINDOW_SCALING;
        block.snd_wind_shift      = 7;
        block.rcv_wind_shift      = 7;
        block.local_port          = 1234;
        block.remote_port         = remote_port;
        block.local_addr[0]       = 10;
        block.local_addr[3]       = 1;
        block.remote_addr[0]      = 10;
        block.remote_addr[3]      = 2;
        block.remote_mss          = 1460;
        block.path_mtu            = 1500;
        block.ttl                 = 64;
        block.rcv_wnd_max         = 65536;
        block.tcp_state           = tcp_state;
        block.rcv_nxt             = rcv_nxt;
        block.rcv_wnd             = 65536;
        block.snd_una             = snd_nxt;
        block.snd_nxt             = snd_nxt;
        block.snd_max             = snd_nxt;
        block.snd_wnd             = 65536;
        block.max_snd_wnd         = 65536;
        block.snd_wl1             = rcv_nxt;
        block.cwnd                = 64 * 1024;
        block.ssthresh            = UINT32_MAX;
        block.srtt_us_x8          = 8 * 1000;
        block.rttvar_us_x4        = 4 * 500;
        block.ka_delta_ms         = -1;
        block.retransmit_delta_ms = -1;
        return block;
    }

    /// put copies bytes into the region and returns the entry that names them.
    flue_sge put(std::span<const std::byte> bytes, uint64_t offset) {
        std::copy(bytes.begin(), bytes.end(), arena_.begin() + static_cast<ptrdiff_t>(offset));
        return {.mr = region_key, .length = static_cast<uint32_t>(bytes.size()), .offset = offset};
    }

    flue_sge put(std::string_view text, uint64_t offset) { return put(bytes_of(text), offset); }

    flue_sge put_state(flue_state block, uint64_t offset = 0) {
        block.checksum = 0;
        block.checksum = crc32c(std::as_bytes(std::span(&block, 1)));
        return put(std::as_bytes(std::span(&block, 1)), offset);
    }

    flue_sge room(uint32_t length, uint64_t offset) const {
        return {.mr = region_key, .length = length, .offset = offset};
    }

    std::string region_text(uint64_t offset, uint32_t length) const {
        return {reinterpret_cast<const char*>(arena_.data()) + offset, length};
    }

    flue_state region_state(uint64_t offset = 0) const {
        flue_state block;
        std::memcpy(&block, arena_.data() + offset, sizeof(block));
        return block;
    }

    void post(flue_wr wr) {
        ASSERT_EQ(host_.submissions(0).enqueue(std::span<const flue_wr>(&wr, 1)), 1u);
    }

    /// do_and_run posts a request and runs until everything is quiet.
    void post_and_run(const flue_wr& wr) {
        post(wr);
        run();
    }

    std::vector<flue_wc> poll() {
        std::vector<flue_wc> out(1024);
        out.resize(host_.completions(0).dequeue(out));
        return out;
    }

    flue_wc poll_one() {
        const auto all = poll();
        EXPECT_EQ(all.size(), 1u);
        return all.empty() ? flue_wc{} : all.front();
    }

    /// offload takes a connection over and returns its handle.
    flue_conn offload(flue_state block = state(), uint8_t flags = 0) {
        flue_wr wr{};
        wr.wr_id       = 1;
        wr.opcode      = FLUE_OP_OFFLOAD;
        wr.flags       = flags;
        wr.sge_count   = 1;
        wr.sge[0]      = put_state(block);
        wr.host_handle = 0xabcd;
        post_and_run(wr);
        const flue_wc wc = poll_one();
        EXPECT_EQ(wc.status, FLUE_SUCCESS);
        return wc.conn;
    }

    static flue_wr request(uint8_t opcode, flue_conn conn, uint64_t wr_id) {
        flue_wr wr{};
        wr.wr_id  = wr_id;
        wr.conn   = conn;
        wr.opcode = opcode;
        return wr;
    }

    static flue_wr request(uint8_t opcode, flue_conn conn, uint64_t wr_id, const flue_sge& sge) {
        flue_wr wr   = request(opcode, conn, wr_id);
        wr.sge_count = 1;
        wr.sge[0]    = sge;
        return wr;
    }

    flue_wr terminate_request(flue_conn conn, uint64_t wr_id, uint8_t flags = 0) const {
        flue_wr wr   = request(FLUE_OP_TERMINATE, conn, wr_id, room(sizeof(flue_state), 0));
        wr.sge[1]    = room(65536, 512 * 1024);
        wr.sge_count = 2;
        wr.flags     = flags;
        return wr;
    }

    static flue_wr abort_request(flue_conn conn, uint64_t wr_id) {
        flue_wr wr = request(FLUE_OP_DISCONNECT, conn, wr_id);
        wr.flags   = FLUE_WR_ABORT;
        return wr;
    }

    // ------------------------------------------------------------------------------------------
    // the peer

    /// from_peer lets a segment arrive for the tuple of state(…, remote_port).
    Chimney::Disposition from_peer(uint32_t seq,
                                   uint32_t ack,
                                   uint8_t flags,
                                   std::string_view payload = {}) {
        tcp::Segment segment;
        segment.tcp.seq    = Seq{seq};
        segment.tcp.ack    = Seq{ack};
        segment.tcp.flags  = flags;
        segment.tcp.window = 512;
        if (!payload.empty()) {
            segment.payload = store_payload(bytes_of(payload));
        }
        return arrive(segment);
    }

    /// The same, and then everything that follows from it.
    void peer_sends(uint32_t seq, uint32_t ack, uint8_t flags, std::string_view payload = {}) {
        from_peer(seq, ack, flags, payload);
        run();
    }

    // ------------------------------------------------------------------------------------------
    // the worker's loop

    /// run turns the loop until nothing moves any more.
    void run() {
        for (int turn = 0; turn < 8; ++turn) {
            chimney_.poll(now, *target_queue);
            chimney_.on_time(now);
            chimney_.advance(now);
            transmit();
            reap();
        }
    }

    void wait_us(uint64_t us) {
        const Instant end = now + us;
        while (now < end) {
            now = std::min(end, now + 1000);
            run();
        }
    }

    void transmit() {
        std::array<tcp::TxSegment, 32> batch;
        const uint32_t count = chimney_.transmit(now, std::span(batch).first(port_open ? 32 : 0));
        for (uint32_t i = 0; i < count; ++i) {
            SentSegment segment{.tcp     = batch[i].tcp,
                                .payload = {},
                                .conn    = batch[i].conn,
                                .flow    = chimney_.flow(batch[i].conn)};
            for (uint32_t slice = 0; slice < batch[i].slice_count; ++slice) {
                const auto bytes = chimney_.slice_bytes(batch[i].slices[slice]);
                segment.payload.append(reinterpret_cast<const char*>(bytes.data),
                                       batch[i].slices[slice].length);
                if (hold_items) {
                    chimney_.hold_item(batch[i].slices[slice].item);
                    held_items.push_back(batch[i].slices[slice].item);
                }
            }
            sent.push_back(std::move(segment));
        }
    }

    void reap() {
        std::array<tcp::ByteRef, 32> released;
        for (uint32_t count = chimney_.take_released(released); count > 0;
             count          = chimney_.take_released(released)) {
            for (uint32_t i = 0; i < count; ++i) {
                release(released[i]);
            }
        }
    }

    void drop_held_items() {
        for (const tcp::ItemIndex item : held_items) {
            chimney_.drop_item(item);
        }
        held_items.clear();
    }

    std::vector<SentSegment> take_sent() { return std::exchange(sent, {}); }

    uint32_t sent_with(uint8_t flag) const {
        uint32_t count = 0;
        for (const SentSegment& segment : sent) {
            count += (segment.tcp.flags & flag) != 0 ? 1 : 0;
        }
        return count;
    }

    Chimney& chimney() { return chimney_; }

    /// The host's mapping of the rings, for a host that scribbles.
    const queue::QueueRings& rings() const { return host_; }

    /// expect_nothing_left checks that every object is back.
    void expect_nothing_left() {
        reap();
        const Chimney::Usage usage = chimney_.usage();
        EXPECT_EQ(usage.tcp.connections, 0u);
        EXPECT_EQ(usage.tcp.send_items, 0u);
        EXPECT_EQ(usage.tcp.receive_chunks, 0u);
        EXPECT_EQ(usage.held, 0u);
        EXPECT_EQ(usage.receive_items, 0u);
        EXPECT_EQ(usage.nic_references, 0u);
        EXPECT_TRUE(payloads_.empty());
        EXPECT_TRUE(chimney_.detachable(*target_queue));
        EXPECT_EQ(target_queue->outstanding(), 0u);
        EXPECT_EQ(flow_count(), usage.time_waits);
    }

    size_t flow_count() const { return flows_.size(); }

    // ------------------------------------------------------------------------------------------
    // Environment

    LinkCheck check_link(const wire::MacAddress& source_mac,
                         uint16_t vlan_id,
                         uint16_t mtu) const override {
        if (source_mac != wire::MacAddress{} && source_mac != port_mac) {
            return LinkCheck::unknown_mac;
        }
        if (vlan_id != 0 && vlan_id != port_vlan) {
            return LinkCheck::unknown_vlan;
        }
        return mtu > port_mtu ? LinkCheck::mtu_too_large : LinkCheck::ok;
    }

    ClaimResult claim(const wire::FlowKey& key, ConnIndex index) override {
        if (claim_answer != Claim::ok) {
            return {claim_answer, 3};
        }
        const auto [flow, is_new] = flows_.emplace(name(key), index);
        return {.claim = is_new ? Claim::ok : Claim::in_use, .holder = flow->second};
    }

    void rebind(const wire::FlowKey& key, ConnIndex index) override {
        flows_.at(name(key)) = index;
    }

    void unclaim(const wire::FlowKey& key) override { ASSERT_EQ(flows_.erase(name(key)), 1u); }

    void replay_held(ConnIndex index) override {
        for (const tcp::Segment& segment : std::exchange(held[index], {})) {
            arrive(segment);
        }
    }

    void release_held(ConnIndex index) override {
        for (const tcp::Segment& segment : std::exchange(held[index], {})) {
            exceptions.push_back(segment);
            release(segment.payload);
        }
    }

    void drop_held(ConnIndex index) override {
        for (const tcp::Segment& segment : std::exchange(held[index], {})) {
            release(segment.payload);
        }
    }

    void show_host(const wire::FlowHeader& /*flow*/, const wire::TcpFields& tcp) override {
        shown.push_back(tcp);
    }

    void copy_payload(const tcp::ByteRef& ref, std::span<std::byte> out) override {
        const std::string& payload = payloads_.at(ref.region);
        FLUE_ASSERT(ref.offset + out.size() <= payload.size());
        std::memcpy(out.data(), payload.data() + ref.offset, out.size());
    }

    tcp::ByteRef store_payload(std::span<const std::byte> bytes) override {
        if (payloads_.size() >= payloads_max) {
            return {};
        }
        const uint64_t region = next_region_++;
        payloads_.emplace(region,
                          std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
        return {.region = region, .offset = 0, .length = static_cast<uint32_t>(bytes.size())};
    }

    queue::Regions regions;
    uint32_t region_key = 0;
    std::unique_ptr<queue::TargetQueue> target_queue;
    Instant now{1'000'000'000};
    bool port_open      = true;   ///< false: the NIC takes nothing
    bool hold_items     = false;  ///< the NIC keeps what it was given until drop_held_items
    size_t payloads_max = SIZE_MAX;
    Claim claim_answer  = Claim::ok;
    static constexpr wire::MacAddress port_mac{2, 0, 0, 0, 0, 1};
    static constexpr uint16_t port_vlan = 7;
    static constexpr uint16_t port_mtu  = 9000;
    std::vector<SentSegment> sent;
    std::vector<tcp::ItemIndex> held_items;
    std::map<ConnIndex, std::vector<tcp::Segment>> held;
    std::vector<tcp::Segment> exceptions;
    std::vector<wire::TcpFields> shown;
    std::vector<wire::TcpFields> replies;
    uint16_t peer_port = 80;

  private:
    static std::string name(const wire::FlowKey& key) {
        return {reinterpret_cast<const char*>(&key), sizeof(key)};
    }

    Chimney::Disposition arrive(const tcp::Segment& segment) {
        wire::FlowKey key;
        key.family      = wire::Family::ipv4;
        key.local       = {10, 0, 0, 1};
        key.remote      = {10, 0, 0, 2};
        key.local_port  = 1234;
        key.remote_port = peer_port;
        const auto flow = flows_.find(name(key));
        if (flow == flows_.end()) {
            exceptions.push_back(segment);
            release(segment.payload);
            return Chimney::Disposition::exception;
        }
        wire::TcpFields reply{};
        const ConnIndex index  = flow->second;
        const auto disposition = chimney_.on_segment(now, index, segment, reply);
        if (reply.flags != 0) {
            replies.push_back(reply);
        }
        switch (disposition) {
            case Chimney::Disposition::consumed:
                break;
            case Chimney::Disposition::dropped:
                release(segment.payload);
                break;
            case Chimney::Disposition::hold:
                held[index].push_back(segment);
                break;
            case Chimney::Disposition::exception:
                exceptions.push_back(segment);
                release(segment.payload);
                break;
        }
        return disposition;
    }

    void release(const tcp::ByteRef& ref) {
        if (ref.region != 0) {
            EXPECT_EQ(payloads_.erase(ref.region), 1u);
        }
    }

    queue::TargetQueueMemory memory_;
    queue::QueueRings host_;
    std::vector<std::byte> arena_;
    std::map<std::string, ConnIndex> flows_;
    std::map<uint64_t, std::string> payloads_;
    uint64_t next_region_ = 1;
    Chimney chimney_;
};

}  // namespace flue::chimney
