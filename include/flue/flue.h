/* flue/flue.h: the host's side of flue.  This header is the manual; flue/abi.h describes requests and completions.
 *
 * A target (the program flued) takes live TCP connections over from this process, the host: it sends what is still to
 * be sent, receives, and closes them.  The host asks with work requests (struct flue_wr) and is answered with
 * completions (struct flue_wc); both travel through rings in memory that the two processes share.
 *
 *   flue_open            a session: a socket to the target
 *     flue_mr_create     memory regions: what is sent and received lies in them
 *     flue_hq_create     host queues: a ring of requests to, and a ring of completions from, each worker of the target
 *       flue_post, flue_poll, flue_wait
 *
 * Threads   Any thread may use any object, but a host queue only one at a time: give each thread its own queue.
 *           Calls on one session that talk to the target (create, destroy) wait for each other.
 * Errors    Calls that return a pointer return NULL, those that return an int -1, and set errno; flue_error_text()
 *           says in words what went wrong and what to do.  Of a request, the completion's status says it.
 * Death     If the target goes away, no call hangs: they fail with errno ECONNRESET.  Destroy the objects and open a new
 *           session.  If the host goes away, the target does with its connections what on_loss says.
 * Linking   pkg-config flue.  No DPDK library is needed.  Linux 5.14 or later.
 *
 * Example: send bytes on an offloaded connection, then close it, and give its memory back to the target.
 *
 *     static int wait_for(struct flue_hq *hq, uint64_t wr_id, struct flue_wc *wc)
 *     {
 *         while (flue_wait(hq, wc, 1, 10000) == 1)
 *             if (wc->wr_id == wr_id)
 *                 return wc->status == FLUE_SUCCESS ? 0 : -1;
 *         return -1;
 *     }
 *
 *     static int send_and_close(struct flue_hq *hq, flue_conn conn, struct flue_mr *mr, const void *data, uint32_t bytes)
 *     {
 *         struct flue_wc wc;
 *         struct flue_wr close_it = {.wr_id = 1, .conn = conn, .opcode = FLUE_OP_DISCONNECT, .sge_count = 1};
 *         struct flue_wr end_it = {.wr_id = 2, .conn = conn, .opcode = FLUE_OP_TERMINATE, .sge_count = 1};
 *
 *         if (sizeof(struct flue_state) + bytes > flue_mr_bytes(mr))
 *             return -1;
 *         memcpy((char *)flue_mr_data(mr) + sizeof(struct flue_state), data, bytes);
 *         close_it.sge[0] = (struct flue_sge){flue_mr_key(mr), bytes, sizeof(struct flue_state)};
 *         end_it.sge[0] = (struct flue_sge){flue_mr_key(mr), sizeof(struct flue_state), 0};
 *
 *         if (flue_post(hq, &close_it, 1) != 1 || wait_for(hq, 1, &wc) != 0)
 *             return -1;
 *         return flue_post(hq, &end_it, 1) == 1 ? wait_for(hq, 2, &wc) : -1;
 *     }
 *
 * Trees     Connections that leave by one next hop can hang on a path and a neighbor (struct flue_block): a new MAC
 *           address or path MTU is then one UPDATE for all of them, and one INVALIDATE stops them all.  Requests on a
 *           path or neighbor name it by `object` and its handle in `conn`.  An UPDATE or INVALIDATE completes when
 *           everything that hangs on it has been brought up to date, some connections at a time; a second one of the
 *           same object, or of a path whose neighbor's is under way, meanwhile gets FLUE_INVALID_STATE.  TERMINATE
 *           connections first: that of a path or neighbor waits for them.  In a flue_state, addresses and path_mtu have
 *           to be the path's; source_mac, next_hop_mac and vlan_id the neighbor's, or zero.
 *
 * Example: offload a neighbor, a path and a connection in one request.  The three states in `tree` are filled in already.
 *
 *     struct tree { // in a memory region
 *         struct flue_block block[3];
 *         struct flue_neighbor_state neighbor;
 *         struct flue_path_state path;
 *         struct flue_state conn;
 *     };
 *
 *     static int offload_tree(struct flue_hq *hq, struct flue_mr *mr, struct tree *tree, unsigned worker)
 *     {
 *         static const uint32_t states[3] = {offsetof(struct tree, neighbor), offsetof(struct tree, path),
 *                                            offsetof(struct tree, conn)};
 *         struct flue_wr wr = {.wr_id = 3, .conn = FLUE_ON_WORKER(worker), .opcode = FLUE_OP_OFFLOAD, .sge_count = 1,
 *                              .object = FLUE_TREE};
 *         struct flue_wc wc;
 *
 *         for (unsigned i = 0; i < 3; ++i)
 *             tree->block[i] = (struct flue_block){.object = (uint8_t)(FLUE_NEIGHBOR - i), .kind = FLUE_BLOCK_NEW,
 *                                                  .next = FLUE_NO_BLOCK, .state_offset = states[i],
 *                                                  .dependents = (uint16_t)(i < 2 ? i + 1 : FLUE_NO_BLOCK)};
 *         flue_state_seal(&tree->conn);
 *         wr.sge[0] = (struct flue_sge){flue_mr_key(mr), sizeof(*tree),
 *                                       (uint64_t)((char *)tree - (char *)flue_mr_data(mr))};
 *         if (flue_post(hq, &wr, 1) != 1)
 *             return -1;
 *         return wait_for(hq, 3, &wc); // each block has its status, and its handle if it was offloaded
 *     }
 */
