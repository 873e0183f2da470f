#include "host/linux/socket_dump.hpp"

#include <algorithm>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "host/linux/congestion_name.hpp"
#include "host/linux/endpoint.hpp"

namespace flue::host {

namespace {

constexpr uint8_t option_microsecond_timestamps = 64;  ///< TCPI_OPT_USEC_TS, Linux 6.7

/// A send-queue buffer that was acknowledged in part keeps its acknowledged bytes in front; it is
/// at most one segment.
constexpr size_t acknowledged_bytes_max = 65536;

bool has_queued_fin(uint8_t kernel_state) {
    return kernel_state == TCP_FIN_WAIT1 || kernel_state == TCP_LAST_ACK ||
           kernel_state == TCP_CLOSING;
}

HandoffError check_state(uint8_t kernel_state) {
    switch (kernel_state) {
        case TCP_ESTABLISHED:
        case TCP_FIN_WAIT1:
        case TCP_FIN_WAIT2:
        case TCP_CLOSE_WAIT:
        case TCP_CLOSING:
        case TCP_LAST_ACK:
            return {};
        case TCP_LISTEN:
            return {ENOTCONN, "the socket is listening: only a connection can be handed over"};
        case TCP_SYN_SENT:
        case TCP_SYN_RECV:
            return {ENOTCONN, "the connection is still being opened"};
        default:
            return {ENOTCONN, "the socket is not connected, or its connection has ended"};
    }
}

/// What a dump could not carry over must be refused, else bytes or behaviour would be lost without
/// a word.
HandoffError check_extras(int fd, const tcp_info& info) {
    if ((info.tcpi_options & option_microsecond_timestamps) != 0) {
        return {EOPNOTSUPP, "the connection counts its timestamps in microseconds"};
    }
    char upper_layer[16]{};
    socklen_t length = sizeof(upper_layer);
    if (::getsockopt(fd, IPPROTO_TCP, TCP_ULP, upper_layer, &length) == 0 && length != 0) {
        return {EOPNOTSUPP, "the socket has an upper-layer protocol such as kernel TLS"};
    }
    socklen_t filter_instructions = 0;
    if (::getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, nullptr, &filter_instructions) != 0 ||
        filter_instructions != 0) {
        return {EOPNOTSUPP, "the socket has a packet filter of its own"};
    }
    pollfd urgent{.fd = fd, .events = POLLPRI, .revents = 0};
    if (::poll(&urgent, 1, 0) == 1 && (urgent.revents & POLLPRI) != 0) {
        return {EBUSY, "urgent data waits on the socket: read it first"};
    }
    return {};
}

/// The kernel's books of both queues.  Sequence numbers count a queued or received FIN.
struct Queues {
    uint32_t write_seq = 0;
    uint32_t rcv_nxt   = 0;
    int unacknowledged = 0;  ///< SIOCOUTQ
    int unsent         = 0;  ///< SIOCOUTQNSD
    int unread         = 0;  ///< SIOCINQ, without a FIN
};

std::optional<uint32_t> queue_sequence(int fd, int queue) {
    if (!set_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)) {
        return std::nullopt;
    }
    const auto sequence = get_option<uint32_t>(fd, IPPROTO_TCP, TCP_QUEUE_SEQ);
    // While the send queue is selected the kernel books what it would send as sent: select it for
    // moments only.
    set_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, int{TCP_NO_QUEUE});
    return sequence;
}

std::optional<Queues> read_queues(int fd) {
    Queues queues;
    const auto write_seq = queue_sequence(fd, TCP_SEND_QUEUE);
    const auto rcv_nxt   = queue_sequence(fd, TCP_RECV_QUEUE);
    if (!write_seq || !rcv_nxt || ::ioctl(fd, SIOCOUTQ, &queues.unacknowledged) != 0 ||
        ::ioctl(fd, SIOCOUTQNSD, &queues.unsent) != 0 ||
        ::ioctl(fd, SIOCINQ, &queues.unread) != 0) {
        return std::nullopt;
    }
    queues.write_seq = *write_seq;
    queues.rcv_nxt   = *rcv_nxt;
    return queues;
}

