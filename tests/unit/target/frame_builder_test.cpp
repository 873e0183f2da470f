#include "target/frame_builder.hpp"

#include <cstring>
#include <map>
#include <numeric>
#include <optional>
#include <thread>
#include <vector>

#include <rte_lcore.h>
#include <rte_ring.h>

#include "support.hpp"

namespace flue::target {

namespace {

class CountedReferences : public ItemReferences {
  public:
    void hold(tcp::ItemIndex item) override { ++counts[item]; }

    void drop(tcp::ItemIndex item) override { --counts[item]; }

    std::map<tcp::ItemIndex, int> counts;
};

std::vector<std::byte> bytes_of(const rte_mbuf* frame) {
    std::vector<std::byte> bytes(rte_pktmbuf_pkt_len(frame));
    const void* contents = rte_pktmbuf_read(frame, 0, rte_pktmbuf_pkt_len(frame), bytes.data());
    if (contents != bytes.data()) {
        std::memcpy(bytes.data(), contents, bytes.size());
    }
    return bytes;
}

}  // namespace

class FrameBuilderTest : public PoolsTest {
  protected:
    void SetUp() override {
        PoolsTest::SetUp();
        ring_ = rte_ring_create_elem("frame_builder_test",
                                     sizeof(tcp::ItemIndex),
                                     512,
                                     SOCKET_ID_ANY,
                                     RING_F_SP_ENQ | RING_F_SC_DEQ);
        builder_.emplace(FrameBuilder::Parts{.pools      = pools_,
                                             .references = &references_,
                                             .home       = queue::Ring<tcp::ItemIndex>{ring_},
                                             .lcore      = rte_lcore_id()});
        std::iota(reinterpret_cast<uint8_t*>(payload_.data()),
                  reinterpret_cast<uint8_t*>(payload_.data() + payload_.size()),
                  uint8_t{1});
        flow_.key          = ipv4_key(1234);
        flow_.source_mac   = {2, 0, 0, 0, 0, 1};
        flow_.next_hop_mac = {2, 0, 0, 0, 0, 2};
        segment_.flags     = wire::tcp_ack;
        segment_.seq       = Seq{1000};
    }

    void TearDown() override {
        builder_.reset();
        rte_ring_free(ring_);
        PoolsTest::TearDown();
    }

    [[nodiscard]] PayloadPiece piece(size_t from,
                                     size_t length,
                                     tcp::ItemIndex item,
                                     bool mapped = true) const {
        return {std::span{payload_}.subspan(from, length), mapped, item};
    }

    rte_mbuf* build(const FrameTarget& target, std::vector<PayloadPiece> pieces) {
        return builder_->build(target, flow_, segment_, pieces);
    }

    /// The frame, with good checksums, carries payload_[from, from + length).
    void expect_carries(const rte_mbuf* frame, size_t from, size_t length) {
        const auto bytes = bytes_of(frame);
        wire::Frame parsed;
        ASSERT_EQ(wire::parse_frame(bytes, wire::Checksum::verify, parsed), wire::ParseResult::tcp);
        ASSERT_EQ(parsed.payload_bytes, length);
        const auto carried = std::span{bytes}.subspan(parsed.payload_offset, length);
        EXPECT_TRUE(std::ranges::equal(carried, std::span{payload_}.subspan(from, length)));
    }

    static constexpr FrameTarget software{
        .mac = {2, 9, 9, 9, 9, 9}, .tx_checksum = false, .segments_max = 16};

