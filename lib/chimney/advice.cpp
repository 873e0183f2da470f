#include "chimney/advice.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "chimney/impl.hpp"

// Optional reasons to ask for an upload: the connection goes on whatever the host does.  R94, R95

namespace flue::chimney {

namespace {

constexpr uint32_t per_mille = 1000;

/// rate_reached counts one of `all` and, at the end of a window, compares the share of `some`.
bool rate_reached(uint16_t& all, uint16_t& some, uint32_t threshold) {
    if (++all < Advisor::window) {
        return false;
    }
    const bool reached = threshold != 0 && some * per_mille >= threshold * uint32_t{all};
    all                = 0;
    some               = 0;
    return reached;
}

Advisor::Advice advise_if(bool reached, flue_upload_reason reason) {
    return reached ? Advisor::Advice{reason} : std::nullopt;
}

}  // namespace

bool AdviceOptions::any() const {
    return (low_activity_ms | drop_rate | small_io_bytes | no_preposting | fragmentation |
            out_of_order) != 0;
}

Advisor::Advisor(const AdviceOptions& options, uint32_t connections) : options_(options) {
    if (options.any()) {
        activities_.resize(connections);
    }
}

void Advisor::begin(Instant now, tcp::ConnIndex index) {
    activities_[index]         = {};
    activities_[index].last_ms = ms_of(now);
    if (options_.low_activity_ms != 0) {
        activities_[index].idle_due_ms = std::max(ms_of(now) + options_.low_activity_ms, 1u);
    }
}

Advisor::Advice Advisor::received(Instant now, tcp::ConnIndex index, bool out_of_order) {
    Activity& activity    = activities_[index];
    activity.last_ms      = ms_of(now);
    activity.out_of_order = static_cast<uint16_t>(activity.out_of_order + (out_of_order ? 1 : 0));
    // The last segment of a window is the one that brings its verdict.
    const bool disordered =
        rate_reached(activity.received, activity.out_of_order, options_.out_of_order);
    const bool fragmented =
        rate_reached(activity.datagrams, activity.fragments, options_.fragmentation);
    return disordered ? Advice{FLUE_UPLOAD_HIGH_OUT_OF_ORDER}
                      : advise_if(fragmented, FLUE_UPLOAD_HIGH_FRAGMENTATION);
}

Advisor::Advice Advisor::received_fragment(tcp::ConnIndex index) {
    Activity& activity = activities_[index];
    ++activity.fragments;
    return advise_if(rate_reached(activity.datagrams, activity.fragments, options_.fragmentation),
                     FLUE_UPLOAD_HIGH_FRAGMENTATION);
}

Advisor::Advice Advisor::sent(Instant now, tcp::ConnIndex index, bool repeats) {
    Activity& activity = activities_[index];
    activity.last_ms   = ms_of(now);
    activity.repeated  = static_cast<uint16_t>(activity.repeated + (repeats ? 1 : 0));
    return advise_if(rate_reached(activity.sent, activity.repeated, options_.drop_rate),
                     FLUE_UPLOAD_HIGH_DROP_RATE);
}

Advisor::Advice Advisor::requested(tcp::ConnIndex index, uint64_t bytes) {
    Activity& activity = activities_[index];
    if (options_.small_io_bytes == 0) {
        return std::nullopt;
    }
    const uint64_t counted = std::min<uint64_t>(bytes, options_.small_io_bytes * uint64_t{window});
    activity.request_bytes =
        static_cast<uint32_t>(std::min<uint64_t>(activity.request_bytes + counted, UINT32_MAX));
    if (++activity.requests < window / 4) {
        return std::nullopt;
    }
    const bool reached     = activity.request_bytes / activity.requests < options_.small_io_bytes;
    activity.requests      = 0;
    activity.request_bytes = 0;
    return advise_if(reached, FLUE_UPLOAD_SMALL_IO);
}

Advisor::Advice Advisor::delivered(tcp::ConnIndex index, bool posted) {
    Activity& activity = activities_[index];
    activity.unposted =
        static_cast<uint16_t>(posted ? 0 : std::min<uint32_t>(activity.unposted + 1u, UINT16_MAX));
    return advise_if(options_.no_preposting != 0 && activity.unposted >= options_.no_preposting,
                     FLUE_UPLOAD_NO_BUFFER_PREPOSTING);
}

Advisor::Advice Advisor::idle(Instant now, tcp::ConnIndex index) {
    Activity& activity  = activities_[index];
    const uint32_t due  = activity.last_ms + options_.low_activity_ms;
    const bool is_quiet = static_cast<int32_t>(ms_of(now) - due) >= 0;
    activity.idle_due_ms =
        is_quiet ? std::max(ms_of(now) + options_.low_activity_ms, 1u) : std::max(due, 1u);
    return advise_if(is_quiet, FLUE_UPLOAD_LOW_ACTIVITY);
}

uint32_t Advisor::idle_due_ms(tcp::ConnIndex index) const {
    return activities_[index].idle_due_ms;
}

void Advisor::stop_idle(tcp::ConnIndex index) {
    activities_[index].idle_due_ms = 0;
}

bool Advisor::ask(tcp::ConnIndex index, flue_upload_reason reason) {
    Activity& activity = activities_[index];
    const auto bit     = static_cast<uint16_t>(1u << static_cast<uint32_t>(reason));
    if ((activity.asked & bit) != 0) {
        return false;
    }
    activity.asked |= bit;
    return true;
}

/// Only ESTABLISHED is neither half closed (R94) nor on its way to its end.  One request at a time:
/// what is not asked now is at the end of the next window.
void Chimney::Impl::advise(ConnIndex index, Advisor::Advice advice) {
    if (!advice) {
        return;
    }
    Connection& connection = connections[index];
    const bool may_ask     = connection.state == OffloadState::offloaded &&
                         engine.state(index) == tcp::State::established &&
                         engine.upload_reason(index) == tcp::UploadReason::none &&
                         (connection.flags & (flag_reset | flag_terminating)) == 0 &&
                         (connection.events & event_upload) == 0;
    if (may_ask && advisor.ask(index, *advice)) {
        connection.upload_reason = static_cast<uint16_t>(*advice);
        raise(index, event_upload);
        ++counters.advices;
    }
}

void Chimney::Impl::advise_sent(Instant now, std::span<const tcp::TxSegment> segments) {
    for (const tcp::TxSegment& segment : segments) {
        const bool repeats = segment.repeats != tcp::Repeats::nothing;
        advise(segment.conn, advisor.sent(now, segment.conn, repeats));
    }
}

void Chimney::Impl::look_whether_idle(Instant now, ConnIndex index) {
    if (connections[index].state != OffloadState::offloaded) {
        return advisor.stop_idle(index);
    }
    advise(index, advisor.idle(now, index));
}

void Chimney::note_fragment(ConnIndex index) {
    const bool is_connection = index < impl_->connections.capacity();
    if (is_connection && impl_->connections[index].state == OffloadState::offloaded) {
        impl_->advise(index, impl_->advisor.received_fragment(index));
    }
}

bool Chimney::wants_fragments() const {
    return impl_->options.advice.fragmentation != 0;
}

}  // namespace flue::chimney
