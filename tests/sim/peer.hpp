#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "connection.hpp"
#include "events.hpp"
#include "wire/frame.hpp"

namespace flue::sim {

class World;

/// Peer is a second TCP, as plain as RFC 9293 lets it be, for one end of one connection: it goes
/// back to SND.UNA when its timer expires, sends all that the window allows, and knows nothing of
/// the engine under test.
class Peer final : public Actor {
  public:
    Peer(World& world, Connection& connection, uint32_t from);

    /// Starts to send; the connection is established.
    void start();
    /// Spec: RFC 9293 §3.10.7.4
    void segment_arrives(const wire::TcpFields& tcp, std::span<const std::byte> payload);

    void stop_reading(Instant until);
    /// shrink_window takes back some of the window that was advertised.
    void shrink_window(uint32_t bytes);
    /// renege throws away what came out of order, reported or not.  RFC 2018 §8
    void renege();
    void abort();
    /// heal: from now on it reads, writes and closes as fast as it can.
    void heal();

    /// is_over: closed, or in TIME-WAIT, where it stays.
    [[nodiscard]] bool is_over() const {
        return state_ == State::closed || state_ == State::time_wait;
    }

    [[nodiscard]] bool was_reset() const { return was_reset_; }

    [[nodiscard]] bool peer_fin() const { return peer_fin_; }

    /// Bytes of the other end's stream that are here in order.
    [[nodiscard]] uint32_t received() const;

    [[nodiscard]] const char* state_name() const;

    void act(uint32_t what, uint64_t argument) override;

  private:
    enum class State : uint8_t {
        established,
        fin_wait_1,
        fin_wait_2,
        close_wait,
        closing,
        last_ack,
        time_wait,
        closed
    };

    struct Range {
        Seq start;
        Seq end;
    };

    [[nodiscard]] bool check_timestamp(const wire::TcpFields& tcp);
    [[nodiscard]] bool acceptable(Seq seq, uint32_t length) const;
    [[nodiscard]] bool process_ack(const wire::TcpFields& tcp, uint32_t bytes);
    void note_congestion(const wire::TcpFields& tcp, uint32_t bytes);
    void note_sacks(const wire::TcpFields& tcp);
    void repair(const wire::TcpFields& tcp);
    void retransmit_hole();
    void update_send_window(const wire::TcpFields& tcp);
    void fin_acknowledged();
    void process_text(Seq seq, std::span<const std::byte> payload, bool fin);
    void note_duplicate(Seq start, Seq end);
    void pull_in_order();
    void fin_received();
    void reset_received(const wire::TcpFields& tcp);
    void acknowledge(bool at_once);

    void pump();
    void emit(Seq seq, uint32_t bytes, uint32_t flags);
    void emit(Seq seq, uint32_t bytes, uint32_t flags, Seq ack);
    void send_ack();
    void send_reset(Seq seq);
    void fill_sack(wire::TcpFields& tcp) const;
    [[nodiscard]] uint16_t select_window(Seq ack);
    [[nodiscard]] uint32_t payload_max() const;
    [[nodiscard]] bool fin_is_ready() const;
    [[nodiscard]] Seq data_end() const;
    [[nodiscard]] uint32_t timestamp() const;

    void set_timer(bool running);
    void retransmit_timed_out();
    void read_some();
    void write_some();

    World& world_;
    Connection& connection_;
    uint32_t from_;
    const EndOptions& options_;
    State state_ = State::established;

    Seq snd_una_;
    Seq snd_nxt_;
    Seq snd_max_;
    uint32_t snd_wnd_ = 0;
    Seq snd_wl1_;
    Seq snd_wl2_;
    uint32_t cwnd_       = 0;
    uint32_t written_    = 0;  ///< bytes that the application has given
    uint32_t backoff_    = 0;
    uint32_t duplicates_ = 0;
    bool probing_        = false;
    std::vector<Range> sacked_;  ///< what the other end has reported, in order
    bool repairs_ = false;       ///< until recover_ is acknowledged.  RFC 6675 §5
    Seq recover_;
    Seq sent_again_;  ///< up to here, in this recovery: HighRxt
    Seq ecn_end_;     ///< snd_max when the other end's ECE was last heeded.  RFC 3168 §6.1.2
    bool ecn_reacted_ = false;
    bool cwr_         = false;  ///< goes with the next new data
    uint64_t timer_   = 0;      ///< number of the retransmission timer that counts
    bool timer_runs_  = false;

    Seq rcv_nxt_;
    Seq rcv_adv_;  ///< right edge of what is accepted
    std::vector<Range> out_of_order_;
    Seq recent_;                      ///< of the last segment that came out of order
    std::optional<Range> duplicate_;  ///< to be reported.  RFC 2883
    bool echo_        = false;        ///< ECE goes with every ACK.  RFC 3168 §6.1.3
    uint32_t unread_  = 0;
    uint32_t unacked_ = 0;  ///< segments since the last ACK
    bool fin_known_   = false;
    Seq fin_seq_;
    bool peer_fin_      = false;
    bool was_reset_     = false;
    bool healed_        = false;
    uint32_t ts_recent_ = 0;
    Seq last_ack_sent_;
    uint64_t delayed_ack_ = 0;
    bool ack_waits_       = false;
    Instant reads_again_;
};

}  // namespace flue::sim