uint8_t tcp_state(uint8_t kernel_state, bool fin_unsent) {
    switch (kernel_state) {
        case TCP_FIN_WAIT1:
            return fin_unsent ? FLUE_TCP_ESTABLISHED : FLUE_TCP_FIN_WAIT_1;
        case TCP_FIN_WAIT2:
            return FLUE_TCP_FIN_WAIT_2;
        case TCP_CLOSE_WAIT:
            return FLUE_TCP_CLOSE_WAIT;
        case TCP_CLOSING:
            return fin_unsent ? FLUE_TCP_CLOSE_WAIT : FLUE_TCP_CLOSING;
        case TCP_LAST_ACK:
            return fin_unsent ? FLUE_TCP_CLOSE_WAIT : FLUE_TCP_LAST_ACK;
        case TCP_ESTABLISHED:
            return FLUE_TCP_ESTABLISHED;
        default:
            return FLUE_TCP_CLOSED;
    }
}

void fill_sequences(const Queues& queues, uint8_t kernel_state, SocketDump& dump) {
    const uint32_t queued_fin   = has_queued_fin(kernel_state) ? 1 : 0;
    flue_state& state           = dump.state;

    dump.fin_pending            = queued_fin == 1 && queues.unsent > 0;
    dump.send_bytes             = static_cast<uint32_t>(queues.unacknowledged) - queued_fin;
    dump.receive_bytes          = static_cast<uint32_t>(queues.unread);
    state.tcp_state             = tcp_state(kernel_state, dump.fin_pending);
    state.rcv_nxt               = queues.rcv_nxt;
    state.snd_una               = queues.write_seq - static_cast<uint32_t>(queues.unacknowledged);
    state.snd_max               = queues.write_seq - static_cast<uint32_t>(queues.unsent);
    state.snd_nxt               = state.snd_max;
    state.receive_backlog_bytes = dump.receive_bytes;
}

/// Linux keeps congestion control in segments of tcpi_snd_mss bytes, which leaves TCP options out.
uint32_t segments_to_bytes(uint32_t segments, const tcp_info& info) {
    return static_cast<uint32_t>(
        std::min(uint64_t{segments} * info.tcpi_snd_mss, uint64_t{UINT32_MAX}));
}

void fill_congestion(const tcp_info& info, flue_state& state) {
    state.cwnd     = segments_to_bytes(info.tcpi_snd_cwnd, info);
    state.ssthresh = segments_to_bytes(info.tcpi_snd_ssthresh, info);
    state.recover  = state.snd_una;
    if (info.tcpi_ca_state == TCP_CA_Recovery) {
        state.delegated_flags = FLUE_DELEGATED_RECOVERY;
        state.recover         = state.snd_max;
    }
    if (info.tcpi_ca_state == TCP_CA_Loss) {
        // After a time-out Linux holds all of the flight for lost; RFC 9293 says that by going back
        // to snd_una.
        state.snd_nxt = state.snd_una;
        state.recover = state.snd_max;
    }
}

/// tcpi_rtt and tcpi_rttvar are microseconds, not scaled; without a sample tcpi_rtt is 0 and
/// tcpi_rttvar a default.
void fill_timers(const tcp_info& info, flue_state& state) {
    state.srtt_us_x8          = info.tcpi_rtt * 8;
    state.rttvar_us_x4        = info.tcpi_rtt == 0 ? 0 : info.tcpi_rttvar * 4;
    state.retransmit_count    = state.snd_wnd == 0 ? info.tcpi_probes : info.tcpi_retransmits;
    state.total_rt_ms         = info.tcpi_retransmits == 0 ? 0 : info.tcpi_last_ack_recv;
    const uint32_t rto_ms     = info.tcpi_rto / 1000;
    const uint32_t since_ms   = std::min(info.tcpi_last_data_sent, info.tcpi_last_ack_recv);
    const bool unacked        = state.snd_una != state.snd_max;
    const uint32_t remaining  = rto_ms - std::min(since_ms, rto_ms);

    state.retransmit_delta_ms = unacked ? static_cast<int32_t>(remaining) : -1;
    // Linux has no way to tell the peer's last timestamp: an age past 24 days makes PAWS take the
    // next one for good (RFC 7323 §5.5), and a TSecr of 0 is one that peers do not measure with.
    state.ts_recent        = 0;
    state.ts_recent_age_ms = UINT32_MAX;
}

