/*
 * flue/abi.h: what lies in the memory that a host and a target share.
 *
 * C11 and C++20.  Every structure has a fixed size and no pointer; integers are in host byte order unless a field
 * says otherwise.  A reserved field is zero.  The target treats all of it as untrusted: it copies, checks, then uses.
 */
#ifndef FLUE_ABI_H
#define FLUE_ABI_H

#include <stdint.h>

#ifdef __cplusplus
#define FLUE_STATIC_ASSERT static_assert
extern "C" {
#else
#define FLUE_STATIC_ASSERT _Static_assert
#endif

#define FLUE_ABI_VERSION 2u

/* A connection handle: worker (8 bits) | generation (32 bits) | index (24 bits).  0 is never a connection.
 * It comes with the completion of HOLD (or of OFFLOAD without HOLD) and stays valid until TERMINATE or RELEASE has
 * completed; used later it gets FLUE_BAD_CONNECTION.  Spec: R5, R6 */
typedef uint64_t flue_conn;
#define FLUE_NO_CONN UINT64_C(0)
/* Names a worker, in [0, flue_worker_count()), where a request has no object yet: a tree that is new altogether. */
#define FLUE_ON_WORKER(worker) ((uint64_t)(worker) << 56)

/* What a handle names.  Paths and neighbors have handles of the same form as connections, which come with an OFFLOAD of
 * a tree. */
enum flue_object {
    FLUE_CONNECTION = 0,
    FLUE_PATH       = 1, /* local and remote address, path MTU */
    FLUE_NEIGHBOR   = 2, /* next hop: MAC addresses and VLAN */
    FLUE_TREE       = 3  /* OFFLOAD only: any number of the three, see struct flue_block */
};

/* ---------------------------------------------------------------------------------------------- work requests */

enum flue_opcode {
    /* Claim a 4-tuple: the target keeps this flow's packets from now on.  sge[0]: a flue_state of which the family,
     * addresses and ports are read.  The completion carries the handle.
     * conn: a held connection, with no sge: drop the packets that were kept and keep those that come from now on.
     * With FLUE_WR_DISCARD those are dropped too: the connection lives at another target that hears the same wire, and
     * the kernel, which knows nothing of it, would answer them with RSTs. */
    FLUE_OP_HOLD = 1,
    /* Take the connection over.  sge[0]: its flue_state.  sge[1], optional: received, acknowledged and undelivered
     * data, the bytes just left of rcv_nxt (of the peer's FIN, if that was received), copied before the completion.
     * conn: the held connection, or FLUE_NO_CONN to claim the 4-tuple in the same step.  The bytes from snd_una to
     * snd_max (and what is still unsent) follow as ordinary SENDs, first byte = snd_una; until they have been posted up
     * to snd_max nothing is sent.
     * FIN-WAIT-1, CLOSING, LAST-ACK: snd_max counts the FIN that was sent, so SENDs up to snd_max - 1 follow.  Their
     * last part may come as a DISCONNECT instead (of no bytes, if there are none or all came as SENDs): it stands for
     * that FIN and completes when it is acknowledged.  So what a TERMINATE has completed with UPLOAD_IN_PROGRESS is
     * posted again, from the first byte that is not acknowledged, whether the FIN had been sent or not.
     * object FLUE_TREE: sge[0] holds blocks and their states, see struct flue_block. */
    FLUE_OP_OFFLOAD = 2,
    /* Send sge[0] and sge[1], in this order.  The memory is the target's until the completion, which comes when the
     * peer has acknowledged every byte and no NIC queue refers to it. */
    FLUE_OP_SEND = 3,
    /* Receive into sge[0].  A length of 0 consumes no data and re-arms FLUE_EVENT_DATA_AVAILABLE. */
    FLUE_OP_RECV = 4,
    /* Graceful: send all that was posted, then sge[0] and sge[1], then a FIN; completes when all of it is
     * acknowledged.  The receive half stays open.  With FLUE_WR_ABORT: an RST, now; no data. */
    FLUE_OP_DISCONNECT = 5,
    /* End the offload.  sge[0]: where the flue_state goes.  sge[1], optional: where undelivered receive data goes.
     * Every other request of the connection completes first.  The only request that frees a connection; with
     * FLUE_WR_KEEP_HELD it stays held, except in TIME-WAIT with FLUE_WR_KEEP_TIME_WAIT.
     * Of a path or neighbor, with no sge: completes when nothing depends on it any more; until then nothing new may. */
    FLUE_OP_TERMINATE = 6,
    /* Give a held 4-tuple up: the packets that were kept go to the exception path, in order.  With FLUE_WR_DISCARD, for
     * a connection that lives elsewhere now, they are dropped, and those that still come are, too, except a SYN, until
     * none has come for flued's --time-wait-ms; it may be claimed again before. */
    FLUE_OP_RELEASE = 7,
    /* sge[0]: where the flue_state (of a path or neighbor: its state) goes.  Nothing changes. */
    FLUE_OP_QUERY = 8,
    /* Change cached variables: sge[0] is a flue_state (or flue_path_state, flue_neighbor_state) of which the cached
     * fields are read, all of them.  next_hop_mac and path_mtu of a connection that hangs on a path are the path's and
     * not read.  A path moves to another neighbor when its state names one.  A refusal changes nothing.  R28, R31 */
    FLUE_OP_UPDATE = 9,
    /* Stop sending on the object and on everything that depends on it, and have each of these connections ask for its
     * upload (FLUE_UPLOAD_INVALID_STATE).  Completes when nothing more is sent.  All resources stay.  R33, R34, R35 */
    FLUE_OP_INVALIDATE = 10,
    /* Process a segment that reached the host another way (on another port, in fragments, with IP options): sge[0] is
     * exactly one segment, from the first byte of its TCP header on.  The memory is the host's at the completion.
     * The host has verified the checksum, which covers parts of the IP header: the target does not look at it.
     * UPLOAD_IN_PROGRESS: not processed, the host does so after TERMINATE.  REQUEST_ABORTED: drop it.  R61, R62 */
    FLUE_OP_FORWARD = 11
};

enum flue_wr_flag {
    FLUE_WR_ABORT          = 0x01, /* DISCONNECT: RST instead of FIN */
    FLUE_WR_NO_PUSH        = 0x02, /* RECV: complete only when full */
    FLUE_WR_KEEP_HELD      = 0x04, /* TERMINATE: go on keeping the flow's packets until RELEASE */
    FLUE_WR_DEADLINE_ABORT = 0x08, /* DISCONNECT: when drain_ms has passed, abort (else: report and go on) */
    FLUE_WR_KEEP_TIME_WAIT = 0x10, /* OFFLOAD: the target runs 2MSL itself, after TERMINATE too (shorter if it has
                                    * more connections in TIME-WAIT than flued's --time-waits: the oldest goes) */
    FLUE_WR_REPLAY_FIN     = 0x20, /* RELEASE: first show the kernel the peer's FIN again (state was CLOSE-WAIT) */
    FLUE_WR_DISCARD        = 0x40  /* HOLD: drop the flow's packets instead of keeping them.  RELEASE: likewise those
                                    * that were kept */
};

/* Part of a memory region: `length` bytes from `offset` of the region `mr`. */
struct flue_sge {
    uint32_t mr;
    uint32_t length;
    uint64_t offset;
};

#define FLUE_SGE_MAX 2u
#define FLUE_FORWARD_BYTES_MAX 65535u /* length of a forwarded segment, its header included */
#define FLUE_SEND_BYTES_MAX (UINT32_C(1) << 30) /* length of one sge of a SEND or DISCONNECT */

struct flue_wr {
    uint64_t wr_id; /* the host's, returned in the completion */
    flue_conn conn;
    uint8_t opcode;    /* enum flue_opcode */
    uint8_t flags;     /* enum flue_wr_flag */
    uint8_t sge_count; /* in [0, FLUE_SGE_MAX] */
    uint8_t object;    /* enum flue_object: what `conn` names.  HOLD, SEND, RECV, DISCONNECT, RELEASE, FORWARD: 0 */
    uint32_t drain_ms; /* graceful DISCONNECT: time allowed for draining, milliseconds; 0 = no limit */
    struct flue_sge sge[FLUE_SGE_MAX];
    uint64_t host_handle; /* HOLD, OFFLOAD without HOLD: the host's own name for the connection, in every WC of it */
};
FLUE_STATIC_ASSERT(sizeof(struct flue_wr) == 64, "one cache line");

/* ---------------------------------------------------------------------------------------------- completions */

enum flue_status {
    FLUE_SUCCESS            = 0,
    FLUE_REQUEST_ABORTED    = 1, /* RST from either side; `bytes` were acknowledged (send) or placed (receive) */
    FLUE_UPLOAD_IN_PROGRESS = 2, /* the offload ends: the host sends what is past `bytes` itself */
    FLUE_INVALID_STATE      = 3, /* not possible in the connection's state; nothing was done */
    FLUE_FAILURE            = 4,
    FLUE_RESOURCES          = 5, /* the target has no memory for it; nothing was done */
    FLUE_TCP_ENTRIES        = 6, /* no connection slot is free; terminate some, or raise the target's limit */
    FLUE_TCP_RCV_WINDOW     = 7, /* rcv_wnd_max is more than the target allows */
    FLUE_TCP_RCV_BUFFER     = 8, /* no room for the undelivered receive data */
    FLUE_PARTIAL_SUCCESS    = 9, /* of a tree or block: the object itself is offloaded, not all of its dependents */
    FLUE_PATH_ENTRIES       = 10, /* no path slot is free */
    FLUE_NEIGHBOR_ENTRIES   = 11, /* no neighbor slot is free */
    FLUE_HW_ADDRESS_ENTRIES = 12, /* source_mac is no address that a port of the target can send from */
    FLUE_VLAN_MISMATCH      = 13, /* vlan_id is not one that the target was configured for */
    FLUE_PATH_MTU           = 14, /* path_mtu is more than the port can send */
    /* local to flue: mistakes in the request */
    FLUE_BAD_OPCODE     = 32,
    FLUE_BAD_CONNECTION = 33, /* no such handle, or another session's */
    FLUE_BAD_REGION     = 34, /* no such memory region, or the range leaves it */
    FLUE_BAD_LENGTH     = 35, /* too short or too long; `bytes` = what is needed */
    FLUE_BAD_STATE      = 36, /* the flue_state does not check: version, size, checksum or a field's range */
    FLUE_BAD_REQUEST    = 37, /* flags, object, sge_count or a malformed tree or segment */
    FLUE_TUPLE_IN_USE   = 38, /* the 4-tuple is claimed already */
    FLUE_NOT_OWNER      = 39, /* another worker owns this flow: post to worker `info` (libflue does so itself) */
    FLUE_QUOTA          = 40, /* the session's limit is reached */
    FLUE_NOT_PERMITTED  = 41  /* the session may not claim this connection: prove it with flue_claim, or see flued's
                               * options --raw-uid and --allow-claim */
};

/* Events are completions nobody posted: wr_id is 0. */
enum flue_event {
    FLUE_EVENT_DISCONNECT     = 0x81, /* the peer's FIN came and all data before it was consumed.  R81 */
    FLUE_EVENT_ABORT          = 0x82, /* the peer's RST came.  R84 */
    FLUE_EVENT_UPLOAD_REQUEST = 0x83, /* please TERMINATE; `info` = enum flue_upload_reason */
    FLUE_EVENT_DATA_AVAILABLE = 0x84, /* `bytes` wait and no RECV is posted; sent once until a RECV is posted */
    FLUE_EVENT_DRAIN_DEADLINE = 0x85, /* a graceful DISCONNECT's drain_ms passed; `bytes` are not acknowledged yet */
    FLUE_EVENT_SEND_BACKLOG   = 0x86, /* keep about `bytes` of SENDs outstanding; more than that only waits */
    FLUE_EVENT_REACHABILITY   = 0x87, /* conn: a neighbor that neither side has heard of for long: UPDATE it with
                                       * a newer host_reachability_ms */
    FLUE_EVENT_REATTACHED     = 0x88, /* after flue_reattach, once a connection; `info` = enum flue_tcp_state */
    /* of the queue: conn is FLUE_NO_CONN, `info` = the worker; one comes from each worker */
    FLUE_EVENT_PAUSE          = 0x89, /* offload nothing more: HOLDs and OFFLOADs wait until RESUME, except that an
                                       * OFFLOAD of a connection held before is carried out.  R27 */
    FLUE_EVENT_UPLOAD_ALL     = 0x8a, /* please TERMINATE every connection, then paths and neighbors.  Until RESUME
                                       * SENDs, graceful DISCONNECTs, HOLDs and OFFLOADs complete with
                                       * UPLOAD_IN_PROGRESS.  R116 */
    FLUE_EVENT_RESUME         = 0x8b
};

enum flue_upload_reason {
    FLUE_UPLOAD_LOW_ACTIVITY = 1,
    FLUE_UPLOAD_HIGH_DROP_RATE,
    FLUE_UPLOAD_SMALL_IO,
    FLUE_UPLOAD_NO_BUFFER_PREPOSTING,
    FLUE_UPLOAD_RECEIVED_URGENT_DATA,
    FLUE_UPLOAD_HIGH_FRAGMENTATION,
    FLUE_UPLOAD_HIGH_OUT_OF_ORDER,
    FLUE_UPLOAD_TIMEOUT_EXPIRATION,
    FLUE_UPLOAD_INVALID_STATE,
    FLUE_UPLOAD_REQUESTED,
    FLUE_UPLOAD_HARDWARE_FAILURE
};

struct flue_wc {
    uint64_t wr_id;
    flue_conn conn;
    uint64_t host_handle; /* as given at HOLD or OFFLOAD.  R7 */
    uint32_t bytes;       /* SEND, DISCONNECT: acknowledged; RECV: placed */
    uint8_t opcode;       /* enum flue_opcode or enum flue_event */
    uint8_t status;       /* enum flue_status */
    uint16_t info;
};
FLUE_STATIC_ASSERT(sizeof(struct flue_wc) == 32, "half a cache line");

/* ---------------------------------------------------------------------------------------------- connection state */

#define FLUE_STATE_VERSION 2u
#define FLUE_SACK_MAX 4u

/* TCP states, numbered as the offload contract numbers them. */
enum flue_tcp_state {
    FLUE_TCP_CLOSED      = 0,
    FLUE_TCP_ESTABLISHED = 4,
    FLUE_TCP_FIN_WAIT_1  = 5,
    FLUE_TCP_FIN_WAIT_2  = 6,
    FLUE_TCP_CLOSE_WAIT  = 7,
    FLUE_TCP_CLOSING     = 8,
    FLUE_TCP_LAST_ACK    = 9,
    FLUE_TCP_TIME_WAIT   = 10
};

enum flue_const_flag {
    FLUE_CONST_TIMESTAMPS     = 0x01,
    FLUE_CONST_SACK           = 0x02,
    FLUE_CONST_WINDOW_SCALING = 0x04,
    FLUE_CONST_ECN            = 0x08 /* negotiated with the SYN.  RFC 3168 */
};

enum flue_congestion { /* congestion control */
    FLUE_CONGESTION_DEFAULT = 0, /* the target's: flued --congestion */
    FLUE_CONGESTION_CUBIC   = 1, /* RFC 9438 */
    FLUE_CONGESTION_NEWRENO = 2, /* RFC 5681, 6582 */
    FLUE_CONGESTION_DCTCP   = 3  /* RFC 8257; needs FLUE_CONST_ECN */
};

enum flue_cached_flag {
    FLUE_CACHED_KEEP_ALIVE         = 0x01,
    FLUE_CACHED_NAGLE              = 0x02,
    FLUE_CACHED_KEEP_ALIVE_RESTART = 0x04, /* UPDATE: start the keepalive timer afresh */
    FLUE_CACHED_MAX_RT_RESTART     = 0x08, /* UPDATE: total_rt_ms becomes 0.  R30 */
    FLUE_CACHED_UPDATE_RCV_WND     = 0x10  /* UPDATE: rcv_wnd_max has changed: tell the peer.  R29 */
};

enum flue_delegated_flag {
    FLUE_DELEGATED_RECOVERY = 0x01 /* fast recovery is going on, until snd_una reaches `recover` */
};

struct flue_sack_range {
    uint32_t start; /* first sequence number */
    uint32_t end;   /* one past the last */
};

/* Everything TCP knows of a connection, for IPv4 and IPv6 alike.  Constant and cached fields are read at OFFLOAD and
 * left as they are at TERMINATE; delegated fields are read at OFFLOAD and written at TERMINATE.  QUERY writes all.
 * What TERMINATE writes into the block of the OFFLOAD, and what QUERY writes, can be given to an OFFLOAD as it is, at
 * this target or another one, unless tcp_state is CLOSED or TIME-WAIT.
 *
 * Sequence numbers are those of the wire.  snd_una <= snd_nxt <= snd_max, all within 2^30 bytes.  A field outside of
 * the range that stands here gets FLUE_BAD_STATE. */
struct flue_state {
    uint16_t version;  /* FLUE_STATE_VERSION */
    uint16_t size;     /* sizeof(struct flue_state) */
    uint32_t checksum; /* CRC-32C of the block with this field zero */

    /* constant */
    uint8_t family;         /* 4 or 6 */
    uint8_t const_flags;    /* enum flue_const_flag */
    uint8_t snd_wind_shift; /* in [0, 14] */
    uint8_t rcv_wind_shift; /* in [0, 14] */
    uint16_t local_port; /* host byte order, as all integers here */
    uint16_t remote_port;
    uint8_t local_addr[16]; /* network order; IPv4 in the first 4 bytes, the rest zero */
    uint8_t remote_addr[16];
    uint16_t remote_mss; /* bytes, at least 88, as the peer announced it; options not taken off */
    uint16_t vlan_id;    /* 0 = none; below 4095 */
    uint8_t source_mac[6]; /* zero = the port's own */

    /* cached */
    uint8_t next_hop_mac[6];
    uint16_t path_mtu; /* bytes of IP packet; at least 68, IPv6 1280.  QUERY: what is in use, if the path takes less */
    uint8_t cached_flags; /* enum flue_cached_flag */
    uint8_t ttl;          /* or hop limit; not 0 */
    uint8_t tos;          /* or traffic class; the two low bits, the ECN field, are the target's */
    uint8_t ka_probe_count; /* unanswered probes that end the connection; 0 = 10 */
    uint8_t congestion;     /* enum flue_congestion; fixed at OFFLOAD.  QUERY: the one that it has */
    uint8_t reserved;
    uint32_t flow_label;     /* 20 bits */
    uint32_t rcv_wnd_max;    /* bytes, not 0: the receive window when nothing waits.  InitialRcvWnd */
    uint32_t ka_timeout_ms;  /* idle time before the first keepalive probe; 0 = 2 hours */
    uint32_t ka_interval_ms; /* between unanswered probes; 0 = 1 s */
    uint32_t max_rt_ms;      /* limit of retransmitting one segment; 0 = the target's, UINT32_MAX = none */

    /* delegated */
    uint8_t tcp_state; /* enum flue_tcp_state */
    uint8_t dup_ack_count;       /* for snd_una */
    uint8_t retransmit_count;    /* of the segment at snd_una; window probes of this round when persisting */
    uint8_t ka_probes_unanswered; /* of the blind reset check too */
    uint32_t rcv_nxt; /* counts the peer's FIN, once that is in order */
    uint32_t rcv_wnd; /* bytes, unscaled, at most 65535 << 14: the peer may send up to rcv_nxt + rcv_wnd */
    uint32_t snd_una; /* counts our FIN, once that is acknowledged */
    uint32_t snd_nxt; /* [snd_una, snd_nxt) was sent; [snd_nxt, snd_max) was sent before and is sent next */
    uint32_t snd_max; /* highest sequence number ever sent; counts a FIN */
    uint32_t snd_wnd; /* bytes, unscaled, at most 65535 << 14 */
    uint32_t max_snd_wnd; /* bytes: largest snd_wnd seen */
    uint32_t snd_wl1;     /* sequence number of the segment that last updated snd_wnd */
    uint32_t cwnd;     /* bytes, not 0; in recovery what may be in flight now, which PRR says (RFC 6937) */
    uint32_t ssthresh; /* bytes; UINT32_MAX = no loss yet */
    uint32_t srtt_us_x8;   /* microseconds times 8; 0 = no sample yet */
    uint32_t rttvar_us_x4; /* microseconds times 4 */
    uint32_t ts_recent;        /* the peer's, to be echoed; 0 = not known */
    uint32_t ts_recent_age_ms; /* milliseconds since; more than 24 days = not known */
    uint32_t ts_time;     /* the timestamp that the giver would send now, milliseconds */
    uint32_t total_rt_ms; /* milliseconds spent on retransmitting the segment at snd_una */
    int32_t ka_delta_ms; /* milliseconds to the next keepalive expiry; -1 = not running, 0 = at once.  Without
                          * FLUE_CACHED_KEEP_ALIVE it is the blind reset check's */
    int32_t retransmit_delta_ms; /* likewise: retransmit, persist or FIN-WAIT-2 timer, by state */
    uint32_t recover; /* RFC 6675 RecoveryPoint: end of fast recovery, or of what a timeout sends again; until
                       * snd_una = none */
    uint32_t send_backlog_bytes; /* posted and not acknowledged, the FIN not counted: QUERY and TERMINATE */
    uint32_t receive_backlog_bytes; /* received and not delivered: OFFLOAD: length of sge[1]; TERMINATE: likewise */
    uint8_t sack_count;      /* in [0, FLUE_SACK_MAX]: what the peer reported above snd_una, the lowest first; more
                              * than fits it will report again */
    uint8_t delegated_flags; /* enum flue_delegated_flag */
    uint8_t backoff;         /* in [0, 31]: doublings of the retransmission timeout, RFC 6298 (5.5) */
    uint8_t delegated_reserved;
    struct flue_sack_range sack[FLUE_SACK_MAX]; /* within (snd_una, snd_max]; zero from sack_count on */
    uint32_t send_backlog_wanted_bytes; /* as in FLUE_EVENT_SEND_BACKLOG; QUERY only, else UINT32_MAX.  R14 */
};
FLUE_STATIC_ASSERT(sizeof(struct flue_state) <= 256, "the state block's limit");

/* ---------------------------------------------------------------------------------------------- trees
 *
 *   neighbor --+-- path --+-- connection        sge[0] of an OFFLOAD with object FLUE_TREE:
 *              |          +-- connection
 *              +-- path ----- connection          block[0] | block[1] | ... | states, each where its block says
 *
 * block[0] is the root, of any of the three kinds of object.  Dependents stand to the right of it in the picture: paths
 * of a neighbor, connections of a path.  The tree is walked depth first, then along siblings; a connection is live as
 * soon as its block is done.  A root that cannot be offloaded ends the walk (R23).  Every block gets a status, and the
 * handle of an object that was offloaded (R2, R5).  All of a tree belongs to one worker: that of the handles in it, or
 * of the request's `conn` (FLUE_ON_WORKER).  A connection of another worker gets FLUE_NOT_OWNER and that worker in
 * `info`; HOLD its 4-tuple first to know. */

enum flue_block_kind {
    FLUE_BLOCK_PLACEHOLDER = 0, /* stands for nothing, gets SUCCESS.  R3 */
    FLUE_BLOCK_LINKER      = 1, /* an object that is offloaded already, by its handle.  R4 */
    FLUE_BLOCK_NEW         = 2  /* to be offloaded */
};

#define FLUE_NO_BLOCK UINT16_C(0xffff)
#define FLUE_TREE_BLOCKS_MAX 64u

struct flue_block {
    uint8_t object;      /* enum flue_object: CONNECTION, PATH or NEIGHBOR */
    uint8_t kind;        /* enum flue_block_kind */
    uint8_t status;      /* out: enum flue_status */
    uint8_t wr_flags;    /* NEW connection: 0 or FLUE_WR_KEEP_TIME_WAIT */
    uint16_t next;       /* block of the next sibling, or FLUE_NO_BLOCK */
    uint16_t dependents; /* block of the first dependent, or FLUE_NO_BLOCK */
    uint64_t handle;     /* LINKER: in.  NEW connection: in, held already, or FLUE_NO_CONN.  NEW: out */
    uint64_t host_handle;  /* NEW: the host's own name, in every event of the object.  R7 */
    uint32_t state_offset; /* NEW: of its state, bytes from block[0].  A connection's undelivered receive data
                            * (receive_backlog_bytes) follows its flue_state */
    uint32_t info;         /* out: with FLUE_NOT_OWNER the worker */
    uint64_t host_reserved[4]; /* the host's own; neither read nor written.  R8 */
};
FLUE_STATIC_ASSERT(sizeof(struct flue_block) == 64, "one cache line");

struct flue_neighbor_state {
    uint16_t version; /* FLUE_STATE_VERSION */
    uint16_t size;    /* sizeof(struct flue_neighbor_state) */
    /* constant */
    uint8_t source_mac[6]; /* zero = the port's own */
    uint16_t vlan_id;      /* 0 = none */
    /* cached */
    uint8_t next_hop_mac[6];
    uint16_t reserved;
    uint32_t host_reachability_ms; /* since the host last knew it to be reachable; UINT32_MAX = never */
    /* delegated */
    uint32_t nic_reachability_ms; /* since a connection through it last made progress; UINT32_MAX = never */
};
FLUE_STATIC_ASSERT(sizeof(struct flue_neighbor_state) == 28, "no padding");

struct flue_path_state {
    uint16_t version; /* FLUE_STATE_VERSION */
    uint16_t size;    /* sizeof(struct flue_path_state) */
    /* constant */
    uint8_t family; /* 4 or 6 */
    uint8_t reserved[3];
    uint8_t local_addr[16]; /* as in flue_state */
    uint8_t remote_addr[16];
    /* cached */
    uint16_t path_mtu; /* bytes of IP packet */
    uint16_t reserved2[3];
    uint64_t neighbor; /* QUERY: the neighbor that it hangs on.  UPDATE: the one to hang on, 0 = no change */
};
FLUE_STATIC_ASSERT(sizeof(struct flue_path_state) == 56, "no padding");

#ifdef __cplusplus
}
#endif
#endif
