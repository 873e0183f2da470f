#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>

#include "base/index_list.hpp"
#include "base/index_pool.hpp"
#include "base/timer_wheel.hpp"
#include "tcp/engine.hpp"
#include "tcp/tcb.hpp"

namespace flue::tcp {

/// A connection in hand.
struct Conn {
    ConnIndex index;
    Tcb& tcb;
    TcbCold& cold;
    TcbLoss& loss;  ///< not to be read unless loss_known

    /// know makes sure that `loss` says something.
    TcbLoss& know() const;
};

/// What an ACK tells of: bytes that have arrived and were not known to.
struct Delivery {
    uint32_t bytes         = 0;
    uint32_t acked         = 0;  ///< by which snd_una has moved
    uint32_t flight_before = 0;
    uint32_t oldest_rtt_us = 0;  ///< of bytes sent once.  0 = none of them
    uint32_t sent_us       = 0;  ///< when the segment was sent that was sent last of these
    Seq end{};                   ///< and where it ends
    bool any       = false;      ///< sent_us and end mean something
    bool sacked    = false;      ///< by SACK, some of it
    bool again     = false;      ///< some was sent more than once
    bool duplicate = false;      ///< D-SACK.  RFC 2883
    bool original  = false;      ///< some was thought lost and not sent again
    bool reordered = false;      ///< some came later than what was sent after it
    bool lost      = false;      ///< something more is now thought lost
    bool marked    = false;      ///< the peer says that packets were marked
};

/// A segment on its way through the steps of RFC 9293 §3.10.7.4, cut down to what is new and in the
/// window.
struct Arrival {
    const Segment& segment;
    Seq seq;
    uint32_t skip  = 0;  ///< payload bytes cut off at the front
    uint32_t bytes = 0;  ///< payload bytes left
    bool fin       = false;
    bool cut       = false;  ///< something beyond the window was cut off
    bool late      = false;  ///< there is a gap before it
    bool kept      = false;  ///< the payload is the engine's now

    [[nodiscard]] Seq end() const { return seq + bytes; }
};

/// What a step says: nothing, to go on, or how the segment ended.
using Verdict             = std::optional<Drop>;
constexpr Verdict proceed = std::nullopt;

/// What the next segment of new data would be.
struct Plan {
    uint32_t bytes = 0;
    bool fin       = false;

    [[nodiscard]] bool any() const { return bytes > 0 || fin; }
};

/// The caller's array and how far it is filled.
struct Batch {
    std::span<TxSegment> out;
    uint32_t count = 0;

    [[nodiscard]] bool full() const { return count == out.size(); }
};

/// Memory that nobody touches before it is needed.
struct FreeMemory {
    void operator()(TcbLoss* first) const { std::free(first); }
};

using LossArray = std::unique_ptr<TcbLoss[], FreeMemory>;

struct Engine::Impl {
    explicit Impl(const Options& options_in);

    // ------------------------------------------------ engine.cpp: lists, memory
    [[nodiscard]] Conn at(ConnIndex index) const;
    void clock(Instant now);

    [[nodiscard]] uint32_t now_us32() const { return static_cast<uint32_t>(now.us); }

    [[nodiscard]] uint32_t timestamp_of(const Tcb& tcb) const { return tick + tcb.ts_offset; }

    [[nodiscard]] static uint32_t missing_bytes(const Tcb& tcb);
    [[nodiscard]] uint32_t post_room(const Tcb& tcb) const;
    [[nodiscard]] static bool may_have_fin(const Tcb& tcb, uint32_t bytes);
    ItemIndex post_send(Conn c, const ByteRef& ref, bool fin);
    void pop_item(Conn c, ItemIndex item);
    void consume(Conn c, uint32_t bytes);
    bool add_readable(Conn c, const ByteRef& ref);
    void link_readable(Conn c, uint32_t chunk);
    void queue_ready(Conn c);
    void queue_urgent(Conn c, Pending what);
    [[nodiscard]] ItemIndex first_item(const Tcb& tcb) const;
    void notify(Conn c, uint32_t notices);
    /// Puts a chunk on the list of payloads that go back to the caller.
    void release_chunk(uint32_t chunk);

