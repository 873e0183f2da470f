#include <algorithm>

#include "chimney/impl.hpp"

/// Granted 4-tuples: connections in state `held` that belong to a session but to none of its queues
/// yet.  A grant holds the tuple at once, not only when HOLD comes: so who proves that a socket is
/// his while the grant stands cannot swap it for another's that gets the same tuple later.
namespace flue::chimney {

namespace {

constexpr uint32_t grant_ms = 2000;  ///< until HOLD or OFFLOAD has to come

}  // namespace

ConnIndex Chimney::Impl::find_grant(const queue::SessionShare& share,
                                    const wire::FlowKey& key) const {
    ConnIndex index = share.grants_front;
    while (index != tcp::no_conn && flows[index].key != key) {
        index = connections[index].next;
    }
    return index;
}

/// A grant becomes an ordinary held connection of the queue that HOLD or OFFLOAD came from.
void Chimney::Impl::redeem(Instant now, ConnIndex index, QueueIndex slot, uint64_t host_handle) {
    Connection& connection = connections[index];
    FLUE_ASSERT(connection.queue == no_queue);
    FLUE_ASSERT(granted_to[index] == &queues[slot].queue->share());
    unlink(index);
    cancel_timer(index);
    connection.drain_deadline_ms = 0;
    connection.host_handle       = host_handle;
    connection.since             = now;
    link(index, slot);
}

flue_status Chimney::Impl::grant(Instant now,
                                 queue::SessionShare& share,
                                 const wire::FlowKey& key) {
    if (intake != Intake::open) {
        return FLUE_UPLOAD_IN_PROGRESS;  // a HOLD would wait longer than the grant stands
    }
    if (find_grant(share, key) != tcp::no_conn) {
        return FLUE_TUPLE_IN_USE;
    }
    if (const flue_status status = may_hold_another(share); status != FLUE_SUCCESS) {
        return status;
    }
    const ConnIndex index = take_connection(now, share);
    flows[index]          = {.key = key};
    granted_to[index]     = &share;
    link(index, no_queue);
    const Environment::ClaimResult result = claim_tuple(key, index);
    if (result.claim != Environment::Claim::ok) {
        free_connection(index);
        return result.claim == Environment::Claim::in_use ? FLUE_TUPLE_IN_USE : FLUE_TCP_ENTRIES;
    }
    connections[index].drain_deadline_ms = std::max(ms_of(now) + grant_ms, 1u);
    arm_timer(now, index);
    return FLUE_SUCCESS;
}

void Chimney::Impl::withdraw(ConnIndex index) {
    environment.unclaim(flows[index].key);
    environment.release_held(index);
    free_connection(index);
}

flue_status Chimney::grant(Instant now, queue::SessionShare& share, const wire::FlowKey& key) {
    return impl_->grant(now, share, key);
}

void Chimney::withdraw(queue::SessionShare& share, const wire::FlowKey& key) {
    if (const ConnIndex index = impl_->find_grant(share, key); index != tcp::no_conn) {
        impl_->withdraw(index);
    }
}

bool Chimney::withdraw_some(queue::SessionShare& share) {
    constexpr uint32_t at_once = 32;
    for (uint32_t i = 0; i < at_once && share.grants_front != tcp::no_conn; ++i) {
        impl_->withdraw(share.grants_front);
    }
    return share.grants_front == tcp::no_conn;
}

}  // namespace flue::chimney
