#pragma once

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
constexpr uint32_t session_protocol_version = 1;

enum class MessageType : uint16_t {
    hello             = 1,  ///< first message: version, policy, name
    create_queue      = 2,  ///< reply carries 1 memfd (the rings) and 1 wake socket
    destroy_queue     = 3,
    register_region   = 4,  ///< request carries 1 memfd, F_SEAL_SHRINK set
    deregister_region = 5,  ///< the reply comes when nothing refers to the region any more
    goodbye           = 6,
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
};

const char* to_string(SessionStatus status);

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
    uint8_t padding[44] = {};
};

static_assert(sizeof(Message) == 128);

}  // namespace flue::queue
