#pragma once

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
    flag_in_use      = 0x0001,
    flag_timestamps  = 0x0002,
    flag_sack        = 0x0004,
    flag_nagle       = 0x0008,
    flag_keep_alive  = 0x0010,
    flag_stopped     = 0x0020,  ///< nothing is sent or processed any more
    flag_fin_queued  = 0x0040,  ///< a FIN follows the posted bytes
    flag_peer_fin    = 0x0080,  ///< the peer's FIN is in order
    flag_recovery    = 0x0100,  ///< fast recovery, until snd_una reaches `recover`
    flag_partial_ack = 0x0200,  ///< this recovery has seen a partial ACK
    flag_rtt_timing  = 0x0400,  ///< the segment that ends at rtt_seq is being timed
    flag_quick_ack   = 0x0800,  ///< no ACK was sent since adopt
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
    pending_retransmit = 0x04,  ///< one segment at snd_una
    pending_probe      = 0x08,  ///< of the window
    pending_keep_alive = 0x10,
};

/// Timers of a connection.  Retransmission, persist, FIN-WAIT-2 and 2MSL exclude each other: one is
/// enough for them.
enum Timer : uint8_t {
    timer_retransmit  = 0x01,
    timer_delayed_ack = 0x02,
    timer_keep_alive  = 0x04,
    timer_in_wheel    = 0x80,  ///< the connection has a slot in the wheel, at wheel_due
};

/// Tcb is what every segment of a connection touches: two cache lines.
///
///   sent and acknowledged   in flight      posted, not sent        | FIN
///   ------------------------|--------------|-----------------------|-
///                        snd_una        snd_nxt                  snd_end
///   snd_max: one past the highest ever sent, FIN counted.  While a timeout is repaired snd_nxt <
///   snd_max.  After adopt posted bytes may be missing: snd_end < snd_max, even snd_end < snd_una.
///
///   consumed   readable        window the peer was given
///   ----------|---------------|----------------------------|-
///                          rcv_nxt                       rcv_adv
struct alignas(64) Tcb {
    Seq rcv_nxt;
    Seq rcv_adv;  ///< right edge of the window as advertised; never moves left
    Seq snd_una;
    Seq snd_nxt;
    Seq snd_max;
    Seq snd_end;  ///< one past the last posted byte, FIN not counted
    Seq snd_wl1;
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
    Seq rtt_seq;                         ///< one past the segment that is timed
    uint32_t rtt_time_us     = 0;        ///< when a segment was last timed, modulo 2^32
    uint32_t ts_offset       = 0;        ///< timestamp sent = own clock in ms + this.  R13
    ItemIndex item_last      = no_item;  ///< of the posted sends, a ring: its next is the first
    ItemIndex item_cursor    = no_item;  ///< a hint for the item that snd_nxt lies in
    uint32_t retransmit_due  = 0;        ///< ticks, as all times below
    uint32_t delayed_ack_due = 0;
    uint32_t last_received   = 0;  ///< when the last acceptable segment came
    uint32_t wheel_due       = 0;
    uint32_t ready_next      = not_listed;
    uint16_t mss             = 0;
    uint8_t timers           = 0;  ///< Timer
    uint8_t dup_ack_count    = 0;
    uint8_t retransmit_count = 0;  ///< of the segment at snd_una, or probes not answered
    uint8_t ack_segments     = 0;  ///< received and not yet acknowledged
    uint8_t notices          = 0;  ///< Notice
    uint8_t wind_shifts      = 0;  ///< snd_wind_shift | rcv_wind_shift << 4

    [[nodiscard]] bool is(Flag flag) const { return (flags & flag) != 0; }

    void set(Flag flag) { flags = static_cast<uint16_t>(flags | flag); }

    void clear(Flag flag) { flags = static_cast<uint16_t>(flags & ~flag); }

    [[nodiscard]] bool has(Pending what) const { return (pending & what) != 0; }

    void request(Pending what) { pending = static_cast<uint8_t>(pending | what); }

    void settle(Pending what) { pending = static_cast<uint8_t>(pending & ~what); }

    void settle_all_but(Pending what) { pending = static_cast<uint8_t>(pending & what); }

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
    Seq recover;      ///< snd_max when loss was last seen.  RFC 6582
    Seq sack_recent;  ///< of the last segment that came out of order.  RFC 2018 §4
    uint32_t max_snd_wnd      = 0;
    uint32_t max_rt_ms        = 0;
    uint32_t retransmit_since = 0;  ///< when the segment at snd_una was first sent again
    uint32_t keep_alive_due   = 0;
    uint32_t ka_timeout_ms    = 0;
    uint32_t ka_interval_ms   = 0;
    uint32_t challenge_time   = 0;  ///< of the last answer that is limited in rate
    uint32_t retransmits      = 0;  ///< segments sent again, all together
    uint16_t reassembly_count = 0;
    uint8_t ka_probe_count    = 0;
    uint8_t ka_unanswered     = 0;
    uint8_t backoff           = 0;  ///< doublings of the timer.  RFC 6298 (5.5)
    uint8_t upload_reason     = 0;  ///< UploadReason
    uint8_t group             = 0;  ///< Parameters::group
};

static_assert(sizeof(TcbCold) == 64);

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
    uint32_t next = no_index;

    [[nodiscard]] Seq end() const { return start + kept_bytes; }
};

static_assert(sizeof(Chunk) == 32);

constexpr uint32_t chunk_bytes_max = (1U << 30) - 1;

}  // namespace flue::tcp
