#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tcp/segment.hpp"
#include "wire/fields.hpp"

namespace flue::chimney {

using tcp::ConnIndex;
using tcp::ItemIndex;

/// Environment is what the chimney asks of the worker around it: the flow table, held packets and
/// payload bytes. In production the worker, in the simulator the world.  Thread: the worker's.
class Environment {
  public:
    virtual ~Environment() = default;

    enum class Claim : uint8_t { ok, in_use, no_room, not_owner };

    struct ClaimResult {
        Claim claim;
        uint16_t owner   = 0;  ///< with not_owner: the worker that the NIC sends this flow to
        ConnIndex holder = tcp::no_conn;  ///< with in_use: the index that the tuple has
    };

    enum class LinkCheck : uint8_t { ok, unknown_mac, unknown_vlan, mtu_too_large };

    /// check_link says whether frames can be sent from this address (zero = the port's own), with
    /// this VLAN tag (0 = none) and IP packets of `mtu` bytes.
    [[nodiscard]] virtual LinkCheck check_link(const wire::MacAddress& source_mac,
                                               uint16_t vlan_id,
                                               uint16_t mtu) const = 0;

    /// claim enters the tuple into the flow table under `index`; from now on its segments are
    /// looked up there.
    virtual ClaimResult claim(const wire::FlowKey& key, ConnIndex index) = 0;

    /// port_of returns the index of the port that a connection about to be offloaded lives on, for
    /// the figures of ports.
    [[nodiscard]] virtual uint8_t port_of(ConnIndex /*index*/, const wire::FlowHeader& /*flow*/) {
        return 0;
    }

    /// rebind points an entered tuple at another index (a TIME_WAIT record).
    virtual void rebind(const wire::FlowKey& key, ConnIndex index) = 0;
    /// unclaim removes the tuple: its segments take the exception path again.
    virtual void unclaim(const wire::FlowKey& key) = 0;

    /// replay_held feeds the segments kept for a connection that was held back through the receive
    /// path, in order; called after the connection is offloaded and the completion that says so is
    /// on its way.
    virtual void replay_held(ConnIndex index) = 0;
    /// release_held sends the segments kept for a connection down the exception path, in order.
    virtual void release_held(ConnIndex index) = 0;
    /// drop_held drops the segments kept for a connection.
    virtual void drop_held(ConnIndex index) = 0;
    /// show_host builds a segment that looks as if the remote had sent it and gives it to the
    /// kernel.
    virtual void show_host(const wire::FlowHeader& flow, const wire::TcpFields& tcp) = 0;

    /// copy_payload copies bytes of a received payload into `out`; out.size() <= ref.length.
    virtual void copy_payload(const tcp::ByteRef& ref, std::span<std::byte> out) = 0;
    static constexpr uint32_t store_payload_bytes_max                            = 2048;
    /// store_payload makes a payload of bytes that a connection brought along; region 0 when there
    /// is no memory. Pre: bytes.size() <= store_payload_bytes_max.
    virtual tcp::ByteRef store_payload(std::span<const std::byte> bytes) = 0;
};

}  // namespace flue::chimney
