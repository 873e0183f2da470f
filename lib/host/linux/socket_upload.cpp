#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/uio.h>
#include <vector>

#include "host/error.hpp"
#include "host/linux/socket_handoff.hpp"
#include "host/linux/socket_restore.hpp"
#include "host/linux/target_requests.hpp"
#include "host/posted_sends.hpp"

namespace flue::host {

namespace {

std::span<const flue_wr> listed_sends(const flue_socket_upload_options& options) {
    return {options.sends, options.send_count};
}

std::vector<flue_mr*> regions_of(const flue_socket_upload_options& options) {
    std::vector<flue_mr*> regions(options.send_mrs, options.send_mrs + options.send_mr_count);
    regions.push_back(options.mr);
    return regions;
}

HandoffError check_options(const flue_socket_upload_options& options, flue_conn conn) {
    if (options.mr == nullptr || !Room(*options.mr, options.mr_offset, options.mr_bytes).valid()) {
        return {EINVAL, "mr, mr_offset and mr_bytes are not part of a memory region"};
    }
    if (options.mr_bytes < sizeof(flue_state)) {
        return {ENOBUFS, "mr_bytes does not hold even the state block"};
    }
    if (!are_legal_sends(listed_sends(options), conn, regions_of(options))) {
        return {EINVAL, "sends has a request of another kind, connection or memory region"};
    }
    return {};
}

/// Upload carries one way back from step to step.
class Upload {
  public:
    Upload(HostQueue& queue, flue_conn conn, const flue_socket_upload_options& options)
        : queue_(queue),
          conn_(conn),
          options_(options),
          room_(*options.mr, options.mr_offset, options.mr_bytes),
          block_(room_.take(sizeof(flue_state))) {}

    Result<UniqueFd, HandoffError> run();

  private:
    HandoffError query();
    HandoffError terminate();
    [[nodiscard]] std::vector<iovec> send_pieces() const;
    HandoffError resume(HandoffError why);
    void take_back_completions();
    HandoffError release(uint8_t flags);

    [[nodiscard]] flue_wr make_request(uint8_t opcode, uint8_t flags, uint8_t sge_count) const;

