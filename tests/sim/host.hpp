#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/prng.hpp"
#include "checkers/completions.hpp"
#include "connection.hpp"
#include "events.hpp"
#include "queue/queue_memory.hpp"
#include "queue/regions.hpp"
#include "queue/target_queue.hpp"

namespace flue::sim {

class World;

/// One end of a connection as its host sees it.
struct HostEnd {
    enum class Phase : uint8_t {
        at_host,      ///< the host has its state
        holding,      ///< HOLD is under way
        offloading,   ///< OFFLOAD is under way
        live,         ///< the target has it
        terminating,  ///< TERMINATE is under way
        leaving,      ///< the packets of a connection that has ended are still kept
        over          ///< nothing is left to do
    };

    Connection* connection = nullptr;
    uint32_t from          = 0;
    Phase phase            = Phase::at_host;
    uint8_t target         = 0;
    flue_conn handle       = FLUE_NO_CONN;  ///< live, or kept by KEEP_HELD
    Instant resume_at;                      ///< at_host: when OFFLOAD is due
    Instant parked_at;
    flue_state state{};  ///< at_host: what the next OFFLOAD gives

    uint32_t next_offset   = 0;  ///< the next byte of its stream to post
    uint32_t sent_before   = 0;  ///< the offload before this one has sent up to here
    uint32_t acked         = 0;  ///< bytes that completions said were acknowledged
    uint32_t received      = 0;  ///< bytes of the other stream that RECVs brought
    uint32_t backlog_bytes = 0;  ///< at_host: undelivered bytes, which follow those
    bool disconnect_posted = false;
    bool fin_acked         = false;
    bool peer_fin          = false;  ///< the event, or a state that says it
    bool reset             = false;  ///< FLUE_EVENT_ABORT, or our own abort
    bool send_failed       = false;  ///< a completion of this offload was no success.  R40
    bool send_part_failed  = false;  ///< and had bytes.  R41
    bool upload_wanted     = false;
    bool upload_asked      = false;  ///< by the target
    bool abort_wanted      = false;
    bool abort_posted      = false;
    bool data_waits        = false;
    bool query_wanted      = false;
    bool update_wanted     = false;
    bool invalidate_wanted = false;
    bool invalidate_posted = false;  ///< in this offload
    flue_state update{};             ///< the UPDATE that is under way
    bool move_wanted = false;        ///< to the other target
    std::vector<uint32_t> free_send_slots;
    std::vector<uint32_t> free_recv_slots;

    [[nodiscard]] End& truth() const { return connection->ends[from]; }

    [[nodiscard]] End& other() const { return connection->ends[1 - from]; }

    [[nodiscard]] const EndOptions& options() const { return *truth().options; }
};

/// Host is a process with a session at each target: it owns connections, hands them over, posts
/// requests, checks every completion, and takes connections back.
class Host final : public Actor {
  public:
    Host(World& world, uint32_t index);
    ~Host() override;
    Host(const Host&)            = delete;
    Host& operator=(const Host&) = delete;

    void add(Connection& connection, uint32_t from);
    /// start makes memory and queues for what was added.
    void start();
    void completions_posted(uint32_t target);
    void wake();

    void be_silent(Instant until) { silent_until_ = until; }

    void die();
    /// Faults of one of its connections: the pick is reduced modulo their number.
    void upload_one(uint32_t pick, bool move);
    void abort_one(uint32_t pick);
    void query_one(uint32_t pick);
    void update_one(uint32_t pick);
    void invalidate_one(uint32_t pick);

    [[nodiscard]] bool is_over() const;

    [[nodiscard]] bool is_dead() const { return dead_; }

    void check();
    void check_home();
    void show() const;

    void act(uint32_t what, uint64_t argument) override;

  private:
    [[nodiscard]] HostEnd* pick_live(uint32_t pick);
    /// A queue at one target.
    struct Session;

    void tick();
    [[nodiscard]] bool poll(Session& session);
    void take(Session& session, const flue_wc& wc);
    void take_event(HostEnd& end, const flue_wc& wc);
    void take_send(HostEnd& end, const Posted& posted, const flue_wc& wc);
    void take_aborted_or_uploaded(HostEnd& end, const Posted& posted, const flue_wc& wc);
    void take_receive(HostEnd& end, const Posted& posted, const flue_wc& wc);
    void take_offload(HostEnd& end, const flue_wc& wc);
    void take_terminate(HostEnd& end, const Posted& posted, const flue_wc& wc);
    void check_state(HostEnd& end, const flue_state& state, uint32_t backlog);
    void go_on_after(HostEnd& end, const flue_state& state, uint32_t backlog);

    void drive(uint32_t number);
    void drive_at_host(uint32_t number);
    void drive_live(uint32_t number);
    [[nodiscard]] bool wants_terminate(const HostEnd& end) const;
    [[nodiscard]] bool post_release(uint32_t number);
    void leave(HostEnd& end);
    void post_hold(uint32_t number);
    void post_offload(uint32_t number);
    void post_terminate(uint32_t number);
    void post_abort(uint32_t number);
    void post_query(uint32_t number);
    void post_update(uint32_t number);
    void post_invalidate(uint32_t number);
    void take_update(HostEnd& end, const flue_wc& wc);
    void take_queue_event(const Session& session, const flue_wc& wc);
    void post_receives(uint32_t number);
    void post_sends(uint32_t number);
    [[nodiscard]] bool post_send(uint32_t number, bool disconnect);
    [[nodiscard]] bool may_disconnect(const HostEnd& end) const;
    [[nodiscard]] bool may_post_more(const HostEnd& end, uint8_t opcode) const;
    [[nodiscard]] bool post(uint32_t number, flue_wr wr, Posted posted);
    [[nodiscard]] flue_wr request(const HostEnd& end, uint8_t opcode);
    [[nodiscard]] flue_state first_state(const HostEnd& end) const;

    // memory: [state | state of an UPDATE | backlog | send slots | receive slots] for each
    // connection
    [[nodiscard]] uint64_t backlog_at(uint32_t number) const;
    [[nodiscard]] uint64_t send_at(uint32_t number, uint32_t slot) const;
    [[nodiscard]] uint64_t receive_at(uint32_t number, uint32_t slot) const;
    [[nodiscard]] flue_sge sge(const HostEnd& end, uint64_t offset, uint32_t length) const;

    World& world_;
    uint32_t index_;
    Prng prng_;
    std::vector<HostEnd> ends_;
    std::vector<uint64_t> bases_;
    std::unique_ptr<std::byte[]> arena_;
    std::vector<std::unique_ptr<Session>> sessions_;  ///< [target]
    uint64_t next_wr_id_ = 1;
    Instant next_tick_;
    uint64_t tick_number_ = 0;
    Instant silent_until_;
    bool dead_    = false;
    bool retries_ = false;  ///< something could not be posted: try again
};

}  // namespace flue::sim
