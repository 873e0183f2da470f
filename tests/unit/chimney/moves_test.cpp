#include <deque>
#include <map>

#include "base/prng.hpp"
#include "world.hpp"

// A connection moves between two chimneys at random moments of a conversation with a peer, over a
// wire that loses segments.  Every byte arrives once and in order, both FINs do, and every request
// completes exactly once.  A seed is the whole story of a run.

namespace flue::chimney {

using namespace wire;

namespace {

constexpr uint32_t state_at   = 0;
constexpr uint32_t stream_at  = 64 * 1024;
constexpr uint32_t backlog_at = 512 * 1024;
constexpr uint32_t receive_at = 640 * 1024;
constexpr uint32_t receives   = 4;
constexpr uint32_t sends_max  = 20;

/// The bytes of both streams, told apart by `salt`.
std::string stream_bytes(uint32_t salt, uint32_t from, uint32_t count) {
    std::string bytes(count, '\0');
    for (uint32_t i = 0; i < count; ++i) {
        bytes[i] = static_cast<char>((((from + i) * 2'654'435'761U) >> 13) + salt);
    }
    return bytes;
}

/// Peer is a TCP that keeps nothing out of order and goes back to the first lost byte.
class Peer {
  public:
    Peer(uint32_t bytes, bool closes_first) : total_(bytes), closes_first_(closes_first) {}

    void take(const SentSegment& segment) {
        ASSERT_EQ(segment.tcp.flags & tcp_rst, 0) << "nobody asked for an RST";
        const bool fin       = (segment.tcp.flags & tcp_fin) != 0;
        acked                = std::max(acked, segment.tcp.ack.value - World::rcv_nxt);
        const uint32_t at    = segment.tcp.seq.value - World::snd_nxt;
        const uint32_t known = heard + (saw_fin ? 1 : 0);
        const auto length    = static_cast<uint32_t>(segment.payload.size());
        owes_ack             = owes_ack || length > 0 || fin;
        if (static_cast<int32_t>(at - known) > 0 || saw_fin) {
            return;
        }
        const uint32_t old = known - at;
        if (old < length) {
            ASSERT_EQ(segment.payload.substr(old), stream_bytes(1, heard, length - old));
            heard += length - old;
        }
        saw_fin = fin && at + length == heard;
    }

    /// The next segment, or nothing: `seq` offset, payload, FIN.
    struct Segment {
        uint32_t at = 0;
        std::string payload;
        bool fin = false;
    };

    std::optional<Segment> next(Prng& prng) {
        const uint32_t first  = std::min(acked, total_);
        sent_                 = prng.chance(1, 10) ? first : std::max(sent_, first);  // go back
        const uint32_t left   = total_ - std::min(sent_, total_);
        const uint32_t drawn  = 1 + prng.below(1460);
        const uint32_t length = sent_ - first > 20'000 ? 0 : std::min(left, drawn);
        const bool may_fin    = sent_ + length == total_ && (closes_first_ || saw_fin);
        Segment segment{acked > total_ ? acked : sent_,
                        stream_bytes(2, sent_, length),
                        may_fin && acked <= total_};
        if (length == 0 && !segment.fin && !owes_ack) {
            return std::nullopt;
        }
        owes_ack = false;
        sent_ += length;
        return segment;
    }

    [[nodiscard]] bool done() const { return saw_fin && acked == total_ + 1; }

    uint32_t heard = 0;
    uint32_t acked = 0;
    bool saw_fin   = false;
    bool owes_ack  = false;

  private:
    uint32_t total_;
    bool closes_first_;
    uint32_t sent_ = 0;
};

/// Story is one conversation.
class Story {
  public:
    explicit Story(uint64_t seed)
        : prng_(seed),
          host_bytes_(prng_.below(60'000)),
          peer_bytes_(prng_.below(60'000)),
          last_bytes_(prng_.below(host_bytes_ + 1) % 2'000),
          lossy_(prng_.chance(1, 2)),
          peer_(peer_bytes_, prng_.chance(1, 2)) {
        flue_state state  = World::state();
        state.rcv_wnd_max = 65536;
        conn_             = here().offload(state);
        blocks_[0] = blocks_[1] = state;
    }

    void play() {
        for (uint32_t step = 0; step < 20'000 && !done(); ++step) {
            post();
            turn();
            if (::testing::Test::HasFailure()) {
                return;
            }
            if (prng_.chance(1, 3)) {
                move();
            }
            const Instant later = here().now + (1 + prng_.below(60)) * 1'000;
            here().now = there().now = later;
        }
        ASSERT_TRUE(done()) << "heard " << peer_.heard << "/" << host_bytes_ << ", read " << read_
                            << "/" << peer_bytes_ << ", tcp state " << int(tcp_state());
        finish();
    }

    std::map<uint8_t, uint32_t> moves;

  private:
    World& here() { return worlds_[at_]; }

    World& there() { return worlds_[1 - at_]; }

    [[nodiscard]] uint8_t tcp_state() {
        const auto index = static_cast<ConnIndex>(conn_ & 0xff'ffff);
        return static_cast<uint8_t>(here().chimney().engine().state(index));
    }

    [[nodiscard]] bool done() const {
        return peer_.done() && peer_.heard == host_bytes_ && read_ == peer_bytes_ &&
               fin_told_ == 1 && outstanding_.empty() && closed_;
    }

    void post_bytes(uint8_t opcode, uint32_t from, uint32_t bytes) {
        const flue_sge sge = here().put(stream_bytes(1, from, bytes), stream_at + from);
        flue_wr wr         = World::request(opcode, conn_, next_id_++, sge);
        here().post(wr);
        outstanding_.push_back({wr, from});
    }

    void post() {
        const uint32_t before_last = host_bytes_ - last_bytes_;
        if (posted_ < before_last && outstanding_.size() < sends_max) {
            const uint32_t drawn = 1 + prng_.below(4'000);
            const uint32_t bytes = std::min(before_last - posted_, drawn);
            post_bytes(FLUE_OP_SEND, posted_, bytes);
            posted_ += bytes;
        } else if (posted_ == before_last && !disconnected_ && prng_.chance(1, 3)) {
            post_bytes(FLUE_OP_DISCONNECT, posted_, last_bytes_);
            posted_ += last_bytes_;
            disconnected_ = true;
        }
        while (receives_.size() < receives && fin_told_ == 0 && prng_.chance(1, 2)) {
            const uint64_t slot = next_receive_++ % receives;
            const flue_sge room = here().room(1 + prng_.below(6'000), receive_at + slot * 8 * 1024);
            flue_wr wr          = World::request(FLUE_OP_RECV, conn_, next_id_++, room);
            here().post(wr);
            receives_.push_back(wr);
        }
    }

    /// Both ways over the wire.
    void turn() {
        here().run();
        for (const SentSegment& segment : here().take_sent()) {
            if (!lossy_ || !prng_.chance(1, 8)) {
                peer_.take(segment);
            }
        }
        const uint32_t burst = prng_.below(6);
        for (uint32_t i = 0; i < burst; ++i) {
            const auto segment = peer_.next(prng_);
            if (!segment || (lossy_ && prng_.chance(1, 8))) {
                continue;
            }
            const uint32_t ack = World::snd_nxt + peer_.heard + (peer_.saw_fin ? 1 : 0);
            const int flags =
                tcp_ack | (segment->payload.empty() ? 0 : tcp_psh) | (segment->fin ? tcp_fin : 0);
            here().from_peer(
                World::rcv_nxt + segment->at, ack, static_cast<uint8_t>(flags), segment->payload);
        }
        here().run();
        take_completions();
    }

    void take_completions() {
        for (const flue_wc& wc : here().poll()) {
            switch (wc.opcode) {
                case FLUE_OP_SEND:
                case FLUE_OP_DISCONNECT:
                    sent(wc);
                    break;
                case FLUE_OP_RECV:
                    received(wc);
                    break;
                case FLUE_EVENT_DISCONNECT:
                    ++fin_told_;
                    break;
                case FLUE_OP_TERMINATE:
                    EXPECT_EQ(wc.status, FLUE_SUCCESS);
                    terminated_ = wc;
                    break;
                default:
                    EXPECT_GE(wc.opcode, 0x80) << "a completion of nothing posted";
                    EXPECT_NE(wc.opcode, FLUE_EVENT_ABORT);
            }
        }
    }

    void sent(const flue_wc& wc) {
        ASSERT_FALSE(outstanding_.empty());
        const Posted& front = outstanding_.front();
        ASSERT_EQ(wc.wr_id, front.wr.wr_id) << "out of order, or twice";
        if (wc.status == FLUE_SUCCESS) {
            EXPECT_EQ(wc.bytes, front.wr.sge[0].length);
            closed_ = closed_ || wc.opcode == FLUE_OP_DISCONNECT;
        } else {
            ASSERT_EQ(wc.status, FLUE_UPLOAD_IN_PROGRESS);
            ASSERT_LE(wc.bytes, front.wr.sge[0].length);
            unfinished_.push_back({front.wr, front.from + wc.bytes});
            unfinished_.back().wr.sge[0].length -= wc.bytes;
        }
        outstanding_.pop_front();
    }

    void received(const flue_wc& wc) {
        ASSERT_FALSE(receives_.empty());
        ASSERT_EQ(wc.wr_id, receives_.front().wr_id);
        const uint64_t offset = receives_.front().sge[0].offset;
        ASSERT_EQ(here().region_text(offset, wc.bytes), stream_bytes(2, read_, wc.bytes));
        read_ += wc.bytes;
        receives_.pop_front();
    }

    void move() {
        const uint8_t state = tcp_state();
        if (state == FLUE_TCP_CLOSED || state == FLUE_TCP_TIME_WAIT) {
            return;
        }
        terminate();
        const flue_state given    = here().region_state(state_at);
        const uint32_t bytes      = terminated_.bytes;
        const std::string backlog = here().region_text(backlog_at, bytes);
        ASSERT_EQ(backlog, stream_bytes(2, read_, bytes));
        ASSERT_TRUE(outstanding_.empty());
        ASSERT_TRUE(receives_.empty());
        if (given.tcp_state == FLUE_TCP_CLOSED || given.tcp_state == FLUE_TCP_TIME_WAIT) {
            ADD_FAILURE() << "ended in between";
            return;
        }
        ++moves[given.tcp_state];
        at_        = 1 - at_;
        flue_wr wr = World::request(FLUE_OP_OFFLOAD,
                                    FLUE_NO_CONN,
                                    next_id_++,
                                    here().put(std::as_bytes(std::span(&given, 1)), state_at));
        if (bytes > 0) {
            wr.sge[1]    = here().put(backlog, backlog_at);
            wr.sge_count = 2;
        }
        here().post_and_run(wr);
        const auto answers = here().poll();
        ASSERT_FALSE(answers.empty());
        ASSERT_EQ(answers[0].status, FLUE_SUCCESS) << int(given.tcp_state);
        conn_ = answers[0].conn;
        for (size_t i = 1; i < answers.size(); ++i) {
            ASSERT_EQ(answers[i].opcode, FLUE_EVENT_DATA_AVAILABLE);
        }
        for (const Posted& posted : std::exchange(unfinished_, {})) {
            post_bytes(posted.wr.opcode, posted.from, posted.wr.sge[0].length);
        }
    }

    void terminate() {
        here().put_state(blocks_[at_], state_at);
        flue_wr wr = World::request(
            FLUE_OP_TERMINATE, conn_, next_id_++, here().room(sizeof(flue_state), state_at));
        wr.sge[1]    = here().room(65536 + 2'000, backlog_at);
        wr.sge_count = 2;
        terminated_  = {};
        here().post_and_run(wr);
        for (const SentSegment& segment : here().take_sent()) {
            peer_.take(segment);
        }
        take_completions();
        ASSERT_EQ(terminated_.wr_id, wr.wr_id);
    }

    void finish() {
        terminate();
        EXPECT_TRUE(unfinished_.empty());
        for (World& world : worlds_) {
            world.expect_nothing_left();
        }
    }

    struct Posted {
        flue_wr wr{};
        uint32_t from = 0;  ///< of the host's stream
    };

    Prng prng_;
    uint32_t host_bytes_;
    uint32_t peer_bytes_;
    uint32_t last_bytes_;  ///< in the DISCONNECT
    bool lossy_;
    Peer peer_;
    std::array<World, 2> worlds_;
    std::array<flue_state, 2> blocks_;
    uint32_t at_    = 0;
    flue_conn conn_ = FLUE_NO_CONN;
    std::deque<Posted> outstanding_;
    std::vector<Posted> unfinished_;  ///< what TERMINATE gave back
    std::deque<flue_wr> receives_;
    flue_wc terminated_{};
    uint64_t next_id_      = 10;
    uint64_t next_receive_ = 0;
    uint32_t posted_       = 0;
    uint32_t read_         = 0;
    uint32_t fin_told_     = 0;
    bool disconnected_     = false;
    bool closed_           = false;
};

}  // namespace

TEST(Moves, R19_R20_R21_R100_R101_nothing_is_lost_or_doubled_at_any_moment) {
    std::map<uint8_t, uint32_t> moves;
    uint32_t total = 0;
    for (uint64_t seed = 1; seed <= 300; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Story story(seed);
        story.play();
        if (HasFailure()) {
            return;
        }
        for (const auto& [state, count] : story.moves) {
            moves[state] += count;
            total += count;
        }
    }
    EXPECT_GE(total, 2'000u);
    for (uint8_t state = FLUE_TCP_ESTABLISHED; state <= FLUE_TCP_LAST_ACK; ++state) {
        EXPECT_GT(moves[state], 10u) << "moves in state " << int{state};
    }
}

}  // namespace flue::chimney
