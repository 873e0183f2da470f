#include "chimney/impl.hpp"

/// Connections as objects: taken and freed, on the list of their queue, in the figures of their
/// session.
namespace flue::chimney {

namespace {

constexpr uint32_t relieved_per_poll = 32;

}  // namespace

queue::SessionShare& Chimney::Impl::share_of(ConnIndex index) {
    const QueueIndex slot = connections[index].queue;
    return slot == no_queue ? *granted_to[index] : queues[slot].queue->share();
}

flue_status Chimney::Impl::may_hold_another(const queue::SessionShare& share) const {
    if (share.held.get() >= share.held_max ||
        share.connections.used.get() >= share.connections.limit) {
        return FLUE_QUOTA;
    }
    const bool has_room =
        connections.free_count() > 0 && connection_pool.room(share.connections) > 0;
    return has_room ? FLUE_SUCCESS : FLUE_TCP_ENTRIES;
}

ConnIndex Chimney::Impl::take_connection(Instant now, queue::SessionShare& share) {
    const ConnIndex index     = connections.take();
    Connection& connection    = connections[index];
    const uint32_t generation = connection.generation;
    connection                = {};
    connection.generation     = generation;
    connection.since          = now;
    connection.state          = OffloadState::held;
    connection_pool.take(share.connections, 1);
    share.held.add(1);
    ++held_count;
    return index;
}

ConnIndex Chimney::Impl::new_connection(Instant now, QueueIndex slot, uint64_t host_handle) {
    const ConnIndex index          = take_connection(now, queues[slot].queue->share());
    connections[index].host_handle = host_handle;
    link(index, slot);
    return index;
}

ConnIndex& Chimney::Impl::list_of(ConnIndex index) {
    const QueueIndex slot = connections[index].queue;
    return slot == no_queue ? granted_to[index]->grants_front : queues[slot].connections;
}

void Chimney::Impl::link(ConnIndex index, QueueIndex slot) {
    Connection& connection = connections[index];
    connection.queue       = slot;
    ConnIndex& front       = list_of(index);
    connection.previous    = tcp::no_conn;
    connection.next        = front;
    if (connection.next != tcp::no_conn) {
        connections[connection.next].previous = index;
    }
    front = index;
}

void Chimney::Impl::unlink(ConnIndex index) {
    const Connection& connection = connections[index];
    if (connection.queue != no_queue) {
        QueueSlot& slot  = queues[connection.queue];
        slot.next_orphan = slot.next_orphan == index ? connection.next : slot.next_orphan;
        slot.next_reattached =
            slot.next_reattached == index ? connection.next : slot.next_reattached;
        slot.next_relieved = slot.next_relieved == index ? connection.next : slot.next_relieved;
    }
    if (connection.previous == tcp::no_conn) {
        list_of(index) = connection.next;
    } else {
        connections[connection.previous].next = connection.next;
    }
    if (connection.next != tcp::no_conn) {
        connections[connection.next].previous = connection.previous;
    }
}

void Chimney::Impl::free_connection(ConnIndex index) {
    Connection& connection = connections[index];
    FLUE_ASSERT(connection.state != OffloadState::free);
    FLUE_ASSERT((connection.flags & flag_on_event_list) == 0);
    leave_path(index);
    drop_requests(index);
    cancel_timer(index);
    unlink(index);
    if (connection.state == OffloadState::held) {
        count_held(index, false);
    }
    connection_pool.give(share_of(index).connections, 1);
    connection.state = OffloadState::free;
    connection.generation += connection.generation == UINT32_MAX ? 2 : 1;
    connections.give(index);
}

void Chimney::Impl::count_held(ConnIndex index, bool held) {
    Relaxed<uint32_t>& figure = share_of(index).held;
    if (held) {
        figure.add(1);
        ++held_count;
    } else {
        figure.subtract(1);
        --held_count;
    }
}

void Chimney::Impl::settle_requests(QueueSlot& slot) {
    const uint32_t now           = slot.queue->outstanding();
    SharedPool::Part& of_session = slot.queue->share().requests;
    if (now > slot.requests_counted) {
        request_pool.take(of_session, now - slot.requests_counted);
    } else if (now < slot.requests_counted) {
        request_pool.give(of_session, slot.requests_counted - now);
    }
    slot.requests_counted = now;
}

/// A session's share of requests may lie with connections that stand still and wait for a TERMINATE
/// for which there is no share left.  They give theirs back.
void Chimney::Impl::relieve(Instant now, QueueSlot& slot) {
    if (slot.next_relieved == tcp::no_conn) {
        slot.next_relieved = slot.connections;
    }
    for (uint32_t i = 0; i < relieved_per_poll && slot.next_relieved != tcp::no_conn; ++i) {
        const ConnIndex index  = slot.next_relieved;
        Connection& connection = connections[index];
        slot.next_relieved     = connection.next;
        const bool ends        = (connection.flags & flag_terminating) != 0;
        if (connection.state == OffloadState::uploading && !ends && !connection.gives_back) {
            connection.gives_back = true;
            settle(now, index);
        }
    }
}

const char* to_string(OffloadState state) {
    switch (state) {
        case OffloadState::free:
            return "free";
        case OffloadState::held:
            return "held";
        case OffloadState::offloaded:
            return "offloaded";
        case OffloadState::draining:
            return "draining";
        case OffloadState::half_closed:
            return "half-closed";
        case OffloadState::aborted:
            return "aborted";
        case OffloadState::uploading:
            return "uploading";
        case OffloadState::orphaned:
            return "orphaned";
    }
    return "unknown";
}

}  // namespace flue::chimney
