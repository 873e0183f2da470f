// The TCP engine against a script of segments, time and host calls: whatever comes in, its
// invariants hold, what it sends is legal, and every object comes back.

#include <array>
#include <deque>
#include <memory>
#include <set>

#include "base/assert.hpp"
#include "connections.hpp"
#include "input.hpp"
#include "tcp/engine.hpp"

namespace {

using namespace flue;
using namespace flue::tcp;
using fuzz::Input;

constexpr uint32_t connections = 2;
constexpr uint32_t steps_max   = 400;

Options options() {
    Options options;
    options.limits = {.connections                      = connections,
                      .send_items                       = 6,
                      .receive_chunks                   = 8,
                      .reassembly_blocks_per_connection = 3};
    return options;
}

struct Item {
    ItemIndex index = no_item;
    Seq start;
    uint32_t length = 0;
};

/// What the host knows of a connection.
struct Connection {
    bool in_use = false;
    std::deque<Item> items;
    Seq posted_end;  ///< one past the last byte that was posted
    bool may_fin    = false;
    bool stopped    = false;
    uint32_t aborts = 0;
};

class Script {
  public:
    explicit Script(Input& in) : in_(in), engine_(options()) {}

    void run() {
        adopt();
        for (uint32_t step = 0; step < steps_max && !in_.empty(); ++step) {
            act();
            for (ConnIndex index = 0; index < connections; ++index) {
                if (connections_[index].in_use) {
                    engine_.check_invariants(index);
                }
            }
        }
        end();
    }

  private:
    void act() {
        conn_               = in_.byte();
        const uint32_t what = (conn_ >> 1) % 17;
        conn_ &= 1;
        if (!connections_[conn_].in_use) {
            return what < 12 ? adopt() : pass_time();
        }
        switch (what) {
            case 0:
            case 1:
            case 2:
            case 3:
                return segment();
            case 4:
            case 5:
                return transmit();
            case 6:
                return pass_time();
            case 7:
                return post();
            case 8:
                return consume();
            case 9:
                return take_back();
            case 10:
                return hand_over();
            case 11:
                return abort();
            case 12:
                connections_[conn_].stopped = true;
                return engine_.stop(conn_);
            case 13:
                return forgo();
            case 14:
                return forget();
            case 15:
                return notices();
            default:
                return too_big();
        }
    }

    void adopt() {
        parameters_[conn_]    = fuzz::any_parameters(in_);
        const Delegated state = fuzz::any_state(in_);
        if (take_over(conn_, state)) {
            for (uint32_t chunks = in_.below(3); chunks > 0; --chunks) {
                const ByteRef payload = new_payload(1 + in_.below(200));
                if (engine_.add_readable(conn_, payload)) {
                    kept_.insert(payload.region);
                }
            }
        }
    }

    bool take_over(ConnIndex index, const Delegated& state) {
        if (engine_.adopt(now_, index, parameters_[index], state) != Engine::Refusal::none) {
            return false;
        }
        const bool fin_acked   = state.state == State::fin_wait_2;
        Connection& connection = connections_[index];
        connection             = {};
        connection.in_use      = true;
        connection.posted_end  = fin_acked ? state.snd_una - 1 : state.snd_una;
        connection.may_fin     = fin_was_sent(state.state);
        return true;
    }

    ByteRef new_payload(uint32_t length) {
        return {.region = next_payload_++, .offset = 54, .length = length};
    }

    void segment() {
        Delegated s;
        engine_.snapshot(now_, conn_, s);
        const uint8_t shape = in_.byte();
        const Seq edges[] = {s.rcv_nxt, s.rcv_nxt + s.rcv_wnd, s.rcv_nxt - 1460, s.rcv_nxt + 1460};
        const Seq acks[]  = {s.snd_una, s.snd_nxt, s.snd_max, connections_[conn_].posted_end};
        Segment segment;
        segment.tcp.seq   = edges[shape & 3];
        segment.tcp.ack   = acks[(shape >> 2) & 3];
        segment.tcp.flags = static_cast<uint8_t>(wire::tcp_ack | ((shape >> 5) & 1));
        if ((shape & 0x10) != 0) {
            segment.tcp.seq += in_.near();
            segment.tcp.ack += in_.near();
        }
        if ((shape & 0x40) != 0) {
            segment.tcp.flags = static_cast<uint8_t>(segment.tcp.flags ^ in_.byte());
        }
        segment.tcp.window         = in_.pick<uint16_t>({512, 0, 1, UINT16_MAX});
        segment.tcp.has_timestamps = parameters_[conn_].timestamps && (shape & 0x80) == 0;
        if (segment.tcp.has_timestamps) {
            segment.tcp.ts_val = s.ts_recent + in_.near();
            segment.tcp.ts_ecr = s.ts_time + in_.near();
        }
        if ((shape & 0x80) != 0) {
            segment.tcp.urgent     = in_.byte();
            segment.tcp.sack_count = in_.below(wire::sack_ranges_max + 1);
            for (uint32_t i = 0; i < segment.tcp.sack_count; ++i) {
                segment.tcp.sack[i].start = acks[in_.below(3)] + 40 * in_.near();
                segment.tcp.sack[i].end   = segment.tcp.sack[i].start + 40 * in_.near();
            }
        }
        const uint32_t length = in_.pick({0U, 1U, 2U, 100U, 1460U, 65495U});
        segment.payload       = length == 0 ? ByteRef{} : new_payload(length);
        const auto outcome    = engine_.on_segment(now_, conn_, segment);
        if (outcome.payload_kept) {
            FLUE_ASSERT(length > 0);
            kept_.insert(segment.payload.region);
        }
    }