    std::vector<std::byte> payload_{4096};
    wire::FlowHeader flow_;
    wire::TcpFields segment_;
    CountedReferences references_;
    rte_ring* ring_ = nullptr;
    std::optional<FrameBuilder> builder_;
};

TEST_F(FrameBuilderTest, short_payload_is_copied_beside_the_header) {
    rte_mbuf* frame = build(software, {piece(0, 256, 1)});
    ASSERT_NE(frame, nullptr);
    EXPECT_EQ(frame->nb_segs, 1);
    expect_carries(frame, 0, 256);
    EXPECT_TRUE(references_.counts.empty());
    rte_pktmbuf_free(frame);
}

TEST_F(FrameBuilderTest, long_payload_is_referred_to_and_its_item_held_until_freed) {
    rte_mbuf* frame = build(software, {piece(10, 1460, 7)});
    ASSERT_NE(frame, nullptr);
    ASSERT_EQ(frame->nb_segs, 2);
    EXPECT_EQ(rte_pktmbuf_mtod(frame->next, const std::byte*), payload_.data() + 10);
    EXPECT_EQ(references_.counts[7], 1);
    EXPECT_EQ(builder_->outstanding(), 1u);
    expect_carries(frame, 10, 1460);
    rte_pktmbuf_free(frame);
    EXPECT_EQ(references_.counts[7], 0);
    EXPECT_EQ(builder_->outstanding(), 0u);
}

TEST_F(FrameBuilderTest, pieces_of_odd_length_give_a_good_software_checksum) {
    rte_mbuf* frame = build(
        software, {piece(0, 333, 1), piece(333, 501, 2), piece(834, 1, 2), piece(835, 600, 3)});
    ASSERT_NE(frame, nullptr);
    EXPECT_EQ(frame->nb_segs, 5);
    EXPECT_EQ(references_.counts[2], 2);
    expect_carries(frame, 0, 1435);
    rte_pktmbuf_free(frame);
    EXPECT_EQ(references_.counts[2], 0);
}

TEST_F(FrameBuilderTest, memory_that_the_port_cannot_read_is_copied) {
    rte_mbuf* frame = build(software, {piece(0, 700, 1), piece(700, 700, 2, false)});
    ASSERT_NE(frame, nullptr);
    EXPECT_EQ(frame->nb_segs, 1);
    expect_carries(frame, 0, 1400);
    EXPECT_TRUE(references_.counts.empty());
    rte_pktmbuf_free(frame);
}

TEST_F(FrameBuilderTest, more_pieces_than_the_port_takes_are_copied) {
    FrameTarget target  = software;
    target.segments_max = 2;
    rte_mbuf* frame     = build(target, {piece(0, 700, 1), piece(700, 700, 2)});
    ASSERT_NE(frame, nullptr);
    EXPECT_EQ(frame->nb_segs, 1);
    expect_carries(frame, 0, 1400);
    rte_pktmbuf_free(frame);
}

TEST_F(FrameBuilderTest, checksums_by_the_port_are_asked_for) {
    FrameTarget target = software;
    target.tx_checksum = true;
    rte_mbuf* frame    = build(target, {piece(0, 1000, 1)});
    ASSERT_NE(frame, nullptr);
    EXPECT_EQ(frame->ol_flags,
              RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM);
    EXPECT_EQ(frame->l2_len, 14);
    EXPECT_EQ(frame->l3_len, 20);
    EXPECT_EQ(frame->l4_len, 20);
    rte_pktmbuf_free(frame);
}

TEST_F(FrameBuilderTest, flow_without_source_address_uses_the_ports) {
    flow_.source_mac = {};
    rte_mbuf* frame  = build(software, {});
    ASSERT_NE(frame, nullptr);
    const auto bytes = bytes_of(frame);
    EXPECT_EQ(std::memcmp(bytes.data() + 6, software.mac.data(), software.mac.size()), 0);
    rte_pktmbuf_free(frame);
}

TEST_F(FrameBuilderTest, R44_ip_ids_come_from_the_upper_half_with_df_set) {
    for (int i = 0; i < 3; ++i) {
        rte_mbuf* frame = build(software, {});
        ASSERT_NE(frame, nullptr);
        const auto bytes = bytes_of(frame);
        EXPECT_GE(std::to_integer<unsigned>(bytes[18]), 0x80u);
        EXPECT_EQ(std::to_integer<unsigned>(bytes[20]), 0x40u);
        rte_pktmbuf_free(frame);
    }
}

TEST_F(FrameBuilderTest, payload_beyond_the_mtu_is_refused_and_counted) {
    EXPECT_EQ(build(software, {piece(0, 1461, 1)}), nullptr);
    EXPECT_EQ(builder_->counters().too_long, 1u);
}

TEST_F(FrameBuilderTest, no_payload_mbuf_left_nothing_leaks) {
    std::vector<rte_mbuf*> taken(rte_mempool_avail_count(pools_.payload) - 1);
    ASSERT_EQ(
        rte_pktmbuf_alloc_bulk(pools_.payload, taken.data(), static_cast<unsigned>(taken.size())),
        0);
    EXPECT_EQ(build(software, {piece(0, 700, 1), piece(700, 700, 2)}), nullptr);
    EXPECT_EQ(builder_->counters().no_memory, 1u);
    EXPECT_EQ(references_.counts[1], 0);
    rte_pktmbuf_free_bulk(taken.data(), static_cast<unsigned>(taken.size()));
}

TEST_F(FrameBuilderTest, frame_freed_on_another_core_comes_home_by_the_ring) {
    rte_mbuf* frame = build(software, {piece(0, 700, 1), piece(700, 700, 2)});
    ASSERT_NE(frame, nullptr);
    std::thread{[frame] { rte_pktmbuf_free(frame); }}.join();
    EXPECT_EQ(references_.counts[1], 1);
    builder_->collect();
    EXPECT_EQ(references_.counts[1], 0);
    EXPECT_EQ(references_.counts[2], 0);
    EXPECT_EQ(builder_->outstanding(), 0u);
}

TEST_F(FrameBuilderTest, reserve_of_an_empty_pool_promises_nothing) {
    std::vector<rte_mbuf*> taken(rte_mempool_avail_count(pools_.header));
    ASSERT_EQ(
        rte_pktmbuf_alloc_bulk(pools_.header, taken.data(), static_cast<unsigned>(taken.size())),
        0);
    EXPECT_EQ(builder_->reserve(), 0u);
    rte_pktmbuf_free_bulk(taken.data(), static_cast<unsigned>(taken.size()));
    EXPECT_EQ(builder_->reserve(), FrameBuilder::batch_max);
}

}  // namespace flue::target
