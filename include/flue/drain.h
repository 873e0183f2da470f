/*
 * flue/drain.h: have a target drain and close a connected socket.  No library, no privilege: one
 * message.
 *
 *   1. Connect a Unix SOCK_SEQPACKET socket to the target's (flued's option --socket).
 *   2. Send one struct flue_drain_message on it, with the connected TCP socket beside it
 *      (SCM_RIGHTS).
 *   3. Exit, or wait for the answer: the same message with `status` and `error`.  A target that
 *      lets nobody of this user in says so at once: then sending fails with EPIPE, and the answer,
 *      of another type, is there.
 *
 * With FLUE_DRAIN_OK the target has the connection.  It sends everything that was written to the
 * socket and is not acknowledged, then a FIN, and closes.  All other descriptors of the socket
 * (dup, fork) are left unconnected.  What was received and not read is thrown away, and so is what
 * the peer still sends: nobody is left to read it.
 *
 * With any other status the socket is its owner's as before, with its data and options.  Where
 * nobody holds it any more, because the sender did not wait, the kernel closes it as it closes any
 * socket: it goes on sending what is left.
 *
 * Until the answer comes nobody may use the socket.  A sender proves that the connection is his by
 * having its descriptor; whether he may talk to the target at all, the permissions of the target's
 * socket file say.
 *
 * A peer that has acknowledged everything has a minute to close as well; then it is forgotten.
 * Targets that end (SIGTERM) give draining two seconds (flued's option --drain-end-ms), then reset.
 *
 * app/examples/ has a sender in C and one in Python; `flue drain` does it for a socket of another
 * process.
 */
#ifndef FLUE_DRAIN_H
#define FLUE_DRAIN_H

#include <stdint.h>

#define FLUE_DRAIN_VERSION 2u
#define FLUE_DRAIN_TYPE 8u

/* When drain_ms has passed and not all is acknowledged: an RST.  Without this flag draining goes
 * on, until TCP itself gives up on a peer that is silent; one that answers but does not read may
 * keep the connection for ever. */
#define FLUE_DRAIN_ABORT_AT_DEADLINE 1u

enum flue_drain_status {
    FLUE_DRAIN_OK            = 0,
    FLUE_DRAIN_BAD_VERSION   = 1,  /* the target is of another release */
    FLUE_DRAIN_BAD_MESSAGE   = 2,  /* unknown flags, or not exactly one descriptor */
    FLUE_DRAIN_SHUTTING_DOWN = 8,  /* the target ends */
    FLUE_DRAIN_NOT_PERMITTED = 9,  /* this user may not, or the target drains nothing (--drains) */
    FLUE_DRAIN_BAD_SOCKET    = 10, /* no TCP connection of the target's network: see `error` */
    FLUE_DRAIN_BUSY          = 12, /* too much is being drained already: try again */
    FLUE_DRAIN_REFUSED       = 13  /* see `error` */
};

/* errno values in `error`:
 *    EBADF, ENOTSOCK, EPROTOTYPE  no TCP socket
 *    ENOTCONN       it listens, is still connecting, or its connection has ended
 *    ENONET         it is of another network namespace than the target's
 *    ENETUNREACH    no route, or one that does not leave through the target
 *    EHOSTUNREACH   the peer is on this host, or the next hop does not answer
 *    EOPNOTSUPP     kernel TLS, microsecond timestamps, a packet filter
 *    EBUSY          urgent data waits
 *    EAGAIN         the socket did not stand still: somebody uses it
 *    EADDRINUSE     the target has a connection with these addresses and ports
 *    EPERM          the target lacks CAP_NET_ADMIN
 *    ENOBUFS, EMSGSIZE  it holds more, or has a larger window, than the target allows; with
 *                   FLUE_DRAIN_BUSY: ENOMEM, EDQUOT: the target has no room just now */

/* In host byte order; 128 bytes.  What is not named is zero. */
struct flue_drain_message {
    uint16_t version; /* FLUE_DRAIN_VERSION */
    uint16_t type;    /* FLUE_DRAIN_TYPE */
    uint16_t status;  /* answer: enum flue_drain_status */
    uint8_t reserved[98];
    uint32_t drain_ms; /* time allowed for draining, milliseconds; 0 = no limit */
    uint32_t flags;    /* FLUE_DRAIN_ABORT_AT_DEADLINE */
    uint32_t error;    /* answer: an errno value, or 0 */
    uint8_t reserved2[12];
};

#endif
