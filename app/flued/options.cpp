#include "options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <string>
#include <string_view>

namespace flue {

namespace {

constexpr const char* description =
    "flued runs TCP connections for other processes on DPDK ports, and above all closes them.\n"
    "It is started as flued [EAL options] -- --port NAME [options]\n\n"
    "Try it without root, with veth0 in a user and network namespace:\n"
    "  flued -l 0 --no-huge -m 512 --no-pci --vdev net_af_packet0,iface=veth0 -- --port "
    "net_af_packet0\n"
    "where RUNTIME_DIRECTORY names a directory for DPDK's sockets if /var/run is not writable.\n"
    "There is one worker per EAL lcore; sizes are per worker.";

bool is_power_of_two(uint32_t value) {
    return value != 0 && (value & (value - 1)) == 0;
}

void add_ports(CLI::App& app, target::Options& options) {
    app.add_option(
           "-p,--port", options.ports, "Ethdev to own, by name or PCI address; may be repeated")
        ->required()
        ->allow_extra_args(false);
    app.add_option("--exception-tap",
                   options.exception_taps,
                   "Kernel interface to make for what is not offloaded, one a --port; 'none' drops "
                   "it (default: flue0, flue1, ...)")
        ->allow_extra_args(false);
    app.add_option("--rx-descriptors", options.rx_descriptors, "Length of each RX queue")
        ->capture_default_str();
    app.add_option("--tx-descriptors", options.tx_descriptors, "Length of each TX queue")
        ->capture_default_str();
    app.add_option(
           "--rx-mbufs",
           options.rx_mbufs,
           "Buffers for received frames; half of them may hold data that hosts have not taken yet")
        ->check(CLI::Range(1024, 1 << 22))
        ->capture_default_str();
    app.add_option("--copy-below",
                   options.copy_below_bytes,
                   "Payload bytes of a segment up to which they are copied instead of referred to")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    app.add_option(
           "--vlan", options.vlans, "VLAN that connections may use; may be repeated (default: any)")
        ->check(CLI::Range(1, 4094))
        ->allow_extra_args(false);
    app.add_option(
           "--idle-sleep",
           options.idle_sleep_us,
           "Microseconds that a worker sleeps after having found nothing to do for a while; 0 = "
           "always poll (default: 0, but 50 when there are as many workers as CPUs)")
        ->check(CLI::Range(0, 10'000));
}

void add_connections(CLI::App& app, target::Options& options) {
    app.add_option("--connections", options.connections, "Connections at a time")
        ->check(CLI::Range(1, 1 << 23))
        ->capture_default_str();
    app.add_option("--paths", options.paths, "Paths of offloaded trees at a time")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("--neighbors", options.neighbors, "Neighbors of offloaded trees at a time")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("--nce-stale-ms",
                   options.nce_stale_ms,
                   "Milliseconds after which a neighbor that nobody heard of is asked for; 0 = "
                   "never")
        ->capture_default_str();
    app.add_option("--time-waits", options.time_waits, "Connections in TIME-WAIT at a time")
        ->check(CLI::Range(1, 1 << 23))
        ->capture_default_str();
    app.add_option("--time-wait-ms", options.time_wait_ms, "2MSL, milliseconds")
        ->check(CLI::Range(1, 600'000))
        ->capture_default_str();
    app.add_option("--send-items", options.send_items, "SENDs at a time, all connections together")
        ->check(CLI::Range(64, 1 << 24))
        ->capture_default_str();
    app.add_option(
           "--receive-items", options.receive_items, "RECVs at a time, all connections together")
        ->check(CLI::Range(64, 1 << 24))
        ->capture_default_str();
    app.add_option("--hold-packets",
                   options.hold_packets,
                   "Packets kept for a connection between two owners")
        ->check(CLI::Range(1, 1 << 16))
        ->capture_default_str();
    app.add_option("--rcv-wnd-limit",
                   options.rcv_wnd_limit,
                   "Largest receive window that a host may ask for, bytes")
        ->capture_default_str();
}

struct Threshold {
    const char* name;
    uint32_t chimney::AdviceOptions::*value;
};

constexpr std::array thresholds{Threshold{"low-activity", &chimney::AdviceOptions::low_activity_ms},
                                Threshold{"drop-rate", &chimney::AdviceOptions::drop_rate},
                                Threshold{"small-io", &chimney::AdviceOptions::small_io_bytes},
                                Threshold{"no-preposting", &chimney::AdviceOptions::no_preposting},
                                Threshold{"fragmentation", &chimney::AdviceOptions::fragmentation},
                                Threshold{"out-of-order", &chimney::AdviceOptions::out_of_order}};

/// "low-activity=60000"
void read_threshold(const std::string& text, chimney::AdviceOptions& advice) {
    const size_t equals      = text.find('=');
    const auto name          = text.substr(0, equals);
    const auto found         = std::ranges::find(thresholds, name, &Threshold::name);
    const std::string number = equals == std::string::npos ? "" : text.substr(equals + 1);
    uint32_t value           = 0;
    const auto end           = number.data() + number.size();
    const auto [read, error] = std::from_chars(number.data(), end, value);
    if (found == thresholds.end() || error != std::errc{} || read != end || value > INT32_MAX) {
        throw CLI::ValidationError("--advise", "'" + text + "' is not REASON=NUMBER; see --help");
    }
    advice.*(found->value) = value;
}

void add_advice(CLI::App& app, target::Options& options) {
    app.add_option_function<std::vector<std::string>>(
           "--advise",
           [&options](const std::vector<std::string>& texts) {
               for (const std::string& text : texts) {
                   read_threshold(text, options.advice);
               }
           },
           "Ask hosts to take a connection back, once per reason, when: low-activity=MS nothing "
           "was sent or received for so long; drop-rate=N of 1000 segments were sent again; "
           "small-io=BYTES is more than SENDs and RECVs have on average; no-preposting=N times in "
           "a row data came and no RECV was posted; fragmentation=N of 1000 datagrams came in "
           "fragments; out-of-order=N of 1000 segments did. As a list with commas")
        ->delimiter(',');
}

void add_sessions(CLI::App& app, target::Options& options) {
    target::Quotas& quotas = options.quotas;
    app.add_option("--socket", options.socket_path, "Unix socket at which hosts open sessions")
        ->capture_default_str();
    app.add_option("--sessions",
                   quotas.sessions,
                   "Sessions at a time; one user has three quarters of them at most.  Half of the "
                   "connections and requests is set aside for them, in equal parts")
        ->check(CLI::Range(1, 65'536))
        ->capture_default_str();
    app.add_option("--session-queues", quotas.queues, "Host queues per session")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    app.add_option("--session-regions", quotas.regions, "Memory regions per session")
        ->check(CLI::Range(1, 65'536))
        ->capture_default_str();
    app.add_option("--session-bytes", quotas.region_bytes, "Bytes of memory regions per session")
        ->capture_default_str();
    app.add_option("--hold-ms",
                   options.hold_ms,
                   "Longest time that a session with the policy hold waits for its next host, "
                   "milliseconds; 0 = not at all")
        ->check(CLI::Range(0, 86'400'000))
        ->capture_default_str();
    app.add_option("--hold-regions",
                   quotas.held_regions,
                   "Memory regions per session with the policy hold, of --session-regions: each of "
                   "them takes a file descriptor of flued")
        ->check(CLI::Range(1, 65'536))
        ->capture_default_str();
    app.add_option("--ring-entries", quotas.ring_entries, "Largest ring of a host queue")
        ->capture_default_str();
    app.add_option(
           "--session-connections",
           quotas.connections,
           "Connections per session and worker (default: no more than half of --connections "
           "and the part that each session is guaranteed)")
        ->check(CLI::Range(1, 1 << 23));
    app.add_option(
           "--session-held", quotas.held, "Of them, 4-tuples that are claimed and not offloaded")
        ->check(CLI::Range(1, 1 << 23))
        ->capture_default_str();
    app.add_option("--session-wrs",
                   quotas.requests,
                   "Requests in the target per session and worker; more wait in their ring "
                   "(default: as --session-connections, of --send-items and --receive-items)")
        ->check(CLI::Range(1, 1 << 24));
}

void add_permissions(CLI::App& app, target::Options& options, std::vector<std::string>& claims) {
    target::Permissions& permissions = options.permissions;
    app.add_option_function<std::string>(
           "--socket-mode",
           [&permissions](const std::string& text) {
               permissions.socket_mode = static_cast<mode_t>(std::stoul(text, nullptr, 8));
           },
           "Permission bits of the socket, octal (default: 0660)")
        ->check([](const std::string& text) {
            const bool octal = !text.empty() && text.size() <= 4 &&
                               text.find_first_not_of("01234567") == std::string::npos &&
                               std::stoul(text, nullptr, 8) <= 0777;
            return octal ? std::string{} : "'" + text + "' is no mode such as 0660";
        });
    app.add_option("--socket-group",
                   permissions.socket_group,
                   "Group of the socket, by name or number (default: flued's)");
    app.add_option("--allow-uid",
                   permissions.allow_uids,
                   "Who may open sessions, may be repeated (default: whoever may write to the "
                   "socket)")
        ->allow_extra_args(false);
    app.add_option("--raw-uid",
                   permissions.raw_uids,
                   "Who may claim connections without showing their socket, may be repeated "
                   "(default: 0 and flued's own user)")
        ->allow_extra_args(false);
    app.add_option("--allow-claim",
                   claims,
                   "ADDR[/PREFIX][:PORT[-PORT]], an IPv6 address in []: local addresses and ports "
                   "of which connections may be claimed, may be repeated (default: any)")
        ->allow_extra_args(false)
        ->check([](const std::string& text) {
            return target::parse_local_range(text)
                       ? std::string{}
                       : "'" + text + "' is not ADDR[/PREFIX][:PORT[-PORT]]";
        });
}

void add_drains(CLI::App& app, target::Options& options) {
    target::DrainLimits& drains = options.drains;
    app.add_option("--drains",
                   drains.at_a_time,
                   "Connections being drained for others at a time (flue drain); 0 = none")
        ->check(CLI::Range(0, 13'000))
        ->capture_default_str();
    app.add_option("--drains-per-uid", drains.per_user, "The same, for each user")
        ->capture_default_str();
    app.add_option("--drain-bytes",
                   drains.memory_bytes,
                   "Bytes that these have not sent yet, all together; takes memory as needed")
        ->capture_default_str();
    app.add_option(
           "--drain-end-ms",
           drains.end_ms,
           "At SIGINT or SIGTERM: milliseconds for these to be drained, before what is left "
           "is reset; a second signal does not wait")
        ->check(CLI::Range(0, 600'000))
        ->capture_default_str();
}

void add_tcp(CLI::App& app, target::Options& options) {
    using enum tcp::CongestionControl;
    const std::map<std::string, tcp::CongestionControl> names{
        {"cubic", cubic}, {"newreno", newreno}, {"dctcp", dctcp}};
    app.add_option("--congestion",
                   options.congestion,
                   "Congestion control of connections whose hosts leave it to the target: cubic, "
                   "newreno, or dctcp, which those without ECN cannot have: they get cubic "
                   "(default: cubic)")
        ->transform(CLI::CheckedTransformer(names, CLI::ignore_case));
    app.add_flag("--pacing", options.pacing, "Spread what a connection sends over its round trip");
}

std::string complete(target::Options& options, const std::vector<std::string>& claims) {
    for (const std::string& text : claims) {
        options.permissions.claim_rules.ranges.push_back(*target::parse_local_range(text));
    }
    if (options.exception_taps.empty()) {
        for (size_t i = 0; i < options.ports.size(); ++i) {
            options.exception_taps.push_back("flue" + std::to_string(i));
        }
    }
    if (options.exception_taps.size() != options.ports.size()) {
        return "give one --exception-tap for each --port, 'none' for a port without one";
    }
    if (!is_power_of_two(options.rx_descriptors) || !is_power_of_two(options.tx_descriptors)) {
        return "--rx-descriptors and --tx-descriptors must be powers of two";
    }
    if (options.rx_mbufs < 4u * options.rx_descriptors) {
        return "--rx-mbufs must be at least four times --rx-descriptors, or reception stops when "
               "hosts are slow";
    }
    return {};
}

}  // namespace

CommandLine split_command_line(int argc, char** argv) {
    int cut = 1;
    while (cut < argc && std::string_view{argv[cut]} != "--") {
        ++cut;
    }
    if (cut == argc) {
        return {argc, 1, argv, argv};
    }
    argv[cut] = argv[0];
    return {cut, argc - cut, argv, argv + cut};
}

Parsed parse_options(const CommandLine& line) {
    target::Options options;
    std::vector<std::string> claims;
    CLI::App app{description, "flued"};
    add_ports(app, options);
    add_connections(app, options);
    add_tcp(app, options);
    add_advice(app, options);
    add_sessions(app, options);
    add_permissions(app, options, claims);
    add_drains(app, options);
    for (int i = 1; i < line.eal_argc; ++i) {
        const std::string_view argument{line.eal_argv[i]};
        if (argument == "-h" || argument == "--help") {
            std::fputs(app.help().c_str(), stdout);
            std::fputs(
                "\nflued -- --help shows this; the EAL options are in DPDK's guide, 'EAL "
                "parameters'.\n",
                stdout);
            return {};
        }
    }
    try {
        app.parse(line.flued_argc, line.flued_argv);
    } catch (const CLI::ParseError& error) {
        return {std::nullopt, app.exit(error)};
    }
    if (const std::string mistake = complete(options, claims); !mistake.empty()) {
        std::fprintf(stderr, "flued: %s\n", mistake.c_str());
        return {std::nullopt, 2};
    }
    return {options, 0};
}

}  // namespace flue