    void transmit() {
        std::array<Delegated, connections> before;
        for (ConnIndex index = 0; index < connections; ++index) {
            if (connections_[index].in_use) {
                engine_.snapshot(now_, index, before[index]);
            }
        }
        std::array<TxSegment, 8> batch;
        const uint32_t room  = 1 + in_.below(batch.size());
        const uint32_t count = engine_.transmit(now_, std::span{batch}.first(room));
        FLUE_ASSERT(count <= room);
        for (TxSegment& tx : std::span{batch}.first(count)) {
            FLUE_ASSERT(tx.conn < connections && connections_[tx.conn].in_use);
            const bool repeated = tx.tcp.seq < before[tx.conn].snd_max;
            tx.payload_bytes += fuzz::canary && tx.payload_bytes > 0 && repeated ? 1 : 0;
            check_sent(tx, before[tx.conn], connections_[tx.conn]);
        }
    }

    /// Spec: R78, RFC 9293 §3.8.6
    void check_sent(const TxSegment& tx, const Delegated& before, Connection& connection) {
        if ((tx.tcp.flags & wire::tcp_rst) != 0) {
            FLUE_ASSERT(connection.aborts > 0);  // repeated for a peer that could not take it
            FLUE_ASSERT(tx.payload_bytes == 0);
            return;
        }
        FLUE_ASSERT(!connection.stopped && connection.aborts == 0);
        Seq seq = tx.tcp.seq;
        for (const SendSlice& slice : std::span{tx.slices}.first(tx.slice_count)) {
            const auto item = std::ranges::find(connection.items, slice.item, &Item::index);
            FLUE_ASSERT(item != connection.items.end() && slice.length > 0);
            FLUE_ASSERT(slice.offset + slice.length <= item->length);
            FLUE_ASSERT(item->start + slice.offset == seq);
            seq += slice.length;
        }
        FLUE_ASSERT(seq == tx.tcp.seq + tx.payload_bytes);
        FLUE_ASSERT(tx.payload_bytes == 0 || seq <= connection.posted_end);
        const bool fin = (tx.tcp.flags & wire::tcp_fin) != 0;
        FLUE_ASSERT(!fin || (connection.may_fin && seq == connection.posted_end));
        const uint32_t length = tx.payload_bytes + (fin ? 1 : 0);
        const Seq edge        = max(before.snd_max, before.snd_una + before.snd_wnd);
        FLUE_ASSERT(length == 0 || tx.tcp.seq + length <= edge + (length == 1 ? 1 : 0));
        FLUE_ASSERT(tx.tcp.sack_count <= (parameters_[tx.conn].sack ? wire::sack_ranges_max : 0));
        FLUE_ASSERT(tx.tcp.has_timestamps == parameters_[tx.conn].timestamps);
    }

    void too_big() {
        Delegated s;
        engine_.snapshot(now_, conn_, s);
        const uint16_t mss    = in_.pick<uint16_t>({512, 511, 536, 1220, 1400, 1, UINT16_MAX});
        const uint16_t before = engine_.parameters(conn_).mss;
        const Seq seq         = in_.pick({s.snd_una, s.snd_max}) + 40 * in_.near();
        const bool heeded     = engine_.packet_too_big(now_, conn_, seq, mss);
        const uint16_t after  = engine_.parameters(conn_).mss;
        FLUE_ASSERT(heeded ? after == mss && mss < before && mss >= 512 : after == before);
        FLUE_ASSERT(!heeded || (s.snd_una <= seq && seq < s.snd_max));
    }

