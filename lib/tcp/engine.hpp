#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/instant.hpp"
#include "base/seq.hpp"
#include "tcp/drops.hpp"
#include "tcp/segment.hpp"
#include "tcp/state.hpp"

namespace flue::tcp {

/// How many of everything there is.  All of it is allocated by the constructor, nothing later.
struct Limits {
    uint32_t connections    = 1024;
    uint32_t send_items     = 16384;  ///< posted sends not yet released, all connections together
    uint32_t receive_chunks = 16384;  ///< payloads held: in order and not consumed, or out of order
    uint32_t reassembly_blocks_per_connection = 64;  ///< of data out of order, with gaps between
    uint32_t spans = 16384;  ///< stretches of data in flight, beside two that each connection has
    uint32_t spans_per_connection = 4096;
};

/// Numbers of enum flue_congestion.
enum class CongestionControl : uint8_t { unspecified = 0, cubic = 1, newreno = 2, dctcp = 3 };

struct Options {
    Limits limits;
    uint64_t seed               = 1;
    uint32_t delayed_ack_us     = 40'000;
    uint32_t ack_every_segments = 2;       ///< RFC 9293 §3.8.6.3
    uint32_t rto_min_us        = 200'000;  ///< below RFC 6298's 1 s, as every deployed stack has it
    uint32_t rto_max_us        = 60'000'000;   ///< RFC 6298 (2.5)
    uint32_t retransmits_max   = 15;           ///< then upload_reason::timeout_expiration.  R90
    uint32_t window_probes_max = 15;           ///< in a persist round.  R90
    uint32_t fin_wait_2_us     = 120'000'000;  ///< R91
    uint32_t time_wait_us      = 60'000'000;   ///< 2MSL
    CongestionControl congestion = CongestionControl::cubic;
    bool pacing                  = false;  ///< spread a window over a round trip
    uint32_t quantum_bytes =
        64 * 1024;  ///< one connection's share before the next ready one has its turn
};

/// Why the host is asked to end the offload.  Numbers of enum flue_upload_reason.  Spec:
/// contract 2.10
enum class UploadReason : uint8_t {
    none                 = 0,
    received_urgent_data = 5,
    timeout_expiration   = 8,
    invalid_state        = 9,
    upload_requested     = 10,
    hardware_failure     = 11,
};

/// What happened on a connection since it was last taken by take_notified.  Level-triggered: bits,
/// never a queue.
enum Notice : uint8_t {
    notice_acked    = 0x01,  ///< pop_acked has something
    notice_received = 0x02,  ///< readable() grew
    notice_peer_fin =
        0x04,  ///< the peer's FIN is in order (undelivered data may still be before it)
    notice_reset          = 0x08,  ///< an acceptable RST arrived.  R84
    notice_upload         = 0x10,  ///< upload_reason() says why
    notice_rst_sent       = 0x20,  ///< the RST of abort() has been put into a batch
    notice_pushed         = 0x40,  ///< the last in-order data had PSH
    notice_unposted_acked = 0x80,  ///< forgo_missing has become possible
};

/// Everything about a connection that moves with it.  Times are relative to `now` of adopt and
/// surrender. Fields and units as in struct flue_state, which the layer above translates.
struct Delegated {
    State state = State::established;
    Seq rcv_nxt;
    uint32_t rcv_wnd = 0;
    Seq snd_una;
    Seq snd_nxt;
    Seq snd_max;
    uint32_t snd_wnd     = 0;
    uint32_t max_snd_wnd = 0;
    Seq snd_wl1;
    uint32_t cwnd                = 0;
    uint32_t ssthresh            = UINT32_MAX;
    uint32_t srtt_us_x8          = 0;
    uint32_t rttvar_us_x4        = 0;
    uint32_t ts_recent           = 0;
    uint32_t ts_recent_age_ms    = 0;
    uint32_t ts_time             = 0;
    uint32_t total_rt_ms         = 0;
    uint8_t dup_ack_count        = 0;
    uint8_t retransmit_count     = 0;
    uint8_t backoff              = 0;
    uint8_t ka_probes_unanswered = 0;
    bool recovery                = false;  ///< fast recovery is going on, until `recover`
    int32_t ka_delta_ms          = -1;     ///< -1 not running, 0 at once.  R12
    int32_t retransmit_delta_ms  = -1;     ///< retransmit, persist or FIN-WAIT-2 timer, by state
    Seq recover;
    uint8_t sack_count = 0;  ///< what the peer reported
    std::array<wire::SackRange, wire::sack_ranges_max> sack{};
};

/// Constant and cached variables that the engine needs.
struct Parameters {
    bool timestamps              = false;
    bool sack                    = false;
    bool nagle                   = false;
    bool keep_alive              = false;
    bool ecn                     = false;                           ///< negotiated.  RFC 3168
    CongestionControl congestion = CongestionControl::unspecified;  ///< adopt: the options' then
    uint8_t snd_wind_shift       = 0;
    uint8_t rcv_wind_shift       = 0;
    uint8_t ka_probe_count       = 0;
    uint16_t mss =
        536;  ///< bytes of TCP payload with no options: min(path MTU - IP - 20, remote MSS)
    uint32_t rcv_wnd_max    = 256 * 1024;
    uint32_t ka_timeout_ms  = 7'200'000;
    uint32_t ka_interval_ms = 75'000;
    uint32_t max_rt_ms      = 0;
    uint8_t group           = 0;                   ///< that counts it, below Engine::groups_max
    wire::Family family     = wire::Family::ipv4;  ///< what an MSS may be learned to be at least
};

/// What an update does beside changing values.
enum UpdateFlag : uint8_t {
    update_restart_keep_alive = 0x01,  ///< the keepalive timer starts afresh
    update_restart_max_rt     = 0x02,  ///< the time spent on retransmitting counts from now.  R30
    update_tell_window        = 0x04,  ///< rcv_wnd_max has changed: an ACK says so.  R29
};

/// A TCP engine for synchronized connections: segments and time in, segments and notices out.
///
/// It does no I/O, reads no clock, no payload byte and no global, and allocates only in its
/// constructor. Thread: one thread owns an engine and everything in it.
///
/// Work flows through two lists that it keeps itself: connections with something to send (transmit
/// serves them round robin) and connections with notices (take_notified).  So no output is ever
/// lost for want of room: a full batch just means that the rest comes with the next call.
class Engine {
  public:
    explicit Engine(const Options& options);
    ~Engine();
    Engine(const Engine&)            = delete;
    Engine& operator=(const Engine&) = delete;