#ifndef FLUE_H
#define FLUE_H

#include <stddef.h>
#include <stdint.h>

#include "flue/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

struct flue_context; /* a session with a target */
struct flue_mr;      /* a memory region */
struct flue_hq;      /* a host queue */

/* ------------------------------------------------------------------ the contract
 *
 * Names    of TCP variables are those of RFC 9293; the numbered rules (R1 to R119) are listed in tests/rules/RULES.md.
 *
 * Objects  A connection lives from the completion of HOLD (or of OFFLOAD without HOLD) to that of TERMINATE or RELEASE:
 *
 *     (kernel's) --HOLD--> held --OFFLOAD--> offloaded --DISCONNECT--> draining --FIN acknowledged--> half closed
 *         ^                 | ^                  |                        |                              |
 *         +-----RELEASE-----+ +---- TERMINATE ---+------------------------+------------------------------+
 *                               with KEEP_HELD; without it TERMINATE ends the connection as well
 *     any --RST either way--> aborted, any --request to upload that must be followed--> uploading; then TERMINATE
 *
 * Requests Each gets exactly one completion.  On one connection they take effect in posting order; SENDs, DISCONNECTs and
 *          TERMINATE complete in posting order, and so do RECVs among themselves.  What is refused has no effect.
 *
 *     request              completes                                 SUCCESS says
 *     HOLD                 at once                                   the flow's packets wait for you
 *     OFFLOAD              at once                                   the target runs the connection
 *     SEND                 when the peer has acknowledged all of it  delivered to the peer's TCP
 *     RECV                 when full; else on PSH, 500 ms after      `bytes` lie in the memory; 0: end of the stream,
 *                          the last data, or at the peer's FIN       if the length was not 0
 *     DISCONNECT graceful  when data and FIN are acknowledged        all that was posted was delivered; the receive half
 *                                                                    is open until the peer's FIN
 *     DISCONNECT abortive  when the RST is sent                      nothing more will happen on the wire
 *     UPDATE, INVALIDATE   when all that depends on it follows it    as it says
 *     QUERY, FORWARD       at once                                   the state is written; the segment was processed
 *     TERMINATE            after all other requests of the           the state is written, the connection is the host's
 *                          connection, its events and owed ACKs
 *     RELEASE              at once                                   the packets that waited are the kernel's
 *
 * Memory   that a request names is the target's from flue_post to the request's completion.  RECV: of the memory, the
 *          first `bytes` bytes are written, whatever the status.
 *
 * Statuses and what comes next
 *     REQUEST_ABORTED      an RST, yours or the peer's; `bytes` were acknowledged (placed).  TERMINATE
 *     UPLOAD_IN_PROGRESS   the target does no more of it: what is past `bytes` is yours to send.  TERMINATE if you have
 *                          not yet
 *     INVALID_STATE        too late or too early: a SEND after DISCONNECT, a RECV after EVENT_DISCONNECT, a second
 *                          DISCONNECT, an OFFLOAD in CLOSED or TIME-WAIT, a FORWARD before the OFFLOAD
 *     RESOURCES            the target has no memory for it now: post it again later, or TERMINATE
 *     BAD_...              a mistake in the request itself; after a SEND refused so all later ones fail, so that the
 *                          stream has no hole
 *     A session has a share of the target's requests (flued --session-wrs): what is beyond it waits in the ring.
 *
 * Closing  A DISCONNECT by the state it meets:
 *
 *     state                          graceful                              abortive (FLUE_WR_ABORT)
 *     ESTABLISHED, CLOSE-WAIT        sends, its data, FIN; SUCCESS when    RST at once; SENDs, RECVs and a pending
 *                                    all is acknowledged                   DISCONNECT complete REQUEST_ABORTED, then
 *                                                                          SUCCESS
 *     after a graceful one           INVALID_STATE, nothing sent           the same
 *     after an RST from either side  REQUEST_ABORTED, nothing sent         SUCCESS, nothing sent
 *     upload requested, TERMINATE    UPLOAD_IN_PROGRESS, nothing sent      UPLOAD_IN_PROGRESS: send the RST yourself
 *
 *     An RST goes out for an abortive DISCONNECT, a drain deadline that asked for it, or a lost host with the policy
 *     abort, and for nothing else.  It is sent once, and again, with the number that the peer asks for, to a peer that
 *     says that it could not take it.  No FIN, RST or DISCONNECT frees anything: TERMINATE does.
 *     Once both FINs are acknowledged the target asks for the upload; RECVs then complete with UPLOAD_IN_PROGRESS, and
 *     data that was not taken yet comes with TERMINATE.
 *
 * Events   come when they happen, each at most once until it is taken; one that finds the completion ring full waits.
 *     DISCONNECT           the peer's FIN came and every byte before it has been taken: no RECV any more
 *     ABORT                the peer's RST came.  TERMINATE
 *     UPLOAD_REQUEST       TERMINATE, please; `info` says why.  LOW_ACTIVITY, HIGH_DROP_RATE, SMALL_IO,
 *                          NO_BUFFER_PREPOSTING, HIGH_FRAGMENTATION, HIGH_OUT_OF_ORDER are advice, and only given if flued
 *                          was asked to (--advise): the connection goes on.  After any other it stands still
 *     DATA_AVAILABLE       `bytes` wait and no RECV is posted; again only after the next RECV (one of 0 bytes will do)
 *     DRAIN_DEADLINE       drain_ms of a DISCONNECT has passed; with FLUE_WR_DEADLINE_ABORT an RST follows
 *     SEND_BACKLOG         keep about `bytes` outstanding
 *     REACHABILITY         of a neighbor: UPDATE it with a newer host_reachability_ms
 *     PAUSE, UPLOAD_ALL, RESUME   of the queue, from the target's operator: HOLDs and OFFLOADs wait; TERMINATE everything;
 *                          go on
 *
 * Who may  A session may claim a connection whose socket it has shown (flue_claim; flue_socket_offload does), or any, if
 *          flued was told so of its user (--raw-uid); in both cases only local addresses that --allow-claim names.
 *
 * Path MTU is watched by the target: what routers say of segments in flight (ICMP, which the kernel gets too) lowers it at
 *          once; full segments that time out twice are tried smaller, and if that helps once more as large as before.
 *          QUERY shows what is in use.  Only the host makes it larger again: an UPDATE of the connection, or of its path,
 *          with another path_mtu than the host's last replaces what was learned; one with the same leaves it.
 *
 * TIME-WAIT is the host's: entering it asks for the upload.  With FLUE_WR_KEEP_TIME_WAIT at OFFLOAD a TERMINATE in
 *          TIME-WAIT leaves a small record with the target, which answers late FINs for 2MSL (flued --time-wait-ms).
 */

