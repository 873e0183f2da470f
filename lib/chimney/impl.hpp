#pragma once

#include <span>
#include <vector>

#include "base/index_pool.hpp"
#include "base/result.hpp"
#include "base/shared_pool.hpp"
#include "base/timer_wheel.hpp"
#include "chimney/chimney.hpp"
#include "chimney/nodes.hpp"
#include "chimney/objects.hpp"
#include "chimney/state_block.hpp"
#include "chimney/time_wait.hpp"

namespace flue::chimney {

/// A handle is a connection's index, its generation and its worker.
constexpr uint32_t index_bits      = 24;
constexpr uint32_t connections_max = 1u << index_bits;

[[nodiscard]] constexpr ConnIndex index_of(flue_conn handle) {
    return static_cast<ConnIndex>(handle & (connections_max - 1));
}

/// The state of a Chimney and the steps of its requests; a file of definitions for each group
/// below.
struct Chimney::Impl {
    Impl(const Options& options_in, Environment& environment_in);

    // ---------------------------------------------------------------- chimney.cpp: objects and the
    // main calls

    [[nodiscard]] flue_conn handle_of(ConnIndex index) const;
    /// find returns the connection that a request of `slot` names, or no_conn: unknown, stale,
    /// another queue's.
    [[nodiscard]] ConnIndex find(QueueIndex slot, flue_conn handle) const;
    /// has_turn: the queue has not had more of the worker's time than a turn's share.  One that
    /// has waits a turn for each share.
    [[nodiscard]] static bool has_turn(QueueSlot& slot);
    void carry_out(Instant now, QueueIndex slot, const flue_wr& wr);
    /// The same for a burst, with the connections on their way into the caches.
    void carry_out(Instant now, QueueIndex slot, std::span<const flue_wr> burst);
    void prefetch(ConnIndex index) const;
    void dispatch(Instant now, QueueIndex slot, const flue_wr& wr);
    void carry_out_on_connection(Instant now, QueueIndex slot, ConnIndex index, const flue_wr& wr);
    /// complete answers a request of the connection, unless its host is gone.
    void complete(
        ConnIndex index, uint64_t wr_id, uint8_t opcode, flue_status status, uint32_t bytes);
    /// post hands a completion to the host, and counts it if it refuses the request.
    void post(QueueSlot& slot, const flue_wc& wc);
    /// answer refuses a request that found no connection.
    void answer(QueueIndex slot,
                const flue_wr& wr,
                flue_status status,
                uint32_t bytes = 0,
                uint16_t info  = 0);
    /// settle brings requests, completions and events of a connection up to date with its TCP
    /// state.
    void settle(Instant now, ConnIndex index);
    /// settle_later has a connection settled in the next advance: it waits for a transmit or a free
    /// item.
    void settle_later(ConnIndex index);
    void settle_postponed(Instant now);
    void on_notice(Instant now, const tcp::Engine::Notified& notified);
    void note_reset(ConnIndex index);
    void advance(Instant now);
    void arm_timer(Instant now, ConnIndex index);
    void cancel_timer(ConnIndex index);

    // what the wheel asks of its owner
    [[nodiscard]] TimerLink& timer_link(ConnIndex index) { return connections[index].timer; }

    [[nodiscard]] uint32_t timer_due(ConnIndex index) const {
        return connections[index].timer_due_ms;
    }

    void on_timer(Instant now, ConnIndex index);

    // ---------------------------------------------------------------- connections.cpp: taken,
    // listed, counted

