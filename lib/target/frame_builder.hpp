#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <rte_mbuf.h>

#include "queue/typed_ring.hpp"
#include "target/pools.hpp"
#include "tcp/segment.hpp"
#include "wire/fields.hpp"
#include "wire/frame.hpp"

namespace flue::target {

/// Bytes of a frame's payload and whose they are.
struct PayloadPiece {
    std::span<const std::byte> bytes;
    bool dma_mapped     = false;
    tcp::ItemIndex item = tcp::no_item;
};

/// What a frame must look like for where it goes.
struct FrameTarget {
    wire::MacAddress mac{};         ///< source address of flows that name none
    bool tx_checksum      = false;  ///< the port fills the checksums in
    uint16_t segments_max = 1;      ///< mbufs a frame may consist of; 1 = the payload is copied
};

/// Who counts the references of packets to send items.
class ItemReferences {
  public:
    virtual ~ItemReferences()              = default;
    virtual void hold(tcp::ItemIndex item) = 0;
    virtual void drop(tcp::ItemIndex item) = 0;
};

/// FrameBuilder makes mbufs of segments.
///
///   short payload:  header mbuf [ headers | payload, copied ]
///   else:           header mbuf [ headers ] -> payload mbuf -> the host's bytes ...   zero-copy
///   where the port or the memory cannot:  copy mbuf [ headers | payload, copied ]
///
/// A payload mbuf holds its item; when the port has freed the mbuf the item is dropped.  If that
/// happens on another worker's core (which sends for us), the item comes home over a ring. Thread:
/// one worker, but for the freeing just named.
class FrameBuilder {
  public:
    /// What each payload mbuf carries beside itself.
    struct Attachment {
        rte_mbuf_ext_shared_info shared;
        FrameBuilder* builder;
        tcp::ItemIndex item;
    };

    static constexpr uint16_t private_bytes =
        RTE_ALIGN_CEIL(sizeof(Attachment), RTE_MBUF_PRIV_ALIGN);

    struct Parts {
        Pools pools;
        ItemReferences* references = nullptr;
        queue::Ring<tcp::ItemIndex> home;  ///< room for as many items as there are payload mbufs
        unsigned lcore             = 0;
        uint32_t copy_below_bytes  = 256;
        uint32_t payload_bytes_max = 1460;  ///< the longest that any port's MTU lets through
    };

    static constexpr uint32_t batch_max = 32;

    explicit FrameBuilder(const Parts& parts);
    ~FrameBuilder();
    FrameBuilder(const FrameBuilder&)            = delete;
    FrameBuilder& operator=(const FrameBuilder&) = delete;

    /// reserve makes sure that headers for the next frames are at hand and returns for how many, up
    /// to batch_max.
    [[nodiscard]] uint32_t reserve();

    /// build returns the frame, or nullptr when there is no memory or it cannot be sent in one
    /// frame (counted): to TCP a loss like one on the wire.  An all-zero source address in `flow`
    /// is the target's.
    [[nodiscard]] rte_mbuf* build(const FrameTarget& target,
                                  const wire::FlowHeader& flow,
                                  const wire::TcpFields& tcp,
                                  std::span<const PayloadPiece> payload);

    /// collect drops the items that were freed on another core.
    void collect();

    /// Payload mbufs that ports still hold.
    [[nodiscard]] uint64_t outstanding() const { return held_ - dropped_; }

    struct Counters {
        uint64_t zero_copy_bytes = 0;
        uint64_t copied_bytes    = 0;
        uint64_t no_memory       = 0;
        uint64_t too_long        = 0;  ///< the host's path MTU is more than the port's
    };

    [[nodiscard]] const Counters& counters() const { return counters_; }

  private:
    enum class Placement : uint8_t { beside, attached, copied };

    [[nodiscard]] Placement placement(const FrameTarget& target,
                                      std::span<const PayloadPiece> payload,
                                      uint32_t bytes) const;
    [[nodiscard]] rte_mbuf* take_header();
    void write_headers(rte_mbuf* frame,
                       const FrameTarget& target,
                       const wire::FlowHeader& flow,
                       const wire::TcpFields& tcp,
                       std::span<const PayloadPiece> payload,
                       uint32_t bytes);
    [[nodiscard]] bool attach(rte_mbuf* frame, std::span<const PayloadPiece> payload);
    static void on_freed(void* bytes, void* attachment);

    Parts parts_;
    std::array<rte_mbuf*, batch_max> headers_{};
    uint32_t header_count_ = 0;
    uint16_t ip_id_        = 0;
    uint64_t held_         = 0;
    uint64_t dropped_      = 0;
    Counters counters_;
};

}  // namespace flue::target