/* ------------------------------------------------------------------ sessions */

/* What the target does with the connections of a session that ended without TERMINATE: by flue_close, exit or death.
 * Requests that were posted are carried out in any case; a 4-tuple that is only held goes back to the kernel. */
enum flue_host_loss {
    FLUE_LOSS_DRAIN = 0, /* send what was posted, then a FIN; what the peer still sends is thrown away */
    FLUE_LOSS_ABORT = 1, /* an RST */
    /* Keep everything as it is for hold_ms, in which flue_reattach can take it up; then, or after flue_close, drain.
     * Only the end of the process without flue_close is waited for. */
    FLUE_LOSS_HOLD = 2
};

struct flue_open_options {
    const char *name;            /* for people, in `flue conns` and the log; 31 bytes of it count.  May be NULL */
    enum flue_host_loss on_loss;
    uint32_t hold_ms; /* FLUE_LOSS_HOLD: milliseconds; 0 = flued's option --hold-ms, which also is the limit */
};

/* Opens a session with the target that listens at socket_path (flued's option --socket).  NULL options: no name, drain.
 * Waits for the target's answer, at most 5 s.
 *
 * NULL: errno is
 *    ENOENT, ECONNREFUSED  no target is there (any more): start flued
 *    EACCES                this user may not write to the socket file, or is not one of flued's --allow-uid
 *    EDQUOT                the target, or this user, has as many sessions as are allowed
 *    EPROTOTYPE            the file is another program's socket
 *    EPROTONOSUPPORT       libflue and flued are of different releases
 *    ETIMEDOUT             the target does not answer
 *    ECONNRESET            the target ended the session: its log says why
 *    EPROTO                the answer makes no sense
 *    EINVAL, ENAMETOOLONG  socket_path
 *    or what socket(2) and connect(2) say */