    // ------------------------------------------------ handover.cpp
    Refusal adopt(ConnIndex index, const Parameters& parameters, const Delegated& state);
    void adopt_recovery(Conn c, const Delegated& state);
    void adopt_scoreboard(Conn c, const Delegated& state);
    void adopt_holes(Conn c, const Delegated& state);
    [[nodiscard]] CongestionControl control_for(const Parameters& parameters) const;
    [[nodiscard]] uint32_t timeout_due(const Tcb& tcb) const;
    void adopt_timers(Conn c, const Delegated& state);
    void adopt_keep_alive(Conn c, const Delegated& state);
    void snapshot(Instant at_time, ConnIndex index, Delegated& state) const;
    void forget(Conn c);

    // ------------------------------------------------ update.cpp
    void update(Conn c, const Parameters& parameters, uint8_t flags);
    void update_keep_alive(Conn c, const Parameters& parameters, bool restart);
    void update_window(Conn c, uint32_t rcv_wnd_max, bool tell);

    // ------------------------------------------------ path_mtu.cpp
    bool packet_too_big(Conn c, Seq seq, uint16_t mss);
    void set_mss(Conn c, uint16_t mss);
    void lower_mss(Conn c, uint16_t mss);
    void update_mss(Conn c, uint16_t mss);
    void send_again_smaller(Conn c);
    void step_down_mss(Conn c);
    void end_mss_trial(Conn c);

    // ------------------------------------------------ invariants.cpp
    void check_invariants(ConnIndex index) const;
    void check_reassembly(const Tcb& tcb, const TcbCold& cold) const;
    void check_scoreboard(Conn c) const;

    // ------------------------------------------------ input.cpp
    Outcome on_segment(Conn c, const Segment& segment);
    Drop receive_predicted(Conn c, Arrival& a);
    Drop segment_arrives(Conn c, Arrival& a);
    Verdict check_open(Conn c, const Arrival& a);
    Verdict check_timestamps(Conn c, const Arrival& a);
    Verdict check_sequence(Conn c, Arrival& a);
    Verdict check_rst(Conn c, const Arrival& a);
    Verdict check_syn(Conn c, const Arrival& a);
    Verdict check_urgent(Conn c, const Arrival& a);
    void record_timestamp(Conn c, const Arrival& a);
    /// answer_unacceptable owes an ACK to a segment that is not processed; those without text are
    /// limited in rate.
    void answer_unacceptable(Conn c, const Arrival& a);
    /// challenge owes a challenge ACK unless the last limited answer is less than `interval_ms`
    /// ago.  RFC 5961 §7
    void challenge(Conn c, uint32_t interval_ms);
    void start_blind_check(Conn c);
    /// segment_accepted notes that the peer is alive: sequence number and ACK are acceptable.
    void segment_accepted(Conn c, const Arrival& a);

    // ------------------------------------------------ input_ack.cpp
    Verdict check_ack(Conn c, const Arrival& a);
    void new_ack(Conn c, const wire::TcpFields& fields);
    void old_ack(Conn c, const Arrival& a);
    void note_sacks(Conn c, const wire::TcpFields& fields, Delivery& d);
    [[nodiscard]] bool is_duplicate_report(Conn c, const wire::TcpFields& fields) const;
    void measure_rtt(Conn c, const Delivery& d, const wire::TcpFields& fields);
    void update_send_window(Conn c, const Arrival& a);
    void notify_acked(Conn c);
    [[nodiscard]] bool fully_acked(const Tcb& tcb, ItemIndex item) const;

    // ------------------------------------------------ input_text.cpp
    Drop process_text(Conn c, Arrival& a);
    Drop receive_in_order(Conn c, Arrival& a);
    [[nodiscard]] Drop room_in_order(Conn c, const Arrival& a);
    void append_in_order(Conn c, uint32_t chunk);
    void owe_ack(Conn c, bool at_once);
    void acknowledge_now(Conn c);

    // ------------------------------------------------ reassembly.cpp
    Drop keep_out_of_order(Conn c, Arrival& a);
    void cut_to_gap(Conn c, Arrival& a, uint32_t before);
    void insert_chunk(Conn c, uint32_t before, uint32_t chunk, bool joins);
    [[nodiscard]] bool room_out_of_order(Conn c, const Arrival& a, bool new_block);
    void release_block(Conn c, uint32_t before);
    /// What points to the block after `before`, which is a block or no_index.
    uint32_t& reassembly_link(Tcb& tcb, uint32_t before);
    /// pull_in_order moves what has become in order; returns whether a FIN has, too.
    bool pull_in_order(Conn c);
    void drop_reassembly(Conn c);
    /// evict_farthest drops the block that lies farthest away, if that is behind `seq`.
    bool evict_farthest(Conn c, Seq seq);
    void note_recent(Conn c, Seq seq);
    void report_overlap(Conn c, const Arrival& a, uint32_t block);
    /// report_duplicate has the next ACK tell of [start, end).
    void report_duplicate(Conn c, Seq start, Seq end);
    /// forget_duplicate takes back a report of what lies behind `beyond`.
    static void forget_duplicate(Conn c, Seq beyond);

