#pragma once

#include <cstdint>

#include "base/index_list.hpp"
#include "base/instant.hpp"
#include "base/result.hpp"
#include "chimney/objects.hpp"
#include "wire/fields.hpp"

/// Paths and neighbors: what connections have in common on their way out.
///
///   neighbor <-- path <-- connection      a dependent names what it hangs on; that has a list of
///                                         its dependents
namespace flue::chimney {

using NodeIndex             = uint32_t;
constexpr NodeIndex no_node = no_index;

/// The place of an element on a list from which it can be taken out of the middle.
struct ListLink {
    uint32_t previous = no_index;
    uint32_t next     = no_index;
};

/// `link_of(index)` returns the element's ListLink&.
template <typename LinkOf>
void push_link(uint32_t& front, uint32_t index, LinkOf&& link_of) {
    link_of(index) = {.previous = no_index, .next = front};
    if (front != no_index) {
        link_of(front).previous = index;
    }
    front = index;
}

template <typename LinkOf>
void remove_link(uint32_t& front, uint32_t index, LinkOf&& link_of) {
    const ListLink link = link_of(index);
    if (link.previous == no_index) {
        FLUE_ASSERT(front == index);
        front = link.next;
    } else {
        link_of(link.previous).next = link.next;
    }
    if (link.next != no_index) {
        link_of(link.next).previous = link.previous;
    }
    link_of(index) = {};
}

enum NodeFlag : uint8_t {
    node_terminating = 0x01,  ///< TERMINATE waits until nothing depends on it; nothing new may
    node_invalid     = 0x02,
    node_sweeping    = 0x04,  ///< its dependents are being brought up to date
    node_reports     = 0x08,  ///< a path: its sweep is part of its neighbor's
    node_asked       = 0x10,  ///< FLUE_EVENT_REACHABILITY is posted or pending
    node_asking      = 0x20,  ///< it is pending: not posted yet for want of room
};

/// When something was last heard of, in microseconds; earlier than the clock's start is possible.
constexpr int64_t never_heard = INT64_MIN;

/// A path or a neighbor.  Its index is that of a pool of both; a handle says that index plus the
/// number of connections, so that no two objects of a worker share one.
struct Node {
    uint64_t host_handle    = 0;
    uint64_t terminate_id   = 0;            ///< wr_id of the TERMINATE that waits
    uint64_t sweep_id       = 0;            ///< wr_id of the UPDATE or INVALIDATE that waits
    int64_t host_heard_us   = never_heard;  ///< neighbor
    int64_t target_heard_us = never_heard;  ///< neighbor: a connection through it made progress
    uint32_t generation     = 0;
    QueueIndex queue        = no_queue;
    uint8_t object          = FLUE_CONNECTION;  ///< enum flue_object; CONNECTION: not in use
    uint8_t flags           = 0;                ///< NodeFlag
    uint8_t sweep_opcode    = 0;                ///< 0: nobody waits for the sweep
    wire::Family family     = wire::Family::none;
    uint16_t path_mtu       = 0;
    uint16_t vlan_id        = 0;
    wire::MacAddress source_mac{};
    wire::MacAddress next_hop_mac{};
    wire::IpAddress local{};
    wire::IpAddress remote{};
    NodeIndex neighbor  = no_node;   ///< of a path; none: each connection knows its next hop
    uint32_t dependents = no_index;  ///< connections of a path, paths of a neighbor
    uint32_t cursor     = no_index;  ///< where the sweep of the dependents goes on
    uint32_t awaited    = 0;         ///< neighbor: paths whose sweep is part of its own
    ListLink siblings;               ///< paths of one neighbor
    ListLink of_queue;               ///< paths, or neighbors, of one queue
    uint32_t next_sweep  = not_listed;
    uint32_t next_asking = not_listed;
    uint32_t next_free   = no_index;

    [[nodiscard]] bool is(NodeFlag flag) const { return (flags & flag) != 0; }

    void set(NodeFlag flag) { flags = static_cast<uint8_t>(flags | flag); }

    void clear(NodeFlag flag) { flags = static_cast<uint8_t>(flags & ~flag); }
};

/// Which path a connection hangs on.
struct PathLink {
    NodeIndex path = no_node;
    ListLink siblings;
};

/// What a host says of a path, and of a neighbor.
struct PathFields {
    wire::Family family = wire::Family::none;
    wire::IpAddress local{};
    wire::IpAddress remote{};
    uint16_t path_mtu  = 0;
    flue_conn neighbor = 0;
};

struct NeighborFields {
    wire::MacAddress source_mac{};
    wire::MacAddress next_hop_mac{};
    uint16_t vlan_id             = 0;
    uint32_t host_heard_ago_ms   = UINT32_MAX;  ///< UINT32_MAX = never
    uint32_t target_heard_ago_ms = UINT32_MAX;
};

/// Any content is legal.  Errors: FLUE_BAD_STATE.
Result<PathFields, flue_status> read_path(const flue_path_state& state);
Result<NeighborFields, flue_status> read_neighbor(const flue_neighbor_state& state);

/// Milliseconds between now and what heard_at made of them; UINT32_MAX = never.
uint32_t heard_ago_ms(Instant now, int64_t heard_us);
int64_t heard_at(Instant now, uint32_t ago_ms);

}  // namespace flue::chimney
