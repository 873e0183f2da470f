#include "chimney/time_wait.hpp"

namespace flue::chimney {

namespace {

bool is_past(uint32_t deadline_ms, uint32_t now_ms) {
    return static_cast<int32_t>(now_ms - deadline_ms) >= 0;
}

/// Spec: RFC 6191 §2.  A timestamp that both connections have decides alone unless it is the same;
/// a new connection with timestamps after one without them is told apart by these.
bool may_follow(const TimeWaitRecord& record, const wire::TcpFields& syn) {
    const bool later_number = syn.seq > record.rcv_nxt;
    if (!syn.has_timestamps) {
        return later_number;
    }
    const auto newer = static_cast<int32_t>(syn.ts_val - record.ts_recent);
    return !record.timestamps || newer > 0 || (newer == 0 && later_number);
}

}  // namespace

TimeWaitTable::TimeWaitTable(uint32_t records, uint32_t lifetime_us)
    : records_(records), keys_(records), lifetime_ms_(lifetime_us / 1000) {
}

std::optional<uint32_t> TimeWaitTable::add(Instant now,
                                           const wire::FlowKey& key,
                                           const tcp::Delegated& state,
                                           bool timestamps) {
    if (records_.free_count() == 0) {
        return std::nullopt;
    }
    const uint32_t index = records_.take();
    records_[index]      = {.rcv_nxt    = state.rcv_nxt,
                            .snd_nxt    = state.snd_max,
                            .ts_recent  = state.ts_recent,
                            .ts_offset  = state.ts_time - ms_of(now),
                            .expires_ms = ms_of(now) + lifetime_ms_,
                            .timestamps = timestamps};
    keys_[index]         = key;
    append(index);
    return index;
}

std::optional<uint32_t> TimeWaitTable::add_silent(Instant now, const wire::FlowKey& key) {
    const auto index = add(now, key, {}, false);
    if (index) {
        records_[*index].silent = true;
    }
    return index;
}

TimeWaitTable::Action TimeWaitTable::on_segment(Instant now,
                                                uint32_t index,
                                                const wire::TcpFields& segment,
                                                wire::TcpFields& reply) {
    TimeWaitRecord& record = records_[index];
    if ((segment.flags & wire::tcp_rst) != 0) {
        return Action::drop;  // RFC 1337: an RST must not cut TIME_WAIT short
    }
    const bool is_syn = (segment.flags & wire::tcp_syn) != 0;
    if (is_syn && (record.silent || may_follow(record, segment))) {
        return Action::reuse;
    }
    if (record.silent) {
        record.expires_ms = ms_of(now) + lifetime_ms_;
        record.restarted  = true;
        return Action::drop;
    }
    const bool is_pure_ack =
        (segment.flags & (wire::tcp_fin | wire::tcp_syn)) == 0 && segment.seq == record.rcv_nxt;
    if (is_pure_ack) {
        return Action::drop;
    }
    if ((segment.flags & wire::tcp_fin) != 0) {
        record.expires_ms = ms_of(now) + lifetime_ms_;  // our last ACK was lost: restart 2MSL
        record.restarted  = true;
    }
    reply                = {};
    reply.seq            = record.snd_nxt;
    reply.ack            = record.rcv_nxt;
    reply.flags          = wire::tcp_ack;
    reply.has_timestamps = record.timestamps;
    reply.ts_val         = ms_of(now) + record.ts_offset;
    reply.ts_ecr         = record.ts_recent;
    return Action::acknowledge;
}

std::optional<uint32_t> TimeWaitTable::expired(Instant now) {
    const uint32_t now_ms = ms_of(now);
    while (front_ != no_index) {
        const uint32_t index   = front_;
        TimeWaitRecord& record = records_[index];
        const bool removed     = keys_[index].family == wire::Family::none;
        if (!removed && record.restarted) {
            record.restarted = false;  // its time ends after that of all others now
            pop_front();
            append(index);
            continue;
        }
        if (!removed && !is_past(record.expires_ms, now_ms)) {
            return std::nullopt;
        }
        if (!removed) {
            return index;
        }
        pop_front();
        records_.give(index);
        --removed_count_;
    }
    return std::nullopt;
}

std::optional<uint32_t> TimeWaitTable::oldest() {
    while (front_ != no_index && keys_[front_].family == wire::Family::none) {
        const uint32_t removed = front_;
        pop_front();
        records_.give(removed);
        --removed_count_;
    }
    return front_ != no_index ? std::optional<uint32_t>(front_) : std::nullopt;
}

void TimeWaitTable::remove(uint32_t index) {
    keys_[index].family = wire::Family::none;
    ++removed_count_;
    if (front_ == index) {
        pop_front();
        records_.give(index);
        --removed_count_;
    }
}

void TimeWaitTable::append(uint32_t index) {
    records_[index].next = no_index;
    if (front_ == no_index) {
        front_ = index;
    } else {
        records_[back_].next = index;
    }
    back_ = index;
}

void TimeWaitTable::pop_front() {
    front_ = records_[front_].next;
    if (front_ == no_index) {
        back_ = no_index;
    }
}

}  // namespace flue::chimney
