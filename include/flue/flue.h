/* flue/flue.h: the host's side of flue.  This header is the manual. */
#ifndef FLUE_FLUE_H
#define FLUE_FLUE_H

#include <stddef.h>
#include <stdint.h>

#include "flue/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

struct flue_context; /* a session with a target */
struct flue_mr;      /* a registered memory region */
struct flue_hq;      /* a host queue: rings to and from every worker; one thread at a time */

enum flue_host_loss { FLUE_LOSS_DRAIN = 0, FLUE_LOSS_ABORT = 1 };

struct flue_open_options {
    const char *name;             /* shown by `flue conns`; may be NULL */
    enum flue_host_loss on_loss;  /* what the target does with the connections if this process goes away */
};

/* NULL options: defaults.  On failure NULL, errno set, and flue_error_text() says what to do. */
struct flue_context *flue_open(const char *socket_path, const struct flue_open_options *options);
void flue_close(struct flue_context *context);
const char *flue_error_text(void); /* of the calling thread's last failed call */
unsigned flue_worker_count(const struct flue_context *context);

struct flue_mr *flue_mr_create(struct flue_context *context, size_t bytes);
int flue_mr_destroy(struct flue_mr *mr); /* waits until the target refers to it no more */
void *flue_mr_data(const struct flue_mr *mr);
size_t flue_mr_bytes(const struct flue_mr *mr);
uint32_t flue_mr_key(const struct flue_mr *mr);

struct flue_hq_options {
    uint32_t submission_entries; /* per worker, a power of two; 0 = 1024 */
    uint32_t completion_entries; /* per worker, a power of two; 0 = 2048 */
};
struct flue_hq *flue_hq_create(struct flue_context *context, const struct flue_hq_options *options);
void flue_hq_destroy(struct flue_hq *hq);

unsigned flue_post(struct flue_hq *hq, const struct flue_wr *wr, unsigned count);
unsigned flue_poll(struct flue_hq *hq, struct flue_wc *wc, unsigned count);
int flue_hq_fd(const struct flue_hq *hq); /* readable when a completion came after flue_hq_arm */
int flue_hq_arm(struct flue_hq *hq);      /* 0: sleep now; 1: there are completions already, poll first */
/* Polls, arms and sleeps until one completion or timeout_ms; returns as flue_poll, 0 on time-out. */
unsigned flue_wait(struct flue_hq *hq, struct flue_wc *wc, unsigned count, int timeout_ms);

const char *flue_opcode_name(uint8_t opcode); /* events too */
const char *flue_status_name(uint8_t status);
const char *flue_upload_reason_name(uint16_t reason);
const char *flue_tcp_state_name(uint8_t state);

/* Fills in version, size and checksum; checks them.  flue_state_check returns 0 or -1. */
void flue_state_seal(struct flue_state *state);
int flue_state_check(const struct flue_state *state);

/* ------------------------------------------------------------------ Linux sockets
 *
 * A TCP connection of the Linux kernel goes to the target and comes back, without a segment that the peer could notice
 * and without losing one that it sends meanwhile.
 *
 * Both calls need CAP_NET_ADMIN in the user namespace that the socket's network namespace belongs to (TCP_REPAIR), and
 * a target whose exception path leads to that network namespace.  Both block until the target has answered, normally
 * well under a millisecond, and up to a second while the next hop's MAC address is asked for.  Completions of the
 * caller's own requests that arrive meanwhile come with later flue_poll calls.  No other thread may use the socket or
 * `hq` during a call.
 */

struct flue_socket_offload_options {
    uint64_t host_handle;
    /* Memory lent to the call: mr_bytes bytes from mr_offset of mr take the state block, what the application has not
     * read and what the peer has not acknowledged.  sizeof(struct flue_state) + SIOCINQ + SIOCOUTQ bytes suffice for a
     * connection that stands still. */
    struct flue_mr *mr;
    uint64_t mr_offset;
    uint64_t mr_bytes;
    uint64_t send_wr_id;  /* wr_id of the requests that carry what is not acknowledged */
    int keep_time_wait;   /* not 0: the target runs 2MSL itself, as with FLUE_WR_KEEP_TIME_WAIT */
    uint32_t rcv_wnd_max; /* bytes: the receive window when nothing waits; 0 = 256 KiB.  Never less than what the kernel
                           * has promised the peer, nor more than the negotiated scale can express. */
};

struct flue_socket_offload_result {
    flue_conn conn;
    uint64_t mr_bytes_used; /* of mr_bytes; after ENOBUFS: how many are needed */
    uint32_t sends_posted;  /* completions with send_wr_id to expect, in [0, 2] */
    /* Those requests as posted, [0, sends_posted): a SEND, if anything was unacknowledged, then a DISCONNECT, if the
     * socket was shut down for writing.  flue_socket_upload wants them listed as long as they are outstanding. */
    struct flue_wr sends[2];
};

