#include "host/move.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/assert.hpp"
#include "host/error.hpp"
#include "host/linux/target_requests.hpp"
#include "host/posted_sends.hpp"

namespace flue::host {

namespace {

bool is_over(const flue_state& state) {
    return state.tcp_state == FLUE_TCP_CLOSED || state.tcp_state == FLUE_TCP_TIME_WAIT;
}

HandoffError check_options(const flue_move_options& options, flue_conn conn) {
    const bool has_memory =
        options.from_mr != nullptr && options.to_mr != nullptr &&
        Room(*options.from_mr, options.from_offset, options.from_bytes).valid() &&
        Room(*options.to_mr, options.to_offset, options.to_bytes).valid();
    if (!has_memory) {
        return {EINVAL, "the lent memory is not part of a memory region"};
    }
    if (std::min(options.from_bytes, options.to_bytes) < sizeof(flue_state)) {
        return {ENOBUFS, "the lent memory does not hold even the state block"};
    }
    const std::span<const flue_wr> sends(options.sends, options.send_count);
    const std::span<flue_mr* const> regions(options.send_mrs, options.send_mr_count);
    if (!are_legal_sends(sends, conn, regions)) {
        return {EINVAL, "sends has a request of another kind, connection or memory region"};
    }
    return {};
}

/// Move carries one move from step to step: make before break.
class Move {
  public:
    Move(HostQueue& from, flue_conn conn, HostQueue& to, const flue_move_options& options)
        : from_(from),
          to_(to),
          conn_(conn),
          options_(options),
          from_room_(*options.from_mr, options.from_offset, options.from_bytes),
          to_room_(*options.to_mr, options.to_offset, options.to_bytes),
          from_block_(from_room_.take(sizeof(flue_state))),
          to_block_(to_room_.take(sizeof(flue_state))) {}

    HandoffError run(flue_move_result& result);

  private:
    HandoffError query();
    HandoffError hold();
    HandoffError terminate();
    HandoffError offload();
    HandoffError post_sends(flue_move_result& result);
    /// The ways back: the target that was to have it lets go; the one that had it goes on.
    void let_go();
    HandoffError resume(HandoffError why);
    void take_back_completions();
    HandoffError leave(flue_move_result& result);

    [[nodiscard]] bool fits(const flue_state& state) const;

    [[nodiscard]] std::span<const flue_wr> listed() const {
        return {options_.sends, options_.send_count};
    }

