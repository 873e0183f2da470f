#include "host/linux/socket_restore.hpp"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <utility>
#include <vector>

#include "host/linux/congestion_name.hpp"
#include "host/linux/endpoint.hpp"

namespace flue::host {

namespace {

constexpr size_t receive_chunk_bytes =
    65536;  ///< the kernel makes one buffer of each write to the receive queue

/// What TCP_MAXSEG accepts.
constexpr int maxseg_min = 88;
constexpr int maxseg_max = 32767;

/// TCP option kinds as TCP_REPAIR_OPTIONS takes them.  RFC 9293 §3.2, RFC 7323, RFC 2018
constexpr uint32_t option_mss            = 2;
constexpr uint32_t option_window_scale   = 3;
constexpr uint32_t option_sack_permitted = 4;
constexpr uint32_t option_timestamps     = 8;

/// A receive queue is restored with the FIN taken off.
uint32_t peer_fin(const flue_state& state) {
    return state.tcp_state == FLUE_TCP_CLOSE_WAIT ? 1 : 0;
}

HandoffError check_state(const flue_state& state) {
    if (state.tcp_state != FLUE_TCP_ESTABLISHED && state.tcp_state != FLUE_TCP_CLOSE_WAIT) {
        return {EOPNOTSUPP, "only ESTABLISHED and CLOSE-WAIT connections fit into a kernel socket"};
    }
    return {};
}

/// reserve makes a socket buffer (SO_SNDBUF, SO_RCVBUF) at least `bytes` large by the kernel's
/// count, which includes its own overhead.  Errors: the limit stands in the way.
bool reserve(int fd, int option, int force_option, uint64_t bytes) {
    const auto now = get_option<int>(fd, SOL_SOCKET, option);
    if (now && static_cast<uint64_t>(*now) >= bytes) {
        return true;
    }
    // The kernel doubles what it is given.
    const int wanted = static_cast<int>(std::min(bytes / 2 + 1, uint64_t{INT32_MAX / 2}));
    if (!set_option(fd, SOL_SOCKET, force_option, wanted)) {
        set_option(fd, SOL_SOCKET, option, wanted);
    }
    const auto got = get_option<int>(fd, SOL_SOCKET, option);
    return got && static_cast<uint64_t>(*got) >= bytes;
}

/// What the kernel may charge for `bytes` of payload in small buffers.
uint64_t charged_bytes(uint64_t bytes) {
    return 2 * bytes + 32768;
}

bool write_seq(int fd, int queue, uint32_t sequence) {
    return set_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) &&
           set_option(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, sequence);
}

HandoffError connect_at(int fd, const flue_state& state, uint32_t receive_bytes) {
    // connect computes the segment size, TCP_REPAIR_OPTIONS does not do it again: the peer's MSS
    // must be known now.
    set_option(
        fd, IPPROTO_TCP, TCP_MAXSEG, std::clamp(int{state.remote_mss}, maxseg_min, maxseg_max));
    const Endpoint remote = remote_endpoint(state);
    if (!write_seq(fd, TCP_RECV_QUEUE, state.rcv_nxt - peer_fin(state) - receive_bytes) ||
        !write_seq(fd, TCP_SEND_QUEUE, state.snd_una) ||
        !set_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, int{TCP_NO_QUEUE})) {
        return last_error("TCP_QUEUE_SEQ");
    }
    if (::connect(fd, remote.get(), remote.length) != 0) {
        return last_error("the kernel has this connection already, or no route to the peer");
    }
    set_option(fd, IPPROTO_TCP, TCP_MAXSEG, 0);
    return {};
}

HandoffError set_negotiated(int fd, const flue_state& state) {
    // Without scaling both shifts are 0, and say so: connect has assumed the shift that it would
    // have offered.
    std::vector<tcp_repair_opt> options = {
        {option_mss, state.remote_mss},
        {option_window_scale,
         state.snd_wind_shift | static_cast<uint32_t>(state.rcv_wind_shift) << 16}};
    if ((state.const_flags & FLUE_CONST_SACK) != 0) {
        options.push_back({option_sack_permitted, 0});
    }
    if ((state.const_flags & FLUE_CONST_TIMESTAMPS) != 0) {
        options.push_back({option_timestamps, 0});
    }
    // Bit 0 of TCP_TIMESTAMP is a switch to microseconds since Linux 6.7; rounding up keeps the
    // clock monotonic.
    const uint32_t ts_time = (state.ts_time + 1) & ~UINT32_C(1);
    const auto length      = static_cast<socklen_t>(options.size() * sizeof(options[0]));
    if (::setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options.data(), length) != 0 ||
        !set_option(fd, IPPROTO_TCP, TCP_TIMESTAMP, ts_time)) {
        return last_error("the kernel did not take the connection's options");
    }
    return {};
}

