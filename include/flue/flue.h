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

/* ------------------------------------------------------------------ Linux sockets (needs CAP_NET_ADMIN) */

struct flue_socket_offload_options {
    uint64_t host_handle;
    struct flue_mr *mr;      /* where the unsent and unacknowledged bytes, and the state block, are put */
    uint64_t mr_offset;      /* ... from here on */
    uint64_t mr_bytes;       /* room there */
    uint64_t send_wr_id;     /* wr_id of the SENDs for those bytes */
    int keep_time_wait;      /* the target runs 2MSL */
};

struct flue_socket_offload_result {
    flue_conn conn;
    uint64_t mr_bytes_used;
    uint32_t sends_posted;   /* completions with send_wr_id to expect */
};

/* 0: the target owns the connection and fd is closed, without a segment.  -1: errno; fd works as before. */
int flue_socket_offload(struct flue_hq *hq, int fd, const struct flue_socket_offload_options *options,
                        struct flue_socket_offload_result *result);

/* The way back; see the manual below.  >= 0: a connected kernel socket. */
struct flue_socket_upload_options {
    struct flue_mr *mr;
    uint64_t mr_offset;
    uint64_t mr_bytes;
};
int flue_socket_upload(struct flue_hq *hq, flue_conn conn, const struct flue_socket_upload_options *options);

#ifdef __cplusplus
}
#endif
#endif