    [[nodiscard]] queue::SessionShare& share_of(ConnIndex index);
    [[nodiscard]] flue_status may_hold_another(const queue::SessionShare& share) const;
    [[nodiscard]] ConnIndex new_connection(Instant now, QueueIndex slot, uint64_t host_handle);
    /// take_connection makes a held connection that is on no list yet.  Pre: may_hold_another.
    [[nodiscard]] ConnIndex take_connection(Instant now, queue::SessionShare& share);
    void free_connection(ConnIndex index);
    /// link puts a connection on its queue's list, or, with no_queue, on its session's list of
    /// grants.
    void link(ConnIndex index, QueueIndex slot);
    void unlink(ConnIndex index);
    [[nodiscard]] ConnIndex& list_of(ConnIndex index);
    /// count_held notes that a connection became held or is no longer.
    void count_held(ConnIndex index, bool held);
    /// settle_requests brings the session's figure of outstanding requests up to date with the
    /// queue's.
    void settle_requests(QueueSlot& slot);

    // ---------------------------------------------------------------- intake.cpp: PAUSE,
    // UPLOAD_ALL, RESUME

    void set_intake(Intake to);
    /// is_held_up: the request has to wait for the intake to open, or is refused.
    [[nodiscard]] bool is_held_up(QueueIndex slot, const flue_wr& wr) const;
    void hold_up(QueueIndex slot, const flue_wr& wr);
    /// serve_initiates goes on with what has waited, in order and in bounded steps.
    void serve_initiates(Instant now, QueueIndex slot);
    void pop_initiate(QueueIndex slot);
    [[nodiscard]] bool post_queue_events(QueueIndex slot);

    // ---------------------------------------------------------------- initiate.cpp: HOLD, OFFLOAD,
    // RELEASE, QUERY

    void hold(Instant now, QueueIndex slot, const flue_wr& wr);
    void hold_again(QueueIndex slot, const flue_wr& wr);
    [[nodiscard]] Environment::ClaimResult claim_tuple(const wire::FlowKey& key, ConnIndex index);
    void offload(Instant now, QueueIndex slot, const flue_wr& wr);
    void release(Instant now, ConnIndex index, const flue_wr& wr);
    void query(Instant now, ConnIndex index, const flue_wr& wr);
    [[nodiscard]] Result<ConnIndex, flue_status> claim(
        Instant now, QueueIndex slot, const flue_wr& wr, const wire::FlowKey& key, uint16_t& owner);
    [[nodiscard]] flue_status take_over(Instant now,
                                        ConnIndex index,
                                        const StateBlock& block,
                                        std::span<const std::byte> backlog);
    /// offload_one is what OFFLOAD comes to for one connection, alone or in a tree: its 4-tuple is
    /// claimed, unless wr.conn is held, and its state taken over.  The caller then completes the
    /// request and has what was held replayed.  `owner`: with FLUE_NOT_OWNER the worker.
    [[nodiscard]] Result<ConnIndex, flue_status> offload_one(Instant now,
                                                             QueueIndex slot,
                                                             const flue_wr& wr,
                                                             const StateBlock& block,
                                                             std::span<const std::byte> backlog,
                                                             uint16_t& owner);
    [[nodiscard]] bool store_backlog(ConnIndex index, std::span<const std::byte> backlog);
    /// read_block copies the flue_state that sge[0] names out of the host's memory.
    [[nodiscard]] Result<flue_state, flue_status> read_block(QueueIndex slot,
                                                             const flue_sge& sge) const;

    // ---------------------------------------------------------------- grants.cpp: what a session
    // may claim

    [[nodiscard]] ConnIndex find_grant(const queue::SessionShare& share,
                                       const wire::FlowKey& key) const;
    void redeem(Instant now, ConnIndex index, QueueIndex slot, uint64_t host_handle);
    [[nodiscard]] flue_status grant(Instant now,
                                    queue::SessionShare& share,
                                    const wire::FlowKey& key);
    void withdraw(ConnIndex index);

    // ---------------------------------------------------------------- nodes.cpp: paths and
    // neighbors

