#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "chimney/chimney.hpp"
#include "events.hpp"
#include "wire/frame.hpp"
#include "wire/icmp.hpp"

namespace flue::sim {

class World;

/// Target is a worker without a NIC around the chimney that ships: it parses frames, looks flows
/// up, keeps packets of held flows, and builds frames out of segments.
class Target final : public Actor, public chimney::Environment {
  public:
    Target(World& world, uint32_t index);

    void attach(queue::TargetQueue& queue);
    /// lose tells that a queue's host is gone.
    void lose(queue::TargetQueue& queue, chimney::HostLoss policy);

    /// knows: the flow is in the table.
    [[nodiscard]] bool knows(const wire::FlowKey& key) const { return find(key).has_value(); }

    /// wake has the loop turn soon.
    void wake();
    void receive(std::vector<std::byte> frame);
    /// too_big brings what a router says.
    void too_big(const wire::PacketTooBig& told);

    /// shut_port has the port take nothing for a while, and then take something for as long.
    void shut_port(uint64_t us);

    void open_port() { port_shut_until_ = {}; }

    /// set_intake stops or opens the way of new connections; it opens again after a while.
    void set_intake(chimney::Intake intake, uint64_t us);
    void open_intake();

    /// Whether it has never refused a SEND for want of a host's upload.  R116
    [[nodiscard]] bool takes_sends() const { return takes_sends_; }

    /// inject lets a stranger's segment arrive for a connection at once, if that is `offloaded`.
    /// `aim` makes the segment out of what TCP knows.
    template <typename Aim>
    void inject(const wire::FlowKey& key, Aim&& aim) {
        const auto index = find(key);
        if (!index || !is_live(*index)) {
            return;
        }
        tcp::Delegated state;
        chimney_.engine().snapshot(now(), *index, state);
        tcp::Segment segment;
        if (aim(state, segment.tcp)) {
            deliver(key, segment);
            wake();
        }
    }

    /// check looks at everything that must hold between turns.
    void check();
    /// check_home: nothing of any connection is left.
    void check_home();
    [[nodiscard]] bool is_empty() const;
    void show() const;

    [[nodiscard]] chimney::Chimney& chimney() { return chimney_; }

    void act(uint32_t what, uint64_t argument) override;

    // ---------------------------------------------------------------- Environment

    LinkCheck check_link(const wire::MacAddress& source_mac,
                         uint16_t vlan_id,
                         uint16_t mtu) const override;
    ClaimResult claim(const wire::FlowKey& key, tcp::ConnIndex index) override;
    void rebind(const wire::FlowKey& key, tcp::ConnIndex index) override;
    void unclaim(const wire::FlowKey& key) override;
    void replay_held(tcp::ConnIndex index) override;
    void release_held(tcp::ConnIndex index) override;
    void drop_held(tcp::ConnIndex index) override;
    void show_host(const wire::FlowHeader& flow, const wire::TcpFields& tcp) override;
    void copy_payload(const tcp::ByteRef& ref, std::span<std::byte> out) override;
    tcp::ByteRef store_payload(std::span<const std::byte> bytes) override;

  private:
    struct Flow {
        wire::FlowKey key;
        tcp::ConnIndex index;
    };

    /// A queue whose host is gone, and of which requests wait.
    struct Losing {
        queue::TargetQueue* queue;
        chimney::HostLoss policy;
        Instant patience_until;
    };

    struct Held {
        wire::FlowKey key;
        tcp::Segment segment;
    };

    [[nodiscard]] Instant now() const;
    [[nodiscard]] std::optional<tcp::ConnIndex> find(const wire::FlowKey& key) const;
    [[nodiscard]] uint64_t segments_taken();
    void tell_of_losses();
    [[nodiscard]] bool is_live(tcp::ConnIndex index) const;
    void schedule(Instant when);
    void turn();
    uint32_t receive_inbox();
    void take_in(std::vector<std::byte> frame);
    void deliver(const wire::FlowKey& key, const tcp::Segment& segment);
    void answer(const wire::FlowKey& key, const wire::TcpFields& reply);
    uint32_t transmit();
    void send(const tcp::TxSegment& segment);
    void reap();
    [[nodiscard]] uint32_t take_last_requests();
    void forget_lost_queues();
    tcp::ByteRef keep(std::vector<std::byte> bytes, uint32_t offset, uint32_t length);
    void release(const tcp::ByteRef& ref);

    World& world_;
    uint32_t index_;
    chimney::Chimney chimney_;
    std::vector<queue::TargetQueue*> queues_;
    std::vector<Losing> losing_;
    std::vector<queue::TargetQueue*> lost_queues_;
    std::vector<Flow> flows_;
    std::map<tcp::ConnIndex, std::vector<Held>> held_;
    uint32_t held_count_ = 0;
    std::deque<std::vector<std::byte>> inbox_;
    std::vector<std::vector<std::byte>> payloads_;  ///< [region - 1]
    std::vector<uint32_t> free_payloads_;
    uint32_t payload_count_ = 0;
    Instant next_turn_;
    Instant last_check_;
    Instant port_shut_until_;
    Instant port_open_until_;
    bool takes_sends_       = true;
    uint64_t timeouts_seen_ = 0;
    uint64_t losses_seen_   = 0;
    uint64_t turn_number_   = 0;
    uint16_t ip_id_         = 0x8000;
};

}  // namespace flue::sim
