#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tcp/engine.hpp"
#include "wire/frame.hpp"

namespace flue::bench {

/// Population is a number of established connections of one engine, together with the frames that
/// their peers answer a close with, made beforehand.
///
/// The steps of a close run over all connections in bursts of 32 each, as a round trip lies between
/// them: with many connections a step finds nothing in the caches that the step before left there.
class Population {
  public:
    explicit Population(uint32_t connections);

    /// adopt makes every connection established again.  Not part of what is measured.
    void adopt();
    /// abort closes every connection with an RST: request, segment, headers.
    void abort();
    /// close_gracefully goes the whole way: request, FIN out, its ACK in, the peer's FIN in, ACK
    /// out, connection freed.
    void close_gracefully();
    /// forget frees connections after abort.  Not part of what is measured.
    void forget();
    /// copy_headers copies as many header bytes as abort builds, from as many places.
    void copy_headers();

    [[nodiscard]] uint32_t size() const { return size_; }

    /// A number that depends on every header built so far: the same on every machine.
    [[nodiscard]] uint64_t hash() const { return hash_; }

  private:
    static constexpr uint32_t burst       = 32;
    static constexpr uint32_t frame_bytes = 66;  ///< Ethernet, IPv4, TCP with timestamps

    using PeerFrame                       = std::array<std::byte, 72>;

    [[nodiscard]] tcp::Delegated established(uint32_t index) const;
    void make_peer_frames(uint32_t index);
    uint32_t emit();
    void receive(const PeerFrame& frame, uint32_t index);
    void release_acknowledged();
    template <typename Step>
    void in_bursts(Step step);

    uint32_t size_;
    Instant now_{.us = 1'000'000'000};
    uint64_t hash_   = 0;
    uint64_t frames_ = 0;
    std::unique_ptr<tcp::Engine> engine_;
    std::vector<wire::FlowHeader> flows_;
    std::vector<PeerFrame> peer_acks_;  ///< the peer's ACK of our FIN
    std::vector<PeerFrame> peer_fins_;
    std::vector<PeerFrame> copies_;
    std::array<tcp::TxSegment, burst> batch_{};
    std::array<std::byte, wire::header_bytes_max> headers_{};
};

}  // namespace flue::bench
