#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "testbed/detour.hpp"
#include "testbed/link.hpp"
#include "testbed/namespace.hpp"
#include "testbed/router.hpp"

namespace flue::testbed {

/// What the middle of the wire does to frames, in both directions.
struct Impairment {
    unsigned loss_permille = 0;  ///< [0, 999]: frames that disappear
    unsigned late_permille =
        0;  ///< [0, 999]: frames that come 2 ms late, overtaken by those behind them
};

struct BottleOptions {
    bool impairable = false;  ///< put a namespace in the middle of the wire, for set_impairment
    bool distant    = false;  ///< a Link instead of veths, for link(); nothing else impairs it
    bool routed     = false;  ///< put a router in the middle of the wire, for router()
    unsigned mtu    = 1500;
    uint64_t seed   = 1;  ///< of the Link's losses
};

/// Bottle is a network of two hosts, made of the kernel's own parts:
///
///     host namespace                                                        remote namespace
///     +---------------------------------------+                            +---------------------+
///     | kernel TCP -- TAP <-> flued -- wire0  |<--------- veth ----------->| remote0             |
///     |               10.9.0.1  (net_af_packet; no address)  [impairment]  | 10.9.0.2, fd09::2   |
///     |               fd09::1                 |                            | offloads off        |
///     +---------------------------------------+                            +---------------------+
///
/// The host namespace is the one that the caller is in, and there is one Bottle in it at a time.
/// The addresses come with attach_tap, because flued makes the TAP.  Pre: enter_bottle() was called
/// in this process or an ancestor.
class Bottle {
  public:
    explicit Bottle(const BottleOptions& options = {});
    /// Takes the wire down, so that another Bottle can be made here.
    ~Bottle();
    Bottle(const Bottle&)                    = delete;
    Bottle& operator=(const Bottle&)         = delete;

    static constexpr const char* wire        = "wire0";
    static constexpr const char* far_end     = "remote0";
    static constexpr const char* host_ipv4   = "10.9.0.1";
    static constexpr const char* remote_ipv4 = "10.9.0.2";
    static constexpr const char* host_ipv6   = "fd09::1";
    static constexpr const char* remote_ipv6 = "fd09::2";

    [[nodiscard]] const Namespace& host() const { return host_; }

    [[nodiscard]] const Namespace& remote() const { return remote_; }

    /// attach_tap gives the TAP the wire's MAC address and MTU, the host's addresses, and carrier.
    void attach_tap(const std::string& tap) const;
    /// Pre: impairable.  All zero: a perfect wire again.
    void set_impairment(const Impairment& impairment) const;

    /// Pre: distant.
    [[nodiscard]] Link& link() { return *link_; }

    /// Pre: routed.
    [[nodiscard]] const Router& router() const { return *router_; }

  private:
    void lay_wire();
    void configure_host() const;
    void configure_remote() const;
    void configure_middle() const;

    BottleOptions options_;
    Namespace host_   = Namespace::current();
    Namespace remote_ = Namespace::create();
    Namespace middle_ = Namespace::create();
    std::optional<Detour> detour_;
    std::optional<Link> link_;
    std::optional<Router> router_;
};

/// mac_address reads an interface's address in the calling thread's namespace.
std::array<uint8_t, 6> mac_address(const std::string& interface);

/// disable_offloads makes the kernel put nothing on the interface that a NIC would still have to
/// finish: no segmentation and no checksum offload, no coalescing on reception.
void disable_offloads(const std::string& interface);

}  // namespace flue::testbed