    HostQueue& queue_;
    flue_conn conn_;
    const flue_socket_upload_options& options_;
    Room room_;
    Room::Piece block_;
    Room::Piece receive_;
    flue_state state_{};
    std::vector<flue_wr> sends_;  ///< what is not acknowledged, in order
};

flue_wr Upload::make_request(uint8_t opcode, uint8_t flags, uint8_t sge_count) const {
    flue_wr wr{};
    wr.opcode    = opcode;
    wr.conn      = conn_;
    wr.flags     = flags;
    wr.sge_count = sge_count;
    if (sge_count > 0) {
        wr.sge[0] = block_.sge;
    }
    if (sge_count > 1) {
        wr.sge[1] = receive_.sge;
    }
    return wr;
}

Result<UniqueFd, HandoffError> Upload::run() {
    if (const HandoffError error = query(); error.failed()) {
        return error;
    }
    auto socket = SocketRestore::prepare(state_);
    if (!socket.ok()) {
        return socket.error();
    }
    if (const HandoffError error = terminate(); error.failed()) {
        return error;
    }
    if (state_.tcp_state == FLUE_TCP_CLOSED) {
        static_cast<void>(release(0));
        return HandoffError{ECONNRESET, "the peer has reset the connection"};
    }
    const std::vector<iovec> send = send_pieces();
    auto restored = socket.value().complete(state_, {.receive = receive_.bytes, .send = send});
    if (!restored.ok()) {
        return resume(restored.error());
    }
    const bool replay_fin = state_.tcp_state == FLUE_TCP_CLOSE_WAIT;
    // Should the target have gone, then nothing is held any more and the socket works all the same.
    static_cast<void>(release(replay_fin ? FLUE_WR_REPLAY_FIN : 0));
    return restored;
}

/// What would be refused is found out before TERMINATE, which cannot be taken back as easily.
HandoffError Upload::query() {
    flue_wc wc{};
    const flue_wr wr = make_request(FLUE_OP_QUERY, 0, 1);
    if (const HandoffError error = request(queue_, wr, wc); error.failed()) {
        return error;
    }
    state_ = get_state(block_);
    if (state_.tcp_state == FLUE_TCP_CLOSED) {
        return {ENOTCONN, "the connection was reset"};
    }
    if (state_.tcp_state != FLUE_TCP_ESTABLISHED && state_.tcp_state != FLUE_TCP_CLOSE_WAIT) {
        return {ESHUTDOWN, "a FIN was sent: no kernel socket can be made for this state"};
    }
    if (state_.receive_backlog_bytes > room_.left()) {
        return {ENOBUFS, "more received data waits than mr_bytes has room for"};
    }
    if (!unacknowledged_sends(listed_sends(options_), state_.send_backlog_bytes)) {
        return {EINVAL, "sends does not list every SEND that is not acknowledged"};
    }
    return {};
}

HandoffError Upload::terminate() {
    Room room  = room_;
    receive_   = room.take(std::min<uint64_t>(room.left(), UINT32_MAX));
    flue_wr wr = make_request(FLUE_OP_TERMINATE, FLUE_WR_KEEP_HELD, receive_.bytes.empty() ? 1 : 2);
    flue_wc wc{};
    if (const HandoffError error = request(queue_, wr, wc); error.failed()) {
        return error;
    }
    state_          = get_state(block_);
    receive_        = room_.take(state_.receive_backlog_bytes);
    auto unfinished = unacknowledged_sends(listed_sends(options_), state_.send_backlog_bytes);
    FLUE_ASSERT(unfinished.has_value());
    if (state_.tcp_state != FLUE_TCP_FIN_WAIT_2) {
        sends_ = std::move(*unfinished);
    }
    return {};
}

std::vector<iovec> Upload::send_pieces() const {
    const std::vector<flue_mr*> regions = regions_of(options_);
    std::vector<iovec> pieces;
    for (const flue_wr& wr : sends_) {
        for (uint32_t i = 0; i < wr.sge_count; ++i) {
            const flue_mr* mr = find_region(regions, wr.sge[i].mr);
            pieces.push_back(
                {.iov_base = static_cast<std::byte*>(flue_mr_data(mr)) + wr.sge[i].offset,
                 .iov_len  = wr.sge[i].length});
        }
    }
    return pieces;
}

/// resume gives the connection to the target again, with everything that TERMINATE had brought
/// back.
HandoffError Upload::resume(HandoffError why) {
    take_back_completions();
    if (!sends_.empty()) {
        take_back_fin(state_);
    }
    put_state(block_, state_);
    flue_wc wc{};
    const uint8_t sge_count = receive_.bytes.empty() ? 1 : 2;
    const uint8_t flags     = options_.keep_time_wait != 0 ? FLUE_WR_KEEP_TIME_WAIT : 0;
    flue_wr wr              = make_request(FLUE_OP_OFFLOAD, flags, sge_count);
    if (const HandoffError error = request(queue_, wr, wc); error.failed()) {
        static_cast<void>(release(0));
        return {ECONNABORTED, "neither the kernel nor the target takes the connection: it is lost"};
    }
    const HandoffError error = post_all(queue_, sends_);
    return error.failed() ? error : why;
}

/// The requests that are posted again must not complete twice.
void Upload::take_back_completions() {
    for (const flue_wr& wr : sends_) {
        const auto of_this = [&](const flue_wc& wc) {
            return wc.conn == conn_ && wc.opcode == wr.opcode && wc.wr_id == wr.wr_id &&
                   wc.status == FLUE_UPLOAD_IN_PROGRESS;
        };
        static_cast<void>(queue_.wait_for(of_this, 0));
    }
}

HandoffError Upload::release(uint8_t flags) {
    flue_wc wc{};
    return request(queue_, make_request(FLUE_OP_RELEASE, flags, 0), wc);
}

}  // namespace

Result<UniqueFd, HandoffError> upload_socket(HostQueue& queue,
                                             flue_conn conn,
                                             const flue_socket_upload_options& options) {
    if (const HandoffError error = check_options(options, conn); error.failed()) {
        return error;
    }
    return Upload(queue, conn, options).run();
}

}  // namespace flue::host

int flue_socket_upload(struct flue_hq* hq,
                       flue_conn conn,
                       const struct flue_socket_upload_options* options) {
    auto socket = flue::host::upload_socket(*hq->queue, conn, *options);
    if (!socket.ok()) {
        const flue::host::HandoffError error = socket.error();
        return flue::host::fail(error.code, "flue_socket_upload: %s", error.text);
    }
    return socket.value().release();
}
