#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "pattern.hpp"

/// lwIP's TCP in this process, behind an interface that carries IP packets.  lwIP is a set of
/// globals, so there is one stack, whose clock only moves on.
namespace flue::peers::lwip {

constexpr uint32_t address_ipv4          = 0x0a090002;  ///< 10.9.0.2
constexpr uint32_t other_address_ipv4    = 0x0a090001;
constexpr const char* address_ipv6       = "fd09::2";
constexpr const char* other_address_ipv6 = "fd09::1";

using Packet                             = std::vector<std::byte>;

/// start makes the stack ready and has `output` take its packets from now on.
void start(std::function<void(Packet)> output);
/// input gives it a packet.
void input(std::span<const std::byte> packet);
/// set_clock moves its clock to `now_ms` and runs what is due.
void set_clock(uint64_t now_ms);
/// idle_ms returns how long nothing is due.
uint32_t idle_ms();
/// Connections that it still knows, TIME-WAIT included.
unsigned connections();

/// What its application does with a connection.
struct Plan {
    uint64_t bytes_to_send     = 0;
    uint64_t abort_after_bytes = UINT64_MAX;  ///< received: tcp_abort
    uint64_t pause_after_bytes = UINT64_MAX;  ///< received: takes no more until resume()
};

/// Peer is that application.
class Peer {
  public:
    /// Connects to the other address.  Both patterns outlive the peer.
    Peer(bool ipv6,
         uint16_t port,
         const e2e::Pattern& sends,
         const e2e::Pattern& expects,
         const Plan& plan);
    /// Aborts it if it has not ended.
    ~Peer();
    Peer(const Peer&)            = delete;
    Peer& operator=(const Peer&) = delete;

    /// close sends a FIN behind what is queued; it goes on receiving.
    void close();
    void resume();

    struct Seen {
        uint64_t bytes_sent     = 0;  ///< given to lwIP
        uint64_t bytes_received = 0;
        bool bytes_right        = true;
        bool fin                = false;
        bool reset              = false;
        bool aborted            = false;  ///< by itself
    };

    [[nodiscard]] const Seen& seen() const { return seen_; }

    [[nodiscard]] bool sent_all() const { return seen_.bytes_sent == plan_.bytes_to_send; }

    [[nodiscard]] bool paused() const { return paused_; }

    [[nodiscard]] bool closed() const { return closed_; }

  private:
    struct Calls;

    void write();
    void let_go();
    void take(std::span<const uint8_t> bytes);

    const e2e::Pattern& sends_;
    const e2e::Pattern& expects_;
    Plan plan_;
    Seen seen_;
    void* pcb_         = nullptr;  ///< lwIP's; null once it is not ours any more
    uint32_t untold_   = 0;        ///< bytes taken while paused
    bool paused_       = false;
    bool has_paused_   = false;
    bool closed_       = false;
    bool close_wanted_ = false;
};

}  // namespace flue::peers::lwip
