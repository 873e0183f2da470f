#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <flue/abi.h>
#include <initializer_list>
#include <span>

namespace flue::sim {

namespace {

constexpr uint32_t pieces_max     = 200;
constexpr uint32_t bulk_bytes_max = 60'000;
constexpr uint32_t first_faults   = static_cast<uint32_t>(Fault::peer_reneges);

/// Draw is the generator with the ways of asking that a world needs.
class Draw {
  public:
    explicit Draw(uint64_t seed) : prng_(seed) {}

    bool flag(uint32_t numerator, uint32_t denominator) {
        return prng_.chance(numerator, denominator);
    }

    /// between returns a number in [low, high].
    uint32_t between(uint32_t low, uint32_t high) { return low + prng_.below(high - low + 1); }

    /// wide returns a number in [low, high] of which each order of magnitude is as likely.
    uint32_t wide(uint32_t low, uint32_t high) {
        const auto low_bits  = static_cast<uint32_t>(std::bit_width(low));
        const auto high_bits = static_cast<uint32_t>(std::bit_width(high));
        const uint32_t bits  = between(low_bits, high_bits);
        const uint32_t top   = bits >= 32 ? UINT32_MAX : (1U << bits) - 1;
        const uint32_t base  = bits == 0 ? 0 : 1U << (bits - 1);
        const uint32_t value = between(base, top);
        return std::clamp(value, low, high);
    }

    uint32_t pick(std::initializer_list<uint32_t> values) {
        return values.begin()[prng_.below(static_cast<uint32_t>(values.size()))];
    }

    uint64_t next() { return prng_.next(); }