    [[nodiscard]] Seq block_end(uint32_t block) const {
        return chunks[chunks[block].block_last].end();
    }

    [[nodiscard]] uint32_t block_behind(uint32_t block) const {
        return chunks[chunks[block].block_last].next;
    }

    uint8_t sack_ranges(Conn c, std::span<wire::SackRange> out) const;
    /// take_chunk makes a chunk of what is left of an arrival, linked nowhere.  Pre: a chunk is
    /// free.
    uint32_t take_chunk(Arrival& a);

    // ------------------------------------------------ scoreboard.cpp
    [[nodiscard]] bool span_free(const Tcb& tcb) const;
    /// may_append_span: whether new data may go out, seen from the scoreboard.
    [[nodiscard]] bool may_append_span(const Tcb& tcb) const;
    uint32_t insert_span(Conn c, uint32_t before);
    void remove_span(Conn c, uint32_t before);
    void append_span(Conn c, Seq end);
    bool split_span(Conn c, uint32_t before, Seq at);
    void drop_spans(Conn c);
    static void count_fates(Conn c);
    [[nodiscard]] static uint32_t pipe(Conn c);
    void deliver(Conn c, const Span& span, Seq end, uint32_t bytes, Delivery& d) const;
    void acknowledge_spans(Conn c, Seq ack, Delivery& d);
    void mark_sacked(Conn c, const wire::SackRange& range, Delivery& d);
    void mark_front_lost(Conn c, uint32_t bytes);
    void lose_outstanding(Conn c, bool forget_sacks);
    [[nodiscard]] Seq find_lost(Conn c, Seq& end) const;
    void sent_again(Conn c, Seq seq, Seq end);
    uint8_t sacked_ranges(const Tcb& tcb, std::span<wire::SackRange> out) const;

    // ------------------------------------------------ recovery.cpp
    void duplicate_ack(Conn c);
    /// recover_after_ack is what an ACK means for losses, and for the window.
    void recover_after_ack(Conn c, Delivery& d);
    void partial_ack(Conn c, Delivery& d);
    void enter_recovery(Conn c);
    void leave_recovery(Conn c);
    void reduce_proportionally(Conn c, const Delivery& d);
    void grow_window(Conn c, const Delivery& d);
    void reduce_at_once(Conn c, const Delivery& d);
    void detect_spurious_timeout(Conn c, const Delivery& d);
    void remember_window(Conn c);
    void undo_reduction(Conn c);
    void find_nothing_lost(Conn c);
    [[nodiscard]] bool has_renounced(Conn c) const;
    void retransmit_timed_out(Conn c);
    void window_probe_timed_out(Conn c);
    [[nodiscard]] bool retransmits_exhausted(Conn c) const;

    // ------------------------------------------------ rack.cpp
    void note_delivery(Conn c, const Delivery& d);
    [[nodiscard]] uint32_t reorder_window_us(Conn c) const;
    void detect_lost(Conn c, Delivery& d);
    void reorder_timed_out(Conn c);
    void note_duplicate(Conn c);
    void start_loss_timer(Conn c);
    void tail_probe_timed_out(Conn c);
    /// Returns whether the window was reduced.
    [[nodiscard]] bool tail_probe_ack(Conn c, const Delivery& d);

    // ------------------------------------------------ ecn.cpp
    void note_mark(Conn c, const Arrival& a);
    /// Returns whether the peer says that packets were marked.
    bool note_echo(Conn c, const wire::TcpFields& fields, uint32_t acked);
    [[nodiscard]] bool marks_have_cost(Conn c, Seq seq) const;
    void pay_for_loss(Conn c, uint32_t flight_bytes);
    void mark_segment(Conn c, TxSegment& tx, bool new_data);