    // ---------------------------------------------------------------- connections

    /// adopt takes over a connection under the index that the caller chose.
    /// Until sends have been posted up to snd_max, the connection emits nothing but what posted
    /// data allows. A FIN that the giver had sent (fin_wait_1, closing, last_ack) keeps its place
    /// before snd_max and needs no item, but may be given one.  The first ACK after adopt is sent
    /// at once (quick ACK).  What no giver may know is learned: ts_recent 0, cwnd 0, srtt 0.
    /// Pre: index < limits.connections, not in use.
    /// Returns none, or why not: Refusal::state (closed, time_wait or impossible numbers).
    enum class Refusal : uint8_t { none, state, items };
    [[nodiscard]] Refusal adopt(Instant now,
                                ConnIndex index,
                                const Parameters& parameters,
                                const Delegated& state);

    /// update changes what is cached in `parameters`: nagle, keepalive, mss, rcv_wnd_max, max_rt.
    /// The window's right edge never moves left: a smaller rcv_wnd_max shuts it as data comes in.
    /// Segments cut from now on, retransmissions too, obey the mss.  In any state.
    void update(Instant now, ConnIndex index, const Parameters& parameters, uint8_t flags);

    /// packet_too_big says that, as a router has it, the segment at `seq` was too large for its
    /// path and that `mss` would do.  Only if it is in flight, and `mss` not implausibly small, is
    /// it believed: the connection sends it again in smaller segments, with cwnd as it was. What
    /// update says of the mss later replaces it, unless it says what it said before. Returns
    /// whether the mss was lowered.  Spec: RFC 1191, RFC 8201, RFC 5927 §4.1
    bool packet_too_big(Instant now, ConnIndex index, Seq seq, uint16_t mss);

    /// snapshot writes the delegated state as of now and changes nothing.
    void snapshot(Instant now, ConnIndex index, Delegated& state) const;

    /// forget frees the connection: timers, out-of-order data, undelivered data and its remaining
    /// send items, which the caller must have popped first (drop_items).
    void forget(ConnIndex index);

    /// prefetch brings a connection on its way into the caches.  Pre: index < limits.connections.
    void prefetch(ConnIndex index) const;

    [[nodiscard]] State state(ConnIndex index) const;
    /// parameters returns what adopt was given, with the mss that is in use.
    [[nodiscard]] Parameters parameters(ConnIndex index) const;
    [[nodiscard]] UploadReason upload_reason(ConnIndex index) const;
    /// snd_una moves when the peer acknowledges something new.
    [[nodiscard]] Seq snd_una(ConnIndex index) const;

