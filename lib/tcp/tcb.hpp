#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/index_list.hpp"
#include "base/seq.hpp"
#include "base/timer_wheel.hpp"
#include "tcp/segment.hpp"
#include "tcp/state.hpp"

namespace flue::tcp {

/// What is so about a connection.
enum Flag : uint16_t {
    flag_in_use     = 0x0001,
    flag_timestamps = 0x0002,
    flag_sack       = 0x0004,
    flag_nagle      = 0x0008,
    flag_keep_alive = 0x0010,
    flag_stopped    = 0x0020,  ///< nothing is sent or processed any more
    flag_fin_queued = 0x0040,  ///< a FIN follows the posted bytes
    flag_peer_fin   = 0x0080,  ///< the peer's FIN is in order
    flag_recovery   = 0x0100,  ///< fast recovery, until snd_una reaches `recover`
    flag_timeout    = 0x0200,  ///< what a timeout found lost is repaired, until `recover`
    flag_ecn        = 0x0400,  ///< negotiated.  RFC 3168
    flag_quick_ack  = 0x0800,  ///< no ACK was sent since adopt
    flag_challenged =
        0x1000,  ///< an RST was answered by a challenge ACK since the last acceptable segment
    flag_blind_check =
        0x2000,  ///< keepalive runs only to see whether the peer lives after a challenge ACK
    flag_window_probe = 0x4000,  ///< the retransmission timer is the persist timer
    flag_ts_unknown   = 0x8000,  ///< ts_recent is too old to mean anything.  RFC 7323 §5.5
};

/// What transmit has to do for a connection apart from new data.
enum Pending : uint8_t {
    pending_reset      = 0x01,
    pending_ack        = 0x02,
    pending_tail_probe = 0x04,  ///< RFC 8985 §7.3
    pending_probe      = 0x08,  ///< of the window
    pending_keep_alive = 0x10,
    pending_answer     = 0x20,  ///< closed by our RST: who cannot take it gets another one
};

/// Timers of a connection.  Retransmission, persist, FIN-WAIT-2 and 2MSL exclude each other: one is
/// enough for them.
enum Timer : uint8_t {
    timer_retransmit  = 0x01,
    timer_delayed_ack = 0x02,
    timer_keep_alive  = 0x04,
    timer_pace        = 0x08,  ///< the next share of a paced window: at the next tick
    timer_is_probe    = 0x10,  ///< the retransmission timer is the probe timeout.  RFC 8985 §7.2
    timer_is_reorder  = 0x20,  ///< the retransmission timer waits for reordered segments.  §6.2
    timer_in_wheel    = 0x80,  ///< the connection has a slot in the wheel, at wheel_due
};

/// What is going on with losses.  With none of it TcbLoss need not be touched.
enum LossBit : uint8_t {
    loss_known      = 0x01,  ///< TcbLoss has been written since adopt
    loss_sacked     = 0x02,  ///< sacked_bytes > 0
    loss_marked     = 0x04,  ///< lost_bytes > 0: something is to be sent again
    loss_tail_probe = 0x08,  ///< a tail loss probe is out: tail_probe_end
    loss_frto       = 0x10,  ///< the last timeout may have been spurious.  RFC 5682
    loss_undo       = 0x20,  ///< prior_cwnd and prior_ssthresh can be gone back to
    loss_dsack      = 0x40,  ///< a duplicate is to be reported.  RFC 2883
    loss_cwnd_used  = 0x80,  ///< half of cwnd was in flight when new data was last sent
};

/// Of Tcb::ecn, below the congestion control's number.
enum EcnBit : uint8_t {
    ecn_echo    = 0x01,  ///< every ACK has ECE
    ecn_cwr     = 0x02,  ///< the next new data has CWR
    ecn_ce      = 0x04,  ///< DCTCP.CE of RFC 8257 §3.2
    ecn_control = 0x30,  ///< CongestionControl << 4
};

/// Tcb is what every segment of a connection touches: two cache lines.
///
///   sent and acknowledged   in flight      posted, not sent        | FIN
///   ------------------------|--------------|-----------------------|-
///                        snd_una        snd_max                  snd_end
///   snd_max: one past the highest ever sent, FIN counted: SND.NXT, for what is sent again is
///   marked in the scoreboard.  After adopt posted bytes may be missing: snd_end < snd_max, even
///   snd_end < snd_una.
///
///   consumed   readable        window the peer was given
///   ----------|---------------|----------------------------|-
///                          rcv_nxt                       rcv_adv
struct alignas(64) Tcb {
    Seq rcv_nxt;
    Seq rcv_adv;  ///< right edge of the window as advertised; never moves left
    Seq snd_una;
    Seq snd_max;
    Seq snd_end;  ///< one past the last posted byte, FIN not counted
    Seq snd_wl1;
    uint32_t span_last = no_index;  ///< of the scoreboard, a ring: its next is the first
    uint32_t snd_wnd   = 0;
    uint32_t ts_recent = 0;
    Seq last_ack_sent;
    uint32_t rcv_wnd_max      = 0;
    uint32_t readable         = 0;         ///< bytes in order and not consumed
    uint32_t chunk_first      = no_index;  ///< of the bytes in order
    uint32_t chunk_last       = no_index;
    uint32_t reassembly_first = no_index;  ///< out of order, by sequence number
    State state               = State::closed;
    uint8_t pending           = 0;  ///< Pending
    uint16_t flags            = 0;  ///< Flag

