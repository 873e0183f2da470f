#include "drains.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace flue {

namespace {

constexpr uint64_t abort_id = 1;  ///< wr_id of the abortive DISCONNECT

/// A peer that has everything may go on sending for ever; Linux gives one whose socket was closed
/// as long (net.ipv4.tcp_fin_timeout).
constexpr int64_t peer_fin_wait_ms = 60'000;

constexpr unsigned worker_shift    = 56;

constexpr uint64_t make_handle(uint32_t generation, uint32_t index) {
    return uint64_t{generation} << 32 | index;
}

}  // namespace

Drains::Drains(uint32_t capacity, const Scratch& scratch, DrainCounters& counters)
    : scratch_(scratch), counters_(counters), drains_(capacity) {
    for (uint32_t i = capacity; i > 0; --i) {
        unused_.push_back(i - 1);
    }
}

Drains::Drain* Drains::find(uint64_t handle) {
    const auto index = static_cast<uint32_t>(handle);
    if (index >= drains_.size() || !drains_[index].in_use || drains_[index].handle != handle) {
        return nullptr;
    }
    return &drains_[index];
}

uint64_t Drains::reserve() {
    FLUE_ASSERT(!unused_.empty());
    const uint32_t index      = unused_.back();
    const uint32_t generation = drains_[index].generation;
    unused_.pop_back();
    Drain& drain     = drains_[index];
    drain            = {};
    drain.generation = generation;
    drain.in_use     = true;
    drain.handle     = make_handle(generation, index);
    ++count_;
    return drain.handle;
}

void Drains::cancel(uint64_t handle) {
    if (Drain* drain = find(handle)) {
        free(*drain);
    }
}

void Drains::free(Drain& drain) {
    FLUE_ASSERT(drain.in_use && count_ > 0);
    set_deadline(drain, 0);
    drain.in_use = false;
    ++drain.generation;
    unused_.push_back(static_cast<uint32_t>(drain.handle));
    --count_;
}

void Drains::set_deadline(Drain& drain, int64_t deadline_ms) {
    deadlines_.erase({drain.terms.deadline_ms, drain.handle});
    drain.terms.deadline_ms = deadline_ms;
    if (deadline_ms != 0) {
        deadlines_.emplace(deadline_ms, drain.handle);
    }
}

std::optional<int64_t> Drains::next_deadline_ms() const {
    return deadlines_.empty() ? std::nullopt : std::optional(deadlines_.begin()->first);
}

void Drains::start(uint64_t handle, const Terms& terms, const Start& start) {
    Drain* drain = find(handle);
    FLUE_ASSERT(drain != nullptr && drain->conn == FLUE_NO_CONN);
    drain->terms    = terms;
    drain->conn     = start.conn;
    drain->memory   = start.memory;
    drain->peer_fin = start.peer_fin;
    set_deadline(*drain, terms.deadline_ms);
    if (!start.disconnect_posted) {
        // Where a FIN is in flight already this is refused, once that FIN is acknowledged.
        post(*drain, FLUE_OP_DISCONNECT);
    }
}

flue_sge Drains::scratch(const Drain& drain, uint32_t bytes) const {
    const uint64_t worker = drain.conn >> worker_shift;
    return {scratch_.mr, std::min(bytes, scratch_.bytes), worker * scratch_.bytes};
}

void Drains::post(const Drain& drain, uint8_t opcode, uint64_t wr_id, uint8_t flags) {
    flue_wr wr{};
    wr.wr_id       = wr_id;
    wr.conn        = drain.conn;
    wr.opcode      = opcode;
    wr.flags       = flags;
    wr.host_handle = drain.handle;
    outbox_.push_back(wr);
}

void Drains::receive(const Drain& drain, uint32_t bytes) {
    post(drain, FLUE_OP_RECV);
    outbox_.back().sge_count = 1;
    outbox_.back().sge[0]    = scratch(drain, bytes);
}

void Drains::abort(Drain& drain, DrainCount why) {
    if (drain.aborting || drain.terminating) {
        return;
    }
    drain.aborting = why;
    post(drain, FLUE_OP_DISCONNECT, abort_id, FLUE_WR_ABORT);
}

void Drains::terminate(Drain& drain) {
    if (drain.terminating) {
        return;
    }
    drain.terminating = true;
    set_deadline(drain, 0);
    post(drain, FLUE_OP_TERMINATE);
    outbox_.back().sge_count = 2;
    outbox_.back().sge[0]    = {drain.memory.key, sizeof(flue_state), drain.memory.offset};
    outbox_.back().sge[1]    = scratch(drain, scratch_.bytes);
}

