#include <algorithm>
#include <cerrno>
#include <sys/socket.h>

#include "host/error.hpp"
#include "host/linux/endpoint.hpp"
#include "host/linux/netlink.hpp"
#include "host/linux/socket_dump.hpp"
#include "host/linux/socket_handoff.hpp"
#include "host/linux/target_requests.hpp"

namespace flue::host {

namespace {

constexpr uint32_t resolve_wait_ms     = 1000;
constexpr uint32_t rcv_wnd_max_default = 256 * 1024;
constexpr int dump_attempts            = 3;

/// What is handed to the target beside the state.
struct Pieces {
    Room::Piece state;
    Room::Piece receive;
    Room::Piece send;
};

flue_wr make_request(uint8_t opcode, flue_conn conn, const flue_socket_offload_options& options) {
    flue_wr wr{};
    wr.opcode      = opcode;
    wr.conn        = conn;
    wr.host_handle = options.host_handle;
    return wr;
}

HandoffError check_options(const flue_socket_offload_options& options) {
    if (options.mr == nullptr || !Room(*options.mr, options.mr_offset, options.mr_bytes).valid()) {
        return {EINVAL, "mr, mr_offset and mr_bytes are not part of a memory region"};
    }
    return {};
}

/// The kernel's own window, or more if the caller asks: the target does not grow it as the kernel
/// would.
uint32_t receive_window(const flue_state& state, uint32_t asked) {
    const uint32_t wanted  = asked != 0 ? asked : rcv_wnd_max_default;
    const uint32_t largest = UINT32_C(65535) << state.rcv_wind_shift;
    return std::max(state.rcv_wnd_max, std::min(wanted, largest));
}

const char* claim_refusal(int error) {
    switch (error) {
        case EOPNOTSUPP:
            return "to the target it is no connected TCP socket of its own network namespace";
        case EACCES:
            return "the target does not let this session have the connection: see flued's "
                   "--allow-claim";
        case EAGAIN:
            return "the target takes no connections now: it is paused";
        case EADDRINUSE:
            return "the target has a connection with these addresses and ports";
        case EDQUOT:
            return "the session has reached its limit in the target";
        case ENOMEM:
            return "the target has no room for another connection";
        default:
            return "the target does not take the proof that the connection is ours";
    }
}

/// Offload carries one hand-over from step to step.
class Offload {
  public:
    Offload(HostQueue& queue, int fd, const flue_socket_offload_options& options)
        : queue_(queue), fd_(fd), options_(options) {}

    HandoffError run(flue_socket_offload_result& result);

  private:
    HandoffError find_path();
    HandoffError prove();
    HandoffError hold();
    HandoffError move(flue_socket_offload_result& result);
    HandoffError read_socket(const FrozenSocket& socket, flue_socket_offload_result& result);
    HandoffError hand_over();
    HandoffError post_send_queue(flue_socket_offload_result& result);
    void release();

