#include "world.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <utility>

#include "wire/bytes.hpp"

namespace flue::sim {

namespace {

enum What : uint32_t { what_fault, what_heal, what_too_big };

constexpr uint32_t check_every_us = 1'000;

wire::FlowKey make_key(const ConnectionOptions& options, uint32_t connection) {
    wire::FlowKey key;
    key.family      = options.family;
    key.local[0]    = 10;
    key.local[3]    = static_cast<uint8_t>(connection + 1);
    key.remote[0]   = 10;
    key.remote[1]   = 1;
    key.remote[3]   = static_cast<uint8_t>(connection + 1);
    key.local_port  = static_cast<uint16_t>(1000 + connection);
    key.remote_port = 80;
    return key;
}

wire::FlowKey reversed(const wire::FlowKey& key) {
    wire::FlowKey other = key;
    std::swap(other.local, other.remote);
    std::swap(other.local_port, other.remote_port);
    return other;
}

}  // namespace

World::World(const WorldOptions& options, Trace& trace)
    : options_(options),
      trace_(trace),
      events_(Instant{options.start_us}),
      prng_(options.seed ^ 0x3017d) {
    link_ = std::make_unique<Link>(*this);
    for (uint32_t i = 0; i < target_count; ++i) {
        targets_.push_back(std::make_unique<Target>(*this, i));
    }
    for (uint32_t i = 0; i < options.hosts.size(); ++i) {
        hosts_.push_back(std::make_unique<Host>(*this, i));
    }
    make_connections();
    for (const auto& host : hosts_) {
        host->start();
    }
    for (const auto& peer : peers_) {
        if (peer) {
            peer->start();
        }
    }
    if (options.fault_every_us != 0) {
        events_.after(options.fault_every_us, *this, what_fault);
    }
    events_.after(options.safety_us, *this, what_heal);
}

World::~World() = default;

void World::make_connections() {
    for (uint32_t i = 0; i < options_.connections.size(); ++i) {
        auto connection     = std::make_unique<Connection>();
        connection->options = &options_.connections[i];
        connection->index   = i;
        for (uint32_t e = 0; e < 2; ++e) {
            End& end            = connection->ends[e];
            const EndOptions& o = connection->options->ends[e];
            const EndOptions& p = connection->options->ends[1 - e];
            end.options         = &o;
            end.out             = Pattern(connection->options->pattern + e);
            end.route           = o.target;
            end.sent_end        = Seq{o.iss} + 1;
            end.heard_ack       = end.sent_end;
            end.acked           = Seq{p.iss} + 1;
            end.edge            = end.acked + o.initial_window;
            end.mtu             = connection->options->mtu;
            end.limit           = end.sent_end + p.initial_window;
        }
        connection->ends[0].key = make_key(*connection->options, i);
        connection->ends[1].key = reversed(connection->ends[0].key);
        std::unique_ptr<Peer> peer;
        for (uint32_t e = 0; e < 2; ++e) {
            const EndOptions& end = connection->options->ends[e];
            if (end.chimney) {
                hosts_[end.host]->add(*connection, e);
            } else {
                peer = std::make_unique<Peer>(*this, *connection, e);
            }
        }
        peers_.push_back(std::move(peer));
        connections_.push_back(std::move(connection));
    }
}

uint64_t World::elapsed_us() const {
    return events_.now().us - options_.start_us;
}

// ---------------------------------------------------------------- frames

World::Place World::find(const wire::FlowKey& key) {
    for (const auto& connection : connections_) {
        for (uint32_t e = 0; e < 2; ++e) {
            if (connection->ends[e].key == key) {
                return {connection.get(), e};
            }
        }
    }
    return {};
}

/// RFC 1191 §4: of plain peers nobody wants to know, they do not listen.
bool World::too_big(uint32_t connection, uint32_t from, std::span<const std::byte> frame) {
    const Connection& c    = *connections_[connection];
    const uint32_t mtu     = c.options->path_mtu;
    const size_t ip_length = frame.size() - ip_offset(frame);
    if (mtu == 0 || ip_length <= mtu || !c.ends[from].options->chimney) {
        return false;
    }
    wire::Frame parsed;
    (void)wire::parse_frame(frame, wire::Checksum::trust, parsed);
    trace_.add(now(), Record::too_big, {connection, from, parsed.tcp.seq.value});
    if (c.options->tells_too_big) {
        told_too_big_.push_back({.key          = c.ends[from].key,
                                 .seq          = parsed.tcp.seq,
                                 .next_hop_mtu = static_cast<uint16_t>(mtu)});
        events_.after(options_.link.delay_us, *this, what_too_big);
    }
    return true;
}

void World::arrive(uint32_t connection, uint32_t to, std::vector<std::byte> frame) {
    const End& end = connections_[connection]->ends[to];
    if (end.options->chimney) {
        return targets_[end.route]->receive(std::move(frame));
    }
    wire::Frame parsed;
    if (wire::parse_frame(frame, wire::Checksum::verify, parsed) != wire::ParseResult::tcp) {
        return;
    }
    trace_.add(now(),
               Record::frame_in,
               {connection,
                to,
                parsed.tcp.seq.value,
                parsed.tcp.ack.value,
                parsed.tcp.flags,
                parsed.payload_bytes,
                parsed.tcp.window});
    peers_[connection]->segment_arrives(
        parsed.tcp, std::span(frame).subspan(parsed.payload_offset, parsed.payload_bytes));
}

void World::delivered(const wire::Frame& frame) {
    const Place place = find(frame.key);
    if (place.connection == nullptr) {
        return findings_.wrong("a frame of no connection passes its checksum");
    }
    trace_.add(now(),
               Record::frame_in,
               {place.connection->index,
                place.end,
                frame.tcp.seq.value,
                frame.tcp.ack.value,
                frame.tcp.flags,
                frame.payload_bytes,
                frame.tcp.window});
    WireChecker(*place.connection, 1 - place.end, findings_).delivered(frame.tcp);
    SackChecker(*place.connection, place.end, findings_).arrived(frame.tcp, frame.payload_bytes);
    EcnChecker(*place.connection, place.end, findings_).arrived(frame.tcp, frame.payload_bytes);
}

void World::heard(const wire::FlowKey& key, const wire::TcpFields& tcp) {
    const Place place = find(key);
    SackChecker(*place.connection, place.end, findings_).heard(tcp);
}

void World::forgot(uint32_t target) {
    for (const auto& connection : connections_) {
        for (End& end : connection->ends) {
            if (end.route == target) {
                end.reported.clear();
            }
        }
    }
}

void World::lost(uint32_t target) {
    for (const auto& connection : connections_) {
        for (End& end : connection->ends) {
            end.may_reduce |= end.route == target;
        }
    }
}

void World::ended(const wire::FlowKey& key) {
    const Place place                             = find(key);
    place.connection->ends[place.end].invalidated = false;
}

void World::emitted(const wire::FlowKey& key, std::vector<std::byte> frame) {
    const Place place = find(key);
    wire::Frame parsed;
    const bool is_tcp =
        wire::parse_frame(frame, wire::Checksum::verify, parsed) == wire::ParseResult::tcp;
    if (place.connection == nullptr || !is_tcp || parsed.key != reversed(key)) {
        return findings_.wrong("a target sends a frame that is not its connection's");
    }
    const auto payload =
        std::span<const std::byte>(frame).subspan(parsed.payload_offset, parsed.payload_bytes);
    SackChecker(*place.connection, place.end, findings_).emitted(parsed.tcp, parsed.payload_bytes);
    EcnChecker(*place.connection, place.end, findings_)
        .emitted(parsed.tcp, parsed.payload_bytes, codepoint_of(frame));
    WireChecker(*place.connection, place.end, findings_).emitted(parsed, payload);
    send(*place.connection, place.end, std::move(frame));
}

void World::send(Connection& connection, uint32_t from, std::vector<std::byte> frame) {
    wire::Frame parsed;
    (void)wire::parse_frame(frame, wire::Checksum::trust, parsed);
    trace_.add(now(),
               Record::frame_out,
               {connection.index,
                from,
                parsed.tcp.seq.value,
                parsed.tcp.ack.value,
                parsed.tcp.flags,
                parsed.payload_bytes,
                parsed.tcp.window,
                connection.ends[from].offset_of(parsed.tcp.seq)});
    if (options_.canary == Canary::payload && parsed.payload_bytes > 0 && !canary_sang_) {
        poison(connection, from, frame);
    }
    link_->send(connection.index, from, std::move(frame));
}

/// One byte of payload is wrong and the checksum agrees with it.
void World::poison(const Connection& connection, uint32_t from, std::vector<std::byte>& frame) {
    wire::Frame parsed;
    (void)wire::parse_frame(frame, wire::Checksum::trust, parsed);
    std::vector<std::byte> payload(frame.begin() + parsed.payload_offset,
                                   frame.begin() + parsed.payload_offset + parsed.payload_bytes);
    payload.back() ^= std::byte{1};
    std::vector<std::byte> poisoned(wire::header_bytes_max);
    const auto lengths = wire::build_headers(connection.flow(from),
                                             parsed.tcp,
                                             parsed.payload_bytes,
                                             0x8000,
                                             wire::TxChecksum::full,
                                             wire::sum_bytes(payload),
                                             poisoned);
    poisoned.resize(lengths.total());
    poisoned.insert(poisoned.end(), payload.begin(), payload.end());
    frame        = std::move(poisoned);
    canary_sang_ = true;
}

void World::send_plain(uint32_t connection,
                       uint32_t from,
                       const wire::TcpFields& tcp,
                       uint32_t bytes) {
    Connection& c = *connections_[connection];
    std::vector<std::byte> payload(bytes);
    c.ends[from].out.fill(c.ends[from].offset_of(tcp.seq), payload);
    std::vector<std::byte> frame(wire::header_bytes_max);
    const auto lengths = wire::build_headers(
        c.flow(from), tcp, bytes, 0x8000, wire::TxChecksum::full, wire::sum_bytes(payload), frame);
    frame.resize(lengths.total());
    frame.insert(frame.end(), payload.begin(), payload.end());
    WireChecker(c, from, findings_).note(tcp, bytes);
    send(c, from, std::move(frame));
}

void World::send_control(const wire::FlowKey& key, const wire::TcpFields& tcp, bool checked) {
    const Place place = find(key);
    std::vector<std::byte> frame(wire::header_bytes_max);
    const auto lengths = wire::build_headers(
        place.connection->flow(place.end), tcp, 0, 0x8000, wire::TxChecksum::full, 0, frame);
    frame.resize(lengths.total());
    if (checked) {
        return emitted(key, std::move(frame));
    }
    send(*place.connection, place.end, std::move(frame));
}

/// A kernel that has no socket answers with an RST; one whose socket is in TIME-WAIT with an ACK.
/// While a host has the connection's state the segment is lost.
void World::exception(const wire::FlowKey& key, const wire::TcpFields& tcp, uint32_t bytes) {
    const Place place = find(key);
    End& me           = place.connection->ends[place.end];
    const End& other  = place.connection->ends[1 - place.end];
    if (!me.over || (tcp.flags & wire::tcp_rst) != 0) {
        return;
    }
    wire::TcpFields reply;
    reply.seq        = me.sent_end;
    reply.ack        = me.acked;
    const bool clean = !me.reset_sent && me.fin_sent && other.acked == me.fin_seq + 1 &&
                       other.fin_sent && me.acked == other.fin_seq + 1;
    if (clean) {
        const bool asks = bytes > 0 || (tcp.flags & wire::tcp_fin) != 0;
        if (!asks) {
            return;
        }
        reply.flags          = wire::tcp_ack;
        reply.has_timestamps = place.connection->options->timestamps;
        reply.ts_val         = me.ts_val;
        reply.ts_ecr         = other.ts_val;
    } else {
        me.kernel_reset = true;
        reply.seq       = tcp.ack;
        reply.flags     = wire::tcp_rst | wire::tcp_ack;
    }
    send_control(key, reply, false);
}

void World::unclaimed(const wire::FlowKey& key) {
    const Place place = find(key);
    End& end          = place.connection->ends[place.end];
    end.over |= end.lost;
}

void World::completions_posted(uint32_t target) {
    for (const auto& host : hosts_) {
        host->completions_posted(target);
    }
}

bool World::skips_completion(const flue_wc& wc) {
    if (options_.canary != Canary::completion || canary_sang_ || wc.opcode != FLUE_OP_SEND) {
        return false;
    }
    canary_sang_ = true;
    return true;
}

// ---------------------------------------------------------------- faults

void World::act(uint32_t what, uint64_t /*argument*/) {
    if (what == what_heal) {
        return heal();
    }
    if (what == what_too_big) {
        const wire::PacketTooBig told = told_too_big_.front();
        told_too_big_.pop_front();
        const Place place = find(told.key);
        return targets_[place.connection->ends[place.end].route]->too_big(told);
    }
    if (!healed_) {
        break_something();
        events_.after(1 + prng_.below(2 * options_.fault_every_us), *this, what_fault);
    }
}

Fault World::pick_fault() {
    uint32_t total = 0;
    for (const uint8_t weight : options_.weights) {
        total += weight;
    }
    uint32_t pick = prng_.below(total);
    for (uint32_t i = 0; i < fault_count; ++i) {
        if (pick < options_.weights[i]) {
            return static_cast<Fault>(i);
        }
        pick -= options_.weights[i];
    }
    return Fault::query;
}

void World::break_something() {
    const bool any = std::ranges::any_of(options_.weights, [](uint8_t w) { return w != 0; });
    if (!any) {
        return;
    }
    const Fault fault = pick_fault();
    ++faults_[static_cast<uint32_t>(fault)];
    trace_.add(now(), Record::fault, {static_cast<uint64_t>(fault)});
    switch (fault) {
        case Fault::clog:
        case Fault::one_way:
        case Fault::port_shut:
        case Fault::pause:
        case Fault::upload_all:
            return break_wire(fault);
        case Fault::peer_stops:
        case Fault::window_shrinks:
        case Fault::peer_aborts:
        case Fault::peer_reneges:
            return break_peer(fault);
        case Fault::forged_rst:
        case Fault::forged_syn:
            return forge(fault);
        case Fault::forged_sack:
            return forge_sack();
        case Fault::host_silent:
        case Fault::upload:
        case Fault::abort:
        case Fault::query:
        case Fault::update:
        case Fault::invalidate:
        case Fault::host_dies:
            return break_host(fault);
    }
}

void World::break_wire(Fault fault) {
    const Instant until = now() + prng_.below(options_.fault_us + 1);
    const uint32_t pick = prng_.below(static_cast<uint32_t>(connections_.size()));
    const uint32_t side = prng_.below(2);
    if (fault == Fault::clog) {
        link_->clog(pick, until);
    } else if (fault == Fault::one_way) {
        link_->lose(pick, side, until);
    } else if (fault == Fault::port_shut) {
        targets_[side]->shut_port(static_cast<uint64_t>(until - now()));
    } else {
        const auto intake =
            fault == Fault::pause ? chimney::Intake::paused : chimney::Intake::uploading_all;
        targets_[side]->set_intake(intake, static_cast<uint64_t>(until - now()));
    }
}

void World::break_peer(Fault fault) {
    const Instant until  = now() + prng_.below(options_.fault_us + 1);
    const uint32_t pick  = prng_.below(static_cast<uint32_t>(peers_.size()));
    const uint32_t bytes = 1 + prng_.below(30'000);
    Peer* peer           = peers_[pick].get();
    if (peer == nullptr) {
        return;
    }
    if (fault == Fault::peer_stops) {
        peer->stop_reading(until);
    } else if (fault == Fault::window_shrinks) {
        peer->shrink_window(bytes);
    } else if (fault == Fault::peer_reneges) {
        peer->renege();
    } else {
        peer->abort();
    }
}

void World::break_host(Fault fault) {
    const Instant until = now() + prng_.below(options_.fault_us + 1);
    const uint32_t pick = prng_.below(1024);
    const bool move     = prng_.chance(1, 2);
    Host& host          = *hosts_[prng_.below(static_cast<uint32_t>(hosts_.size()))];
    if (fault == Fault::host_silent) {
        host.be_silent(until);
    } else if (fault == Fault::upload) {
        host.upload_one(pick, move);
    } else if (fault == Fault::abort) {
        host.abort_one(pick);
    } else if (fault == Fault::query) {
        host.query_one(pick);
    } else if (fault == Fault::update) {
        host.update_one(pick);
    } else if (fault == Fault::invalidate) {
        host.invalidate_one(pick);
    } else {
        host.die();
    }
}

/// A stranger who guesses.  What he guesses right is no fault of TCP, so he does not.
void World::forge(Fault fault) {
    const uint32_t pick = prng_.below(static_cast<uint32_t>(connections_.size()));
    const uint32_t side = prng_.below(2);
    const uint32_t aim  = static_cast<uint32_t>(prng_.next());
    const uint32_t kind = prng_.below(3);
    const End& end      = connections_[pick]->ends[side];
    if (!end.options->chimney) {
        return;
    }
    targets_[end.route]->inject(end.key, [&](const tcp::Delegated& state, wire::TcpFields& tcp) {
        const uint32_t window = std::max(state.rcv_wnd, 2U);
        const Seq inside      = state.rcv_nxt + 1 + aim % (window - 1);
        const Seq before      = state.rcv_nxt - 1 - aim % 100'000;
        const Seq beyond      = state.rcv_nxt + window + aim % 100'000;
        tcp.seq               = kind == 0 ? inside : kind == 1 ? before : beyond;
        tcp.ack               = state.snd_una;
        const bool rst        = fault == Fault::forged_rst;
        tcp.flags             = rst ? wire::tcp_rst : wire::tcp_syn;
        tcp.window            = 1'000;
        return true;
    });
}

/// What he reports has not come, or was never sent: it is no worse than a peer that reneges.
void World::forge_sack() {
    const uint32_t pick = prng_.below(static_cast<uint32_t>(connections_.size()));
    const uint32_t side = prng_.below(2);
    const End& end      = connections_[pick]->ends[side];
    if (!end.options->chimney) {
        return;
    }
    targets_[end.route]->inject(end.key, [&](const tcp::Delegated& state, wire::TcpFields& tcp) {
        tcp.seq        = state.rcv_nxt;
        tcp.ack        = state.snd_una;
        tcp.flags      = wire::tcp_ack;
        tcp.window     = static_cast<uint16_t>(std::min(
            state.snd_wnd >> connections_[pick]->ends[1 - side].options->wind_shift, 65'535U));
        tcp.sack_count = static_cast<uint8_t>(1 + prng_.below(wire::sack_ranges_max));
        for (wire::SackRange& range : std::span(tcp.sack).first(tcp.sack_count)) {
            const uint32_t flight = bytes_between(state.snd_una, state.snd_max);
            const uint32_t reach  = prng_.chance(3, 4) ? flight + 2 : 0x7fff'ffff;
            const uint32_t offset = prng_.below(reach);
            const uint32_t length = prng_.below(prng_.chance(1, 2) ? 3 : reach);
            range.start           = state.snd_una + offset;
            range.end             = range.start + length;
        }
        return true;
    });
}

void World::heal() {
    healed_ = true;
    trace_.add(now(), Record::phase, {1});
    link_->heal();
    for (const auto& target : targets_) {
        target->open_port();
        target->open_intake();
        target->wake();
    }
    for (const auto& host : hosts_) {
        host->be_silent(now());
        host->wake();
    }
    for (const auto& peer : peers_) {
        if (peer) {
            peer->heal();
        }
    }
}

// ---------------------------------------------------------------- the run

void World::run() {
    const Instant end = Instant{options_.start_us} + options_.safety_us + options_.bound_us;
    while (!events_.empty() && !findings_.any()) {
        if (healed_ && is_over()) {
            break;
        }
        if (events_.next() > end) {
            findings_.no_progress("not over %" PRIu64 " s after the last fault",
                                  options_.bound_us / 1'000'000);
            break;
        }
        events_.step();
        if (now() - last_check_ >= check_every_us) {
            last_check_ = now();
            check();
        }
    }
    if (!findings_.any()) {
        check_end();
    }
}

uint64_t World::transfer() {
    const uint32_t bytes = connections_[0]->options->ends[0].stream_bytes;
    while (!events_.empty() && !findings_.any() && peers_[0]->received() < bytes) {
        events_.step();
    }
    return elapsed_us();
}

void World::add_to(Figures& figures) const {
    ++figures.worlds;
    figures.connections += connections_.size();
    figures.events += events_.count();
    figures.virtual_us += elapsed_us();
    for (uint32_t i = 0; i < fault_count; ++i) {
        figures.faults[i] += faults_[i];
    }
    for (const auto& connection : connections_) {
        figures.ended_well += connection->must_end_well() ? 1U : 0U;
    }
    for (const auto& target : targets_) {
        figures.add(target->chimney());
    }
}

void World::check() {
    for (const auto& host : hosts_) {
        host->check();
    }
}

bool World::is_over() const {
    const auto over = [](const auto& party) { return party == nullptr || party->is_over(); };
    return std::ranges::all_of(peers_, over) && std::ranges::all_of(hosts_, over) &&
           std::ranges::all_of(targets_, [](const auto& target) { return target->is_empty(); });
}

void World::check_end() {
    for (const auto& target : targets_) {
        target->check();
        target->check_home();
    }
    for (const auto& host : hosts_) {
        host->check_home();
    }
    for (const auto& connection : connections_) {
        const Peer* peer = peers_[connection->index].get();
        if (connection->must_end_well() &&
            (connection->ends[0].kernel_reset || connection->ends[1].kernel_reset)) {
            findings_.wrong("%u: the kernel had to reset it", connection->index);
        }
        if (peer == nullptr) {
            continue;
        }
        const bool well   = connection->must_end_well();
        const bool drains = connection->ends[0].drains && !connection->ends[1].reset_ordered;
        if (well && (!peer->peer_fin() || peer->was_reset())) {
            findings_.wrong("%u: the peer saw no FIN, or a reset", connection->index);
        }
        if ((well || drains) && peer->received() != connection->ends[0].posted) {
            findings_.wrong("%u: the peer has %u of %u bytes%s",
                            connection->index,
                            peer->received(),
                            connection->ends[0].posted,
                            drains ? " of a lost host" : "");
        }
    }
}

void World::show() const {
    for (const auto& target : targets_) {
        target->show();
    }
    for (const auto& host : hosts_) {
        host->show();
    }
    for (const auto& connection : connections_) {
        const Peer* peer = peers_[connection->index].get();
        std::printf("connection %u: over %d %d, lost %d %d, reset %d %d, kernel %d %d, peer %s\n",
                    connection->index,
                    connection->ends[0].over,
                    connection->ends[1].over,
                    connection->ends[0].lost,
                    connection->ends[1].lost,
                    connection->ends[0].reset_sent,
                    connection->ends[1].reset_sent,
                    connection->ends[0].kernel_reset,
                    connection->ends[1].kernel_reset,
                    peer == nullptr ? "-" : peer->state_name());
    }
}

}  // namespace flue::sim