void Drains::on_completion(int64_t now_ms, const flue_wc& wc) {
    Drain* drain = find(wc.host_handle);
    if (drain == nullptr) {
        return;
    }
    switch (wc.opcode) {
        case FLUE_OP_SEND:
            if (wc.status != FLUE_SUCCESS && wc.status != FLUE_REQUEST_ABORTED &&
                wc.status != FLUE_UPLOAD_IN_PROGRESS) {
                abort(*drain, DrainCount::aborted_by_mistake);
            }
            return;
        case FLUE_OP_DISCONNECT:
            return disconnected(now_ms, *drain, wc);
        case FLUE_OP_RECV:
            return counters_.add(DrainCount::bytes_thrown_away, wc.bytes);
        case FLUE_OP_TERMINATE:
            return terminated(*drain, wc);
        case FLUE_EVENT_DATA_AVAILABLE:
            return drain->terminating ? void() : receive(*drain, wc.bytes);
        case FLUE_EVENT_DISCONNECT:
            drain->peer_fin = true;
            return drain->sent ? terminate(*drain) : void();
        case FLUE_EVENT_ABORT:
            drain->peer_reset = true;
            return drain->aborting ? void() : terminate(*drain);
        case FLUE_EVENT_UPLOAD_REQUEST:
            return upload_requested(*drain, wc.info);
        default:
            return;
    }
}

void Drains::disconnected(int64_t now_ms, Drain& drain, const flue_wc& wc) {
    if (wc.wr_id == abort_id) {
        return terminate(drain);  // the RST is out
    }
    if (wc.status == FLUE_REQUEST_ABORTED || wc.status == FLUE_UPLOAD_IN_PROGRESS) {
        return;  // the event that goes with it, or the abort, says how to go on
    }
    // INVALID_STATE: a FIN was posted before, and is acknowledged now.
    if (wc.status != FLUE_SUCCESS && wc.status != FLUE_INVALID_STATE) {
        return abort(drain, DrainCount::aborted_by_mistake);
    }
    if (drain.aborting) {
        return;
    }
    drain.sent = true;
    if (drain.peer_fin) {
        terminate(drain);
    } else if (!drain.terminating) {
        set_deadline(drain, now_ms + peer_fin_wait_ms);
    }
}

void Drains::upload_requested(Drain& drain, uint16_t reason) {
    // There is nowhere to upload to.  Only where the target has stopped, nothing is left to wait
    // for; the other reasons are advice.
    switch (reason) {
        case FLUE_UPLOAD_RECEIVED_URGENT_DATA:
        case FLUE_UPLOAD_TIMEOUT_EXPIRATION:
        case FLUE_UPLOAD_INVALID_STATE:
        case FLUE_UPLOAD_REQUESTED:
        case FLUE_UPLOAD_HARDWARE_FAILURE:
            return terminate(drain);
        default:
            return;
    }
}

void Drains::terminated(Drain& drain, const flue_wc& wc) {
    if (wc.status == FLUE_BAD_LENGTH) {  // more was received than there is scratch: throw it away
        receive(drain, wc.bytes);
        drain.terminating = false;
        return terminate(drain);
    }
    counters_.add(outcome(drain));
    ended_.push_back({drain.terms.uid, drain.memory});
    free(drain);
}

DrainCount Drains::outcome(const Drain& drain) {
    if (drain.sent) {
        return DrainCount::completed;
    }
    if (drain.aborting) {
        return *drain.aborting;
    }
    return drain.peer_reset ? DrainCount::reset_by_peer : DrainCount::given_up;
}

void Drains::on_time(int64_t now_ms) {
    while (!deadlines_.empty() && deadlines_.begin()->first <= now_ms) {
        Drain* drain = find(deadlines_.begin()->second);
        FLUE_ASSERT(drain != nullptr);
        set_deadline(*drain, 0);
        if (drain->sent) {
            terminate(*drain);
        } else if (drain->terms.abort_at_deadline) {
            abort(*drain, DrainCount::aborted_by_deadline);
        } else {
            counters_.add(DrainCount::late);
        }
    }
}

void Drains::abort_all() {
    for (Drain& drain : drains_) {
        if (drain.in_use && drain.sent) {
            terminate(drain);
        } else if (drain.in_use) {
            abort(drain, DrainCount::aborted_at_end);
        }
    }
}

}  // namespace flue