    HostQueue& from_;
    HostQueue& to_;
    flue_conn conn_;
    flue_conn held_ = FLUE_NO_CONN;
    const flue_move_options& options_;
    Room from_room_;
    Room to_room_;
    Room::Piece from_block_;
    Room::Piece to_block_;
    Room::Piece received_;  ///< in from's memory
    flue_state state_{};
    std::vector<flue_wr> sends_;  ///< what is not acknowledged, in order, in from's memory
};

flue_wr make_request(uint8_t opcode, flue_conn conn, uint8_t flags = 0) {
    flue_wr wr{};
    wr.opcode = opcode;
    wr.conn   = conn;
    wr.flags  = flags;
    return wr;
}

flue_wr with(flue_wr wr, const Room::Piece& first, const Room::Piece& second = {}) {
    wr.sge[0]    = first.sge;
    wr.sge[1]    = second.sge;
    wr.sge_count = second.bytes.empty() ? 1 : 2;
    return wr;
}

HandoffError Move::run(flue_move_result& result) {
    if (const HandoffError error = query(); error.failed()) {
        result.to_bytes_used =
            sizeof(flue_state) + uint64_t{state_.receive_backlog_bytes} + state_.send_backlog_bytes;
        return error;
    }
    if (const HandoffError error = hold(); error.failed()) {
        return error;
    }
    if (const HandoffError error = terminate(); error.failed()) {
        let_go();
        return error;
    }
    if (is_over(state_)) {
        let_go();
        static_cast<void>(leave(result));
        return {ECONNRESET, "the connection has ended meanwhile: there is nothing to move"};
    }
    if (!fits(state_)) {
        return resume({ENOBUFS, "the lent memory does not hold what has come meanwhile"});
    }
    if (const HandoffError error = offload(); error.failed()) {
        return resume(error);
    }
    result.conn = held_;
    // From here on the connection is the other target's, and the first one need not be there.
    const HandoffError error = post_sends(result);
    static_cast<void>(leave(result));
    return error;
}

bool Move::fits(const flue_state& state) const {
    return uint64_t{state.receive_backlog_bytes} + state.send_backlog_bytes <= to_room_.left();
}

HandoffError Move::query() {
    flue_wc wc{};
    const flue_wr wr = with(make_request(FLUE_OP_QUERY, conn_), from_block_);
    if (const HandoffError error = request(from_, wr, wc); error.failed()) {
        return error;
    }
    state_ = get_state(from_block_);
    if (is_over(state_)) {
        return {ENOTCONN, "the connection has ended"};
    }
    if (state_.receive_backlog_bytes > from_room_.left() || !fits(state_)) {
        return {ENOBUFS, "the lent memory does not hold what is not delivered or acknowledged"};
    }
    if (!unacknowledged_sends(listed(), state_.send_backlog_bytes)) {
        return {EINVAL, "sends does not list every SEND that is not acknowledged"};
    }
    return {};
}

HandoffError Move::hold() {
    flue_wr wr = make_request(FLUE_OP_HOLD, options_.held);
    if (options_.held == FLUE_NO_CONN) {
        put_state(to_block_, state_);
        wr             = with(wr, to_block_);
        wr.host_handle = options_.host_handle;
    }
    flue_wc wc{};
    const HandoffError error = request(to_, wr, wc);
    held_                    = wc.conn;
    return error;
}

HandoffError Move::terminate() {
    Room room = from_room_;
    received_ = room.take(std::min<uint64_t>(room.left(), UINT32_MAX));
    const flue_wr wr =
        with(make_request(FLUE_OP_TERMINATE, conn_, FLUE_WR_KEEP_HELD), from_block_, received_);
    flue_wc wc{};
    if (const HandoffError error = request(from_, wr, wc); error.failed()) {
        return error;
    }
    state_          = get_state(from_block_);
    received_       = from_room_.take(state_.receive_backlog_bytes);
    auto unfinished = unacknowledged_sends(listed(), state_.send_backlog_bytes);
    FLUE_ASSERT(unfinished.has_value());
    if (state_.tcp_state != FLUE_TCP_FIN_WAIT_2) {
        sends_ = std::move(*unfinished);
    }
    return {};
}

HandoffError Move::offload() {
    const Room::Piece received = to_room_.take(received_.bytes.size());
    std::copy(received_.bytes.begin(), received_.bytes.end(), received.bytes.begin());
    put_state(to_block_, state_);
    const uint8_t flags = options_.keep_time_wait != 0 ? FLUE_WR_KEEP_TIME_WAIT : 0;
    flue_wc wc{};
    return request(to_, with(make_request(FLUE_OP_OFFLOAD, held_, flags), to_block_, received), wc);
}

/// The bytes go into the other session's memory; each request keeps its wr_id.
HandoffError Move::post_sends(flue_move_result& result) {
    const std::span<flue_mr* const> regions(options_.send_mrs, options_.send_mr_count);
    for (flue_wr& wr : sends_) {
        const uint32_t count = wr.sge_count;
        for (uint32_t i = 0; i < count; ++i) {
            const flue_mr* mr       = find_region(regions, wr.sge[i].mr);
            const Room::Piece piece = to_room_.take(wr.sge[i].length);
            std::memcpy(piece.bytes.data(),
                        static_cast<const std::byte*>(flue_mr_data(mr)) + wr.sge[i].offset,
                        piece.bytes.size());
            wr.sge[i] = piece.sge;
        }
        wr.conn = held_;
    }
    result.to_bytes_used = to_room_.used();
    result.sends_posted  = static_cast<uint32_t>(sends_.size());
    if (options_.posted != nullptr) {
        std::copy(sends_.begin(), sends_.end(), options_.posted);
    }
    return post_all(to_, sends_);
}

void Move::let_go() {
    flue_wc wc{};
    const uint8_t opcode = options_.held == FLUE_NO_CONN ? FLUE_OP_RELEASE : FLUE_OP_HOLD;
    static_cast<void>(request(to_, make_request(opcode, held_, FLUE_WR_DISCARD), wc));
}

HandoffError Move::resume(HandoffError why) {
    let_go();
    take_back_completions();
    put_state(from_block_, state_);
    flue_wc wc{};
    const uint8_t flags = options_.keep_time_wait != 0 ? FLUE_WR_KEEP_TIME_WAIT : 0;
    const flue_wr again = with(make_request(FLUE_OP_OFFLOAD, conn_, flags), from_block_, received_);
    if (const HandoffError error = request(from_, again, wc); error.failed()) {
        flue_move_result ignored{};
        static_cast<void>(leave(ignored));
        return {ECONNABORTED, "neither target takes the connection: it is lost"};
    }
    const HandoffError error = post_all(from_, sends_);
    return error.failed() ? error : why;
}

/// The requests that are posted again must not complete twice.
void Move::take_back_completions() {
    for (const flue_wr& wr : sends_) {
        const auto of_this = [&](const flue_wc& wc) {
            return wc.conn == conn_ && wc.opcode == wr.opcode && wc.wr_id == wr.wr_id &&
                   wc.status == FLUE_UPLOAD_IN_PROGRESS;
        };
        static_cast<void>(from_.wait_for(of_this, 0));
    }
}

/// What the first target has kept since TERMINATE the other one has, too, or the peer sends again.
HandoffError Move::leave(flue_move_result& result) {
    const bool stays = options_.shared_wire != 0 && result.conn != FLUE_NO_CONN;
    result.left      = stays ? conn_ : FLUE_NO_CONN;
    flue_wc wc{};
    const uint8_t opcode = stays ? FLUE_OP_HOLD : FLUE_OP_RELEASE;
    return request(from_, make_request(opcode, conn_, FLUE_WR_DISCARD), wc);
}

}  // namespace

HandoffError move_connection(HostQueue& from,
                             flue_conn conn,
                             HostQueue& to,
                             const flue_move_options& options,
                             flue_move_result& result) {
    result = {};
    if (const HandoffError error = check_options(options, conn); error.failed()) {
        return error;
    }
    return Move(from, conn, to, options).run(result);
}

}  // namespace flue::host

int flue_move(struct flue_hq* from,
              flue_conn conn,
              struct flue_hq* to,
              const struct flue_move_options* options,
              struct flue_move_result* result) {
    flue_move_result ignored{};
    const flue::host::HandoffError error = flue::host::move_connection(
        *from->queue, conn, *to->queue, *options, result != nullptr ? *result : ignored);
    return error.failed() ? flue::host::fail(error.code, "flue_move: %s", error.text) : 0;
}