    uint32_t cwnd             = 0;
    uint32_t ssthresh         = 0;
    uint32_t srtt_us_x8       = 0;  ///< 0 = no sample yet
    uint32_t rttvar_us_x4     = 0;
    uint16_t span_count       = 0;
    uint8_t loss              = 0;        ///< LossBit
    uint8_t ecn               = 0;        ///< EcnBit
    uint32_t sent_us          = 0;        ///< when data was last sent, microseconds modulo 2^32
    uint32_t ts_offset        = 0;        ///< timestamp sent = own clock in ms + this.  R13
    ItemIndex item_last       = no_item;  ///< of the posted sends, a ring: its next is the first
    ItemIndex item_cursor     = no_item;  ///< a hint for the item that snd_max lies in
    uint32_t retransmit_due   = 0;        ///< ticks, as all times below
    uint32_t delayed_ack_due  = 0;
    uint32_t last_received    = 0;  ///< when the last acceptable segment came
    uint32_t wheel_due        = 0;
    uint32_t ready_next       = not_listed;
    uint16_t mss              = 0;
    uint8_t timers            = 0;  ///< Timer
    uint8_t dup_ack_count     = 0;
    uint8_t retransmit_count  = 0;  ///< of the segment at snd_una, or probes not answered
    uint8_t ack_segments      = 0;  ///< received and not yet acknowledged
    uint8_t notices           = 0;  ///< Notice
    uint8_t wind_shifts       = 0;  ///< snd_wind_shift | rcv_wind_shift << 4

    [[nodiscard]] bool is(Flag flag) const { return (flags & flag) != 0; }

    void set(Flag flag) { flags = static_cast<uint16_t>(flags | flag); }

    void clear(Flag flag) { flags = static_cast<uint16_t>(flags & ~flag); }

    [[nodiscard]] bool has(Pending what) const { return (pending & what) != 0; }

    void request(Pending what) { pending = static_cast<uint8_t>(pending | what); }

    void settle(Pending what) { pending = static_cast<uint8_t>(pending & ~what); }

    void settle_all_but(Pending what) { pending = static_cast<uint8_t>(pending & what); }

    [[nodiscard]] bool has(LossBit bit) const { return (loss & bit) != 0; }

    void set(LossBit bit, bool on) { loss = static_cast<uint8_t>(on ? loss | bit : loss & ~bit); }

    [[nodiscard]] bool has(EcnBit bit) const { return (ecn & bit) != 0; }

    void set(EcnBit bit, bool on) { ecn = static_cast<uint8_t>(on ? ecn | bit : ecn & ~bit); }