    // ---------------------------------------------------------------- sending

    [[nodiscard]] uint32_t free_items() const;

    /// post_room returns how many bytes may be posted now: what keeps the backlog below 2^30; after
    /// a FIN was queued none, except that a connection adopted with its FIN sent takes what is
    /// missing before the FIN.  Acknowledged in the meantime, it takes them still.
    [[nodiscard]] uint32_t post_room(ConnIndex index) const;

    /// post_send queues the bytes of `ref`, then, with `fin`, a FIN.  length 0 is legal.
    /// Pre: free_items() > 0.  Returns the item's index, by which the caller may keep its own data
    /// beside it, or no_item when the connection cannot take it: more than post_room, or a second
    /// FIN while an item stands for the first.  With exactly the missing bytes, and until an item
    /// stands for it, `fin` means the FIN that the giver had sent: nothing is queued, and the item
    /// is acknowledged when that one is.  Owner: the bytes stay where they are until the caller has
    /// popped and released the item.
    ItemIndex post_send(Instant now, ConnIndex index, const ByteRef& ref, bool fin);

    /// missing_bytes returns how many bytes below snd_max the giver had sent and nobody has posted
    /// yet.  No FIN can be posted before them, except together with the last of them.
    [[nodiscard]] uint32_t missing_bytes(ConnIndex index) const;
    /// forgo_missing says that those bytes never come.  Returns whether they are not needed, since
    /// the peer has acknowledged them; if not, notice_unposted_acked tells when.
    [[nodiscard]] bool forgo_missing(ConnIndex index);

    /// abort puts an RST at the head of what is to be sent and closes the connection.  R74
    void abort(Instant now, ConnIndex index);

    /// stop freezes the connection: nothing more is sent or processed (terminate, invalidate,
    /// mandatory upload).
    void stop(ConnIndex index);

    /// invalidate is stop, and asks for the upload unless that was done before.  R33, R35
    void invalidate(ConnIndex index);

    /// front_item returns the oldest posted item that was not popped, or no_item.  Internal FINs
    /// are not shown.
    [[nodiscard]] ItemIndex front_item(ConnIndex index) const;
    /// acked_bytes returns how many data bytes of `item` the peer has acknowledged.
    [[nodiscard]] uint32_t acked_bytes(ConnIndex index, ItemIndex item) const;
    /// fully_acked: all bytes of the item, and its FIN if it has one, are acknowledged.
    [[nodiscard]] bool fully_acked(ConnIndex index, ItemIndex item) const;
    [[nodiscard]] const ByteRef& item_ref(ItemIndex item) const;
    /// pop_item unlinks the front item and frees its index.  Pre: item == front_item(index), and
    /// fully acked or the connection closed or stopped.
    void pop_item(ConnIndex index, ItemIndex item);
    /// min(cwnd, SND.WND): what may be in flight.
    [[nodiscard]] uint32_t usable_window(ConnIndex index) const;
    /// Bytes posted and not acknowledged, FIN not counted.
    [[nodiscard]] uint32_t send_backlog(ConnIndex index) const;

    // ---------------------------------------------------------------- receiving

    /// on_segment processes one segment.  Returns Drop::none when it was processed; any other value
    /// is already counted. Owner: on Payload::kept the payload is the engine's until take_released
    /// yields it; else the caller's still.
    struct Outcome {
        Drop drop         = Drop::none;
        bool payload_kept = false;
        bool out_of_order = false;  ///< text behind a gap
    };

    Outcome on_segment(Instant now, ConnIndex index, const Segment& segment);

    /// Bytes in order and not consumed.
    [[nodiscard]] uint32_t readable(ConnIndex index) const;
    /// front_chunk returns the oldest in-order payload, as far as it is not consumed; length 0 =
    /// nothing.
    [[nodiscard]] ByteRef front_chunk(ConnIndex index) const;
    /// consume removes bytes from the front; the window grows by them.  Pre: bytes <=
    /// readable(index).
    void consume(Instant now, ConnIndex index, uint32_t bytes);
    /// add_readable appends undelivered data that a connection brought along (before any segment).
    /// Its sequence numbers end at rcv_nxt.  Owner: as with on_segment.  Returns false when there
    /// is no chunk left.
    [[nodiscard]] bool add_readable(ConnIndex index, const ByteRef& ref);
    /// peer_fin_received: the FIN is in order; with readable() == 0 everything before it was
    /// consumed.
    [[nodiscard]] bool peer_fin_received(ConnIndex index) const;
    /// flush_ack sends what is owed of delayed ACKs with the next transmit.  R103
    void flush_ack(ConnIndex index);
    /// ack_owed: an ACK leaves with the next transmit.
    [[nodiscard]] bool ack_owed(ConnIndex index) const;