/// Another one than flue has, BBR say, is taken for the target's default.
uint8_t congestion_of(int fd, const tcp_info& info) {
    const auto name = get_option<CongestionName>(fd, IPPROTO_TCP, TCP_CONGESTION);
    const auto kind = name ? congestion_named(name->data()) : FLUE_CONGESTION_DEFAULT;
    const bool ecn  = (info.tcpi_options & TCPI_OPT_ECN) != 0;
    return kind == FLUE_CONGESTION_DCTCP && !ecn ? uint8_t{FLUE_CONGESTION_DEFAULT}
                                                 : static_cast<uint8_t>(kind);
}

void fill_negotiated(int fd, const tcp_info& info, flue_state& state) {
    if ((info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0) {
        state.const_flags |= FLUE_CONST_TIMESTAMPS;
    }
    if ((info.tcpi_options & TCPI_OPT_SACK) != 0) {
        state.const_flags |= FLUE_CONST_SACK;
    }
    if ((info.tcpi_options & TCPI_OPT_ECN) != 0) {
        state.const_flags |= FLUE_CONST_ECN;
    }
    if ((info.tcpi_options & TCPI_OPT_WSCALE) != 0) {
        state.const_flags |= FLUE_CONST_WINDOW_SCALING;
        state.snd_wind_shift = info.tcpi_snd_wscale;
        state.rcv_wind_shift = info.tcpi_rcv_wscale;
    }
    // In repair mode TCP_MAXSEG is the peer's announcement; otherwise, as tcpi_snd_mss, what a
    // segment carries today.
    state.remote_mss =
        static_cast<uint16_t>(get_option<int>(fd, IPPROTO_TCP, TCP_MAXSEG).value_or(0));
    state.ts_time = get_option<uint32_t>(fd, IPPROTO_TCP, TCP_TIMESTAMP).value_or(0);
}

int option_or_zero(int fd, int level, int name) {
    return get_option<int>(fd, level, name).value_or(0);
}

void fill_keepalive(int fd, const tcp_info& info, flue_state& state) {
    const auto seconds   = [fd](int name) { return option_or_zero(fd, IPPROTO_TCP, name); };
    state.ka_timeout_ms  = static_cast<uint32_t>(seconds(TCP_KEEPIDLE)) * 1000;
    state.ka_interval_ms = static_cast<uint32_t>(seconds(TCP_KEEPINTVL)) * 1000;
    state.ka_probe_count = static_cast<uint8_t>(seconds(TCP_KEEPCNT));
    state.ka_delta_ms    = -1;
    if (option_or_zero(fd, SOL_SOCKET, SO_KEEPALIVE) != 0) {
        const uint32_t idle_ms = std::min(info.tcpi_last_data_recv, info.tcpi_last_ack_recv);
        state.cached_flags |= FLUE_CACHED_KEEP_ALIVE;
        state.ka_probes_unanswered = state.snd_wnd == 0 ? uint8_t{0} : info.tcpi_probes;
        state.ka_delta_ms =
            static_cast<int32_t>(state.ka_timeout_ms - std::min(idle_ms, state.ka_timeout_ms));
    }
}

void fill_cached(int fd, const tcp_info& info, flue_state& state) {
    const bool v4   = state.family == 4;
    const int level = v4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6};
    state.path_mtu  = static_cast<uint16_t>(
        std::min(option_or_zero(fd, level, v4 ? IP_MTU : IPV6_MTU), int{UINT16_MAX}));
    state.ttl = static_cast<uint8_t>(option_or_zero(fd, level, v4 ? IP_TTL : IPV6_UNICAST_HOPS));
    // The kernel keeps ECT in it; the ECN field is the target's.
    constexpr int dscp = 0xfc;
    state.tos = static_cast<uint8_t>(option_or_zero(fd, level, v4 ? IP_TOS : IPV6_TCLASS) & dscp);
    state.congestion = congestion_of(fd, info);
    state.max_rt_ms  = static_cast<uint32_t>(option_or_zero(fd, IPPROTO_TCP, TCP_USER_TIMEOUT));
    if (option_or_zero(fd, IPPROTO_TCP, TCP_NODELAY) == 0) {
        state.cached_flags |= FLUE_CACHED_NAGLE;
    }
    // The window never shrinks: what the peer was promised, or what Linux meant to promise next, if
    // that is more.
    const uint32_t largest = UINT32_C(65535) << state.rcv_wind_shift;
    state.rcv_wnd_max      = std::min(
        std::max(state.rcv_wnd + state.receive_backlog_bytes, info.tcpi_rcv_ssthresh), largest);
    fill_keepalive(fd, info, state);
}

