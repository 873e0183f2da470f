#pragma once

#include <array>
#include <cstdint>

#include "flue/abi.h"

namespace flue::queue {

/// The session socket: a Unix SOCK_SEQPACKET socket, one fixed-size message a packet, host byte
/// order.  The host asks, the target answers each request with one reply of the same `type` and
/// `tag`, in order; file descriptors travel as SCM_RIGHTS beside the message that names them.  A
/// message of another size, version or an unknown type, or with a different number of descriptors
/// than its type takes, ends the session.
///
/// The wake socket is one end of a socket pair; it becomes readable when a worker posted
/// completions after the host had armed the queue.  It is no eventfd, because both ends of that are
/// one open file: a host could make it blocking, fill it up, and so stop a worker.  Nor is it a
/// pipe, where a reader that faults holds the writer up.
constexpr uint32_t session_protocol_version = 2;

enum class MessageType : uint16_t {
    hello             = 1,  ///< first message: version, policy, name
    create_queue      = 2,  ///< reply carries 1 memfd (the rings) and 1 wake socket
    destroy_queue     = 3,
    register_region   = 4,  ///< request carries 1 memfd, F_SEAL_SHRINK set
    deregister_region = 5,  ///< the reply comes when nothing refers to the region any more
    goodbye           = 6,
    /// The request carries 1 TCP socket of the target's network namespace: from the reply on the
    /// session may claim that socket's 4-tuple, once.
    claim = 7,
    /// First and only message, instead of hello, with 1 connected TCP socket: the target takes the
    /// connection over, drains it and closes it.  The reply comes when the target has the
    /// connection, or says why not; nobody has to wait for it.
    drain = 8,
    /// First message, instead of hello: take up the session with this `token` whose host went away.
    reattach = 9,
    /// After reattach, for each queue of the session: `queue_id` is the last one returned (0 at
    /// first); the reply has the next one, as create_queue's, or status bad_key when there is none.
    recover_queue = 10,
    /// After reattach, likewise for each region: `region_key` is the last one returned.  The reply
    /// carries 1 memfd, its key and length.
    recover_region = 11,
};

/// What `drain` asks for when its deadline passes.
enum class DrainFlag : uint32_t {
    abort_at_deadline = 1,  ///< an RST; else draining goes on until TCP itself gives up
};

/// What the reply to `hello` tells of the session.
enum class SessionFlag : uint32_t {
    must_claim = 1,  ///< connections are refused unless `claim` has shown whose they are
};

enum class SessionStatus : uint16_t {
    ok             = 0,
    bad_version    = 1,
    bad_message    = 2,
    quota          = 3,
    no_memory      = 4,
    not_sealed     = 5,  ///< the memfd lacks F_SEAL_SHRINK: it could be truncated under the target
    bad_descriptor = 6,
    bad_key        = 7,
    shutting_down  = 8,
    not_permitted  = 9,   ///< this user, address or port is not allowed here: see flued's options
    bad_socket     = 10,  ///< no TCP connection of the target's network that can be taken over
    bad_token      = 11,  ///< no session waits for this token
    busy           = 12,  ///< too much of this is under way: try again
    refused        = 13,  ///< the target could not take the connection over; `error` says why
};

const char* to_string(SessionStatus status);

/// What the next host of a held session has to show.
using Token = std::array<uint8_t, 16>;

struct Message {
    uint16_t version            = session_protocol_version;
    uint16_t type               = 0;
    uint16_t status             = 0;  ///< SessionStatus, in replies
    uint16_t reserved           = 0;
    uint32_t tag                = 0;  ///< the host's, returned in the reply
    uint32_t worker_count       = 0;  ///< hello reply
    uint32_t session_id         = 0;  ///< hello reply
    uint32_t host_loss          = 0;  ///< hello: enum flue_host_loss
    uint32_t queue_id           = 0;  ///< create_queue reply, destroy_queue
    uint32_t submission_entries = 0;  ///< create_queue: per worker; the reply says what was made
    uint32_t completion_entries = 0;  ///< likewise
    uint32_t region_key         = 0;  ///< register_region reply, deregister_region
    uint64_t bytes      = 0;   ///< register_region: length; create_queue reply: length of the memfd
    char name[32]       = {};  ///< hello: for people; NUL-terminated
    int32_t memory_node = -1;  ///< hello reply: NUMA node that regions are best placed on; -1 = any
    /// hello reply: what reattach needs, for a session with the policy hold; reattach: the same.
    Token token         = {};
    uint32_t hold_ms    = 0;  ///< hello with policy hold: time to wait; 0 = the target's choice
    uint32_t drain_ms   = 0;  ///< drain: time allowed, milliseconds; 0 = no limit
    uint32_t flags      = 0;  ///< drain: DrainFlag; hello reply: SessionFlag
    uint32_t error      = 0;  ///< reply with `refused`: an errno
    uint8_t padding[12] = {};
};

static_assert(sizeof(Message) == 128);

}  // namespace flue::queue