    [[nodiscard]] flue_conn handle_of_node(NodeIndex index) const;
    [[nodiscard]] NodeIndex find_node(QueueIndex slot, flue_conn handle, uint8_t object) const;
    [[nodiscard]] flue_status may_have_another(QueueIndex slot, uint8_t object) const;
    [[nodiscard]] uint32_t& list_of_node(const Node& node);
    /// Pre: may_have_another.
    [[nodiscard]] NodeIndex new_node(QueueIndex slot, uint8_t object, uint64_t host_handle);
    void free_node(NodeIndex index);
    void count_node(const Node& node, bool taken);
    void free_nodes_of(QueueIndex slot);
    [[nodiscard]] bool may_depend_on(NodeIndex index) const;
    void join_neighbor(NodeIndex path, NodeIndex neighbor);
    void leave_neighbor(NodeIndex path);
    void join_path(ConnIndex index, NodeIndex path);
    void leave_path(ConnIndex index);
    void complete_node(
        NodeIndex index, uint64_t wr_id, uint8_t opcode, flue_status status, uint32_t bytes);
    void terminate_node(NodeIndex index, const flue_wr& wr);
    /// settle_node ends a path or neighbor that only waits for its dependents to go.
    void settle_node(NodeIndex index);
    void carry_out_on_object(Instant now, QueueIndex slot, const flue_wr& wr);

    // ---------------------------------------------------------------- tree.cpp: OFFLOAD of trees

    struct TreeWalk;

    /// How the blocks of one list did.
    struct Tally {
        uint32_t count     = 0;
        uint32_t offloaded = 0;
    };

    void offload_tree(Instant now, QueueIndex slot, const flue_wr& wr);
    [[nodiscard]] static bool visit(TreeWalk& walk, uint16_t first, uint8_t object);
    static void refuse_tree(TreeWalk& walk);
    void finish_tree(const TreeWalk& walk, const flue_wr& wr);
    [[nodiscard]] Tally walk_siblings(TreeWalk& walk, uint16_t first, NodeIndex parent);
    static void note_dependents(flue_block& block, const Tally& tally);
    static void fail_dependents(TreeWalk& walk, uint16_t first);
    static void write_block(const TreeWalk& walk, uint16_t i);
    [[nodiscard]] flue_status offload_block(TreeWalk& walk,
                                            flue_block& block,
                                            NodeIndex parent,
                                            NodeIndex& node);
    [[nodiscard]] flue_status find_linked(const TreeWalk& walk,
                                          const flue_block& block,
                                          NodeIndex parent,
                                          NodeIndex& node) const;
    [[nodiscard]] Result<NodeIndex, flue_status> offload_neighbor(const TreeWalk& walk,
                                                                  const flue_block& block);
    [[nodiscard]] Result<NodeIndex, flue_status> offload_path(const TreeWalk& walk,
                                                              const flue_block& block,
                                                              NodeIndex parent);
    [[nodiscard]] flue_status offload_connection(TreeWalk& walk, flue_block& block, NodeIndex path);
    [[nodiscard]] bool hangs_together(const wire::FlowHeader& flow, NodeIndex path) const;

    // ---------------------------------------------------------------- sweep.cpp: UPDATE,
    // INVALIDATE, QUERY of paths and neighbors

    /// update_node and invalidate_node answer the request themselves when they return SUCCESS.
    [[nodiscard]] flue_status update_node(Instant now, NodeIndex index, const flue_wr& wr);
    [[nodiscard]] flue_status invalidate_node(NodeIndex index, const flue_wr& wr);
    void query_node(Instant now, NodeIndex index, const flue_wr& wr);
    /// update_path and update_neighbor return whether dependents have to hear of it.
    [[nodiscard]] Result<bool, flue_status> update_path(NodeIndex index, const flue_sge& sge);
    [[nodiscard]] Result<bool, flue_status> update_neighbor(Instant now,
                                                            NodeIndex index,
                                                            const flue_sge& sge);
    void move_path(NodeIndex path, NodeIndex to);
    [[nodiscard]] bool is_busy(NodeIndex index) const;
    [[nodiscard]] flue_status check_link_through(NodeIndex neighbor, uint16_t path_mtu) const;
    void start_sweep(NodeIndex index, const flue_wr& wr);
    void sweep_again(NodeIndex index);
    void run_sweeps(Instant now);
    /// sweep_path and sweep_neighbor return what is left of the budget.
    [[nodiscard]] uint32_t sweep_path(Instant now, NodeIndex index, uint32_t budget);
    [[nodiscard]] uint32_t sweep_neighbor(NodeIndex index, uint32_t budget);
    void end_sweep(NodeIndex index);
    void take_from_path(const Node& path, wire::FlowHeader& flow) const;
    void refresh(Instant now, ConnIndex index);

