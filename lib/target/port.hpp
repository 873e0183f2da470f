#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "target/steering.hpp"
#include "wire/fields.hpp"

struct rte_mempool;

namespace flue::target {

constexpr uint16_t no_port = UINT16_MAX;

/// What a port can do and how it is used.
struct Port {
    /// When a sent mbuf is freed.
    enum class Freeing : uint8_t {
        at_once,     ///< the driver copies in tx_burst
        on_request,  ///< later, and rte_eth_tx_done_cleanup frees what is sent
        later        ///< with some later tx_burst: maybe never on an idle port
    };

    uint16_t id = 0;
    std::string name;
    std::string driver;
    wire::MacAddress mac{};
    uint16_t mtu       = 0;
    int socket         = 0;
    bool is_virtual    = false;  ///< no device: memory needs no DMA mapping
    uint16_t rx_queues = 1;
    bool own_rx_queue = true;  ///< worker i polls RX queue i; else worker 0 polls all and passes on
    uint16_t tx_queues       = 1;  ///< 1 or one a worker
    uint16_t rx_descriptors  = 0;
    uint16_t tx_descriptors  = 0;
    uint16_t tx_segments_max = 1;  ///< mbufs a frame may consist of
    uint16_t rss_buckets     = 0;  ///< size of the indirection table, 0 = no RSS that we can steer
    uint64_t rss_functions   = 0;
    bool tx_checksum         = false;  ///< IPv4 header and TCP
    bool rx_checksum         = false;
    bool tso                 = false;
    bool fast_free           = false;
    Freeing freeing          = Freeing::later;

    /// Sends may refer to the host's memory instead of copying it.
    [[nodiscard]] bool zero_copy() const {
        return tx_segments_max > 1 && freeing != Freeing::later;
    }
};

struct PortWishes {
    uint16_t workers        = 1;
    uint16_t rx_descriptors = 1024;
    uint16_t tx_descriptors = 1024;
    /// A TAP's kernel side spreads flows over its queues by itself, no RSS is needed for more than
    /// one.
    bool queues_without_rss = false;
};

/// probe_port asks an ethdev what it can do and decides how it will be used.  Nothing: it is logged
/// why.
[[nodiscard]] std::optional<Port> probe_port(const std::string& name, const PortWishes& wishes);

/// start_port configures and starts a port; `rx_pools`: one a worker, worker i's for the queues
/// that it polls.  Without RSS after all, it goes on with one RX queue and says so in `port`.
/// False: it is logged why, and the port is stopped.
[[nodiscard]] bool start_port(Port& port,
                              const Steering& steering,
                              std::span<rte_mempool* const> rx_pools);
void close_port(const Port& port);

/// report_port logs in plain words what the port does for us, what it does not, and what that
/// costs.
void report_port(const Port& port, uint16_t workers);

/// open_tap makes a TAP with the wire port's MAC address and MTU, so that the kernel's ARP and
/// neighbour discovery speak for the wire.  It becomes the port `net_tap_flueN`.
[[nodiscard]] std::optional<Port> open_tap(const std::string& interface,
                                           uint16_t number,
                                           const Port& wire,
                                           const PortWishes& wishes);

}  // namespace flue::target
