#include "host.hpp"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstring>

#include "base/crc32c.hpp"
#include "world.hpp"

namespace flue::sim {

namespace {

using Phase                       = HostEnd::Phase;

constexpr uint64_t arena_slack    = 4096;
constexpr std::byte scribble      = std::byte{0xee};
constexpr uint32_t backlog_margin = 65'536;
constexpr uint32_t retry_us       = 1'000;
constexpr uint32_t no_slot        = UINT32_MAX;

void seal(flue_state& state) {
    state.checksum = 0;
    state.checksum = crc32c(std::as_bytes(std::span(&state, 1)));
}

bool our_fin_was_sent(uint8_t state) {
    return state == FLUE_TCP_FIN_WAIT_1 || state == FLUE_TCP_FIN_WAIT_2 ||
           state == FLUE_TCP_CLOSING || state == FLUE_TCP_LAST_ACK || state == FLUE_TCP_TIME_WAIT;
}

bool our_fin_was_acked(uint8_t state) {
    return state == FLUE_TCP_FIN_WAIT_2 || state == FLUE_TCP_TIME_WAIT;
}

bool peer_fin_came(uint8_t state) {
    return state == FLUE_TCP_CLOSE_WAIT || state == FLUE_TCP_CLOSING ||
           state == FLUE_TCP_LAST_ACK || state == FLUE_TCP_TIME_WAIT;
}

bool finished(const HostEnd& end) {
    return end.fin_acked && end.peer_fin;
}

uint32_t backlog_room(const HostEnd& end) {
    return 2 * end.options().buffer + backlog_margin;
}

uint32_t send_slots(const HostEnd& end) {
    return end.options().send_depth + 1;
}

}  // namespace

struct Host::Session {
    Session(Findings& findings, uint32_t ring_entries, std::byte* base, uint64_t bytes)
        : regions(4, 1), checker(findings) {
        const queue::QueueGeometry geometry{.worker_count       = 1,
                                            .submission_entries = ring_entries,
                                            .completion_entries = ring_entries};
        auto created = queue::TargetQueueMemory::create(geometry);
        FLUE_ASSERT(created.ok());
        memory      = std::move(created.value());
        auto mapped = queue::map_queue_memory(memory.memory_fd(), geometry, memory.bytes());
        FLUE_ASSERT(mapped.ok());
        rings            = std::move(mapped.value());
        copied           = *regions.add({.base = base, .bytes = bytes, .dma_mapped = false});
        in_place         = *regions.add({.base = base, .bytes = bytes, .dma_mapped = true});

        auto parts       = memory.parts(0);
        parts.regions    = &regions;
        parts.session_id = 1;
        queue            = std::make_unique<queue::TargetQueue>(parts);
    }