    /// Losses are being repaired, or tell of themselves.
    [[nodiscard]] bool troubled() const {
        return (flags & (flag_recovery | flag_timeout)) != 0 || dup_ack_count > 0 ||
               (loss & (loss_sacked | loss_marked | loss_tail_probe)) != 0;
    }

    [[nodiscard]] bool runs(Timer timer) const { return (timers & timer) != 0; }

    void timer_on(Timer timer) { timers = static_cast<uint8_t>(timers | timer); }

    void timer_off(Timer timer) { timers = static_cast<uint8_t>(timers & ~timer); }

    void timers_off() { timers = static_cast<uint8_t>(timers & timer_in_wheel); }

    [[nodiscard]] uint32_t snd_wind_shift() const { return wind_shifts & 0xfU; }

    [[nodiscard]] uint32_t rcv_wind_shift() const { return uint32_t{wind_shifts} >> 4U; }

    [[nodiscard]] uint32_t rcv_wnd() const { return bytes_between(rcv_nxt, rcv_adv); }

    [[nodiscard]] uint32_t flight_size() const { return bytes_between(snd_una, snd_max); }

    /// SMSS of RFC 5681: payload of a full segment without SACK blocks.
    [[nodiscard]] uint32_t smss() const;

    [[nodiscard]] bool frozen() const { return state == State::closed || is(flag_stopped); }
};

constexpr uint32_t ts_recent_valid_ms     = 24U * 24 * 3600 * 1000;  ///< RFC 7323 §5.5
constexpr uint32_t timestamp_option_bytes = 12;  ///< RFC 7323 appendix A: with two NOPs before it

inline uint32_t Tcb::smss() const {
    return mss - (is(flag_timestamps) ? timestamp_option_bytes : 0);
}

static_assert(sizeof(Tcb) == 128);
static_assert(offsetof(Tcb, cwnd) == 64, "what a data segment in order touches first");

/// TcbCold is what a connection needs now and then.
struct alignas(64) TcbCold {
    TimerLink wheel;
    uint32_t urgent_next = not_listed;
    uint32_t notify_next = not_listed;
    Seq recover;  ///< snd_max when loss was last seen.  RFC 6582, RFC 6675 RecoveryPoint
    uint32_t chunk_count      = 0;  ///< of the bytes in order
    uint32_t max_snd_wnd      = 0;
    uint32_t max_rt_ms        = 0;
    uint32_t retransmit_since = 0;  ///< when the segment at snd_una was first sent again
    uint32_t keep_alive_due   = 0;
    uint32_t ka_timeout_ms    = 0;
    uint32_t ka_interval_ms   = 0;
    uint32_t challenge_time   = 0;  ///< of the last answer that is limited in rate
    uint16_t retransmits      = 0;  ///< segments sent again, all together
    uint16_t trial_mss        = 0;  ///< MssTrial::lowered: that is to be tried once more
    uint16_t reassembly_count = 0;  ///< of the chunks out of order
    uint8_t ka_probe_count    = 0;
    uint8_t ka_unanswered     = 0;
    uint8_t backoff           = 0;  ///< doublings of the timer.  RFC 6298 (5.5)
    uint8_t upload_reason     = 0;  ///< UploadReason
    uint8_t group             = 0;  ///< Parameters::group
    wire::Family family       = wire::Family::ipv4;
};

static_assert(sizeof(TcbCold) == 64);

/// Whether segments vanish for their size: smaller ones are tried, then large ones once more.
enum class MssTrial : uint8_t { none, lowered, raised };

/// TcbLoss is what loss recovery and congestion avoidance remember.  Nothing of it is read before
/// know() has written it: a connection that never lost anything has it untouched.
struct alignas(64) TcbLoss {
    uint32_t sacked_bytes;   ///< without SACK: what duplicate ACKs stand for
    uint32_t lost_bytes;     ///< not sent again yet
    uint32_t prr_delivered;  ///< RFC 6937 §3, these three
    uint32_t prr_out;
    uint32_t recover_fs;
    uint32_t prior_cwnd;  ///< before the reduction that may be undone
    uint32_t prior_ssthresh;
    uint32_t rack_sent_us;  ///< of the segment that was sent last of all delivered.  RFC 8985 §5.2
    Seq rack_end;
    uint32_t rack_rtt_us;  ///< 0 = nothing delivered in this trouble yet
    Seq rack_fack;         ///< highest sequence number delivered
    uint32_t min_rtt_us;
    Seq dsack_round;         ///< snd_max when the last D-SACK was taken into account
    Seq tail_probe_end;      ///< snd_max after the probe
    Seq ecn_end;             ///< snd_max at the last reaction to ECE
    uint16_t undo_segments;  ///< sent again in this recovery and not reported as duplicates
    uint8_t reorder_steps;   ///< RACK.reo_wnd_mult
    uint8_t reorder_persist;