  private:
    Prng prng_;
};

LinkOptions draw_link(Draw& draw) {
    LinkOptions link;
    for (uint32_t& loss : link.loss_ppm) {
        loss = draw.flag(1, 2) ? draw.wide(100, 300'000) : 0;
    }
    link.duplicate_ppm = draw.flag(1, 3) ? draw.wide(100, 200'000) : 0;
    link.reorder_ppm   = draw.flag(1, 3) ? draw.wide(100, 300'000) : 0;
    link.flip_ppm      = draw.flag(1, 3) ? draw.wide(100, 100'000) : 0;
    link.delay_us      = draw.wide(1, 50'000);
    link.jitter_us     = draw.flag(1, 2) ? draw.wide(1, 20'000) : 0;
    link.reorder_us    = draw.wide(10, 100'000);
    link.frame_us      = draw.flag(1, 2) ? draw.between(1, 100) : 0;
    link.queue_us      = draw.wide(1'000, 200'000);
    return link;
}

void draw_faults(Draw& draw, WorldOptions& world) {
    world.fault_every_us = draw.wide(2'000, 1'000'000);
    world.fault_us       = draw.wide(1'000, 1'000'000);
    for (uint8_t& weight : std::span(world.weights).first(first_faults)) {
        const bool on = draw.flag(1, 3);
        weight        = static_cast<uint8_t>(on ? draw.between(1, 20) : 0);
    }
    // What ends a connection or a host for good is rare, or little else would be seen.
    for (const Fault fault : {Fault::abort, Fault::peer_aborts, Fault::host_dies}) {
        uint8_t& weight = world.weights[static_cast<uint32_t>(fault)];
        weight          = weight > 1 ? 1 : weight;
    }
}

uint32_t draw_sequence(Draw& draw) {
    const uint32_t anywhere = static_cast<uint32_t>(draw.next());
    const uint32_t near     = draw.wide(1, 200'000);
    const bool wraps        = draw.flag(1, 2);
    return wraps ? 0U - near : anywhere;
}

void draw_chimney_end(Draw& draw, const WorldOptions& world, EndOptions& end) {
    end.chimney = true;
    end.target  = static_cast<uint8_t>(draw.between(0, target_count - 1));
    end.host = static_cast<uint8_t>(draw.between(0, static_cast<uint32_t>(world.hosts.size()) - 1));
    end.send_depth     = draw.between(1, 6);
    end.send_bytes_max = draw.wide(1, 16'384);
    end.recv_depth     = draw.between(1, 4);
    end.recv_bytes_max = draw.wide(1, 16'384);
    end.no_push        = draw.flag(1, 5);
    end.on_event       = draw.flag(1, 4);
    end.keep_time_wait = draw.flag(1, 3);
    end.hold_first     = draw.flag(1, 2);
    end.zero_copy      = draw.flag(1, 2);
    end.empty_requests = draw.flag(1, 4);
    end.deadlines      = draw.flag(1, 8);
    end.cwnd           = draw.flag(1, 2) ? 0 : draw.wide(1'000, 200'000);
}

void draw_plain_end(Draw& draw, EndOptions& end) {
    end.keeps_out_of_order = draw.flag(2, 3);
    end.fast_retransmit    = draw.flag(1, 2);
    end.ack_every          = draw.pick({1, 2, 2, 4});
    end.delayed_ack_us     = draw.wide(1'000, 200'000);
    end.segments_max       = draw.wide(1, 64);
    end.rto_us             = draw.wide(50'000, 1'000'000);
    end.read_every_us      = draw.flag(1, 2) ? draw.wide(100, 100'000) : 0;
    end.read_bytes         = draw.wide(100, 30'000);
    end.write_every_us     = draw.flag(1, 2) ? draw.wide(100, 50'000) : 0;
    end.write_bytes        = draw.wide(1, 20'000);
}

/// Bytes that an end takes at a time: a stream is no more than some hundreds of those.
uint32_t piece(const EndOptions& end) {
    return end.chimney ? std::min(end.send_bytes_max, end.recv_bytes_max)
                       : std::min(end.read_bytes, end.write_bytes);
}

/// A transfer rather than a conversation: large pieces, many segments in flight.
void make_bulk(Draw& draw, ConnectionOptions& connection) {
    for (EndOptions& end : connection.ends) {
        const bool sends    = draw.flag(2, 3);
        end.send_bytes_max  = draw.between(2'000, 16'384);
        end.recv_bytes_max  = draw.between(2'000, 16'384);
        end.write_bytes     = draw.between(4'000, 20'000);
        end.read_bytes      = draw.between(4'000, 30'000);
        end.write_every_us  = 0;
        end.read_every_us   = std::min(end.read_every_us, 2'000U);
        end.segments_max    = draw.between(8, 64);
        end.stream_bytes    = sends ? draw.between(5'000, bulk_bytes_max) : end.stream_bytes;
        const uint32_t most = 65'535U << end.wind_shift;
        end.buffer          = std::max(end.buffer, std::min(most, draw.between(8'000, 100'000)));
        end.initial_window  = std::min(end.buffer, 65'535U) >> end.wind_shift << end.wind_shift;
    }
}

ConnectionOptions draw_connection(Draw& draw, const WorldOptions& world, Mode mode) {
    ConnectionOptions connection;
    const bool six           = draw.flag(1, 3);
    connection.family        = six ? wire::Family::ipv6 : wire::Family::ipv4;
    connection.vlan_id       = static_cast<uint16_t>(draw.flag(1, 6) ? draw.between(1, 4094) : 0);
    connection.timestamps    = draw.flag(1, 2);
    connection.sack          = draw.flag(1, 2);
    connection.nagle         = draw.flag(1, 3);
    const bool keeps_alive   = draw.flag(1, 6);
    connection.keep_alive_ms = keeps_alive ? draw.wide(100, 10'000) : 0;
    const bool tiny          = draw.flag(1, 6);
    connection.mss = static_cast<uint16_t>(tiny ? draw.between(88, 300) : draw.between(500, 1460));
    connection.mtu = static_cast<uint16_t>(draw.flag(1, 4) ? draw.between(1280, 1500) : 1500);
    connection.pattern = draw.next();
    const bool scaling = draw.flag(2, 3);
    const bool pair    = draw.flag(1, 3);
    const uint32_t most =
        std::min(mode == Mode::lite ? 20'000U : 150'000U, uint32_t{connection.mss} * 150);
    for (uint32_t i = 0; i < 2; ++i) {
        EndOptions& end    = connection.ends[i];
        end.iss            = draw_sequence(draw);
        end.ts_start       = draw_sequence(draw);
        end.wind_shift     = static_cast<uint8_t>(scaling ? draw.between(0, 14) : 0);
        const uint32_t max = scaling ? 262'144 : 65'535;
        end.buffer         = std::max(draw.wide(2U * connection.mss, max), 1U << end.wind_shift);
        end.initial_window = std::min(end.buffer, 65'535U) >> end.wind_shift << end.wind_shift;
        end.stream_bytes   = draw.flag(1, 8) ? 0 : draw.wide(1, most);
        end.close_first    = draw.flag(1, 2);
        if (i == 0 || pair) {
            draw_chimney_end(draw, world, end);
        } else {
            draw_plain_end(draw, end);
        }
    }
    if (draw.flag(1, 4)) {
        make_bulk(draw, connection);
    }
    for (uint32_t i = 0; i < 2; ++i) {
        EndOptions& end     = connection.ends[i];
        const uint32_t step = std::min(piece(end), piece(connection.ends[1 - i]));
        end.stream_bytes    = std::min(end.stream_bytes, step * pieces_max);
    }
    return connection;
}

/// What came later draws from a stream of its own, so that the worlds of old seeds are still the
/// same but for it.
void draw_features(WorldOptions& world, uint8_t without) {
    Draw draw(world.seed ^ 0x5ac6'ec00);
    const bool marks    = draw.flag(1, 2);
    const uint32_t ppm  = draw.wide(1'000, 300'000);
    const uint32_t late = draw.wide(100, 50'000);
    world.link.mark_ppm = marks ? ppm : 0;
    world.link.mark_us  = draw.flag(1, 2) ? late : 0;
    for (uint8_t& weight : std::span(world.weights).subspan(first_faults)) {
        const bool on = draw.flag(1, 3);
        weight        = static_cast<uint8_t>(on ? draw.between(1, 20) : 0);
    }
    world.target.congestion = static_cast<uint8_t>(
        draw.pick({FLUE_CONGESTION_CUBIC, FLUE_CONGESTION_NEWRENO, FLUE_CONGESTION_DCTCP}));
    world.target.pacing = draw.flag(1, 4);
    for (ConnectionOptions& connection : world.connections) {
        connection.ecn = draw.flag(1, 2) && (without & feature_ecn) == 0;
        connection.sack &= (without & feature_sack) == 0;
        for (EndOptions& end : connection.ends) {
            end.congestion = static_cast<uint8_t>(
                draw.between(FLUE_CONGESTION_DEFAULT,
                             connection.ecn ? FLUE_CONGESTION_DCTCP : FLUE_CONGESTION_NEWRENO));
            end.congestion    = (without & feature_congestion) == 0 ? end.congestion : uint8_t{0};
            end.sack_recovery = draw.flag(2, 3);
            end.reports_duplicates = draw.flag(2, 3);
            end.ack_parts          = draw.pick({1, 1, 1, 2, 5});
            end.ack_every          = draw.flag(1, 6) ? draw.between(8, 16) : end.ack_every;
        }
    }
    world.target.pacing &= (without & feature_pacing) == 0;
    if ((without & feature_congestion) != 0) {
        world.target.congestion = FLUE_CONGESTION_CUBIC;
    }
}

/// What no path may have less of: RFC 8200 §5, and Linux's min_pmtu.
void draw_path_mtus(WorldOptions& world, uint8_t without) {
    Draw draw(world.seed ^ 0x3717'0000);
    for (ConnectionOptions& connection : world.connections) {
        const uint32_t least     = connection.family == wire::Family::ipv6 ? 1280 : 552;
        const bool narrow        = draw.flag(1, 4) && (without & feature_path_mtu) == 0;
        const uint32_t mtu       = draw.between(least, connection.mtu);
        connection.path_mtu      = static_cast<uint16_t>(narrow ? mtu : 0);
        connection.tells_too_big = draw.flag(2, 3);
    }
}

TargetOptions draw_target(Draw& draw, const WorldOptions& world) {
    // Hosts keep within these figures; a target with less than its hosts' requests need would
    // serve them one after the other, and two hosts that wait for each other never.
    uint32_t ends     = 0;
    uint32_t sends    = 0;
    uint32_t receives = 0;
    for (const ConnectionOptions& connection : world.connections) {
        for (const EndOptions& end : connection.ends) {
            ends += end.chimney ? 1 : 0;
            sends += end.chimney ? end.send_depth + 2 : 0;
            receives += end.chimney ? end.recv_depth + 2 * (end.send_depth + 4) : 0;
        }
    }
    const bool tiny = draw.flag(1, 3);
    TargetOptions target;
    // Half of each is divided among the sessions, so a session may be left with half of it.
    target.connections    = 2 * ends + (tiny ? 0 : draw.between(0, 8));
    target.send_items     = 4 * sends + (tiny ? 2 : 64);
    target.receive_items  = 2 * receives + (tiny ? 1 : 64);
    target.receive_chunks = tiny ? draw.between(ends * 4, ends * 4 + 32) : 2'048;
    target.reassembly     = tiny ? draw.between(1, 16) : 64;
    // What lies in chunks must leave packets for what is to come.
    target.payloads = tiny ? target.receive_chunks + draw.between(ends * 8, ends * 8 + 64) : 8'192;
    target.held_max = tiny ? draw.between(0, 8) : 256;
    target.batch    = draw.pick({1, 2, 8, 32});
    target.nic_us   = draw.flag(1, 2) ? draw.wide(1, 20'000) : 0;
    target.turn_us  = draw.wide(1, 200);
    target.idle_us  = draw.wide(500, 50'000);
    target.delayed_ack_us = draw.wide(1'000, 100'000);
    target.rto_min_us     = draw.wide(50'000, 400'000);
    target.rto_max_us     = draw.wide(1'000'000, 60'000'000);
    // Longer than a port can be shut, or the last ACK might never go out.
    target.time_wait_us  = draw.wide(1'500'000, 5'000'000);
    target.time_waits    = draw.between(0, 2 * ends);
    target.push_us       = draw.wide(1'000, 500'000);
    target.quantum_bytes = draw.wide(1'000, 64 * 1024);
    return target;
}

}  // namespace

const char* to_string(Fault fault) {
    static constexpr std::array<const char*, fault_count> names{"clog",
                                                                "one-way",
                                                                "peer-stops",
                                                                "window-shrinks",
                                                                "host-silent",
                                                                "port-shut",
                                                                "upload",
                                                                "abort",
                                                                "peer-aborts",
                                                                "forged-rst",
                                                                "forged-syn",
                                                                "query",
                                                                "update",
                                                                "invalidate",
                                                                "pause",
                                                                "upload-all",
                                                                "host-dies",
                                                                "peer-reneges",
                                                                "forged-sack"};
    return names.at(static_cast<uint32_t>(fault));
}

WorldOptions draw(uint64_t seed, const Drawing& drawing) {
    const Mode mode = drawing.mode;
    Draw draw(seed);
    WorldOptions world;
    world.seed   = seed;
    world.canary = drawing.canary;
    // Timestamps of an engine are its milliseconds plus an offset: in some runs those wrap, too.
    const uint64_t wrap_us = (uint64_t{1} << 32) * 1000;
    const bool near_wrap   = draw.flag(1, 4);
    world.start_us         = near_wrap ? wrap_us - draw.between(1, 3'000'000)
                                       : 1'000'000'000 + draw.between(0, 1'000'000'000);
    world.safety_us        = draw.wide(100'000, mode == Mode::lite ? 1'000'000 : 5'000'000);
    world.bound_us         = 1'800'000'000;
    if (draw.flag(7, 8)) {
        world.link = draw_link(draw);
    } else {
        world.link = {.delay_us = draw.wide(1, 10'000), .queue_us = 1'000'000};
    }
    draw_faults(draw, world);
    const uint32_t hosts = draw.between(1, mode == Mode::lite ? 1 : 3);
    for (uint32_t i = 0; i < hosts; ++i) {
        HostOptions host;
        host.poll_us       = draw.wide(5, 5'000);
        host.poll_batch    = draw.pick({1, 4, 64});
        host.abort_on_loss = draw.flag(1, 2);
        world.hosts.push_back(host);
    }
    const uint32_t connections = draw.between(1, mode == Mode::lite ? 2 : 5);
    for (uint32_t i = 0; i < connections; ++i) {
        world.connections.push_back(draw_connection(draw, world, mode));
    }
    // A host keeps one request of each kind and one in reserve for each of its connections.
    const auto least = static_cast<uint32_t>(std::bit_ceil(2 * connections * 5));
    for (HostOptions& host : world.hosts) {
        host.ring_entries = std::max(8U, least << draw.between(0, 3));
    }
    world.target = draw_target(draw, world);
    draw_features(world, drawing.without);
    draw_path_mtus(world, drawing.without);
    return world;
}

WorldOptions perf_world(uint8_t congestion, uint32_t loss_ppm, uint32_t buffer) {
    WorldOptions world;
    world.seed          = 1;
    world.start_us      = 1'000'000'000;
    world.safety_us     = 3'600'000'000;
    world.link.loss_ppm = {loss_ppm, loss_ppm};
    world.link.delay_us = 10'000;
    world.link.frame_us = 12;
    world.link.queue_us = 50'000;
    world.hosts         = {{.ring_entries = 64, .poll_us = 5, .poll_batch = 64}};
    ConnectionOptions connection;
    connection.timestamps = true;
    connection.sack       = true;
    for (EndOptions& end : connection.ends) {
        end.wind_shift     = 7;
        end.buffer         = buffer;
        end.initial_window = std::min(buffer, 65'535U) >> 7 << 7;
    }
    EndOptions& sender          = connection.ends[0];
    sender.chimney              = true;
    sender.congestion           = congestion;
    sender.stream_bytes         = perf_bytes;
    sender.send_depth           = 16;
    sender.send_bytes_max       = 65'536;
    sender.recv_bytes_max       = 1;
    EndOptions& receiver        = connection.ends[1];
    receiver.ack_every          = 2;
    receiver.delayed_ack_us     = 40'000;
    receiver.rto_us             = 200'000;
    receiver.keeps_out_of_order = true;
    receiver.reports_duplicates = true;
    world.connections.push_back(connection);
    world.target = {.connections    = 4,
                    .send_items     = 128,
                    .receive_items  = 128,
                    .receive_chunks = 256,
                    .reassembly     = 64,
                    .payloads       = 256,
                    .held_max       = 16,
                    .batch          = 32,
                    .turn_us        = 2,
                    .idle_us        = 1'000,
                    .delayed_ack_us = 40'000,
                    .rto_min_us     = 200'000,
                    .rto_max_us     = 60'000'000,
                    .time_wait_us   = 1'000'000,
                    .time_waits     = 1,
                    .push_us        = 1'000,
                    .quantum_bytes  = 65'536};
    return world;
}

namespace {

void print_world(const WorldOptions& world) {
    const LinkOptions& link = world.link;
    std::printf("world: start %" PRIu64
                " us, safety %u us, link loss %u/%u dup %u reorder %u flip %u"
                " mark %u ppm, delay %u+%u us, frame %u us, queue %u us, marks from %u us\n",
                world.start_us,
                world.safety_us,
                link.loss_ppm[0],
                link.loss_ppm[1],
                link.duplicate_ppm,
                link.reorder_ppm,
                link.flip_ppm,
                link.mark_ppm,
                link.delay_us,
                link.jitter_us,
                link.frame_us,
                link.queue_us,
                link.mark_us);
    std::printf("faults: every %u us for %u us:", world.fault_every_us, world.fault_us);
    for (uint32_t i = 0; i < fault_count; ++i) {
        if (world.weights[i] != 0) {
            std::printf(" %s=%u", to_string(static_cast<Fault>(i)), world.weights[i]);
        }
    }
    std::printf("\n");
}

void print_target(const TargetOptions& target) {
    std::printf(
        "target: connections %u items %u requests %u chunks %u reassembly %u payloads %u"
        " held %u batch %u nic %u turn %u idle %u rto %u..%u time-wait %u x %u push %u"
        " congestion %u%s\n",
        target.connections,
        target.send_items,
        target.receive_items,
        target.receive_chunks,
        target.reassembly,
        target.payloads,
        target.held_max,
        target.batch,
        target.nic_us,
        target.turn_us,
        target.idle_us,
        target.rto_min_us,
        target.rto_max_us,
        target.time_waits,
        target.time_wait_us,
        target.push_us,
        target.congestion,
        target.pacing ? " paced" : "");
}

void print_end(const EndOptions& end) {
    std::printf("  %s iss %u shift %u buffer %u stream %u%s",
                end.chimney ? "chimney" : "plain",
                end.iss,
                end.wind_shift,
                end.buffer,
                end.stream_bytes,
                end.close_first ? " closes-first" : "");
    if (end.chimney) {
        std::printf(" host %u target %u sends %u x %u recvs %u x %u congestion %u%s%s%s\n",
                    end.host,
                    end.target,
                    end.send_depth,
                    end.send_bytes_max,
                    end.recv_depth,
                    end.recv_bytes_max,
                    end.congestion,
                    end.no_push ? " no-push" : "",
                    end.on_event ? " on-event" : "",
                    end.keep_time_wait ? " keep-time-wait" : "");
    } else {
        std::printf(
            " ack %u/%u us x %u, %u segments, rto %u, reads %u/%u us, writes %u/%u us"
            "%s%s%s\n",
            end.ack_every,
            end.delayed_ack_us,
            end.ack_parts,
            end.segments_max,
            end.rto_us,
            end.read_bytes,
            end.read_every_us,
            end.write_bytes,
            end.write_every_us,
            end.keeps_out_of_order ? " reassembles" : "",
            end.sack_recovery ? " repairs" : "",
            end.reports_duplicates ? " reports-duplicates" : "");
    }
}

void print_connection(const ConnectionOptions& connection) {
    std::printf("connection: ip%u vlan %u mss %u mtu %u path %u%s%s%s%s%s\n",
                static_cast<uint32_t>(connection.family),
                connection.vlan_id,
                connection.mss,
                connection.mtu,
                connection.path_mtu,
                connection.tells_too_big ? " told" : "",
                connection.ecn ? " ecn" : "",
                connection.timestamps ? " timestamps" : "",
                connection.sack ? " sack" : "",
                connection.nagle ? " nagle" : "");
    for (const EndOptions& end : connection.ends) {
        print_end(end);
    }
}

}  // namespace

void print(const WorldOptions& world) {
    print_world(world);
    print_target(world.target);
    for (const HostOptions& host : world.hosts) {
        std::printf("host: ring %u, %u completions every %u us, loss policy %s\n",
                    host.ring_entries,
                    host.poll_batch,
                    host.poll_us,
                    host.abort_on_loss ? "abort" : "drain");
    }
    for (const ConnectionOptions& connection : world.connections) {
        print_connection(connection);
    }
}

namespace {

constexpr std::array<std::pair<std::string_view, Feature>, 5> features{
    {{"sack", feature_sack},
     {"ecn", feature_ecn},
     {"congestion", feature_congestion},
     {"pacing", feature_pacing},
     {"path-mtu", feature_path_mtu}}};

uint8_t feature_of(std::string_view name) {
    const auto* const found =
        std::ranges::find(features, name, &decltype(features)::value_type::first);
    return found == features.end() ? uint8_t{0} : uint8_t{found->second};
}

}  // namespace

std::string describe(const Drawing& drawing) {
    std::string text = drawing.mode == Mode::lite ? "--lite " : "";
    text += drawing.canary == Canary::payload      ? "--canary=payload "
            : drawing.canary == Canary::completion ? "--canary=completion "
                                                   : "";
    for (const auto& [name, feature] : features) {
        if ((drawing.without & feature) != 0) {
            text += "--no-" + std::string(name) + " ";
        }
    }
    return text;
}

std::optional<uint64_t> parse_seed(std::string_view text) {
    const bool hash = text.size() == 40;
    text            = hash ? text.substr(0, 16) : text;
    uint64_t value  = 0;
    const auto end  = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, value, hash ? 16 : 10);
    return read.ec == std::errc{} && read.ptr == end ? std::optional(value) : std::nullopt;
}

namespace {

/// Returns whether `option` is known; `value` is what follows it, if anything.
bool take_option(std::string_view option, const char* value, CommandLine& line, bool& used) {
    used = false;
    if (option == "--lite") {
        line.drawing.mode = Mode::lite;
    } else if (option == "--swarm") {
        line.drawing.mode = Mode::swarm;
    } else if (option == "--perf") {
        line.drawing.mode = Mode::perf;
    } else if (option == "--replay") {
        line.replay = true;
    } else if (option == "--twice") {
        line.twice = true;
    } else if (option == "--go-on") {
        line.goes_on = true;
    } else if (option == "--figures") {
        line.figures = true;
    } else if (option == "--hashes") {
        line.hashes = true;
    } else if (option == "--canary=payload") {
        line.drawing.canary = Canary::payload;
    } else if (option == "--canary=completion") {
        line.drawing.canary = Canary::completion;
    } else if (option.starts_with("--no-") && feature_of(option.substr(5)) != 0) {
        line.drawing.without |= feature_of(option.substr(5));
    } else if (option == "--seeds" && value != nullptr) {
        const auto count = parse_seed(value);
        line.count       = count.value_or(0);
        used             = true;
        return count.has_value();
    } else if (option == "--file" && value != nullptr) {
        line.file = value;
        used      = true;
    } else {
        const auto seed = parse_seed(option);
        line.seed       = seed.value_or(0);
        return seed.has_value();
    }
    return true;
}

}  // namespace

std::optional<CommandLine> parse_command_line(int argc, char** argv) {
    CommandLine line;
    for (int i = 1; i < argc; ++i) {
        bool used = false;
        if (!take_option(argv[i], i + 1 < argc ? argv[i + 1] : nullptr, line, used)) {
            std::fprintf(stderr,
                         "usage: sim [--swarm|--lite|--perf|--replay] [--seeds N] [--twice]"
                         " [--go-on] [--figures] [--hashes] [--canary=payload|completion] [--file "
                         "SEEDS] [--no-sack] [--no-ecn] [--no-congestion] [--no-pacing] "
                         "[--no-path-mtu] [SEED]\n"
                         "SEED: a decimal number, or 40 hex digits\n");
            return std::nullopt;
        }
        i += used ? 1 : 0;
    }
    return line;
}

}  // namespace flue::sim