    // ---------------------------------------------------------------- output

    /// transmit fills `out` from ready connections, round robin, and returns how many segments it
    /// wrote.
    [[nodiscard]] uint32_t transmit(Instant now, std::span<TxSegment> out);
    [[nodiscard]] bool has_output() const;

    /// on_time runs what is due; its segments come with the next transmit.
    void on_time(Instant now);
    /// next_deadline: when on_time has something to do at the earliest, or unset.  May be early,
    /// never late.
    [[nodiscard]] Instant next_deadline() const;

    struct Notified {
        ConnIndex conn  = no_conn;
        uint8_t notices = 0;  ///< bits of Notice, cleared by being taken
    };

    [[nodiscard]] uint32_t take_notified(std::span<Notified> out);
    /// notify puts a connection on the list again, for a caller that could not finish with it.
    void notify(ConnIndex index, uint8_t notices);

    /// take_released returns payloads that the engine does not need any more (consumed, duplicate,
    /// dropped).
    [[nodiscard]] uint32_t take_released(std::span<ByteRef> out);

    // ---------------------------------------------------------------- figures

    struct Counters {
        uint64_t segments_in            = 0;
        uint64_t segments_out           = 0;
        uint64_t segments_retransmitted = 0;
        uint64_t bytes_in               = 0;
        uint64_t bytes_out              = 0;
        uint64_t resets_out             = 0;
        uint64_t resets_in              = 0;
        uint64_t timeouts               = 0;
        uint64_t fast_retransmits       = 0;
        uint64_t tail_probes            = 0;  ///< RFC 8985 §7
        uint64_t spurious_recoveries = 0;  ///< undone: F-RTO or D-SACK showed that nothing was lost
        uint64_t duplicates_reported = 0;  ///< D-SACKs in.  RFC 2883
        uint64_t sacks_refused       = 0;  ///< SACK ranges outside of what is in flight
        uint64_t sacks_renounced     = 0;  ///< by the peer, or forgotten at a timeout
        uint64_t congestion_marks    = 0;  ///< reactions to ECE
        uint64_t duplicates_received = 0;  ///< text that was here already: D-SACKs out with SACK
        uint64_t chunks_evicted      = 0;  ///< far data out of order that made room for nearer
        uint64_t challenge_acks      = 0;
        uint64_t too_big_heeded      = 0;  ///< packet_too_big: the mss was lowered
        uint64_t too_big_known       = 0;  ///< it was low enough
        uint64_t too_big_refused = 0;  ///< nothing of the kind is in flight, or too small an mss
        uint64_t black_holes     = 0;  ///< full segments vanished: smaller ones are tried
        std::array<uint64_t, drop_count> drops{};
    };

    [[nodiscard]] const Counters& counters() const;

    /// What the connections of a group add up to; what a group is, the caller says with adopt. R119
    struct Group {
        uint32_t established       = 0;  ///< in ESTABLISHED or CLOSE-WAIT now
        uint64_t established_reset = 0;  ///< went straight from these to CLOSED
    };

    static constexpr uint32_t groups_max = 64;
    [[nodiscard]] const Group& group(uint32_t group) const;

    /// What `conns` shows of one connection.
    struct Info {
        State state                  = State::closed;
        uint32_t cwnd                = 0;
        uint32_t ssthresh            = 0;
        uint32_t srtt_us             = 0;
        uint32_t rto_us              = 0;
        uint32_t snd_wnd             = 0;
        uint32_t rcv_wnd             = 0;
        uint32_t unacked             = 0;
        uint32_t backlog             = 0;
        uint32_t readable            = 0;
        uint16_t mss                 = 0;
        uint32_t retransmits         = 0;
        uint32_t sacked              = 0;
        uint32_t lost                = 0;  ///< and not sent again yet
        bool recovering              = false;
        bool ecn                     = false;
        CongestionControl congestion = CongestionControl::unspecified;
    };

    [[nodiscard]] Info info(ConnIndex index) const;

    /// Objects in use; all zero again when every connection was forgotten and every release taken.
    struct Usage {
        uint32_t connections    = 0;
        uint32_t send_items     = 0;
        uint32_t receive_chunks = 0;
        uint32_t spans          = 0;
    };

    [[nodiscard]] Usage usage() const;

    /// check_invariants asserts everything that must hold for one connection between calls.
    void check_invariants(ConnIndex index) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace flue::tcp