    HostQueue& queue_;
    int fd_;
    const flue_socket_offload_options& options_;
    NextHop next_hop_;
    flue_conn conn_ = FLUE_NO_CONN;
    SocketDump dump_;
    Pieces pieces_;
};

HandoffError Offload::run(flue_socket_offload_result& result) {
    result = {};
    if (const HandoffError error = check_options(options_); error.failed()) {
        return error;
    }
    if (const HandoffError error = FrozenSocket::check(fd_); error.failed()) {
        return error;
    }
    if (options_.mr_bytes < sizeof(flue_state)) {
        result.mr_bytes_used = sizeof(flue_state);
        return {ENOBUFS, "mr_bytes does not hold even the state block"};
    }
    if (const HandoffError error = find_path(); error.failed()) {
        return error;
    }
    if (const HandoffError error = prove(); error.failed()) {
        return error;
    }
    if (const HandoffError error = hold(); error.failed()) {
        return error;
    }
    return move(result);
}

HandoffError Offload::find_path() {
    flue_state& tuple = dump_.state;
    if (const HandoffError error = read_endpoints(fd_, tuple); error.failed()) {
        return error;
    }
    const int bound_to = get_option<int>(fd_, SOL_SOCKET, SO_BINDTOIFINDEX).value_or(0);
    const auto hop     = find_next_hop(tuple, static_cast<uint32_t>(bound_to), resolve_wait_ms);
    if (!hop.ok()) {
        return hop.error();
    }
    next_hop_ = hop.value();
    return {};
}

/// Who has the socket may claim its connection, but the target wants to see it.
HandoffError Offload::prove() {
    Session& session = queue_.session();
    if (!session.must_claim() || session.claim("flue_socket_offload", fd_)) {
        return {};
    }
    return last_error(claim_refusal(errno));
}

/// From its completion on the target keeps the flow's packets: what comes later the kernel does not
/// see.
HandoffError Offload::hold() {
    Room room(*options_.mr, options_.mr_offset, options_.mr_bytes);
    const Room::Piece tuple = room.take(sizeof(flue_state));
    put_state(tuple, dump_.state);
    flue_wr wr   = make_request(FLUE_OP_HOLD, FLUE_NO_CONN, options_);
    wr.sge_count = 1;
    wr.sge[0]    = tuple.sge;
    flue_wc wc{};
    const HandoffError error = request(queue_, wr, wc);
    conn_                    = wc.conn;
    return error;
}

HandoffError Offload::move(flue_socket_offload_result& result) {
    HandoffError error;
    {
        auto socket = FrozenSocket::freeze(fd_);
        error       = socket.ok() ? read_socket(socket.value(), result) : socket.error();
        error       = error.failed() ? error : hand_over();
        if (!error.failed()) {
            socket.value().close_silently();
        }
    }
    if (error.failed()) {
        release();  // after the thaw: the packets that were kept find a socket that takes them
        return error;
    }
    return post_send_queue(result);
}

HandoffError Offload::read_socket(const FrozenSocket& socket, flue_socket_offload_result& result) {
    // A segment that had passed the filter before it dropped all may come in while we look: look
    // again.
    for (int attempt = 0; attempt < dump_attempts; ++attempt) {
        const auto dump = socket.dump();
        if (!dump.ok()) {
            return dump.error();
        }
        dump_ = dump.value();
        Room room(*options_.mr, options_.mr_offset, options_.mr_bytes);
        result.mr_bytes_used =
            sizeof(flue_state) + uint64_t{dump_.receive_bytes} + dump_.send_bytes;
        if (result.mr_bytes_used > options_.mr_bytes) {
            return {ENOBUFS, "mr_bytes does not hold the socket's queues: see mr_bytes_used"};
        }
        pieces_.state      = room.take(sizeof(flue_state));
        pieces_.receive    = room.take(dump_.receive_bytes);
        pieces_.send       = room.take(dump_.send_bytes);
        HandoffError error = socket.copy_receive_queue(pieces_.receive.bytes);
        error              = error.failed() ? error : socket.copy_send_queue(pieces_.send.bytes);
        if (!error.failed() && socket.unchanged(dump_)) {
            return {};
        }
        if (error.failed() && error.code != EAGAIN) {
            return error;
        }
    }
    return {EAGAIN, "the socket does not stand still: does another thread use it?"};
}

HandoffError Offload::hand_over() {
    flue_state& state = dump_.state;
    dump_.fin_pending = dump_.fin_pending || (dump_.send_bytes > 0 && take_back_fin(state));
    state.rcv_wnd_max = receive_window(state, options_.rcv_wnd_max);
    state.path_mtu    = state.path_mtu == 0 ? next_hop_.path_mtu : state.path_mtu;
    std::copy(next_hop_.mac.begin(), next_hop_.mac.end(), state.next_hop_mac);
    put_state(pieces_.state, state);

    flue_wr wr   = make_request(FLUE_OP_OFFLOAD, conn_, options_);
    wr.flags     = options_.keep_time_wait != 0 ? FLUE_WR_KEEP_TIME_WAIT : 0;
    wr.sge_count = dump_.receive_bytes == 0 ? 1 : 2;
    wr.sge[0]    = pieces_.state.sge;
    wr.sge[1]    = pieces_.receive.sge;
    flue_wc wc{};
    return request(queue_, wr, wc);
}

HandoffError Offload::post_send_queue(flue_socket_offload_result& result) {
    flue_wr send   = make_request(FLUE_OP_SEND, conn_, options_);
    send.wr_id     = options_.send_wr_id;
    send.sge_count = 1;
    send.sge[0]    = pieces_.send.sge;
    flue_wr fin    = make_request(FLUE_OP_DISCONNECT, conn_, options_);
    fin.wr_id      = options_.send_wr_id;

    uint32_t count = 0;
    if (dump_.send_bytes > 0) {
        result.sends[count++] = send;
    }
    if (dump_.fin_pending) {
        result.sends[count++] = fin;
    }
    result.conn         = conn_;
    result.sends_posted = count;
    return post_all(queue_, std::span(result.sends).first(count));
}

void Offload::release() {
    flue_wc wc{};
    const flue_wr wr = make_request(FLUE_OP_RELEASE, conn_, options_);
    // A target that has gone holds nothing any more.
    static_cast<void>(request(queue_, wr, wc));
}

}  // namespace

HandoffError offload_socket(HostQueue& queue,
                            int fd,
                            const flue_socket_offload_options& options,
                            flue_socket_offload_result& result) {
    return Offload(queue, fd, options).run(result);
}

}  // namespace flue::host

int flue_socket_offload(struct flue_hq* hq,
                        int fd,
                        const struct flue_socket_offload_options* options,
                        struct flue_socket_offload_result* result) {
    flue_socket_offload_result ignored{};
    const flue::host::HandoffError error =
        flue::host::offload_socket(*hq->queue, fd, *options, result != nullptr ? *result : ignored);
    return error.failed() ? flue::host::fail(error.code, "flue_socket_offload: %s", error.text) : 0;
}