    bool reordering_seen : 1;
    bool tail_probe_again : 1;  ///< the probe was sent before
    bool frto_new_data : 1;     ///< RFC 5682 step 2b: new data goes out before what may be lost
    bool frto_sent : 1;         ///< and has gone
    bool ecn_reacted : 1;       ///< ecn_end means something
    MssTrial mss_trial;
    uint16_t mss_told;    ///< the host's, while the path has taught a smaller one.  0 = it has not
    Seq trial_end;        ///< MssTrial::raised: large segments have got through from here on
    uint32_t paced_tick;  ///< of which paced_bytes are
    uint32_t paced_bytes;
    Seq dsack_start;  ///< the duplicate to be reported
    Seq dsack_end;
    /// Of the last segments that came out of order, no two in one block, the latest first.  RFC
    /// 2018 §4
    std::array<Seq, wire::sack_ranges_max> sack_recent;

    std::array<uint32_t, 6> memory;  ///< the congestion control's own, zero at first
};

static_assert(sizeof(TcbLoss) == 128);

/// Span is a stretch of what was sent, all at one time and with one fate.  The spans of a
/// connection cover [snd_una, snd_max) without gaps: each begins where the one before ends.
struct Span {
    Seq end{};
    uint32_t sent_us = 0;  ///< the last time, microseconds modulo 2^32
    uint32_t next    = no_index;
    uint8_t flags    = 0;  ///< SpanFlag

    [[nodiscard]] bool is(uint8_t flag) const { return (flags & flag) != 0; }
};

enum SpanFlag : uint8_t {
    span_sacked = 0x01,
    span_lost   = 0x02,  ///< and not sent again since
    span_again  = 0x04,  ///< sent more than once
};

static_assert(sizeof(Span) == 16);

/// What a connection may have outstanding at most: far below 2^31, so that sequence numbers compare
/// well.
constexpr uint32_t send_backlog_max = 1U << 30;

/// SendItem is a posted send: bytes that the caller keeps, a FIN, or both.
struct SendItem {
    ByteRef ref;
    Seq start;
    ItemIndex next = no_item;
    bool fin       = false;

    [[nodiscard]] Seq end() const { return start + ref.length; }
};

static_assert(sizeof(SendItem) == 32);

/// Chunk is a payload that the engine keeps: in order and not consumed, out of order, or on its way
/// back.
struct Chunk {
    ByteRef ref;                   ///< as it came
    uint32_t skip            = 0;  ///< bytes of ref not needed at the front
    uint32_t kept_bytes : 30 = 0;
    uint32_t psh : 1         = 0;
    uint32_t fin : 1         = 0;  ///< follows the kept bytes; only while out of order
    Seq start;                     ///< of the kept bytes
    uint32_t next       = no_index;
    uint32_t block_last = no_index;  ///< out of order, the first of a block without gaps: its last

    [[nodiscard]] Seq end() const { return start + kept_bytes; }
};

static_assert(sizeof(Chunk) == 40);

constexpr uint32_t chunk_bytes_max = (1U << 30) - 1;

}  // namespace flue::tcp