/* Hands the connection of socket `fd` over to the target.
 *
 * 0: the target owns the connection and fd is closed.  Undelivered received data is the target's and comes with the
 *    first RECVs.  Bytes that the peer has not acknowledged were posted as a SEND out of the lent memory, which is the
 *    target's until sends_posted completions with send_wr_id have come; without such requests it is free at once.
 *    Further descriptors of the same socket (dup, fork) are left with an unconnected socket.
 *    The TCP state may be any from ESTABLISHED to LAST-ACK.  If shutdown(SHUT_WR) was called and its FIN is not
 *    acknowledged, the rest of the disconnect is the target's: a DISCONNECT was posted, or the FIN was in flight alone.
 *    The connection's congestion control starts with the kernel's cwnd, ssthresh and round trip time.  Segments that
 *    arrived out of order are dropped, as RFC 2018 allows; the peer sends them again.
 *
 * -1: errno and flue_error_text() say why; fd works as before, with its data and options, and the target holds nothing.
 *    EBADF, ENOTSOCK, EPROTOTYPE  fd is not a TCP socket
 *    ENOTCONN       it listens, is still connecting, or its connection has ended
 *    EOPNOTSUPP     it has kernel TLS, microsecond timestamps or a packet filter; or the route has no Ethernet addresses
 *    EBUSY          urgent data waits: read it first
 *    EPERM          no CAP_NET_ADMIN there
 *    EINVAL         the lent memory is not part of a region
 *    ENOBUFS        the lent memory is too small: see mr_bytes_used
 *    ENETUNREACH, EHOSTUNREACH  no route; the peer is on this host, or the next hop does not answer
 *    EADDRINUSE     the target has the 4-tuple already
 *    ENOMEM, EDQUOT the target, or the session, is at its limit
 *    EACCES         the target does not let this session have the connection
 *    EMSGSIZE       the receive window is larger than the target allows
 *    EAGAIN         the socket did not stand still: another thread uses it
 *    ECONNRESET     the target has gone.  Should it go after it took the connection, then fd is closed and the
 *                   connection lost with it: result->conn is not FLUE_NO_CONN
 *
 * Thread: that of hq.  `result` may be NULL. */
int flue_socket_offload(struct flue_hq *hq, int fd, const struct flue_socket_offload_options *options,
                        struct flue_socket_offload_result *result);

struct flue_socket_upload_options {
    /* Memory lent to the call until it returns: the state block, then undelivered received data.
     * sizeof(struct flue_state) bytes at least; with the connection's rcv_wnd_max more it always suffices. */
    struct flue_mr *mr;
    uint64_t mr_offset;
    uint64_t mr_bytes;
    /* Every SEND, and graceful DISCONNECT, of the connection whose completion flue_poll has not returned yet, as they
     * were posted and in that order: their unacknowledged bytes go into the kernel's send queue.  Requests before them
     * that have completed may be listed too.  Those that flue_socket_offload has posted belong to them. */
    const struct flue_wr *sends;
    uint32_t send_count;
    /* The memory regions that `sends` refers to; `mr` need not be among them. */
    uint32_t send_mr_count;
    struct flue_mr *const *send_mrs;
    int keep_time_wait; /* as given at the offload: for when the connection stays with the target after all */
};

/* Takes a connection back from the target into a new kernel socket.
 *
 * Only ESTABLISHED and CLOSE-WAIT fit into a kernel socket.  The calling thread's network namespace must be the one that
 * the local address is on.
 *
 * >= 0: a connected, blocking socket, close-on-exec.  `conn` is no longer valid.  All requests of the connection have
 *    completed and come with later flue_poll calls: SENDs and RECVs with FLUE_UPLOAD_IN_PROGRESS, where the kernel now
 *    sends what was not acknowledged (do not send it again), and what was placed in RECVs comes before what is read from
 *    the socket.  A DISCONNECT that completes so has to be followed by shutdown(SHUT_WR) on the socket.
 *    In CLOSE-WAIT the socket reports the end of the stream after its data, as ever.
 *    The kernel knows nothing of the target's cwnd, round trip time and latest timestamp: it starts these afresh.
 *
 * -1: errno and flue_error_text() say why.  The connection is the target's as before and the requests in `sends` remain
 *    outstanding (those that the target had to post again complete with the bytes acknowledged since); only RECVs
 *    may have been completed with FLUE_UPLOAD_IN_PROGRESS: post them again.
 *    ENOENT         no such connection
 *    ENOTCONN, ECONNRESET  it was reset: nothing to take back; after ECONNRESET `conn` is no longer valid
 *    ESHUTDOWN      a FIN was sent: no kernel socket can be made for FIN-WAIT-1 and later states
 *    EINVAL         the lent memory is not part of a region, or `sends` lacks bytes that are not acknowledged, or has
 *                   requests of another kind or connection or outside of the regions named
 *    ENOBUFS        the lent memory is too small, or the backlogs do not fit into socket buffers: more than
 *                   net.core.wmem_max or rmem_max bytes need CAP_NET_ADMIN in the initial user namespace.  Wait for
 *                   acknowledgements, or take received data with RECVs, and try again
 *    EPERM          no CAP_NET_ADMIN there
 *    EADDRNOTAVAIL  the local address is not on this host, or the kernel has this connection already
 *    ENETUNREACH    no route to the peer
 *    EMFILE, ENFILE, ENOMEM  no socket to be had
 *    ECONNABORTED   the kernel refused, then the target did: the connection is lost, `conn` is no longer valid
 *
 * Thread: that of hq. */
int flue_socket_upload(struct flue_hq *hq, flue_conn conn, const struct flue_socket_upload_options *options);

#ifdef __cplusplus
}
#endif
#endif