    void pass_time() {
        const uint32_t ms = in_.pick({0U, 1U, 40U, 200U, 1000U, 60'000U, 7'200'000U});
        const Instant due = engine_.next_deadline();
        now_ = ms == 0 && due.is_set() ? std::max(now_, due) : now_ + uint64_t{ms} * 1000;
        engine_.on_time(now_);
    }

    void post() {
        Connection& connection = connections_[conn_];
        const uint32_t length  = in_.pick({1U, 0U, 100U, 3000U, 65536U, 1U << 30});
        const bool fin         = in_.byte() > 200;
        if (engine_.free_items() == 0) {
            return;
        }
        const uint32_t room = engine_.post_room(conn_);
        const ItemIndex index =
            engine_.post_send(now_, conn_, {.region = 1, .length = length}, fin);
        FLUE_ASSERT(index == no_item || length <= room);
        FLUE_ASSERT(index != no_item || length > room || fin || connection.may_fin);
        if (index != no_item) {
            connection.items.push_back({index, connection.posted_end, length});
            connection.posted_end += length;
            connection.may_fin |= fin;
        }
    }

    void consume() {
        const uint32_t bytes = std::min(engine_.readable(conn_), in_.pick({1U, 100U, UINT32_MAX}));
        FLUE_ASSERT(bytes == 0 || engine_.front_chunk(conn_).length > 0);
        engine_.consume(now_, conn_, bytes);
    }

    /// Pops what may be popped: acknowledged sends, or all of them when the connection is over.
    void take_back() {
        Connection& connection = connections_[conn_];
        const bool over        = connection.stopped || engine_.state(conn_) == State::closed;
        while (!connection.items.empty()) {
            const Item item = connection.items.front();
            FLUE_ASSERT(engine_.front_item(conn_) == item.index);
            FLUE_ASSERT(engine_.acked_bytes(conn_, item.index) <= item.length);
            if (!over && !engine_.fully_acked(conn_, item.index)) {
                return;
            }
            engine_.pop_item(conn_, item.index);
            connection.items.pop_front();
        }
        FLUE_ASSERT(engine_.front_item(conn_) == no_item);
    }

    /// The bytes between what was posted and what the giver had sent never come.
    void forgo() {
        engine_.flush_ack(conn_);
        Delegated state;
        engine_.snapshot(now_, conn_, state);
        Connection& connection = connections_[conn_];
        if (engine_.forgo_missing(conn_)) {
            connection.posted_end = max(connection.posted_end, state.snd_max);
        }
    }

    void abort() {
        ++connections_[conn_].aborts;
        engine_.abort(now_, conn_);
    }

    void forget() {
        connections_[conn_].stopped = true;
        engine_.stop(conn_);
        take_back();
        engine_.forget(conn_);
        connections_[conn_].in_use = false;
    }

    /// What an engine gives away, another takes, unless the connection is over.
    void hand_over() {
        Delegated state;
        engine_.snapshot(now_, conn_, state);
        const Parameters parameters = engine_.parameters(conn_);
        const bool is_over = state.state == State::closed || state.state == State::time_wait;
        forget();
        parameters_[conn_] = parameters;
        FLUE_ASSERT(take_over(conn_, state) != is_over);
    }

    void notices() {
        std::array<Engine::Notified, 3> notified;
        const uint32_t count = engine_.take_notified(notified);
        for (const Engine::Notified& each : std::span{notified}.first(count)) {
            FLUE_ASSERT(connections_[each.conn].in_use && each.notices != 0);
        }
        take_released();
    }

    uint32_t take_released() {
        std::array<ByteRef, 3> released;
        const uint32_t count = engine_.take_released(released);
        for (const ByteRef& ref : std::span{released}.first(count)) {
            FLUE_ASSERT(kept_.erase(ref.region) == 1);
        }
        return count;
    }

    void end() {
        for (conn_ = 0; conn_ < connections; ++conn_) {
            if (connections_[conn_].in_use) {
                forget();
            }
        }
        while (take_released() > 0) {
        }
        FLUE_ASSERT(kept_.empty());
        FLUE_ASSERT(engine_.usage().connections == 0);
        FLUE_ASSERT(engine_.usage().send_items == 0);
        FLUE_ASSERT(engine_.usage().receive_chunks == 0);
    }

    Input& in_;
    Engine engine_;
    Instant now_{5'000'000'000'000};
    ConnIndex conn_ = 0;
    std::array<Connection, connections> connections_;
    std::array<Parameters, connections> parameters_;
    std::set<uint64_t> kept_;
    uint64_t next_payload_ = 100;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in({data, size});
    Script(in).run();
    return 0;
}
