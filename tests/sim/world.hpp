#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "base/prng.hpp"
#include "checkers/ecn.hpp"
#include "checkers/sack.hpp"
#include "checkers/wire.hpp"
#include "connection.hpp"
#include "events.hpp"
#include "figures.hpp"
#include "findings.hpp"
#include "host.hpp"
#include "link.hpp"
#include "options.hpp"
#include "peer.hpp"
#include "target.hpp"
#include "trace.hpp"
#include "wire/icmp.hpp"

namespace flue::sim {

/// World is everything of one run: two targets, some hosts, plain peers and the wire between them.
/// It runs with faults first, then without any until everything has come to its end.
class World final : public Actor {
  public:
    World(const WorldOptions& options, Trace& trace);
    ~World() override;
    World(const World&)            = delete;
    World& operator=(const World&) = delete;

    void run();

    [[nodiscard]] const Findings& result() const { return findings_; }

    /// transfer runs a world without faults until its only plain peer has everything, and returns
    /// how long that took.
    uint64_t transfer();
    void add_to(Figures& figures) const;

    /// Time that has passed.
    [[nodiscard]] uint64_t elapsed_us() const;
    void show() const;

    // ---------------------------------------------------------------- for those inside

    [[nodiscard]] const WorldOptions& options() const { return options_; }

    [[nodiscard]] Events& events() { return events_; }

    [[nodiscard]] Instant now() const { return events_.now(); }

    [[nodiscard]] Trace& trace() { return trace_; }

    [[nodiscard]] Findings& findings() { return findings_; }

    [[nodiscard]] bool healed() const { return healed_; }

    [[nodiscard]] Target& target(uint32_t index) { return *targets_[index]; }

    /// too_big has the router on the way drop a frame, and perhaps say so.  Returns whether it
    /// does.
    [[nodiscard]] bool too_big(uint32_t connection,
                               uint32_t from,
                               std::span<const std::byte> frame);
    /// arrive brings a frame to an end.
    void arrive(uint32_t connection, uint32_t to, std::vector<std::byte> frame);
    /// delivered notes a segment that has reached a target in one piece.
    void delivered(const wire::Frame& frame);
    /// heard notes that TCP has processed a segment of the other end.
    void heard(const wire::FlowKey& key, const wire::TcpFields& tcp);
    /// forgot: what was heard about the flows of a target need not be known any more.  RFC 2018 §8
    void forgot(uint32_t target);
    /// lost: a flow of a target has lost something.
    void lost(uint32_t target);
    /// ended: TERMINATE is done, whether its host has taken the completion or not.
    void ended(const wire::FlowKey& key);
    /// emitted checks a frame of a target and sends it; `key` as its flow header says.
    void emitted(const wire::FlowKey& key, std::vector<std::byte> frame);
    /// send_plain sends a segment of a plain peer, with `bytes` of its stream.
    void send_plain(uint32_t connection, uint32_t from, const wire::TcpFields& tcp, uint32_t bytes);
    /// send_control sends a segment without data from the end with this key.
    void send_control(const wire::FlowKey& key, const wire::TcpFields& tcp, bool checked);
    /// exception is the way of a segment that no connection of a target takes: to the kernel.
    void exception(const wire::FlowKey& key, const wire::TcpFields& tcp, uint32_t bytes);
    void unclaimed(const wire::FlowKey& key);
    void completions_posted(uint32_t target);
    /// skips_completion: the canary eats this one.
    [[nodiscard]] bool skips_completion(const flue_wc& wc);

    void act(uint32_t what, uint64_t argument) override;

  private:
    struct Place {
        Connection* connection = nullptr;
        uint32_t end           = 0;
    };

    void make_connections();
    [[nodiscard]] Place find(const wire::FlowKey& key);
    void send(Connection& connection, uint32_t from, std::vector<std::byte> frame);
    void poison(const Connection& connection, uint32_t from, std::vector<std::byte>& frame);

    void break_something();
    [[nodiscard]] Fault pick_fault();
    void apply(Fault fault);
    void break_wire(Fault fault);
    void break_peer(Fault fault);
    void break_host(Fault fault);
    void forge(Fault fault);
    void forge_sack();
    void heal();
    void check();
    void check_end();
    [[nodiscard]] bool is_over() const;

    const WorldOptions& options_;
    Trace& trace_;
    Findings findings_;
    Events events_;
    Prng prng_;
    bool healed_ = false;
    std::vector<std::unique_ptr<Connection>> connections_;
    std::vector<std::unique_ptr<Target>> targets_;
    std::vector<std::unique_ptr<Host>> hosts_;
    std::vector<std::unique_ptr<Peer>> peers_;  ///< [connection]; null: a chimney's
    std::unique_ptr<Link> link_;
    std::deque<wire::PacketTooBig> told_too_big_;  ///< on their way
    Instant last_check_;
    bool canary_sang_ = false;
    std::array<uint64_t, fault_count> faults_{};
};

}  // namespace flue::sim