struct flue_context *flue_open(const char *socket_path, const struct flue_open_options *options);

/* Ends the session.  Queues and regions should be destroyed before; those that are not fail with ECONNRESET from now on,
 * and are to be destroyed all the same.  NULL does nothing. */
void flue_close(struct flue_context *context);

/* ------------------------------------------------------------------ after the death of a host
 *
 * A session with FLUE_LOSS_HOLD outlives its process: its queues and regions stay, posted requests are carried out, and
 * their completions gather in the rings as far as there is room.  Who has the session's token takes it up:
 *
 *     struct flue_context *context = flue_reattach("/run/flued.sock", token);
 *     while ((mr = flue_mr_recover(context)) != NULL)
 *         remember(mr, flue_mr_key(mr));
 *     while ((hq = flue_hq_recover(context)) != NULL)
 *         while (flue_poll(hq, &wc, 1) == 1 || still_waiting())
 *             deal_with(&wc);
 *
 * A recovered queue has the completions that nobody had taken; all outstanding requests complete as ever, with their
 * wr_ids and into the same memory.  FLUE_EVENT_REATTACHED comes once for each connection: conn, the host_handle given at
 * HOLD or OFFLOAD, and in `info` its TCP state, FLUE_TCP_CLOSED for one that is held, or was reset.  DATA_AVAILABLE,
 * DISCONNECT and UPLOAD_REQUEST come after it, again if need be, as far as they still hold.  Completions and events of a
 * connection may be there before its REATTACHED.
 *
 * What nobody can know but the hosts themselves: what the one before did with completions that it had taken.  A journal
 * in a memory region survives; FLUE_OP_QUERY says how far a connection is.
 *   - A request was posted altogether or not at all, also if its host was killed meanwhile.
 *   - HOLDs and OFFLOADs of the host before, and requests that a flue_socket_ call of it had posted, complete with wr_ids
 *     that mean nothing; host_handle tells the former.  FLUE_NOT_OWNER: post it again.
 *   - A region that was being destroyed is there, unless its destruction was done.
 *   - Regions have ordinary pages in such a session, and there are no more than flued's option --hold-regions says. */

#define FLUE_TOKEN_BYTES 16

/* The session's token, FLUE_TOKEN_BYTES random bytes: keep it where the next host finds it, and nobody else.  It stays
 * the same when the session is taken up.  NULL if the policy is not FLUE_LOSS_HOLD, or flued does not hold sessions. */