    // ------------------------------------------------ pacing.cpp
    [[nodiscard]] uint32_t pace_room(Conn c);
    void paced(Conn c, uint32_t bytes);

    // ------------------------------------------------ output.cpp
    uint32_t transmit(std::span<TxSegment> out);
    /// send_pending and send_data give a connection its turn; they return whether it wants another.
    bool send_pending(Conn c, Batch& batch);
    bool send_data(Conn c, Batch& batch);
    uint32_t send_lost(Conn c, Batch& batch);
    uint32_t send_new(Conn c, Batch& batch, bool& cut);
    [[nodiscard]] bool may_send_now(Conn c);
    void send_tail_probe(Conn c, Batch& batch);
    void send_window_probe(Conn c, Batch& batch);
    void send_reset(Conn c, Batch& batch);
    void send_control(Conn c, Batch& batch, Seq seq, uint32_t flags);
    /// emit_data puts a segment of up to `plan.bytes` from `seq` into the batch; returns sequence
    /// numbers used.
    uint32_t emit_data(Conn c, Batch& batch, Seq seq, Plan plan);
    void sent(Conn c, Seq seq, Seq end);
    void fill_header(Conn c, TxSegment& tx, Seq seq, uint32_t flags);
    uint32_t fill_slices(Tcb& tcb, TxSegment& tx, Seq seq, uint32_t bytes) const;
    /// plan_data: what may be sent next; `forced`: even a small segment.
    [[nodiscard]] Plan plan_data(Conn c, bool forced) const;
    /// What is to be sent again first, from `seq` on.
    [[nodiscard]] Plan plan_lost(Conn c, Seq& seq) const;
    /// What of [seq, end), sent before, fits into one segment.
    [[nodiscard]] Plan plan_again(Conn c, Seq seq, Seq end) const;
    [[nodiscard]] static uint32_t cwnd_room(Conn c);
    /// watch_output sees to it that what is outstanding, or waits for the window, has a timer.
    void watch_output(Conn c, bool new_data);
    void end_window_probe(Conn c);
    [[nodiscard]] Seq next_seq(Conn c) const;
    uint16_t select_window(Tcb& tcb) const;
    [[nodiscard]] bool window_update_due(const Tcb& tcb) const;

    // ------------------------------------------------ close.cpp
    void set_state(Conn c, State to);

    [[nodiscard]] Group& group_of(Conn c) { return groups.at(c.cold.group); }

    void close(Conn c);
    void abort(Conn c);
    void reset_again(Conn c, const Arrival& a);
    void stop(Conn c);
    void enter_time_wait(Conn c);
    void receive_fin(Conn c);
    void fin_sent(Conn c);
    void fin_acknowledged(Conn c);
    void request_upload(Conn c, UploadReason reason);
    /// give_up asks for the upload and leaves everything else as it is.  R90, R95
    void give_up(Conn c);

    // ------------------------------------------------ timers.cpp
    void on_time();
    Instant next_deadline() const;

    TimerLink& timer_link(uint32_t index) { return colds[index].wheel; }

    [[nodiscard]] uint32_t timer_due(uint32_t index) const { return tcbs[index].wheel_due; }

    void start_timer(Conn c, Timer timer, uint32_t at_tick);
    void start_retransmit_timer(Conn c);
    void stop_retransmit_timer(Conn c);
    /// The same slot for another purpose: `kind` is timer_is_probe or timer_is_reorder.
    void start_retransmit_timer(Conn c, Timer kind, uint32_t delay_us);
    void arm_wheel(Conn c, uint32_t due_tick);
    void run_timers(Conn c);
    void run_state_timer(Conn c);
    void keep_alive_timed_out(Conn c);
    [[nodiscard]] uint32_t rto_us(const Tcb& tcb) const;

    Options options;
    std::unique_ptr<Tcb[]> tcbs;
    std::unique_ptr<TcbCold[]> colds;
    LossArray losses;
    IndexPool<SendItem, &SendItem::next> items;
    IndexPool<Chunk, &Chunk::next> chunks;
    IndexPool<Span, &Span::next> spans;
    uint32_t span_reserve;        ///< two for each connection
    uint32_t reassembly_reserve;  ///< chunks that out-of-order data leaves to data in order
    uint32_t
        reader_reserve;  ///< chunks that slow readers leave to connections with nothing to read