/// write_all queues bytes without waiting.
bool write_all(int fd, std::span<const std::byte> bytes, size_t chunk_bytes) {
    while (!bytes.empty()) {
        const size_t length = std::min(bytes.size(), chunk_bytes);
        const ssize_t sent  = ::send(fd, bytes.data(), length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        bytes = bytes.subspan(static_cast<size_t>(sent));
    }
    return true;
}

/// write_send_queue queues the bytes [from, to) of the stream that `parts` make up.
bool write_send_queue(int fd, std::span<const iovec> parts, uint64_t from, uint64_t to) {
    uint64_t start = 0;
    for (const iovec& part : parts) {
        const uint64_t end   = start + part.iov_len;
        const uint64_t first = std::max(start, from);
        const uint64_t last  = std::min(end, to);
        if (first < last) {
            const auto* base = static_cast<const std::byte*>(part.iov_base);
            if (!write_all(fd, {base + (first - start), base + (last - start)}, SIZE_MAX)) {
                return false;
            }
        }
        start = end;
    }
    return true;
}

bool set_window(int fd, const flue_state& state, uint32_t snd_wnd) {
    const uint32_t rcv_nxt = state.rcv_nxt - peer_fin(state);
    const tcp_repair_window window{.snd_wl1    = state.snd_wl1,
                                   .snd_wnd    = snd_wnd,
                                   .max_window = std::max(state.max_snd_wnd, snd_wnd),
                                   .rcv_wnd    = state.rcv_wnd + peer_fin(state),
                                   .rcv_wup    = rcv_nxt};
    return set_option(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, window);
}

uint64_t total_bytes(std::span<const iovec> parts) {
    uint64_t total = 0;
    for (const iovec& part : parts) {
        total += part.iov_len;
    }
    return total;
}

/// fill_queues puts both queues' bytes where they belong.  Sent bytes are queued in repair mode,
/// which books them as sent; unsent ones outside it, as send() would, but with the window ending at
/// snd_max so that nothing leaves yet.
HandoffError fill_queues(int fd, const flue_state& state, const QueueContents& contents) {
    const HandoffError full{ENOBUFS,
                            "the kernel's socket buffers do not hold the connection's bytes"};
    const uint64_t total = total_bytes(contents.send);
    const uint64_t sent  = std::min<uint64_t>(state.snd_max - state.snd_una, total);
    if (!set_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, int{TCP_RECV_QUEUE}) ||
        !write_all(fd, contents.receive, receive_chunk_bytes) ||
        !set_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, int{TCP_SEND_QUEUE}) ||
        !write_send_queue(fd, contents.send, 0, sent) ||
        !set_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, int{TCP_NO_QUEUE})) {
        return full;
    }
    if (!set_window(fd, state, static_cast<uint32_t>(sent)) ||
        !set_option(fd, IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_OFF_NO_WP})) {
        return last_error("the kernel did not take the connection's windows");
    }
    const bool all_queued = write_send_queue(fd, contents.send, sent, total);
    if (!set_option(fd, IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_ON})) {
        return last_error("TCP_REPAIR");
    }
    return all_queued ? HandoffError{} : full;
}

void set_cached(int fd, const flue_state& state) {
    const bool v4   = state.family == 4;
    const int level = v4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6};
    const auto set  = [fd](int name, uint32_t value) {
        if (value != 0) {
            set_option(fd, IPPROTO_TCP, name, static_cast<int>(value));
        }
    };
    const bool keepalive = (state.cached_flags & FLUE_CACHED_KEEP_ALIVE) != 0;
    if (state.ttl != 0) {
        set_option(fd, level, v4 ? IP_TTL : IPV6_UNICAST_HOPS, int{state.ttl});
    }
    set_option(fd, level, v4 ? IP_TOS : IPV6_TCLASS, int{state.tos});
    set(TCP_KEEPIDLE, state.ka_timeout_ms / 1000);
    set(TCP_KEEPINTVL, state.ka_interval_ms / 1000);
    set(TCP_KEEPCNT, state.ka_probe_count);
    set(TCP_USER_TIMEOUT, state.max_rt_ms == UINT32_MAX ? 0 : state.max_rt_ms);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, int{keepalive});
    if (const char* name = congestion_name(state.congestion); name != nullptr) {
        // A kernel without it, or that does not let this user have it, has another one.
        ::setsockopt(
            fd, IPPROTO_TCP, TCP_CONGESTION, name, static_cast<socklen_t>(std::strlen(name)));
    }
}