    // ---------------------------------------------------------------- reachability.cpp

    [[nodiscard]] bool is_stale(Instant now, const Node& neighbor) const;
    [[nodiscard]] NodeIndex neighbor_of(ConnIndex index) const;
    [[nodiscard]] tcp::Engine::Outcome process(Instant now,
                                               ConnIndex index,
                                               const tcp::Segment& segment);
    void ask_for_news(Instant now, std::span<const tcp::TxSegment> segments);
    void post_reachability_events();

    // ---------------------------------------------------------------- update.cpp: UPDATE,
    // INVALIDATE

    void update(Instant now, ConnIndex index, const flue_wr& wr);
    [[nodiscard]] flue_status apply_update(Instant now, ConnIndex index, const flue_state& block);
    void invalidate(Instant now, ConnIndex index, const flue_wr& wr);

    /// check_link asks the environment whether frames of this kind can be sent.
    [[nodiscard]] flue_status check_link(const wire::MacAddress& source_mac,
                                         uint16_t vlan_id,
                                         uint16_t path_mtu) const;
    /// stop_sending is what an invalidated connection is left with: TERMINATE and QUERY.
    void stop_sending(ConnIndex index);

    // ---------------------------------------------------------------- forward.cpp: FORWARD

    void forward(Instant now, ConnIndex index, const flue_wr& wr);
    [[nodiscard]] flue_status may_forward(ConnIndex index) const;
    [[nodiscard]] Result<ForwardedSegment, flue_status> read_segment(ConnIndex index,
                                                                     const flue_sge& sge) const;
    [[nodiscard]] flue_status process_segment(Instant now,
                                              ConnIndex index,
                                              const ForwardedSegment& forwarded);

    // ---------------------------------------------------------------- send.cpp: SEND, DISCONNECT

    void send(Instant now, ConnIndex index, const flue_wr& wr);
    void disconnect(Instant now, ConnIndex index, const flue_wr& wr);
    void drain_deadline_passed(Instant now, ConnIndex index);
    void abort(Instant now, ConnIndex index, const flue_wr& wr);
    /// may_send: whether the send direction takes a SEND or graceful DISCONNECT now.  After a FIN
    /// it takes what an OFFLOAD in such a state has left to be posted.
    [[nodiscard]] flue_status may_send(ConnIndex index, uint8_t opcode) const;
    [[nodiscard]] flue_status post_items(Instant now, ConnIndex index, const flue_wr& wr, bool fin);
    /// post_own_fin queues a FIN that no request asked for.  False: no item is free, try again.
    [[nodiscard]] bool post_own_fin(Instant now, ConnIndex index);
    /// refuse answers a request of the send direction in its turn, behind the sends before it.
    void refuse(Instant now, ConnIndex index, const flue_wr& wr, flue_status status);
    void finish_sends(Instant now, ConnIndex index);
    void relieve(Instant now, QueueSlot& slot);
    void finish_item(
        Instant now, ConnIndex index, ItemIndex item, flue_status status, uint32_t acked);
    void finish_waiting(Instant now, ConnIndex index);
    void update_offload_state(ConnIndex index);

    // ---------------------------------------------------------------- receive.cpp: RECV, events