    IndexList<TcbCold, &TcbCold::urgent_next>
        urgent;                              ///< something Pending: served before new data
    IndexList<Tcb, &Tcb::ready_next> ready;  ///< new data
    IndexList<TcbCold, &TcbCold::notify_next> notified;
    uint32_t released_first = no_index;  ///< chunks through `next`
    TimerWheel wheel;

    Instant now;        ///< of the call that is running
    uint32_t tick = 0;  ///< the same in ms, modulo 2^32: the clock of timers and timestamps

    uint32_t connection_count = 0;
    Counters counters;
    std::array<Group, groups_max> groups{};
};

/// Answers to segments without text, and to strange ACKs, keep this distance.  As Linux's
/// tcp_invalid_ratelimit.
constexpr uint32_t ack_answer_interval_ms = 500;

/// Between unanswered keepalive probes; a second where the host configured nothing.  Contract 2.12
[[nodiscard]] constexpr uint32_t keep_alive_interval_ms(const TcbCold& cold) {
    return cold.ka_interval_ms != 0 ? cold.ka_interval_ms : 1'000;
}

constexpr uint16_t mss_min = 48;  ///< leaves 8 bytes beside a full set of options, as Linux has it
constexpr uint32_t window_max   = 1U << 30;
constexpr uint32_t timer_ms_max = INT32_MAX;

/// Idle time before the first keepalive probe; two hours where the host configured none.
[[nodiscard]] constexpr uint32_t keep_alive_timeout_ms(const Parameters& parameters) {
    return parameters.ka_timeout_ms != 0 ? std::min(parameters.ka_timeout_ms, timer_ms_max)
                                         : 7'200'000;
}

/// What rcv_wnd_max comes to: less than one unit of the scale could never open.
[[nodiscard]] constexpr uint32_t receive_window_of(uint32_t rcv_wnd_max, uint32_t wind_shift) {
    return std::clamp(rcv_wnd_max, 1U << wind_shift, window_max);
}

/// A chunk holds a packet buffer, however little is in it.
[[nodiscard]] constexpr bool is_small(uint32_t payload_bytes) {
    return payload_bytes < 512;
}

/// Chunks beyond which a connection gets none for a small payload: as many as hold its window in
/// payloads that are not small, and some.
[[nodiscard]] inline uint32_t small_chunks_max(const Tcb& tcb) {
    return 64 + tcb.rcv_wnd_max / 512;
}

/// Microseconds as ticks, rounded up.
constexpr uint32_t ticks_of_us(uint32_t us) {
    return us / 1000 + (us % 1000 != 0 ? 1 : 0);
}

/// before: tick a is before tick b, modulo 2^32.
constexpr bool before(uint32_t a, uint32_t b) {
    return static_cast<int32_t>(a - b) < 0;
}

/// One past the last sequence number that may go on the wire: the posted bytes, and the FIN once
/// its place is certain. After adopt in a state with a FIN outstanding, its place is certain and
/// posted bytes may be missing before it.
[[nodiscard]] inline Seq send_limit(const Tcb& tcb) {
    if (!tcb.is(flag_fin_queued)) {
        return tcb.snd_end;
    }
    const bool placed =
        fin_was_sent(tcb.state) ? tcb.snd_end + 1 == tcb.snd_max : tcb.snd_end >= tcb.snd_max;
    return placed ? tcb.snd_end + 1 : tcb.snd_end;
}

/// Bytes posted and not acknowledged, FIN not counted.
[[nodiscard]] inline uint32_t backlog(const Tcb& tcb) {
    return tcb.snd_una < tcb.snd_end ? bytes_between(tcb.snd_una, tcb.snd_end) : 0;
}

[[nodiscard]] inline bool wants_to_send(const Tcb& tcb) {
    return send_limit(tcb) > tcb.snd_max;
}

/// Something can be sent, as far as the host is concerned: new data, or lost data again.
[[nodiscard]] inline bool has_work(const Tcb& tcb) {
    return wants_to_send(tcb) || tcb.has(loss_marked);
}

inline TcbLoss& Conn::know() const {
    if (!tcb.has(loss_known)) {
        loss               = TcbLoss{};
        loss.min_rtt_us    = tcb.srtt_us_x8 != 0 ? tcb.srtt_us_x8 / 8 : UINT32_MAX;
        loss.reorder_steps = 1;
        tcb.set(loss_known, true);
    }
    return loss;
}

}  // namespace flue::tcp