/// peek_queue reads a queue without taking anything from it, first byte first, and returns how much
/// there was.
ssize_t peek_queue(int fd, int queue, std::span<iovec> parts) {
    msghdr message{};
    message.msg_iov    = parts.data();
    message.msg_iovlen = parts.size();
    if (!set_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)) {
        return -1;
    }
    const ssize_t got = ::recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
    const int error   = errno;
    set_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, int{TCP_NO_QUEUE});
    errno = error;
    return got;
}

}  // namespace

HandoffError FrozenSocket::check(int fd) {
    const auto protocol = get_option<int>(fd, SOL_SOCKET, SO_PROTOCOL);
    if (!protocol) {
        return last_error("not a socket");
    }
    if (*protocol != IPPROTO_TCP) {
        return {EPROTOTYPE, "not a TCP socket"};
    }
    const auto info = get_option<tcp_info>(fd, IPPROTO_TCP, TCP_INFO);
    if (!info) {
        return last_error("TCP_INFO");
    }
    const HandoffError state = check_state(info->tcpi_state);
    return state.failed() ? state : check_extras(fd, *info);
}

Result<FrozenSocket, HandoffError> FrozenSocket::freeze(int fd) {
    if (const HandoffError refusal = check(fd); refusal.failed()) {
        return refusal;
    }
    // A delayed ACK would be forgotten, and the peer send again: let it go now.
    set_option(fd, IPPROTO_TCP, TCP_QUICKACK, 1);
    FrozenSocket socket(fd);
    if (const HandoffError error = socket.stop_segments(); error.failed()) {
        return error;
    }
    if (const HandoffError error = socket.stop_sending(); error.failed()) {
        return error;
    }
    return Result<FrozenSocket, HandoffError>(std::move(socket));
}

FrozenSocket::FrozenSocket(FrozenSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      reuse_address_(other.reuse_address_),
      filtered_(other.filtered_),
      repairing_(other.repairing_),
      window_closed_(other.window_closed_),
      window_(other.window_) {
}

FrozenSocket::~FrozenSocket() {
    if (fd_ >= 0) {
        thaw();
    }
}

/// Repair mode itself does not keep segments out.  A filter that passes nothing does: TCP sees none
/// of them.
HandoffError FrozenSocket::stop_segments() {
    sock_filter drop_all = BPF_STMT(BPF_RET | BPF_K, 0);
    const sock_fprog program{.len = 1, .filter = &drop_all};
    if (!set_option(fd_, SOL_SOCKET, SO_ATTACH_FILTER, program)) {
        return last_error("the socket's packet filter is locked");
    }
    filtered_      = true;
    reuse_address_ = get_option<int>(fd_, SOL_SOCKET, SO_REUSEADDR).value_or(0);
    if (!set_option(fd_, IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_ON})) {
        return last_error("TCP_REPAIR needs CAP_NET_ADMIN");
    }
    repairing_ = true;
    return {};
}

/// Pacing timers may still send in repair mode; a window that ends at what is in flight stops them.
HandoffError FrozenSocket::stop_sending() {
    const auto window  = get_option<Window>(fd_, IPPROTO_TCP, TCP_REPAIR_WINDOW);
    int unacknowledged = 0;
    int unsent         = 0;
    if (!window || ::ioctl(fd_, SIOCOUTQ, &unacknowledged) != 0 ||
        ::ioctl(fd_, SIOCOUTQNSD, &unsent) != 0) {
        return last_error("TCP_REPAIR_WINDOW");
    }
    window_        = *window;
    Window closed  = *window;
    closed.snd_wnd = std::min(window->snd_wnd, static_cast<uint32_t>(unacknowledged - unsent));
    window_closed_ = set_option(fd_, IPPROTO_TCP, TCP_REPAIR_WINDOW, closed);
    return window_closed_ ? HandoffError{} : last_error("TCP_REPAIR_WINDOW");
}