    queue::Regions regions;
    uint32_t copied   = 0;  ///< key of the memory that a NIC may not read
    uint32_t in_place = 0;  ///< and of the same that it may
    queue::TargetQueueMemory memory;
    queue::QueueRings rings;
    std::unique_ptr<queue::TargetQueue> queue;
    CompletionChecker checker;
    uint64_t polled = 0;  ///< completions, events not counted
};

Host::Host(World& world, uint32_t index)
    : world_(world), index_(index), prng_(world.options().seed ^ (0x4057 + index)) {
}

Host::~Host() = default;

void Host::add(Connection& connection, uint32_t from) {
    HostEnd end;
    end.connection = &connection;
    end.from       = from;
    end.target     = connection.ends[from].options->target;
    for (uint32_t slot = 0; slot < connection.ends[from].options->send_depth + 1; ++slot) {
        end.free_send_slots.push_back(slot);
    }
    for (uint32_t slot = 0; slot < connection.ends[from].options->recv_depth; ++slot) {
        end.free_recv_slots.push_back(slot);
    }
    ends_.push_back(std::move(end));
}

void Host::start() {
    uint64_t bytes = 0;
    for (HostEnd& end : ends_) {
        bases_.push_back(bytes);
        bytes += 2 * sizeof(flue_state) + backlog_room(end) +
                 uint64_t{send_slots(end)} * end.options().send_bytes_max +
                 uint64_t{end.options().recv_depth} * end.options().recv_bytes_max;
        end.state     = first_state(end);
        end.resume_at = world_.now();
    }
    arena_ = std::make_unique_for_overwrite<std::byte[]>(bytes + arena_slack);
    for (uint32_t target = 0; target < target_count; ++target) {
        sessions_.push_back(std::make_unique<Session>(world_.findings(),
                                                      world_.options().hosts[index_].ring_entries,
                                                      arena_.get(),
                                                      bytes + arena_slack));
        world_.target(target).attach(*sessions_.back()->queue);
    }
    wake();
}

flue_state Host::first_state(const HostEnd& end) const {
    const ConnectionOptions& connection = *end.connection->options;
    const EndOptions& mine              = end.options();
    const EndOptions& theirs            = *end.other().options;
    const wire::FlowKey& key            = end.truth().key;
    const bool scaling                  = mine.wind_shift != 0 || theirs.wind_shift != 0;
    flue_state state{};
    state.version     = FLUE_STATE_VERSION;
    state.size        = sizeof(state);
    state.family      = static_cast<uint8_t>(connection.family);
    state.const_flags = static_cast<uint8_t>((connection.timestamps ? FLUE_CONST_TIMESTAMPS : 0) |
                                             (connection.sack ? FLUE_CONST_SACK : 0) |
                                             (connection.ecn ? FLUE_CONST_ECN : 0) |
                                             (scaling ? FLUE_CONST_WINDOW_SCALING : 0));
    state.congestion  = mine.congestion;
    state.snd_wind_shift = theirs.wind_shift;
    state.rcv_wind_shift = mine.wind_shift;
    state.local_port     = key.local_port;
    state.remote_port    = key.remote_port;
    std::ranges::copy(key.local, state.local_addr);
    std::ranges::copy(key.remote, state.remote_addr);
    state.remote_mss          = connection.mss;
    state.vlan_id             = connection.vlan_id;
    state.path_mtu            = connection.mtu;
    const bool keeps_alive    = connection.keep_alive_ms != 0;
    state.cached_flags        = static_cast<uint8_t>((connection.nagle ? FLUE_CACHED_NAGLE : 0) |
                                              (keeps_alive ? FLUE_CACHED_KEEP_ALIVE : 0));
    state.ka_timeout_ms       = connection.keep_alive_ms;
    state.ka_interval_ms      = connection.keep_alive_ms;
    state.ka_probe_count      = 200;  // the wire is never that bad
    state.ttl                 = 64;
    state.rcv_wnd_max         = mine.buffer;
    state.tcp_state           = FLUE_TCP_ESTABLISHED;
    state.rcv_nxt             = theirs.iss + 1;
    state.rcv_wnd             = mine.initial_window;
    state.snd_una             = mine.iss + 1;
    state.snd_nxt             = state.snd_una;
    state.snd_max             = state.snd_una;
    state.snd_wnd             = theirs.initial_window;
    state.max_snd_wnd         = theirs.initial_window;
    state.snd_wl1             = state.rcv_nxt;
    state.cwnd                = mine.cwnd == 0 ? 10U * connection.mss : mine.cwnd;
    state.ssthresh            = UINT32_MAX;
    state.ts_recent           = connection.timestamps ? theirs.ts_start : 0;
    state.ts_time             = connection.timestamps ? mine.ts_start : 0;
    state.ka_delta_ms         = -1;
    state.retransmit_delta_ms = -1;
    return state;
}

// ---------------------------------------------------------------- memory

uint64_t Host::backlog_at(uint32_t number) const {
    return bases_[number] + 2 * sizeof(flue_state);
}

uint64_t Host::send_at(uint32_t number, uint32_t slot) const {
    const HostEnd& end = ends_[number];
    return backlog_at(number) + backlog_room(end) + uint64_t{slot} * end.options().send_bytes_max;
}

uint64_t Host::receive_at(uint32_t number, uint32_t slot) const {
    const HostEnd& end = ends_[number];
    return send_at(number, send_slots(end)) + uint64_t{slot} * end.options().recv_bytes_max;
}

flue_sge Host::sge(const HostEnd& end, uint64_t offset, uint32_t length) const {
    const Session& session = *sessions_[end.target];
    return {.mr     = end.options().zero_copy ? session.in_place : session.copied,
            .length = length,
            .offset = offset};
}

// ---------------------------------------------------------------- the loop

void Host::completions_posted(uint32_t target) {
    if (!dead_ && sessions_[target]->rings.completions(0).count() > 0) {
        wake();
    }
}

void Host::wake() {
    const Instant soon = world_.now() + world_.options().hosts[index_].poll_us;
    const Instant when = std::max(soon, silent_until_);
    if (!next_tick_.is_set() || when < next_tick_) {
        next_tick_ = when;
        world_.events().at(when, *this, 0, ++tick_number_);
    }
}

void Host::act(uint32_t /*what*/, uint64_t argument) {
    if (argument != tick_number_ || dead_) {
        return;
    }
    next_tick_ = {};
    if (world_.now() < silent_until_) {
        return wake();
    }
    tick();
}

void Host::tick() {
    bool more = false;
    for (const auto& session : sessions_) {
        more = poll(*session) || more;
    }
    retries_ = false;
    Instant resume;
    for (uint32_t number = 0; number < ends_.size(); ++number) {
        drive(number);
        const HostEnd& end = ends_[number];
        if (end.phase == Phase::at_host && (!resume.is_set() || end.resume_at < resume)) {
            resume = end.resume_at;
        }
    }
    if (more) {
        return wake();
    }
    if (retries_) {
        resume =
            resume.is_set() ? std::min(resume, world_.now() + retry_us) : world_.now() + retry_us;
    }
    if (resume.is_set() && (!next_tick_.is_set() || resume < next_tick_)) {
        next_tick_ = std::max(resume, world_.now() + 1);
        world_.events().at(next_tick_, *this, 0, ++tick_number_);
    }
}

bool Host::poll(Session& session) {
    std::array<flue_wc, 64> batch;
    const uint32_t most  = world_.options().hosts[index_].poll_batch;
    auto ring            = session.rings.completions(0);
    const uint32_t count = ring.dequeue(std::span(batch).first(most));
    for (uint32_t i = 0; i < count; ++i) {
        take(session, batch[i]);
    }
    if (count > 0) {
        world_.target(session.queue == sessions_[0]->queue ? 0 : 1).wake();  // there is room again
    }
    return ring.count() > 0;
}

void Host::take(Session& session, const flue_wc& wc) {
    world_.trace().add(world_.now(),
                       Record::completion,
                       {index_, wc.wr_id, wc.opcode, wc.status, wc.bytes, wc.host_handle});
    if (wc.conn == FLUE_NO_CONN && (wc.opcode & 0x80) != 0) {
        return take_queue_event(session, wc);
    }
    if (wc.host_handle == 0 || wc.host_handle > ends_.size()) {
        return world_.findings().wrong("host %u: R7: host handle %" PRIu64, index_, wc.host_handle);
    }
    const auto number = static_cast<uint32_t>(wc.host_handle - 1);
    HostEnd& end      = ends_[number];
    if ((wc.opcode & 0x80) != 0) {
        return take_event(end, wc);
    }
    ++session.polled;
    if (world_.skips_completion(wc)) {
        return;
    }
    const Posted posted = session.checker.completed(number, wc);
    switch (posted.opcode) {
        case FLUE_OP_SEND:
        case FLUE_OP_DISCONNECT:
            return take_send(end, posted, wc);
        case FLUE_OP_RECV:
            return take_receive(end, posted, wc);
        case FLUE_OP_HOLD:
        case FLUE_OP_OFFLOAD:
            return take_offload(end, wc);
        case FLUE_OP_TERMINATE:
            return take_terminate(end, posted, wc);
        case FLUE_OP_UPDATE:
        case FLUE_OP_INVALIDATE:
            return take_update(end, wc);
        case FLUE_OP_QUERY:
        case FLUE_OP_RELEASE:
            if (wc.status != FLUE_SUCCESS && wc.status != FLUE_INVALID_STATE &&
                wc.status != FLUE_BAD_CONNECTION) {
                world_.findings().wrong(
                    "host %u: opcode %u has status %u", index_, wc.opcode, wc.status);
            }
            return;
        default:
            return;
    }
}

void Host::take_queue_event(const Session& session, const flue_wc& wc) {
    if (wc.opcode != FLUE_EVENT_UPLOAD_ALL) {
        return;
    }
    for (HostEnd& end : ends_) {
        end.upload_wanted |= end.phase == Phase::live && sessions_[end.target].get() == &session;
    }
}

void Host::take_event(HostEnd& end, const flue_wc& wc) {
    Findings& findings = world_.findings();
    switch (wc.opcode) {
        case FLUE_EVENT_DISCONNECT:
            if (!end.other().fin_sent ||
                end.received != end.other().offset_of(end.other().fin_seq)) {
                findings.wrong("host %u: R81: peer's FIN told after %u bytes, it is at %u",
                               index_,
                               end.received,
                               end.other().offset_of(end.other().fin_seq));
            }
            if (end.peer_fin) {
                findings.wrong("host %u: the peer's FIN is told twice", index_);
            }
            end.peer_fin = true;
            return;
        case FLUE_EVENT_ABORT:
            if (!end.other().reset_sent && !end.other().kernel_reset) {
                findings.wrong("host %u: R84: an abort event without an RST", index_);
            }
            end.reset = true;
            return;
        case FLUE_EVENT_UPLOAD_REQUEST:
            end.upload_wanted = true;
            end.upload_asked  = true;
            return;
        case FLUE_EVENT_DATA_AVAILABLE:
            if (wc.bytes == 0) {
                findings.wrong("host %u: DATA_AVAILABLE of nothing", index_);
            }
            end.data_waits = true;
            return;
        default:
            return;
    }
}

// ---------------------------------------------------------------- completions

void Host::take_send(HostEnd& end, const Posted& posted, const flue_wc& wc) {
    const auto number = static_cast<uint32_t>(&end - ends_.data());
    if (posted.slot != no_slot) {
        std::byte* memory = arena_.get() + send_at(number, posted.slot);
        std::fill_n(memory, posted.length, scribble);  // it is ours again
        end.free_send_slots.push_back(posted.slot);
    }
    if (wc.status != FLUE_SUCCESS) {
        return take_aborted_or_uploaded(end, posted, wc);
    }
    const bool is_abort = (posted.flags & FLUE_WR_ABORT) != 0;
    if (is_abort) {
        end.reset = true;
        return;
    }
    const uint32_t fin = posted.opcode == FLUE_OP_DISCONNECT ? 1 : 0;
    const Seq until    = end.truth().first() + posted.offset + posted.length + fin;
    if (wc.bytes != posted.length || end.send_failed) {
        world_.findings().wrong("host %u: R38, R40: %u of %u bytes, after failures: %d",
                                index_,
                                wc.bytes,
                                posted.length,
                                end.send_failed);
    }
    if (end.other().acked < until) {
        world_.findings().wrong("host %u: R38: completed up to %u, acknowledged up to %u",
                                index_,
                                end.truth().offset_of(until),
                                end.truth().offset_of(end.other().acked));
    }
    end.acked += wc.bytes;
    end.fin_acked |= fin != 0;
}

void Host::take_aborted_or_uploaded(HostEnd& end, const Posted& posted, const flue_wc& wc) {
    Findings& findings = world_.findings();
    if (wc.status == FLUE_REQUEST_ABORTED) {
        end.reset        = true;
        const End& other = end.other();
        if (!other.reset_sent && !other.kernel_reset && !end.truth().reset_ordered) {
            findings.wrong("host %u: request aborted, and there is no RST", index_);
        }
    } else if (wc.status == FLUE_UPLOAD_IN_PROGRESS) {
        end.upload_wanted |= end.phase == Phase::live;
    } else if (wc.status != FLUE_INVALID_STATE || !end.send_failed) {  // R40
        findings.wrong("host %u: opcode %u completes with status %u", index_, wc.opcode, wc.status);
    }
    if ((posted.flags & FLUE_WR_ABORT) != 0) {
        end.abort_posted = false;
        return;
    }
    if (end.send_part_failed && wc.bytes != 0) {
        findings.wrong("host %u: R41: two sends are partly completed", index_);
    }
    if (wc.bytes > posted.length) {
        findings.wrong("host %u: %u of %u bytes acknowledged", index_, wc.bytes, posted.length);
    }
    end.send_failed = true;
    end.send_part_failed |= wc.bytes < posted.length;
    end.acked += wc.bytes;
}

void Host::take_receive(HostEnd& end, const Posted& posted, const flue_wc& wc) {
    Findings& findings    = world_.findings();
    const auto number     = static_cast<uint32_t>(&end - ends_.data());
    const uint32_t length = std::min(wc.bytes, posted.length);
    std::byte* memory     = arena_.get() + receive_at(number, posted.slot);
    const size_t at       = end.other().out.mismatch(end.received, {memory, length});
    if (at != length) {
        findings.wrong("host %u: %u/%u: byte %zu is delivered wrong",
                       index_,
                       end.connection->index,
                       end.from,
                       end.received + at);
    }
    std::fill_n(memory, length, scribble);
    end.free_recv_slots.push_back(posted.slot);
    end.received += length;
    if (wc.bytes > posted.length || end.received > end.other().posted) {
        findings.wrong("host %u: %u bytes for a RECV of %u; %u received of %u",
                       index_,
                       wc.bytes,
                       posted.length,
                       end.received,
                       end.other().posted);
    }
    const bool may_be_short = end.other().fin_sent;
    switch (wc.status) {
        case FLUE_SUCCESS:
            if (wc.bytes == 0 && posted.length > 0 && !may_be_short) {
                findings.wrong("host %u: an empty RECV and no FIN", index_);
            }
            if ((posted.flags & FLUE_WR_NO_PUSH) != 0 && wc.bytes < posted.length &&
                !may_be_short) {
                findings.wrong(
                    "host %u: R49: %u of %u bytes without push", index_, wc.bytes, posted.length);
            }
            return;
        case FLUE_INVALID_STATE:
            if (!may_be_short) {
                findings.wrong("host %u: R58: RECV refused and no FIN", index_);
            }
            return;
        case FLUE_REQUEST_ABORTED:
            end.reset = true;
            if (!end.other().reset_sent && !end.other().kernel_reset &&
                !end.truth().reset_ordered) {
                findings.wrong("host %u: RECV aborted, and there is no RST", index_);
            }
            return;
        case FLUE_UPLOAD_IN_PROGRESS:
            return;
        default:
            findings.wrong("host %u: RECV completes with status %u", index_, wc.status);
    }
}

void Host::take_update(HostEnd& end, const flue_wc& wc) {
    switch (wc.status) {
        case FLUE_SUCCESS:
            break;
        case FLUE_UPLOAD_IN_PROGRESS:
        case FLUE_REQUEST_ABORTED:
        case FLUE_INVALID_STATE:
            return;
        default:
            return world_.findings().wrong(
                "host %u: opcode %u has status %u", index_, wc.opcode, wc.status);
    }
    if (wc.opcode == FLUE_OP_INVALIDATE) {
        end.truth().invalidated = true;
        return;
    }
    end.truth().mtu       = end.update.path_mtu;
    end.state.path_mtu    = end.update.path_mtu;
    end.state.rcv_wnd_max = end.update.rcv_wnd_max;
    end.state.cached_flags =
        static_cast<uint8_t>(end.update.cached_flags & ~uint32_t{FLUE_CACHED_UPDATE_RCV_WND});
}

void Host::take_offload(HostEnd& end, const flue_wc& wc) {
    if (wc.status == FLUE_SUCCESS && wc.opcode == FLUE_OP_HOLD) {
        end.handle    = wc.conn;
        end.phase     = Phase::at_host;
        end.resume_at = world_.now();
        return;
    }
    if (wc.status == FLUE_SUCCESS) {
        end.handle            = wc.conn;
        end.phase             = Phase::live;
        end.backlog_bytes     = 0;
        end.send_failed       = false;
        end.send_part_failed  = false;
        end.invalidate_posted = false;
        end.data_waits        = false;
        return;
    }
    const bool scarce = wc.status == FLUE_TCP_ENTRIES || wc.status == FLUE_UPLOAD_IN_PROGRESS ||
                        wc.status == FLUE_RESOURCES || wc.status == FLUE_TCP_RCV_BUFFER;
    if (!scarce) {
        world_.findings().wrong(
            "host %u: opcode %u refused with status %u", index_, wc.opcode, wc.status);
    }
    end.phase     = Phase::at_host;
    end.resume_at = world_.now() + 10'000;
}

void Host::take_terminate(HostEnd& end, const Posted& posted, const flue_wc& wc) {
    const auto number   = static_cast<uint32_t>(&end - ends_.data());
    const auto& checker = sessions_[end.target]->checker;
    if (wc.status != FLUE_SUCCESS) {
        return world_.findings().wrong(
            "host %u: TERMINATE completes with status %u, %u bytes", index_, wc.status, wc.bytes);
    }
    for (const uint8_t opcode : {FLUE_OP_SEND, FLUE_OP_RECV, FLUE_OP_QUERY}) {
        if (checker.outstanding_of(number, opcode) != 0) {
            world_.findings().wrong("host %u: R101: requests outlive TERMINATE", index_);
        }
    }
    flue_state state;
    std::memcpy(&state, arena_.get() + bases_[number], sizeof(state));
    check_state(end, state, wc.bytes);
    end.truth().invalidated = false;
    const bool kept_held    = (posted.flags & FLUE_WR_KEEP_HELD) != 0;
    end.handle              = kept_held ? end.handle : FLUE_NO_CONN;
    go_on_after(end, state, wc.bytes);
}

void Host::check_state(HostEnd& end, const flue_state& state, uint32_t backlog) {
    Findings& findings = world_.findings();
    flue_state copy    = state;
    seal(copy);
    if (copy.checksum != state.checksum) {
        findings.wrong("host %u: the state's checksum is wrong", index_);
    }
    const auto number   = static_cast<uint32_t>(&end - ends_.data());
    const uint32_t ours = our_fin_was_acked(state.tcp_state) ? 1 : 0;
    const uint32_t una  = state.snd_una - end.truth().first().value;
    const bool closed   = state.tcp_state == FLUE_TCP_CLOSED;
    // The peer may have acknowledged what an earlier offload sent and nobody has posted since.
    const bool beyond  = una - ours > end.acked && una - ours <= end.sent_before;
    const bool and_fin = closed && (una == end.acked + 1 || una == end.sent_before + 1);
    if (una != end.acked + ours && !and_fin && !beyond) {
        findings.wrong("host %u: %u/%u: SND.UNA is at %u, completions said %u bytes; state %u",
                       index_,
                       end.connection->index,
                       end.from,
                       una,
                       end.acked,
                       state.tcp_state);
    }
    end.acked          = std::max(end.acked, and_fin ? una - 1 : una - ours);
    const uint32_t got = state.rcv_nxt - end.other().first().value;
    const bool fin     = got == end.received + backlog + 1 && end.other().fin_sent;
    if (got != end.received + backlog && !fin) {
        findings.wrong("host %u: %u/%u: RCV.NXT is at %u, %u bytes received and %u given back",
                       index_,
                       end.connection->index,
                       end.from,
                       got,
                       end.received,
                       backlog);
    }
    if (backlog != state.receive_backlog_bytes) {
        findings.wrong("host %u: receive backlog %u, %u in the completion",
                       index_,
                       state.receive_backlog_bytes,
                       backlog);
    }
    const std::byte* memory = arena_.get() + backlog_at(number);
    const size_t at         = end.other().out.mismatch(end.received, {memory, backlog});
    if (at != backlog) {
        findings.wrong("host %u: %u/%u: byte %zu is given back wrong",
                       index_,
                       end.connection->index,
                       end.from,
                       end.received + at);
    }
}

void Host::go_on_after(HostEnd& end, const flue_state& state, uint32_t backlog) {
    end.backlog_bytes = backlog;
    end.upload_wanted = false;
    end.fin_acked |= our_fin_was_acked(state.tcp_state);
    end.peer_fin |= peer_fin_came(state.tcp_state) && backlog == 0;
    const bool closed = state.tcp_state == FLUE_TCP_CLOSED;
    if (closed || state.tcp_state == FLUE_TCP_TIME_WAIT) {
        end.received += backlog;                                         // the host has it
        end.truth().acked = max(end.truth().acked, Seq{state.rcv_nxt});  // and would say so
        return leave(end);
    }
    end.state = state;
    end.sent_before =
        state.snd_max - end.truth().first().value - (our_fin_was_sent(state.tcp_state) ? 1 : 0);
    end.state.retransmit_count     = 0;  // the host's patience has no end
    end.state.total_rt_ms          = 0;
    end.state.ka_probes_unanswered = 0;
    end.next_offset                = end.acked;
    end.disconnect_posted          = false;
    const uint32_t wait_us         = world_.healed() ? 0 : prng_.below(20'000);
    end.move_wanted                = prng_.chance(1, 3);
    end.phase                      = Phase::at_host;
    end.parked_at                  = world_.now();
    end.resume_at                  = world_.now() + wait_us;
}

// ---------------------------------------------------------------- requests

flue_wr Host::request(const HostEnd& end, uint8_t opcode) {
    flue_wr wr{};
    wr.wr_id       = next_wr_id_++;
    wr.conn        = end.handle;
    wr.opcode      = opcode;
    wr.host_handle = static_cast<uint64_t>(&end - ends_.data()) + 1;
    return wr;
}

bool Host::post(uint32_t number, flue_wr wr, Posted posted) {
    HostEnd& end     = ends_[number];
    Session& session = *sessions_[end.target];
    auto ring        = session.rings.submissions(0);
    if (ring.enqueue(std::span<const flue_wr>(&wr, 1)) != 1) {
        retries_ = true;
        return false;
    }
    posted.wr_id  = wr.wr_id;
    posted.end    = number;
    posted.opcode = wr.opcode;
    posted.flags  = wr.flags;
    session.checker.posted(posted);
    world_.trace().add(world_.now(),
                       Record::request,
                       {index_, wr.wr_id, wr.opcode, wr.flags, wr.sge[0].length, number});
    world_.target(end.target).wake();
    return true;
}

/// A connection's first request in a direction may always be posted; more than that only while
/// half of the ring is left, or requests that wait for the peer would keep others out.
bool Host::may_post_more(const HostEnd& end, uint8_t opcode) const {
    const auto number      = static_cast<uint32_t>(&end - ends_.data());
    const Session& session = *sessions_[end.target];
    if (session.checker.outstanding_of(number, opcode) == 0) {
        return true;
    }
    return session.checker.outstanding() < world_.options().hosts[index_].ring_entries / 2;
}

void Host::drive(uint32_t number) {
    HostEnd& end = ends_[number];
    switch (end.phase) {
        case Phase::at_host:
            return drive_at_host(number);
        case Phase::live:
            return drive_live(number);
        case Phase::leaving:
            end.phase = post_release(number) ? Phase::over : Phase::leaving;
            return;
        case Phase::holding:
        case Phase::offloading:
        case Phase::terminating:
        case Phase::over:
            return;
    }
}

void Host::drive_at_host(uint32_t number) {
    HostEnd& end = ends_[number];
    if (world_.now() < end.resume_at) {
        return;
    }
    if (end.move_wanted) {
        if (end.handle != FLUE_NO_CONN && !post_release(number)) {
            return;
        }
        end.target        = static_cast<uint8_t>(1 - end.target);
        end.truth().route = end.target;
        end.move_wanted   = false;
    }
    if (end.handle == FLUE_NO_CONN && end.options().hold_first) {
        return post_hold(number);
    }
    post_offload(number);
}

bool Host::post_release(uint32_t number) {
    HostEnd& end = ends_[number];
    flue_wr wr   = request(end, FLUE_OP_RELEASE);
    wr.flags     = end.state.tcp_state == FLUE_TCP_CLOSE_WAIT ? FLUE_WR_REPLAY_FIN : 0;
    if (!post(number, wr, {})) {
        return false;
    }
    end.handle = FLUE_NO_CONN;
    return true;
}

void Host::leave(HostEnd& end) {
    end.phase        = end.handle != FLUE_NO_CONN ? Phase::leaving : Phase::over;
    end.truth().over = true;
}

void Host::post_hold(uint32_t number) {
    HostEnd& end = ends_[number];
    seal(end.state);
    std::memcpy(arena_.get() + bases_[number], &end.state, sizeof(end.state));
    flue_wr wr   = request(end, FLUE_OP_HOLD);
    wr.sge_count = 1;
    wr.sge[0]    = sge(end, bases_[number], sizeof(flue_state));
    if (post(number, wr, {})) {
        end.phase = Phase::holding;
    }
}

void Host::post_offload(uint32_t number) {
    HostEnd& end     = ends_[number];
    flue_state state = end.state;
    // The timestamp clock goes on while the state lies here.
    const auto waited_us = static_cast<uint64_t>(world_.now() - end.parked_at);
    if (end.connection->options->timestamps) {
        state.ts_time += static_cast<uint32_t>(waited_us / 1000);
    }
    seal(state);
    std::memcpy(arena_.get() + bases_[number], &state, sizeof(state));
    flue_wr wr   = request(end, FLUE_OP_OFFLOAD);
    wr.flags     = end.options().keep_time_wait ? FLUE_WR_KEEP_TIME_WAIT : 0;
    wr.sge_count = 1;
    wr.sge[0]    = sge(end, bases_[number], sizeof(flue_state));
    if (end.backlog_bytes > 0) {
        wr.sge_count = 2;
        wr.sge[1]    = sge(end, backlog_at(number), end.backlog_bytes);
    }
    if (post(number, wr, {})) {
        end.phase               = Phase::offloading;
        end.truth().invalidated = false;
        end.truth().reported.clear();  // a state block tells only some of it
        end.truth().mtu = std::max<uint32_t>(end.truth().mtu, state.path_mtu);
    }
}

void Host::drive_live(uint32_t number) {
    HostEnd& end = ends_[number];
    if (end.abort_wanted && !end.reset) {
        post_abort(number);
    }
    if (wants_terminate(end)) {
        return post_terminate(number);
    }
    if (end.query_wanted) {
        post_query(number);
    }
    if (end.update_wanted) {
        post_update(number);
    }
    if (end.invalidate_wanted && !end.reset) {
        post_invalidate(number);
    }
    post_receives(number);
    if (!end.reset && !end.abort_posted && !end.send_failed) {
        post_sends(number);
    }
}

bool Host::wants_terminate(const HostEnd& end) const {
    const bool finished = end.fin_acked && end.peer_fin;
    if (end.reset || finished) {
        return true;
    }
    return end.upload_wanted;
}

void Host::post_terminate(uint32_t number) {
    HostEnd& end = ends_[number];
    // Constant and cached fields are left as they are: R10.
    std::memcpy(arena_.get() + bases_[number], &end.state, sizeof(end.state));
    flue_wr wr   = request(end, FLUE_OP_TERMINATE);
    wr.flags     = !end.reset && prng_.chance(1, 2) && !finished(end) ? FLUE_WR_KEEP_HELD : 0;
    wr.sge_count = 2;
    wr.sge[0]    = sge(end, bases_[number], sizeof(flue_state));
    wr.sge[1]    = sge(end, backlog_at(number), backlog_room(end));
    if (post(number, wr, {})) {
        end.invalidate_wanted = false;
        end.phase             = Phase::terminating;
        end.upload_asked      = false;
    }
}

void Host::post_abort(uint32_t number) {
    HostEnd& end = ends_[number];
    flue_wr wr   = request(end, FLUE_OP_DISCONNECT);
    wr.flags     = FLUE_WR_ABORT;
    if (post(number, wr, {.slot = no_slot})) {
        end.truth().reset_ordered = true;
        end.abort_wanted          = false;
        end.abort_posted          = true;
    }
}

void Host::post_query(uint32_t number) {
    HostEnd& end           = ends_[number];
    const Session& session = *sessions_[end.target];
    if (session.checker.outstanding_of(number, FLUE_OP_QUERY) > 0) {
        return;
    }
    flue_wr wr   = request(end, FLUE_OP_QUERY);
    wr.sge_count = 1;
    wr.sge[0]    = sge(end, bases_[number], sizeof(flue_state));
    if (post(number, wr, {})) {
        end.query_wanted = false;
    }
}

/// A path MTU and a receive window that are less than at first, or the same.
void Host::post_update(uint32_t number) {
    HostEnd& end                  = ends_[number];
    const ConnectionOptions& with = *end.connection->options;
    if (sessions_[end.target]->checker.outstanding_of(number, FLUE_OP_UPDATE) > 0) {
        return;
    }
    const bool six         = with.family == wire::Family::ipv6;
    const uint32_t mtu_min = six ? 1280 : 600;
    const uint32_t mtu     = mtu_min + prng_.below(with.mtu - mtu_min + 1);
    const uint32_t wnd_min = std::min(2U * with.mss, end.options().buffer);
    const uint32_t wnd     = wnd_min + prng_.below(end.options().buffer - wnd_min + 1);
    const bool tells       = prng_.chance(1, 2);
    const bool nagle       = prng_.chance(1, 2);
    end.update             = end.state;
    end.update.path_mtu    = static_cast<uint16_t>(mtu);
    end.update.rcv_wnd_max = wnd;
    end.update.cached_flags ^= nagle ? FLUE_CACHED_NAGLE : 0;
    end.update.cached_flags |= tells ? FLUE_CACHED_UPDATE_RCV_WND : 0;
    seal(end.update);
    const uint64_t at = bases_[number] + sizeof(flue_state);
    std::memcpy(arena_.get() + at, &end.update, sizeof(end.update));
    flue_wr wr   = request(end, FLUE_OP_UPDATE);
    wr.sge_count = 1;
    wr.sge[0]    = sge(end, at, sizeof(flue_state));
    if (post(number, wr, {})) {
        end.update_wanted = false;
        end.truth().mtu   = std::max(end.truth().mtu, mtu);
    }
}

void Host::post_invalidate(uint32_t number) {
    HostEnd& end = ends_[number];
    if (post(number, request(end, FLUE_OP_INVALIDATE), {})) {
        end.invalidate_wanted = false;
        end.invalidate_posted = true;
    }
}

void Host::post_receives(uint32_t number) {
    HostEnd& end = ends_[number];
    while (!end.peer_fin && !end.reset && !end.free_recv_slots.empty() &&
           may_post_more(end, FLUE_OP_RECV)) {
        if (end.options().on_event && !end.data_waits && !world_.healed() && end.received > 0) {
            return;
        }
        const uint32_t slot   = end.free_recv_slots.back();
        const bool empty      = end.options().empty_requests && prng_.chance(1, 16);
        const uint32_t length = empty ? 0 : 1 + prng_.below(end.options().recv_bytes_max);
        flue_wr wr            = request(end, FLUE_OP_RECV);
        wr.flags              = end.options().no_push ? FLUE_WR_NO_PUSH : 0;
        wr.sge_count          = 1;
        wr.sge[0]             = sge(end, receive_at(number, slot), length);
        if (!post(number, wr, {.length = length, .slot = slot})) {
            return;
        }
        end.free_recv_slots.pop_back();
        end.data_waits = false;
    }
}

bool Host::may_disconnect(const HostEnd& end) const {
    return !end.disconnect_posted && !end.fin_acked &&
           (end.options().close_first || end.peer_fin || world_.healed());
}

void Host::post_sends(uint32_t number) {
    HostEnd& end         = ends_[number];
    const uint32_t total = end.options().stream_bytes;
    while (!end.disconnect_posted && !end.fin_acked && may_post_more(end, FLUE_OP_SEND)) {
        if (end.free_send_slots.empty()) {
            return;
        }
        const uint32_t left = total - end.next_offset;
        const bool last     = left <= end.options().send_bytes_max && may_disconnect(end) &&
                          (left == 0 || prng_.chance(1, 2));
        if (left == 0 && !last) {
            return;
        }
        if (!post_send(number, last)) {
            return;
        }
    }
}

bool Host::post_send(uint32_t number, bool disconnect) {
    HostEnd& end        = ends_[number];
    const uint32_t left = end.options().stream_bytes - end.next_offset;
    const uint32_t most = std::min(left, end.options().send_bytes_max);
    const bool may_be_empty =
        end.options().empty_requests && !disconnect && !our_fin_was_sent(end.state.tcp_state);
    const bool empty      = may_be_empty && prng_.chance(1, 16);
    const uint32_t length = empty ? 0 : disconnect || most == 0 ? most : 1 + prng_.below(most);
    const uint32_t slot   = end.free_send_slots.back();
    const uint64_t at     = send_at(number, slot);
    end.truth().out.fill(end.next_offset, {arena_.get() + at, length});
    flue_wr wr           = request(end, disconnect ? FLUE_OP_DISCONNECT : FLUE_OP_SEND);
    const bool split     = length > 1 && prng_.chance(1, 4);
    const uint32_t first = split ? 1 + prng_.below(length - 1) : length;
    wr.sge_count         = static_cast<uint8_t>(split ? 2 : 1);
    wr.sge[0]            = sge(end, at, first);
    if (split) {
        wr.sge[1] = sge(end, at + first, length - first);
    }
    End& truth = end.truth();
    if (disconnect && end.options().deadlines && !world_.healed()) {
        wr.drain_ms = 1 + prng_.below(200);
        if (prng_.chance(1, 8)) {
            wr.flags            = FLUE_WR_DEADLINE_ABORT;
            truth.reset_ordered = true;
        }
    }
    const uint32_t posted  = truth.posted;
    const bool fin_ordered = truth.fin_ordered;
    truth.posted           = std::max(truth.posted, end.next_offset + length);
    truth.fin_ordered      = truth.fin_ordered || disconnect;
    const Posted remember{.offset = end.next_offset, .length = length, .slot = slot};
    if (!post(number, wr, remember)) {
        truth.posted      = posted;
        truth.fin_ordered = fin_ordered;
        return false;
    }
    end.free_send_slots.pop_back();
    end.next_offset += length;
    end.disconnect_posted |= disconnect;
    return true;
}

// ---------------------------------------------------------------- faults

HostEnd* Host::pick_live(uint32_t pick) {
    if (ends_.empty() || dead_) {
        return nullptr;
    }
    HostEnd& end = ends_[pick % ends_.size()];
    if (end.phase != Phase::live) {
        return nullptr;
    }
    wake();
    return &end;
}

void Host::upload_one(uint32_t pick, bool move) {
    if (HostEnd* end = pick_live(pick); end != nullptr && !end->reset) {
        end->upload_wanted = true;
        end->move_wanted   = move;
    }
}

void Host::abort_one(uint32_t pick) {
    if (HostEnd* end = pick_live(pick); end != nullptr) {
        end->abort_wanted = true;
    }
}

void Host::query_one(uint32_t pick) {
    if (HostEnd* end = pick_live(pick); end != nullptr) {
        end->query_wanted = true;
    }
}

void Host::update_one(uint32_t pick) {
    if (HostEnd* end = pick_live(pick); end != nullptr) {
        end->update_wanted = true;
    }
}

void Host::invalidate_one(uint32_t pick) {
    if (HostEnd* end = pick_live(pick); end != nullptr) {
        end->invalidate_wanted = true;
    }
}

void Host::die() {
    if (dead_) {
        return;
    }
    dead_             = true;
    const bool resets = world_.options().hosts[index_].abort_on_loss;
    for (HostEnd& end : ends_) {
        End& truth = end.truth();
        if (end.phase == Phase::over) {
            continue;
        }
        truth.lost = true;
        truth.reset_ordered |= resets;
        truth.drains = end.phase == Phase::live && !truth.reset_ordered && !end.send_failed &&
                       !end.upload_asked && !end.other().reset_ordered &&
                       end.next_offset == truth.posted && !end.invalidate_posted &&
                       world_.target(end.target).takes_sends();
        truth.over = !world_.target(end.target).knows(truth.key);
    }
    for (uint32_t target = 0; target < target_count; ++target) {
        world_.target(target).lose(*sessions_[target]->queue,
                                   resets ? chimney::HostLoss::abort : chimney::HostLoss::drain);
    }
}

// ---------------------------------------------------------------- checks

bool Host::is_over() const {
    if (dead_) {
        return true;
    }
    for (const auto& session : sessions_) {
        if (session->checker.outstanding() > 0) {
            return false;
        }
    }
    return std::ranges::all_of(ends_, [](const HostEnd& end) { return end.phase == Phase::over; });
}

/// Posted = completed + outstanding, whoever counts.
void Host::check() {
    if (dead_) {
        return;
    }
    for (const auto& session : sessions_) {
        const uint64_t on_the_way = session->queue->counters().completions - session->polled;
        const uint64_t there =
            session->rings.submissions(0).count() + session->queue->outstanding() + on_the_way;
        if (there != session->checker.outstanding()) {
            world_.findings().wrong("host %u: %u requests outstanding, %" PRIu64 " to be found",
                                    index_,
                                    session->checker.outstanding(),
                                    there);
        }
    }
}

void Host::check_home() {
    check();
    for (const HostEnd& end : ends_) {
        if (dead_ || !end.connection->must_end_well()) {
            continue;
        }
        const EndOptions& theirs = *end.other().options;
        if (end.received != theirs.stream_bytes || end.acked != end.options().stream_bytes) {
            world_.findings().wrong("host %u: %u/%u: received %u of %u bytes, sent %u of %u",
                                    index_,
                                    end.connection->index,
                                    end.from,
                                    end.received,
                                    theirs.stream_bytes,
                                    end.acked,
                                    end.options().stream_bytes);
        }
    }
}

void Host::show() const {
    for (const auto& session : sessions_) {
        std::printf("host %u: %u requests outstanding, %u with the target\n",
                    index_,
                    session->checker.outstanding(),
                    session->queue->outstanding());
    }
    for (const HostEnd& end : ends_) {
        std::printf(
            "host %u%s: %u/%u target %u phase %u, sent %u posted %u of %u, received %u, "
            "fin %d%d peer fin %d reset %d upload %d\n",
            index_,
            dead_ ? " (dead)" : "",
            end.connection->index,
            end.from,
            end.target,
            static_cast<uint32_t>(end.phase),
            end.acked,
            end.next_offset,
            end.options().stream_bytes,
            end.received,
            end.disconnect_posted,
            end.fin_acked,
            end.peer_fin,
            end.reset,
            end.upload_wanted);
    }
}

}  // namespace flue::sim