const uint8_t *flue_token(const struct flue_context *context);

/* Takes a held session up.  The caller must be of the same user as the first host, or root.
 *
 * NULL: errno is as for flue_open, or
 *    ENOENT  no session waits for this token (any more), or no target is there: flue_error_text() says which
 *    EBUSY   the session has a host: two cannot share it
 *    EACCES  it is another user's */
struct flue_context *flue_reattach(const char *socket_path, const uint8_t token[FLUE_TOKEN_BYTES]);

/* In words: the calling thread's last failed call.  Valid until its next one; "" before the first. */
const char *flue_error_text(void);

/* Shows the target a connected TCP socket of the target's network namespace: who has the socket may claim its
 * connection.  From then on, for 2 seconds, the target keeps the flow's packets, and this session may HOLD or OFFLOAD the
 * 4-tuple, once.  fd stays as it is.  flue_socket_offload does it by itself.  Sessions of users with flued's --raw-uid
 * (root, unless told otherwise) need no such proof.
 *
 * 0, or -1: errno is
 *    EOPNOTSUPP  not a TCP socket, not connected, or of another network namespace than flued
 *    EACCES      flued's option --allow-claim does not let anybody claim this local address and port
 *    EADDRINUSE  the target has the 4-tuple already
 *    EDQUOT, ENOMEM  the session, or the target, is at its limit
 *    EAGAIN      the target is paused: try again later
 *    ECONNRESET, ETIMEDOUT  the target is gone, or does not answer */
int flue_claim(struct flue_context *context, int fd);

/* In [1, 255].  A connection belongs to one worker, the upper 8 bits of its handle. */
unsigned flue_worker_count(const struct flue_context *context);

/* ------------------------------------------------------------------ memory regions */

/* Makes a region of at least `bytes` bytes, zeroed, and registers it with the target, which from then on may read and
 * write all of it.  From 2 MiB on it has huge pages if the system has some free (then its size is a multiple of 2 MiB),
 * else ordinary ones.  It lies on the NUMA node of the target's workers if they share one.
 * The memory is the host's, except for the parts that a request names, from flue_post to the completion.
 *
 * NULL: errno is EINVAL (0 bytes), ENOMEM, EDQUOT (the session's quota: see flued's options), ECONNRESET, ETIMEDOUT. */
struct flue_mr *flue_mr_create(struct flue_context *context, size_t bytes);

/* After flue_reattach: the session's next region, with its contents; flue_mr_key says which.
 * NULL: errno is ENOENT (there are no more), ENOMEM, ECONNRESET, ETIMEDOUT, EPROTO. */
struct flue_mr *flue_mr_recover(struct flue_context *context);

/* Deregisters the region and frees its memory.  Waits, without limit, until nothing in the target refers to it: no request
 * that names it is outstanding and no NIC queue has a packet of it.  The calling thread must therefore not be the one that
 * would have to end such requests.  While it waits, other calls of this session that talk to the target wait too.
 * 0, or -1: the target is gone (ECONNRESET); the memory is free in both cases.  NULL does nothing. */
int flue_mr_destroy(struct flue_mr *mr);

void *flue_mr_data(const struct flue_mr *mr);   /* its first byte, page aligned */
size_t flue_mr_bytes(const struct flue_mr *mr); /* its size: what was asked for, in whole pages */
uint32_t flue_mr_key(const struct flue_mr *mr); /* for flue_sge.mr; of this session only */

/* ------------------------------------------------------------------ host queues */

/* Entries of each worker's rings, powers of two in [8, 65536].  A ring holds one element less.
 *
 * The target takes a request out of a ring only if it has room for its completion.  So at one worker and queue at most
 * completion_entries - 1 requests are outstanding; further ones wait in the ring and cannot overtake.  RECVs and SENDs
 * may be outstanding for long: make the ring large enough that a DISCONNECT and a TERMINATE still find room. */
struct flue_hq_options {
    uint32_t submission_entries; /* 0 = 1024 */
    uint32_t completion_entries; /* 0 = 2048 */
};

