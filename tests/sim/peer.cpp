#include "peer.hpp"

#include <algorithm>

#include "world.hpp"

namespace flue::sim {

namespace {

enum What : uint32_t { what_retransmit, what_delayed_ack, what_read, what_write, what_keep_alive };

constexpr uint32_t rto_max_us    = 8'000'000;
constexpr uint32_t keep_alive_us = 10'000'000;
constexpr uint32_t field_max     = 65'535;
constexpr uint32_t options_room  = 40;

/// merge adds a range to ranges in order that neither overlap nor touch.
template <typename Range>
void merge(std::vector<Range>& ranges, Range range) {
    std::vector<Range> merged;
    for (const Range& old : ranges) {
        if (old.end < range.start || range.end < old.start) {
            merged.push_back(old);
        } else {
            range = {min(old.start, range.start), max(old.end, range.end)};
        }
    }
    merged.push_back(range);
    std::ranges::sort(merged, [](const Range& a, const Range& b) { return a.start < b.start; });
    ranges = merged;
}

bool has(const wire::TcpFields& tcp, uint32_t flag) {
    return (tcp.flags & flag) != 0;
}

uint32_t room(Seq from, Seq to) {
    return from < to ? bytes_between(from, to) : 0;
}

}  // namespace

Peer::Peer(World& world, Connection& connection, uint32_t from)
    : world_(world),
      connection_(connection),
      from_(from),
      options_(*connection.ends[from].options) {
    const EndOptions& other = *connection.ends[1 - from].options;
    snd_una_                = Seq{options_.iss} + 1;
    snd_nxt_                = snd_una_;
    snd_max_                = snd_una_;
    snd_wnd_                = other.initial_window;
    rcv_nxt_                = Seq{other.iss} + 1;
    rcv_adv_                = rcv_nxt_ + options_.initial_window;
    last_ack_sent_          = rcv_nxt_;
    snd_wl1_                = rcv_nxt_;
    snd_wl2_                = snd_una_;
    cwnd_                   = std::min(options_.segments_max, 4U);
    ts_recent_              = other.ts_start;
}

void Peer::start() {
    if (options_.read_every_us != 0) {
        world_.events().after(options_.read_every_us, *this, what_read);
    }
    write_some();
}

const char* Peer::state_name() const {
    static constexpr const char* names[] = {"ESTABLISHED",
                                            "FIN-WAIT-1",
                                            "FIN-WAIT-2",
                                            "CLOSE-WAIT",
                                            "CLOSING",
                                            "LAST-ACK",
                                            "TIME-WAIT",
                                            "CLOSED"};
    return names[static_cast<uint32_t>(state_)];
}

uint32_t Peer::received() const {
    return bytes_between(connection_.ends[1 - from_].first(), rcv_nxt_) - (peer_fin_ ? 1 : 0);
}

// ---------------------------------------------------------------- input

void Peer::segment_arrives(const wire::TcpFields& tcp, std::span<const std::byte> payload) {
    const auto bytes = static_cast<uint32_t>(payload.size());
    if (state_ == State::closed) {
        if (!has(tcp, wire::tcp_rst)) {  // §3.10.7.1
            send_reset(has(tcp, wire::tcp_ack) ? tcp.ack : Seq{0});
        }
        return;
    }
    if (!check_timestamp(tcp)) {
        return;
    }
    const bool fin = has(tcp, wire::tcp_fin);
    if (!acceptable(tcp.seq, bytes + (fin ? 1 : 0))) {
        if (!has(tcp, wire::tcp_rst)) {
            note_duplicate(tcp.seq, min(tcp.seq + bytes, rcv_nxt_));
            send_ack();
        }
        return;
    }
    if (has(tcp, wire::tcp_rst)) {
        return reset_received(tcp);
    }
    if (has(tcp, wire::tcp_syn)) {
        return world_.findings().wrong("%u: SYN on an established connection", connection_.index);
    }
    if (tcp.has_timestamps && tcp.seq <= last_ack_sent_) {
        ts_recent_ = tcp.ts_val;
    }
    if (!has(tcp, wire::tcp_ack) || !process_ack(tcp, bytes)) {
        return;
    }
    note_congestion(tcp, bytes);
    if (bytes > 0 || fin) {
        process_text(tcp.seq, payload, fin);
    }
    pump();
}

/// RFC 7323 §5.3
bool Peer::check_timestamp(const wire::TcpFields& tcp) {
    if (!connection_.options->timestamps || !tcp.has_timestamps || has(tcp, wire::tcp_rst)) {
        return true;
    }
    if (static_cast<int32_t>(tcp.ts_val - ts_recent_) >= 0) {
        return true;
    }
    send_ack();
    return false;
}

/// RFC 9293 §3.4, the table of four cases
bool Peer::acceptable(Seq seq, uint32_t length) const {
    const uint32_t window = room(rcv_nxt_, rcv_adv_);
    const auto inside     = [&](Seq s) { return rcv_nxt_ <= s && s < rcv_nxt_ + window; };
    if (length == 0) {
        return window == 0 ? seq == rcv_nxt_ : inside(seq);
    }
    // "special allowance [...] to accept valid ACKs" when the window is zero
    return window == 0 ? seq == rcv_nxt_ : inside(seq) || inside(seq + (length - 1));
}

/// RFC 5961 §3.2
void Peer::reset_received(const wire::TcpFields& tcp) {
    if (tcp.seq != rcv_nxt_) {
        return send_ack();
    }
    const End& other = connection_.ends[1 - from_];
    if (!other.reset_sent && !other.kernel_reset) {
        world_.findings().wrong("%u: a reset out of nowhere", connection_.index);
    }
    was_reset_ = true;
    state_     = State::closed;
    set_timer(false);
}

bool Peer::process_ack(const wire::TcpFields& tcp, uint32_t bytes) {
    if (tcp.ack > snd_max_) {
        world_.findings().wrong("%u: ACK of what was never sent", connection_.index);
        return false;
    }
    const uint32_t window = uint32_t{tcp.window} << connection_.ends[1 - from_].options->wind_shift;
    if (tcp.ack > snd_una_) {
        snd_una_    = tcp.ack;
        snd_nxt_    = max(snd_nxt_, snd_una_);
        backoff_    = 0;
        duplicates_ = 0;
        probing_    = false;
        cwnd_       = std::min(cwnd_ + 1, options_.segments_max);
        std::erase_if(sacked_, [this](const Range& range) { return range.end <= snd_una_; });
        set_timer(snd_una_ != snd_max_);
        if (snd_una_ == data_end() + 1) {
            fin_acknowledged();
        }
    } else if (tcp.ack == snd_una_ && bytes == 0 && window == snd_wnd_ && snd_una_ != snd_max_) {
        const bool plain = options_.fast_retransmit && !options_.sack_recovery;
        if (++duplicates_ == 3 && plain && snd_wnd_ > 0) {
            const uint32_t length = std::min({payload_max(), room(snd_una_, data_end()), snd_wnd_});
            emit(snd_una_, length, length == 0 ? uint32_t{wire::tcp_fin} : 0);
        }
    }
    update_send_window(tcp);
    if (connection_.options->sack && options_.sack_recovery) {
        repair(tcp);
    }
    return state_ != State::closed;
}

/// RFC 3168 §6.1.2, §6.1.3
void Peer::note_congestion(const wire::TcpFields& tcp, uint32_t bytes) {
    if (!connection_.options->ecn) {
        return;
    }
    echo_ = (echo_ && !has(tcp, wire::tcp_cwr)) || (tcp.congestion_experienced && bytes > 0);
    if (has(tcp, wire::tcp_ece) && (!ecn_reacted_ || tcp.ack > ecn_end_)) {
        cwnd_        = std::max(cwnd_ / 2, 1U);
        ecn_end_     = snd_max_;
        ecn_reacted_ = true;
        cwr_         = true;
    }
}

/// RFC 2018 §5.  A first block that lies below the ACK, or in the second, is a duplicate: RFC 2883.
void Peer::note_sacks(const wire::TcpFields& tcp) {
    for (uint32_t i = 0; i < tcp.sack_count; ++i) {
        const wire::SackRange& block = tcp.sack.at(i);
        const bool twice = i == 0 && tcp.sack_count > 1 && tcp.sack[1].start <= block.start &&
                           block.end <= tcp.sack[1].end;
        if (block.start > snd_una_ && block.end <= snd_max_ && !twice) {
            merge(sacked_, {block.start, block.end});
        }
    }
}

/// RFC 6675 §5, as plain as it may be: one segment for each ACK.
void Peer::repair(const wire::TcpFields& tcp) {
    note_sacks(tcp);
    if (repairs_ && snd_una_ >= recover_) {
        repairs_ = false;
    }
    uint32_t reported = 0;
    for (const Range& range : sacked_) {
        reported += bytes_between(range.start, range.end);
    }
    const bool lost = reported >= 3 * payload_max() || (duplicates_ >= 3 && reported > 0);
    if (!repairs_ && lost) {
        repairs_    = true;
        recover_    = snd_max_;
        sent_again_ = snd_una_;
        cwnd_       = std::max(cwnd_ / 2, 2U);
    }
    if (repairs_) {
        retransmit_hole();
    }
}

/// Sends the first of what lies between reported ranges and was not sent again.
void Peer::retransmit_hole() {
    Seq from = max(sent_again_, snd_una_);
    for (const Range& range : sacked_) {
        if (range.start <= from && from < range.end) {
            from = range.end;
        }
    }
    const auto above =
        std::ranges::find_if(sacked_, [&](const Range& range) { return range.start > from; });
    if (above == sacked_.end()) {
        return;
    }
    const uint32_t window = room(from, snd_una_ + snd_wnd_);
    const uint32_t length = std::min({payload_max(), room(from, above->start), window});
    if (length > 0) {
        sent_again_ = from + length;
        emit(from, length, 0);
    }
}

void Peer::update_send_window(const wire::TcpFields& tcp) {
    const bool newer = snd_wl1_ < tcp.seq || (snd_wl1_ == tcp.seq && snd_wl2_ <= tcp.ack);
    if (!newer || tcp.ack < snd_una_) {
        return;
    }
    snd_wl1_ = tcp.seq;
    snd_wl2_ = tcp.ack;
    snd_wnd_ = uint32_t{tcp.window} << connection_.ends[1 - from_].options->wind_shift;
    if (snd_wnd_ > 0 && probing_) {
        probing_ = false;
        snd_nxt_ = snd_una_;  // the probe may have been refused
        backoff_ = 0;
        set_timer(false);
    }
}

void Peer::fin_acknowledged() {
    switch (state_) {
        case State::fin_wait_1:
            state_ = State::fin_wait_2;
            break;
        case State::closing:
            state_ = State::time_wait;
            break;
        case State::last_ack:
            state_ = State::closed;
            break;
        case State::established:
        case State::fin_wait_2:
        case State::close_wait:
        case State::time_wait:
        case State::closed:
            break;
    }
}

void Peer::process_text(Seq seq, std::span<const std::byte> payload, bool fin) {
    const End& other = connection_.ends[1 - from_];
    if (const size_t at = other.out.mismatch(other.offset_of(seq), payload);
        at != payload.size() && seq >= other.first()) {
        world_.findings().wrong("%u: byte %zu of the stream arrives wrong",
                                connection_.index,
                                other.offset_of(seq) + at);
    }
    const Seq end    = seq + static_cast<uint32_t>(payload.size());
    const Seq start  = max(seq, rcv_nxt_);
    const Seq stop   = min(end, rcv_adv_);
    const Seq before = rcv_nxt_;
    if (seq < rcv_nxt_) {
        note_duplicate(seq, min(end, rcv_nxt_));
    } else {
        for (const Range& range : out_of_order_) {
            note_duplicate(max(seq, range.start), min(end, range.end));
        }
    }
    if (fin && end <= rcv_adv_) {
        fin_known_ = true;
        fin_seq_   = end;
    }
    if (start < stop && (start == rcv_nxt_ || options_.keeps_out_of_order)) {
        merge(out_of_order_, {start, stop});
        recent_ = start;
    }
    pull_in_order();
    unread_ += bytes_between(before, rcv_nxt_);
    const bool in_order = before != rcv_nxt_ && out_of_order_.empty();
    if (fin_known_ && fin_seq_ == rcv_nxt_ && !peer_fin_) {
        fin_received();
    }
    if (options_.read_every_us == 0 || healed_) {
        read_some();
    }
    acknowledge(!in_order || fin);
}

/// The first duplicate of a segment is reported, in one ACK only.  RFC 2883 §4
void Peer::note_duplicate(Seq start, Seq end) {
    if (options_.reports_duplicates && start < end && !duplicate_) {
        duplicate_ = {start, end};
    }
}

void Peer::pull_in_order() {
    while (!out_of_order_.empty() && out_of_order_.front().start <= rcv_nxt_) {
        rcv_nxt_ = max(rcv_nxt_, out_of_order_.front().end);
        out_of_order_.erase(out_of_order_.begin());
    }
}

void Peer::fin_received() {
    peer_fin_ = true;
    rcv_nxt_ += 1;
    rcv_adv_ = max(rcv_adv_, rcv_nxt_);
    switch (state_) {
        case State::established:
            state_ = State::close_wait;
            break;
        case State::fin_wait_1:
            state_ = State::closing;
            break;
        case State::fin_wait_2:
            state_ = State::time_wait;
            set_timer(false);
            break;
        case State::close_wait:
        case State::closing:
        case State::last_ack:
        case State::time_wait:
        case State::closed:
            break;
    }
}

void Peer::acknowledge(bool at_once) {
    ++unacked_;
    if (at_once || unacked_ >= options_.ack_every) {
        send_ack();
    } else if (!ack_waits_) {
        ack_waits_ = true;
        world_.events().after(options_.delayed_ack_us, *this, what_delayed_ack, ++delayed_ack_);
    }
}

// ---------------------------------------------------------------- output

Seq Peer::data_end() const {
    return Seq{options_.iss} + 1 + written_;
}

bool Peer::fin_is_ready() const {
    return written_ == options_.stream_bytes && (options_.close_first || peer_fin_ || healed_);
}

uint32_t Peer::payload_max() const {
    const uint32_t ip = connection_.options->family == wire::Family::ipv6 ? 40 : 20;
    return std::min<uint32_t>(connection_.options->mss, connection_.options->mtu - ip - 20) -
           options_room;
}

uint32_t Peer::timestamp() const {
    const Instant start{world_.options().start_us};
    return options_.ts_start + static_cast<uint32_t>((world_.now() - start) / 1000);
}

void Peer::pump() {
    if (state_ == State::closed || state_ == State::time_wait) {
        return;
    }
    End& me = connection_.ends[from_];
    for (;;) {
        const uint32_t flight  = bytes_between(snd_una_, snd_nxt_);
        const uint32_t window  = std::min(snd_wnd_, cwnd_ * payload_max());
        const uint32_t allowed = window > flight ? window - flight : 0;
        const uint32_t bytes   = std::min({payload_max(), room(snd_nxt_, data_end()), allowed});
        const bool fin =
            fin_is_ready() && snd_nxt_ + bytes == data_end() && snd_wnd_ > flight + bytes;
        if (bytes == 0 && !fin) {
            break;
        }
        if (fin && !me.fin_ordered) {
            me.fin_ordered = true;
            state_         = state_ == State::close_wait ? State::last_ack : State::fin_wait_1;
        }
        emit(snd_nxt_, bytes, fin ? uint32_t{wire::tcp_fin} : 0);
        snd_nxt_ = snd_nxt_ + bytes + (fin ? 1 : 0);
        snd_max_ = max(snd_max_, snd_nxt_);
    }
    const bool waits = snd_nxt_ < data_end() || (fin_is_ready() && snd_nxt_ == data_end());
    if (!timer_runs_ && (snd_una_ != snd_max_ || waits)) {
        set_timer(true);
    }
}

void Peer::emit(Seq seq, uint32_t bytes, uint32_t flags) {
    emit(seq, bytes, flags, rcv_nxt_);
}

void Peer::emit(Seq seq, uint32_t bytes, uint32_t flags, Seq ack) {
    wire::TcpFields tcp;
    tcp.seq         = seq;
    tcp.ack         = ack;
    tcp.flags       = static_cast<uint8_t>(wire::tcp_ack | flags);
    tcp.window      = select_window(ack);
    tcp.ecn_capable = connection_.options->ecn && bytes > 0 && seq >= snd_max_ && !probing_;
    tcp.flags |= echo_ ? wire::tcp_ece : 0;
    if (tcp.ecn_capable && cwr_) {
        tcp.flags |= wire::tcp_cwr;
        cwr_ = false;
    }
    tcp.has_timestamps = connection_.options->timestamps;
    tcp.ts_val         = timestamp();
    tcp.ts_ecr         = ts_recent_;
    fill_sack(tcp);
    if (bytes > 0 && seq + bytes == data_end()) {
        tcp.flags |= wire::tcp_psh;
    }
    unacked_       = 0;
    ack_waits_     = false;
    last_ack_sent_ = ack;
    duplicate_.reset();
    world_.send_plain(connection_.index, from_, tcp, bytes);
}

void Peer::fill_sack(wire::TcpFields& tcp) const {
    if (!connection_.options->sack) {
        return;
    }
    const uint32_t most = tcp.has_timestamps ? 3 : 4;
    if (duplicate_) {
        tcp.sack.at(tcp.sack_count++) = {duplicate_->start, duplicate_->end};
    }
    for (const bool latest : {true, false}) {
        for (const Range& range : out_of_order_) {
            const bool is_latest = range.start <= recent_ && recent_ < range.end;
            if (is_latest == latest && tcp.sack_count < most) {
                tcp.sack.at(tcp.sack_count++) = {range.start, range.end};
            }
        }
    }
}

void Peer::send_ack() {
    // What was sent again and was there already must not make this ACK look old.
    const Seq seq        = min(snd_max_, snd_una_ + snd_wnd_);
    const Seq first      = last_ack_sent_;
    const uint32_t bytes = room(first, rcv_nxt_);
    for (uint32_t part = 1; part < options_.ack_parts && bytes >= options_.ack_parts; ++part) {
        emit(seq, 0, 0, first + bytes / options_.ack_parts * part);
    }
    emit(seq, 0, 0);
}

void Peer::send_reset(Seq seq) {
    wire::TcpFields tcp;
    tcp.seq                            = seq;
    tcp.ack                            = rcv_nxt_;
    tcp.flags                          = wire::tcp_rst | wire::tcp_ack;
    connection_.ends[from_].reset_sent = true;
    world_.send_plain(connection_.index, from_, tcp, 0);
}

/// The edge stays where it was unless the buffer has room for more.  RFC 9293 §3.8.6.2.2
uint16_t Peer::select_window(Seq ack) {
    const uint32_t shift = options_.wind_shift;
    const uint32_t free  = options_.buffer > unread_ ? options_.buffer - unread_ : 0;
    const Seq edge       = max(rcv_adv_, rcv_nxt_ + (free >> shift << shift));
    const uint32_t field = std::min(room(rcv_nxt_, edge) >> shift, field_max);
    rcv_adv_             = max(rcv_adv_, rcv_nxt_ + (field << shift));
    return static_cast<uint16_t>(
        std::min(room(ack, rcv_nxt_ + (field << shift)) >> shift, field_max));
}

// ---------------------------------------------------------------- timers, application

void Peer::set_timer(bool running) {
    ++timer_;
    timer_runs_ = running;
    if (running) {
        const uint64_t timeout_us =
            std::min<uint64_t>(uint64_t{options_.rto_us} << std::min(backoff_, 10U), rto_max_us);
        world_.events().after(timeout_us, *this, what_retransmit, timer_);
    }
}

void Peer::retransmit_timed_out() {
    timer_runs_ = false;
    if (is_over()) {
        return;
    }
    ++backoff_;
    duplicates_ = 0;
    repairs_    = false;
    sacked_.clear();  // RFC 2018 §8
    const bool data = snd_una_ < data_end();
    const bool fin  = !data && fin_is_ready() && snd_una_ == data_end();
    if (snd_wnd_ == 0 && (data || fin)) {
        probing_ = true;
        emit(snd_una_, data ? 1 : 0, fin ? uint32_t{wire::tcp_fin} : 0);
        if (fin && !connection_.ends[from_].fin_ordered) {
            connection_.ends[from_].fin_ordered = true;
            state_ = state_ == State::close_wait ? State::last_ack : State::fin_wait_1;
        }
        snd_nxt_ = max(snd_nxt_, snd_una_ + 1);
        snd_max_ = max(snd_max_, snd_nxt_);
        return set_timer(true);
    }
    snd_nxt_ = snd_una_;
    cwnd_    = 1;
    pump();
}

void Peer::read_some() {
    if (world_.now() < reads_again_ && !healed_) {
        return;
    }
    const uint32_t left = room(rcv_nxt_, rcv_adv_);
    const uint32_t taken =
        healed_ || options_.read_every_us == 0 ? unread_ : std::min(unread_, options_.read_bytes);
    unread_ -= taken;
    const uint32_t free = options_.buffer - std::min(unread_, options_.buffer);
    const uint32_t mss  = std::min<uint32_t>(connection_.options->mss, options_.buffer / 2);
    if (taken > 0 && left < mss && free >= left + mss && !is_over() && !peer_fin_) {
        send_ack();  // a window update
    }
}

void Peer::write_some() {
    const bool all      = healed_ || options_.write_every_us == 0;
    const uint32_t more = options_.stream_bytes - written_;
    written_ += all ? more : std::min(more, options_.write_bytes);
    connection_.ends[from_].posted = written_;
    if (written_ < options_.stream_bytes) {
        world_.events().after(options_.write_every_us, *this, what_write);
    }
    pump();
}

void Peer::act(uint32_t what, uint64_t argument) {
    switch (what) {
        case what_retransmit:
            if (argument == timer_ && timer_runs_) {
                retransmit_timed_out();
            }
            return;
        case what_delayed_ack:
            if (argument == delayed_ack_ && ack_waits_) {
                send_ack();
            }
            return;
        case what_read:
            read_some();
            if (!healed_ && !is_over() && options_.read_every_us != 0) {
                world_.events().after(options_.read_every_us, *this, what_read);
            }
            return;
        case what_write:
            write_some();
            return;
        case what_keep_alive:
            if (!is_over()) {
                emit(snd_una_ - 1, 0, 0);  // RFC 9293 §3.8.4
                world_.events().after(keep_alive_us, *this, what_keep_alive);
            }
            return;
        default:
            return;
    }
}

void Peer::stop_reading(Instant until) {
    reads_again_ = until;
    if (options_.read_every_us == 0) {
        world_.events().at(until, *this, what_read);
    }
}

void Peer::shrink_window(uint32_t bytes) {
    const uint32_t window = room(rcv_nxt_, rcv_adv_);
    rcv_adv_              = rcv_nxt_ + (window - std::min(window, bytes));
    unread_               = std::max(unread_, options_.buffer - room(rcv_nxt_, rcv_adv_));
    std::erase_if(out_of_order_, [this](const Range& range) { return range.end > rcv_adv_; });
    if (fin_known_ && !peer_fin_ && fin_seq_ >= rcv_adv_) {
        fin_known_ = false;
    }
    if (!is_over()) {
        send_ack();
    }
}

void Peer::renege() {
    out_of_order_.clear();
    fin_known_ = fin_known_ && peer_fin_;
}

void Peer::abort() {
    if (is_over()) {
        return;
    }
    connection_.ends[from_].reset_ordered = true;
    send_reset(snd_nxt_);
    state_ = State::closed;
    set_timer(false);
}

void Peer::heal() {
    healed_      = true;
    reads_again_ = {};
    read_some();
    write_some();
    world_.events().after(keep_alive_us, *this, what_keep_alive);
}

}  // namespace flue::sim