void FrozenSocket::thaw() {
    if (window_closed_) {
        set_option(fd_, IPPROTO_TCP, TCP_REPAIR_WINDOW, window_);
    }
    if (repairing_) {
        set_option(fd_, IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_OFF_NO_WP});
        set_option(fd_, SOL_SOCKET, SO_REUSEADDR, reuse_address_);
    }
    if (filtered_) {
        set_option(fd_, SOL_SOCKET, SO_DETACH_FILTER, 0);
    }
    if (window_closed_) {
        // A transmission that the closed window turned away is not tried again by itself; setting
        // TCP_NODELAY does it.
        const int nodelay = option_or_zero(fd_, IPPROTO_TCP, TCP_NODELAY);
        set_option(fd_, IPPROTO_TCP, TCP_NODELAY, 1);
        set_option(fd_, IPPROTO_TCP, TCP_NODELAY, nodelay);
    }
}

Result<SocketDump, HandoffError> FrozenSocket::dump() const {
    SocketDump dump;
    const auto info   = get_option<tcp_info>(fd_, IPPROTO_TCP, TCP_INFO);
    const auto queues = read_queues(fd_);
    if (!info || !queues) {
        return last_error("the socket's queues cannot be read");
    }
    if (const HandoffError error = check_state(info->tcpi_state); error.failed()) {
        return error;
    }
    flue_state& state = dump.state;
    state.version     = FLUE_STATE_VERSION;
    state.size        = sizeof(state);
    if (const HandoffError error = read_endpoints(fd_, state); error.failed()) {
        return error;
    }
    state.snd_wnd     = window_.snd_wnd;
    state.max_snd_wnd = window_.max_window;
    state.snd_wl1     = window_.snd_wl1;
    fill_sequences(*queues, info->tcpi_state, dump);
    // The window was promised when rcv_nxt was rcv_wup; data that came since has used some of it.
    const uint32_t used = state.rcv_nxt - window_.rcv_wup;
    state.rcv_wnd       = window_.rcv_wnd - std::min(used, window_.rcv_wnd);
    fill_negotiated(fd_, *info, state);
    fill_congestion(*info, state);
    fill_timers(*info, state);
    fill_cached(fd_, *info, state);
    return dump;
}

HandoffError FrozenSocket::copy_send_queue(std::span<std::byte> out) const {
    std::vector<std::byte> acknowledged(acknowledged_bytes_max);
    iovec parts[2]    = {{out.data(), out.size()}, {acknowledged.data(), acknowledged.size()}};
    const ssize_t got = peek_queue(fd_, TCP_SEND_QUEUE, parts);
    if (got < static_cast<ssize_t>(out.size())) {
        return got < 0 ? last_error("the send queue cannot be read")
                       : HandoffError{EAGAIN, "the send queue changed while it was read"};
    }
    const size_t in_front = static_cast<size_t>(got) - out.size();
    if (in_front == 0) {
        return {};
    }
    iovec shifted[2] = {{acknowledged.data(), in_front}, {out.data(), out.size()}};
    if (peek_queue(fd_, TCP_SEND_QUEUE, shifted) != got) {
        return {EAGAIN, "the send queue changed while it was read"};
    }
    return {};
}

HandoffError FrozenSocket::copy_receive_queue(std::span<std::byte> out) const {
    if (out.empty()) {
        return {};
    }
    iovec part        = {out.data(), out.size()};
    const ssize_t got = peek_queue(fd_, TCP_RECV_QUEUE, std::span<iovec>(&part, 1));
    if (got < 0) {
        return last_error("the receive queue cannot be read");
    }
    return static_cast<size_t>(got) == out.size()
               ? HandoffError{}
               : HandoffError{EAGAIN, "the receive queue cannot be read as a whole"};
}

bool FrozenSocket::unchanged(const SocketDump& dump) const {
    const auto queues = read_queues(fd_);
    const auto info   = get_option<tcp_info>(fd_, IPPROTO_TCP, TCP_INFO);
    return queues && info && !check_state(info->tcpi_state).failed() &&
           queues->rcv_nxt == dump.state.rcv_nxt &&
           queues->write_seq - static_cast<uint32_t>(queues->unacknowledged) == dump.state.snd_una;
}

void FrozenSocket::close_silently() {
    // In repair mode neither of these sends anything.  Disconnecting acts on the socket, closing on
    // the descriptor only.
    const sockaddr unspecified{.sa_family = AF_UNSPEC, .sa_data = {}};
    ::connect(fd_, &unspecified, sizeof(unspecified));
    ::close(std::exchange(fd_, -1));
}

}  // namespace flue::host