/* NULL options: defaults.  NULL: errno is EINVAL (entries), ENOMEM, EDQUOT, ECONNRESET, ETIMEDOUT, EPROTO. */
struct flue_hq *flue_hq_create(struct flue_context *context, const struct flue_hq_options *options);

/* After flue_reattach: the session's next queue, in the order in which they were created.
 * NULL: errno is ENOENT (there are no more), ENOMEM, ECONNRESET, ETIMEDOUT, EPROTO. */
struct flue_hq *flue_hq_recover(struct flue_context *context);

/* Outstanding requests are lost, and the queue's connections go the way of on_loss.  NULL does nothing. */
void flue_hq_destroy(struct flue_hq *hq);

/* Posts wr[0, count) in this order and returns how many were taken, in [0, count]: the first that is not found no room in
 * the ring of its worker.  If fewer than count: errno is EAGAIN (poll, then post the rest) or ECONNRESET.
 * The requests are copied; the memory that they name is the target's until their completions.
 * Each posted request gets exactly one completion.  Requests on one connection take effect in posting order.
 *
 * A HOLD, or an OFFLOAD of a connection that is not held, has no worker yet: it is posted to one after the other until it
 * is at the one that owns the flow.  Post what follows on that connection when its completion has brought the handle.
 * A tree goes to the worker in its `conn` and nowhere else.
 * Cost: no system call (unless nothing could be posted, now and then), no lock, no allocation. */
unsigned flue_post(struct flue_hq *hq, const struct flue_wr *wr, unsigned count);

/* Moves up to `count` completions into wc[0, count) and returns how many.  Never waits.  0: errno is EAGAIN (none now) or
 * ECONNRESET: all that the target completed was returned, and nothing more will come.  A target that has gone away is
 * noticed after some thousand empty polls.
 * Completions of one connection and direction come in posting order.  Cost: as flue_post; taking a HOLD or OFFLOAD to
 * another worker may allocate. */
unsigned flue_poll(struct flue_hq *hq, struct flue_wc *wc, unsigned count);

/* As flue_poll, but sleeps until there is a completion, or for timeout_ms milliseconds (-1: for ever).
 * 0: errno is ETIMEDOUT, EINTR (a signal), ECONNRESET or EINVAL (count is 0). */
unsigned flue_wait(struct flue_hq *hq, struct flue_wc *wc, unsigned count, int timeout_ms);

/* For poll(2) and epoll(7), in place of flue_wait:
 *
 *     while flue_poll returns completions, deal with them;
 *     flue_hq_arm:  0  sleep until flue_hq_fd is readable, then start again
 *                   1  start again at once: completions came in between
 *                  -1  the target has gone (ECONNRESET)
 *
 * The descriptor is the queue's: do not read or close it.  It also becomes readable when the target goes away. */
int flue_hq_fd(const struct flue_hq *hq);
int flue_hq_arm(struct flue_hq *hq);

/* ------------------------------------------------------------------ names and state blocks */

/* As in abi.h without the prefix, such as "DISCONNECT"; "UNKNOWN" for other values.  The opcodes include events. */
const char *flue_opcode_name(uint8_t opcode);
const char *flue_status_name(uint8_t status);
const char *flue_upload_reason_name(uint16_t reason);
const char *flue_tcp_state_name(uint8_t state); /* as in RFC 9293, such as "FIN-WAIT-1" */

/* flue_state_seal fills in version, size and checksum, last thing before an OFFLOAD.
 * flue_state_check returns 0 if they fit, -1 if not. */
void flue_state_seal(struct flue_state *state);
int flue_state_check(const struct flue_state *state);

/* ------------------------------------------------------------------ from target to target
 *
 * A connection moves to another target while both ends go on sending: to other cores or another port, or to a flued of a
 * newer release.  The peer notices a pause of some 100 microseconds.
 */