/// go_live opens the window and leaves repair mode; setting TCP_NODELAY then sends what may be
/// sent.
HandoffError go_live(int fd, const flue_state& state) {
    if (!set_window(fd, state, state.snd_wnd) ||
        !set_option(fd, IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_OFF_NO_WP})) {
        return last_error("the kernel did not take the connection's windows");
    }
    const bool nagle = (state.cached_flags & FLUE_CACHED_NAGLE) != 0;
    set_option(fd,
               SOL_SOCKET,
               SO_REUSEADDR,
               1);  // as a listener's child: a server may bind the port again
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, int{!nagle});
    return {};
}

}  // namespace

Result<SocketRestore, HandoffError> SocketRestore::prepare(const flue_state& state) {
    if (const HandoffError error = check_state(state); error.failed()) {
        return error;
    }
    const int family = state.family == 4 ? AF_INET : AF_INET6;
    SocketRestore restore(UniqueFd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP)));
    const int fd = restore.fd_.get();
    if (fd < 0) {
        return last_error("no socket");
    }
    if (!set_option(fd, IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_ON})) {
        return last_error("TCP_REPAIR needs CAP_NET_ADMIN");
    }
    const Endpoint local = local_endpoint(state);
    if (::bind(fd, local.get(), local.length) != 0) {
        return last_error("the connection's local address is not on this host");
    }
    restore.send_buffer_bytes_ = get_option<int>(fd, SOL_SOCKET, SO_SNDBUF).value_or(0);
    const uint64_t receive     = charged_bytes(state.receive_backlog_bytes);
    const bool send_fits =
        reserve(fd, SO_SNDBUF, SO_SNDBUFFORCE, charged_bytes(state.send_backlog_bytes));
    // Room for what the peer may send now is good to have (else it has to send again), for what it
    // has sent a must.
    const bool receive_fits =
        reserve(fd, SO_RCVBUF, SO_RCVBUFFORCE, receive + 2 * uint64_t{state.rcv_wnd}) ||
        reserve(fd, SO_RCVBUF, SO_RCVBUFFORCE, receive);
    if (!send_fits || !receive_fits) {
        return HandoffError{ENOBUFS,
                            "the kernel's socket buffers do not hold the connection's bytes"};
    }
    return Result<SocketRestore, HandoffError>(std::move(restore));
}

Result<UniqueFd, HandoffError> SocketRestore::complete(const flue_state& state,
                                                       const QueueContents& contents) {
    // Closing in repair mode, which is how an error ends here, sends nothing.
    UniqueFd fd = std::move(fd_);
    if (const HandoffError error = check_state(state); error.failed()) {
        return error;
    }
    set_cached(fd.get(), state);  // before the route is looked up, which depends on the TOS
    const auto receive_bytes = static_cast<uint32_t>(contents.receive.size());
    if (const HandoffError error = connect_at(fd.get(), state, receive_bytes); error.failed()) {
        return error;
    }
    if (const HandoffError error = set_negotiated(fd.get(), state); error.failed()) {
        return error;
    }
    if (const HandoffError error = fill_queues(fd.get(), state, contents); error.failed()) {
        return error;
    }
    if (const HandoffError error = go_live(fd.get(), state); error.failed()) {
        return error;
    }
    // Back to buffers that the kernel sizes by itself, as it does for any connection.  Linux 5.14
    set_option(fd.get(), SOL_SOCKET, SO_SNDBUF, send_buffer_bytes_ / 2);
    set_option(fd.get(), SOL_SOCKET, SO_BUF_LOCK, 0);
    return Result<UniqueFd, HandoffError>(std::move(fd));
}

}  // namespace flue::host