    void receive(Instant now, ConnIndex index, const flue_wr& wr);
    void deliver(Instant now, ConnIndex index);
    [[nodiscard]] bool fill(Instant now, ConnIndex index, Request& request);
    void after_delivery(Instant now, ConnIndex index, bool placed);
    void finish_receive(Instant now, ConnIndex index, flue_status status);
    void finish_receives(Instant now, ConnIndex index, flue_status status);
    void raise(ConnIndex index, uint8_t event);
    void post_events(Instant now, QueueIndex slot);
    [[nodiscard]] bool post_events_of(ConnIndex index);

    // ---------------------------------------------------------------- backlog.cpp, advice.cpp

    [[nodiscard]] uint32_t wanted_backlog(ConnIndex index) const;
    void watch_backlog(ConnIndex index);
    void advise(ConnIndex index, Advisor::Advice advice);
    void advise_sent(Instant now, std::span<const tcp::TxSegment> segments);
    void look_whether_idle(Instant now, ConnIndex index);

    // ---------------------------------------------------------------- terminate.cpp: TERMINATE,
    // host loss, TIME_WAIT

    void terminate(Instant now, ConnIndex index, const flue_wr& wr);
    /// finish_terminate does nothing while something is still owed to the peer or the host.
    void finish_terminate(Instant now, ConnIndex index);
    void surrender(Instant now, ConnIndex index, Request& request);
    [[nodiscard]] uint32_t give_backlog_back(Instant now, ConnIndex index, std::byte* out);
    void drop_requests(ConnIndex index);
    void make_orphan(Instant now, ConnIndex index);
    void make_orphans(Instant now, QueueIndex slot);
    void settle_orphan(Instant now, ConnIndex index);
    /// leave ends the offload of a connection that the engine still has; in TIME_WAIT a record
    /// stays if `keep`.
    void leave(Instant now, ConnIndex index, bool keep_time_wait);
    void make_room_for_record();
    void end_time_wait(uint32_t record);
    /// silence gives a held connection's tuple to a record that drops its packets.
    void silence(Instant now, ConnIndex index);
    void expire_time_waits(Instant now);

    // ---------------------------------------------------------------- reattach.cpp: the next host

    void tell_reattached(QueueIndex slot);
    [[nodiscard]] bool tell_reattached_to(ConnIndex index);

    // ---------------------------------------------------------------- lists and regions

    RequestIndex append_request(RequestIndex& front, RequestIndex& back, const flue_wr& wr);
    void pop_request(RequestIndex& front, RequestIndex& back);
    void acquire(QueueIndex slot, uint32_t region_key);
    void release_region(QueueIndex slot, uint32_t region_key);

    Options options;
    Environment& environment;
    tcp::Engine engine;
    IndexPool<Connection, &Connection::next> connections;
    std::vector<wire::FlowHeader> flows;           ///< by connection
    std::vector<queue::SessionShare*> granted_to;  ///< by connection: of one without a queue
    std::vector<SendWork> sends;                   ///< by the engine's item
    IndexPool<Request, &Request::next> requests;
    IndexPool<Node, &Node::next_free> nodes;  ///< paths and neighbors
    std::vector<PathLink> path_links;         ///< by connection
    IndexList<Node, &Node::next_sweep> sweeping;
    IndexList<Node, &Node::next_asking> asking;
    TimeWaitTable time_waits;
    TimerWheel timers;
    Advisor advisor;
    std::vector<QueueSlot> queues;
    SharedPool connection_pool;
    SharedPool request_pool;
    SharedPool path_pool;
    SharedPool neighbor_pool;
    std::vector<ConnIndex> revisit;              ///< of settle_later
    std::vector<tcp::ByteRef> refused_payloads;  ///< stored for an OFFLOAD that then failed
    Intake intake           = Intake::open;
    uint32_t initiate_count = 0;  ///< HOLDs and OFFLOADs that wait, all queues together
    uint32_t held_count     = 0;
    uint32_t nic_references = 0;
    Counters counters;
};

}  // namespace flue::chimney