struct flue_move_options {
    uint64_t host_handle;
    /* Memory lent to the call until it returns, of the session of `from`: the state block, then undelivered received
     * data.  sizeof(struct flue_state) + the connection's rcv_wnd_max bytes always suffice. */
    struct flue_mr *from_mr;
    uint64_t from_offset;
    uint64_t from_bytes;
    /* Likewise of the session of `to`; then also what is not acknowledged, which is the target's until the completions
     * of the requests that were posted again. */
    struct flue_mr *to_mr;
    uint64_t to_offset;
    uint64_t to_bytes;
    /* As in flue_socket_upload_options: every SEND and graceful DISCONNECT whose completion flue_poll has not returned
     * yet, as they were posted and in that order, and all memory regions that they refer to. */
    const struct flue_wr *sends;
    uint32_t send_count;
    uint32_t send_mr_count;
    struct flue_mr *const *send_mrs;
    struct flue_wr *posted; /* room for send_count requests: those that were posted again.  May be NULL */
    flue_conn held;         /* at `to`: the connection's handle from an earlier move, in `left`; or FLUE_NO_CONN */
    int shared_wire;        /* not 0: the target that gives the connection away goes on hearing its packets.  It drops
                             * them, lest its kernel answer with an RST, until flue_move brings the connection back or
                             * a RELEASE with FLUE_WR_DISCARD of the handle `left`: post it when the connection is over.
                             * 0: it drops them until none has come for its --time-wait-ms */
    int keep_time_wait;     /* as given at the offload */
};

struct flue_move_result {
    flue_conn conn;         /* at `to` */
    flue_conn left;         /* at `from`, with shared_wire; else FLUE_NO_CONN: the handle is no longer valid */
    uint32_t sends_posted;  /* requests posted again at `to`, with the wr_id that they had */
    uint64_t to_bytes_used; /* of to_bytes; after ENOBUFS: how many were needed */
};

/* Moves a connection of `from` to the target of `to`: another one than that of `from`, on the same network.
 *
 * 0: the connection is that of the other target.  At `from` all its requests have completed and come with later
 *    flue_poll calls; what was placed in RECVs there comes before what RECVs at `to` bring.  SENDs, and a DISCONNECT,
 *    that completed there with FLUE_UPLOAD_IN_PROGRESS were posted again at `to` and complete there; nothing of the kind
 *    is left to be done.  RECVs are to be posted anew.
 *
 * -1: errno and flue_error_text() say why.  The connection stays where it was and works, as after a failed
 *    flue_socket_upload, except after ECONNRESET and ECONNABORTED.
 *    ENOENT         no such connection
 *    ENOTCONN       it has ended: it was reset, or is in TIME-WAIT
 *    ECONNRESET     it has ended during the call, or a target has gone; `conn` is no longer valid
 *    EINVAL         lent memory is not part of a region, or `sends`: see flue_socket_upload
 *    ENOBUFS        the lent memory is too small: see to_bytes_used
 *    EADDRINUSE, ENOMEM, EDQUOT, EACCES, EMSGSIZE  the other target does not take it: see flue_socket_offload
 *    ECONNABORTED   the other target refused, then the first one did: the connection is lost, `conn` is no longer valid
 *
 * Thread: that of both queues.  `result` may be NULL. */
int flue_move(struct flue_hq *from, flue_conn conn, struct flue_hq *to, const struct flue_move_options *options,
              struct flue_move_result *result);

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
 *    While the target is paused (FLUE_EVENT_PAUSE) the call waits for FLUE_EVENT_RESUME; fd is as before until then.
 *    The connection's congestion control starts with the kernel's cwnd, ssthresh and round trip time, and is the kernel's
 *    (TCP_CONGESTION) where flue has it: cubic, reno, dctcp with ECN; for any other one flued --congestion says what it
 *    is.  ECN goes on if it was negotiated.  Segments that arrived out of order are dropped, as RFC 2018 allows; the peer
 *    sends them again.
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
 *    EACCES         the target does not let this session have the connection: see flued's --allow-claim
 *    EMSGSIZE       the receive window is larger than the target allows
 *    EAGAIN         the socket did not stand still: another thread uses it; or FLUE_EVENT_UPLOAD_ALL has come
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
 *    Its congestion control (TCP_CONGESTION) is the connection's if this kernel has it.  ECN ends: Linux cannot be told
 *    that it was negotiated.
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
