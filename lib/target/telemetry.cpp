#include "target/telemetry.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include <rte_mempool.h>
#include <rte_telemetry.h>

#include "target/log.hpp"

namespace flue::target {

namespace {

using namespace std::chrono_literals;

constexpr auto answer_time = 500ms;

// rte_telemetry's callbacks carry no context, and cannot be unregistered.
std::mutex registered_mutex;
Telemetry* registered = nullptr;

template <int (Telemetry::*command)(const char*, rte_tel_data*)>
int call(const char* /*name*/, const char* parameters, rte_tel_data* answer) {
    const std::lock_guard lock{registered_mutex};
    return registered == nullptr ? -1 : (registered->*command)(parameters, answer);
}

template <int (Telemetry::*command)(rte_tel_data*)>
int call(const char* /*name*/, const char* /*parameters*/, rte_tel_data* answer) {
    const std::lock_guard lock{registered_mutex};
    return registered == nullptr ? -1 : (registered->*command)(answer);
}

/// rte_telemetry's JSON is right for ASCII only: it takes the bytes of a "§" for control
/// characters.
std::string ascii(std::string text) {
    constexpr std::string_view section_sign = "§";
    for (size_t at = text.find(section_sign); at != std::string::npos;
         at        = text.find(section_sign)) {
        text.replace(at, section_sign.size(), "section ");
    }
    return text;
}

int drop_text(const char* /*name*/, const char* /*parameters*/, rte_tel_data* answer) {
    rte_tel_data_start_dict(answer);
    for (uint32_t i = 1; i < tcp::drop_count; ++i) {
        const auto drop = static_cast<tcp::Drop>(i);
        const std::string text =
            ascii(std::string(tcp::text_of(drop)) + " [" + tcp::specification_of(drop) + "]");
        rte_tel_data_add_dict_string(answer, tcp::to_string(drop), text.c_str());
    }
    return 0;
}

/// parse_numbers reads up to out.size() numbers separated by commas and returns how many there are.
size_t parse_numbers(const char* parameters, std::span<uint32_t> out) {
    if (parameters == nullptr) {
        return 0;
    }
    std::string_view rest{parameters};
    size_t count = 0;
    while (count < out.size()) {
        const auto [end, error] =
            std::from_chars(rest.data(), rest.data() + rest.size(), out[count]);
        if (error != std::errc{}) {
            return count;
        }
        ++count;
        rest.remove_prefix(static_cast<size_t>(end - rest.data()));
        if (!rest.starts_with(',')) {
            return count;
        }
        rest.remove_prefix(1);
    }
    return count;
}

const char* name_of(tcp::State state) {
    switch (state) {
        using enum tcp::State;
        case closed:
            return "CLOSED";
        case established:
            return "ESTABLISHED";
        case fin_wait_1:
            return "FIN-WAIT-1";
        case fin_wait_2:
            return "FIN-WAIT-2";
        case close_wait:
            return "CLOSE-WAIT";
        case closing:
            return "CLOSING";
        case last_ack:
            return "LAST-ACK";
        case time_wait:
            return "TIME-WAIT";
    }
    return "?";
}

const char* name_of(tcp::CongestionControl congestion) {
    switch (congestion) {
        using enum tcp::CongestionControl;
        case unspecified:
            return "?";
        case cubic:
            return "cubic";
        case newreno:
            return "newreno";
        case dctcp:
            return "dctcp";
    }
    return "?";
}

void add_address(rte_tel_data* dict,
                 const char* name,
                 wire::Family family,
                 const wire::IpAddress& address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(family == wire::Family::ipv4 ? AF_INET : AF_INET6,
              address.data(),
              text.data(),
              text.size());
    rte_tel_data_add_dict_string(dict, name, text.data());
}

rte_tel_data* describe(uint32_t worker, Instant now, const chimney::Chimney::ConnectionInfo& info) {
    rte_tel_data* dict = rte_tel_data_alloc();
    if (dict == nullptr) {
        return nullptr;
    }
    std::array<char, 24> handle{};
    std::snprintf(handle.data(), handle.size(), "0x%" PRIx64, info.handle);
    rte_tel_data_start_dict(dict);
    rte_tel_data_add_dict_u64(dict, "worker", worker);
    rte_tel_data_add_dict_u64(dict, "index", info.index);
    rte_tel_data_add_dict_string(dict, "handle", handle.data());
    rte_tel_data_add_dict_u64(dict, "session", info.session_id);
    rte_tel_data_add_dict_string(dict, "offload", to_string(info.state));
    const bool held = info.state == chimney::OffloadState::held;
    rte_tel_data_add_dict_string(dict, "state", held ? "-" : name_of(info.tcp.state));
    add_address(dict, "local", info.key.family, info.key.local);
    rte_tel_data_add_dict_u64(dict, "local_port", info.key.local_port);
    add_address(dict, "remote", info.key.family, info.key.remote);
    rte_tel_data_add_dict_u64(dict, "remote_port", info.key.remote_port);
    rte_tel_data_add_dict_u64(dict, "age_ms", static_cast<uint64_t>(now - info.since) / 1000);
    rte_tel_data_add_dict_u64(dict, "send_queue", info.tcp.backlog);
    rte_tel_data_add_dict_u64(dict, "receive_queue", info.tcp.readable);
    rte_tel_data_add_dict_u64(dict, "unacked", info.tcp.unacked);
    rte_tel_data_add_dict_u64(dict, "cwnd", info.tcp.cwnd);
    rte_tel_data_add_dict_u64(dict, "ssthresh", info.tcp.ssthresh);
    rte_tel_data_add_dict_u64(dict, "srtt_us", info.tcp.srtt_us);
    rte_tel_data_add_dict_u64(dict, "rto_us", info.tcp.rto_us);
    rte_tel_data_add_dict_u64(dict, "snd_wnd", info.tcp.snd_wnd);
    rte_tel_data_add_dict_u64(dict, "rcv_wnd", info.tcp.rcv_wnd);
    rte_tel_data_add_dict_u64(dict, "mss", info.tcp.mss);
    rte_tel_data_add_dict_u64(dict, "retransmits", info.tcp.retransmits);
    rte_tel_data_add_dict_string(dict, "congestion", held ? "-" : name_of(info.tcp.congestion));
    rte_tel_data_add_dict_u64(dict, "ecn", info.tcp.ecn ? 1 : 0);
    return dict;
}

/// Sums collects named figures, in the order in which they are first added.
class Sums {
  public:
    void add(const char* name, uint64_t value) {
        for (auto& [known, sum] : sums_) {
            if (std::strcmp(known, name) == 0) {
                sum += value;
                return;
            }
        }
        sums_.emplace_back(name, value);
    }

    void write(rte_tel_data* answer) const {
        rte_tel_data_start_dict(answer);
        for (const auto& [name, sum] : sums_) {
            rte_tel_data_add_dict_u64(answer, name, sum);
        }
    }

  private:
    std::vector<std::pair<const char*, uint64_t>> sums_;
};

void add_frames(Sums& sums, const WorkerSnapshot& snapshot) {
    sums.add("rx_frames", snapshot.worker.rx_frames);
    sums.add("rx_not_tcp", snapshot.worker.not_tcp);
    sums.add("rx_fragments", snapshot.worker.fragments);
    sums.add("rx_ip_options", snapshot.worker.ip_options);
    sums.add("rx_malformed", snapshot.worker.malformed);
    sums.add("rx_bad_checksum", snapshot.worker.bad_checksum);
    sums.add("rx_too_big", snapshot.worker.too_big);
    sums.add("rx_too_big_lost", snapshot.worker.too_big_lost);
    sums.add("rx_unknown_flow", snapshot.worker.unknown_flow);
    sums.add("rx_passed_on", snapshot.worker.passed_on);
    sums.add("rx_passed_on_lost", snapshot.worker.passed_on_lost);
    sums.add("rx_held", snapshot.worker.held);
    sums.add("rx_hold_overflows", snapshot.worker.hold_overflows);
    sums.add("tx_frames", snapshot.tx.frames);
    sums.add("tx_stalls", snapshot.tx.stalls);
    sums.add("tx_full", snapshot.tx.full);
    sums.add("tx_zero_copy_bytes", snapshot.frames.zero_copy_bytes);
    sums.add("tx_copied_bytes", snapshot.frames.copied_bytes);
    sums.add("tx_no_memory", snapshot.frames.no_memory);
    sums.add("tx_too_long", snapshot.frames.too_long);
    sums.add("exception_to_kernel", snapshot.exceptions.to_kernel);
    sums.add("exception_to_kernel_dropped", snapshot.exceptions.to_kernel_dropped);
    sums.add("exception_from_kernel", snapshot.exceptions.from_kernel);
    sums.add("exception_from_kernel_dropped", snapshot.exceptions.from_kernel_dropped);
}

void add_offload(Sums& sums, const WorkerSnapshot& snapshot) {
    sums.add("requests", snapshot.worker.requests);
    sums.add("refused_requests", snapshot.chimney.refused_requests);
    sums.add("holds", snapshot.chimney.holds);
    sums.add("offloads", snapshot.chimney.offloads);
    sums.add("terminates", snapshot.chimney.terminates);
    sums.add("advices", snapshot.chimney.advices);
    sums.add("forwards", snapshot.chimney.forwards);
    sums.add("graceful_disconnects", snapshot.chimney.graceful_disconnects);
    sums.add("abortive_disconnects", snapshot.chimney.abortive_disconnects);
    sums.add("orphans", snapshot.chimney.orphans);
    sums.add("time_waits", snapshot.chimney.time_waits);
    sums.add("time_waits_cut_short", snapshot.chimney.time_waits_cut_short);
    sums.add("segments_in", snapshot.engine.segments_in);
    sums.add("segments_out", snapshot.engine.segments_out);
    sums.add("segments_retransmitted", snapshot.engine.segments_retransmitted);
    sums.add("bytes_in", snapshot.engine.bytes_in);
    sums.add("bytes_out", snapshot.engine.bytes_out);
    sums.add("resets_in", snapshot.engine.resets_in);
    sums.add("resets_out", snapshot.engine.resets_out);
    sums.add("timeouts", snapshot.engine.timeouts);
    sums.add("fast_retransmits", snapshot.engine.fast_retransmits);
    sums.add("tail_probes", snapshot.engine.tail_probes);
    sums.add("spurious_recoveries", snapshot.engine.spurious_recoveries);
    sums.add("duplicates_reported", snapshot.engine.duplicates_reported);
    sums.add("sacks_refused", snapshot.engine.sacks_refused);
    sums.add("sacks_renounced", snapshot.engine.sacks_renounced);
    sums.add("duplicates_received", snapshot.engine.duplicates_received);
    sums.add("chunks_evicted", snapshot.engine.chunks_evicted);
    sums.add("congestion_marks", snapshot.engine.congestion_marks);
    sums.add("too_big_heeded", snapshot.engine.too_big_heeded);
    sums.add("too_big_known", snapshot.engine.too_big_known);
    sums.add("too_big_refused", snapshot.engine.too_big_refused);
    sums.add("black_holes", snapshot.engine.black_holes);
    sums.add("challenge_acks", snapshot.engine.challenge_acks);
    sums.add("busy_cycles", snapshot.worker.busy_cycles);
    sums.add("idle_cycles", snapshot.worker.idle_cycles);
    sums.add("busy_turns", snapshot.worker.busy_turns);
    sums.add("idle_turns", snapshot.worker.idle_turns);
}

/// Puts `dict` into `answer`.  rte_telemetry 22.11 prints dictionaries within a dictionary, but not
/// within an array.
void add_dict(rte_tel_data* answer, std::string name, rte_tel_data* dict) {
    std::ranges::replace_if(
        name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
    if (dict != nullptr) {
        rte_tel_data_add_dict_container(answer, name.c_str(), dict, 0);
    }
}

rte_tel_data* describe(const TcpStats& stats) {
    rte_tel_data* dict = rte_tel_data_alloc();
    if (dict == nullptr) {
        return nullptr;
    }
    rte_tel_data_start_dict(dict);
    rte_tel_data_add_dict_u64(dict, "in_segments", stats.in_segments);
    rte_tel_data_add_dict_u64(dict, "in_errors", stats.in_errors);
    rte_tel_data_add_dict_u64(dict, "out_segments", stats.out_segments);
    rte_tel_data_add_dict_u64(dict, "retransmitted_segments", stats.retransmitted_segments);
    rte_tel_data_add_dict_u64(dict, "out_resets", stats.out_resets);
    rte_tel_data_add_dict_u64(dict, "currently_established", stats.established);
    rte_tel_data_add_dict_u64(dict, "reset_established", stats.established_reset);
    rte_tel_data_add_dict_u64(dict, "ip_in_receives", stats.in_segments);
    rte_tel_data_add_dict_u64(dict, "ip_in_octets", stats.in_octets);
    rte_tel_data_add_dict_u64(dict, "ip_out_requests", stats.out_datagrams);
    rte_tel_data_add_dict_u64(dict, "ip_out_octets", stats.out_octets);
    return dict;
}

const char* name_of(Port::Freeing freeing) {
    switch (freeing) {
        case Port::Freeing::at_once:
            return "at once";
        case Port::Freeing::on_request:
            return "on request";
        case Port::Freeing::later:
            return "later";
    }
    return "?";
}

}  // namespace

uint32_t Telemetry::first_number(const char* parameters) {
    std::array<uint32_t, 1> number{};
    (void)parse_numbers(parameters, number);
    return number[0];
}

Telemetry::Telemetry(const Parts& parts) : parts_(parts), snapshots_(parts.lanes.size()) {
    for (WorkerSnapshot& snapshot : snapshots_) {
        snapshot.done.store(true, std::memory_order_relaxed);
        questions_.push_back(&snapshot);
    }
}

Telemetry::~Telemetry() {
    const std::lock_guard lock{registered_mutex};
    registered = nullptr;
}

bool Telemetry::start() {
    struct Command {
        const char* name;
        telemetry_cb function;
        const char* help;
    };

    constexpr std::array commands{
        Command{"/flue/stats",
                call<&Telemetry::stats>,
                "Counters. Parameters: none (all workers together) or WORKER"},
        Command{"/flue/drops",
                call<&Telemetry::drops>,
                "Segments not processed, by reason. Parameters: none or WORKER"},
        Command{"/flue/drop_text", drop_text, "What each drop reason means. No parameters"},
        Command{"/flue/conns",
                call<&Telemetry::conns>,
                "A page of connections. Parameters: WORKER,FROM_INDEX"},
        Command{"/flue/ports", call<&Telemetry::ports>, "How each port is used. No parameters"},
        Command{"/flue/sessions",
                call<&Telemetry::sessions>,
                "A page of sessions: what they have and were refused. Parameters: FROM_ID"},
        Command{"/flue/refusals",
                call<&Telemetry::refusals>,
                "What hosts asked for in vain, by reason. No parameters"},
        Command{"/flue/usage",
                call<&Telemetry::usage>,
                "Objects in use, all workers together. No parameters"},
        Command{"/flue/tcp_stats",
                call<&Telemetry::tcp_stats>,
                "Of offloaded connections, by port and IP version. No parameters"},
        Command{"/flue/tcp_stats_clear",
                call<&Telemetry::tcp_stats_clear>,
                "Set what tcp_stats counts to zero. No parameters"},
        Command{"/flue/pause",
                call<&Telemetry::pause>,
                "Have hosts and workers offload nothing more. No parameters"},
        Command{"/flue/upload_all",
                call<&Telemetry::upload_all>,
                "Ask hosts to take all connections back. No parameters"},
        Command{
            "/flue/resume", call<&Telemetry::resume>, "End of pause and upload_all. No parameters"},
    };
    {
        const std::lock_guard lock{registered_mutex};
        registered = this;
    }
    for (const Command& command : commands) {
        // EEXIST: an earlier Target of this process has registered the same functions.
        const int error = rte_telemetry_register_cmd(command.name, command.function, command.help);
        if (error != 0 && error != -EEXIST) {
            FLUE_LOG(ERR,
                     "cannot register the telemetry command %s: %s",
                     command.name,
                     std::strerror(-error));
            return false;
        }
    }
    return true;
}

const WorkerSnapshot* Telemetry::ask(uint32_t worker, tcp::ConnIndex list_from, Order order) {
    WorkerSnapshot& snapshot = snapshots_[worker];
    // An earlier question that timed out may be answered any moment.
    if (!snapshot.done.load(std::memory_order_acquire)) {
        return nullptr;
    }
    snapshot.list_from = list_from;
    snapshot.order     = order;
    snapshot.done.store(false, std::memory_order_relaxed);
    queue::Ring<WorkerSnapshot*> snapshots = parts_.lanes[worker].snapshots;
    if (snapshots.enqueue(std::span{questions_}.subspan(worker, 1)) == 0) {
        return nullptr;
    }
    const auto deadline = std::chrono::steady_clock::now() + answer_time;
    while (!snapshot.done.load(std::memory_order_acquire)) {  // S0
        if (std::chrono::steady_clock::now() > deadline) {
            return nullptr;
        }
        std::this_thread::sleep_for(50us);
    }
    return &snapshot;
}

Telemetry::Workers Telemetry::workers_of(const char* parameters) const {
    std::array<uint32_t, 1> worker{};
    const bool one = parse_numbers(parameters, worker) == 1;
    return {one ? worker[0] : 0, one ? worker[0] + 1 : static_cast<uint32_t>(snapshots_.size())};
}

int Telemetry::stats(const char* parameters, rte_tel_data* answer) {
    Sums sums;
    const bool answered = for_workers(parameters, [&](const WorkerSnapshot& snapshot) {
        add_frames(sums, snapshot);
        add_offload(sums, snapshot);
    });
    if (parameters == nullptr) {
        sums.add("wrong_tokens", parts_.control->usage().wrong_tokens);
    }
    sums.write(answer);
    return answered ? 0 : -1;
}

int Telemetry::drops(const char* parameters, rte_tel_data* answer) {
    Sums sums;
    const bool answered = for_workers(parameters, [&](const WorkerSnapshot& snapshot) {
        for (uint32_t i = 1; i < tcp::drop_count; ++i) {
            sums.add(tcp::to_string(static_cast<tcp::Drop>(i)), snapshot.engine.drops[i]);
        }
    });
    sums.write(answer);
    return answered ? 0 : -1;
}

int Telemetry::conns(const char* parameters, rte_tel_data* answer) {
    std::array<uint32_t, 2> numbers{};
    (void)parse_numbers(parameters, numbers);
    const WorkerSnapshot* snapshot =
        numbers[0] < snapshots_.size() ? ask(numbers[0], numbers[1]) : nullptr;
    rte_tel_data_start_dict(answer);
    if (snapshot == nullptr) {
        return -1;
    }
    for (const auto& info : std::span{snapshot->list}.first(snapshot->list_count)) {
        add_dict(answer, std::to_string(info.index), describe(numbers[0], snapshot->now, info));
    }
    return 0;
}

int Telemetry::ports(rte_tel_data* answer) {
    rte_tel_data_start_dict(answer);
    for (const Port& port : parts_.ports) {
        rte_tel_data* dict = rte_tel_data_alloc();
        if (dict == nullptr) {
            return -1;
        }
        rte_tel_data_start_dict(dict);
        rte_tel_data_add_dict_string(dict, "driver", port.driver.c_str());
        rte_tel_data_add_dict_u64(dict, "id", port.id);
        rte_tel_data_add_dict_u64(dict, "mtu", port.mtu);
        rte_tel_data_add_dict_u64(dict, "rx_queues", port.rx_queues);
        rte_tel_data_add_dict_u64(dict, "tx_queues", port.tx_queues);
        rte_tel_data_add_dict_u64(dict, "own_rx_queue", port.own_rx_queue ? 1 : 0);
        rte_tel_data_add_dict_u64(dict, "rss", port.rss_buckets > 0 ? 1 : 0);
        rte_tel_data_add_dict_u64(dict, "tx_checksum", port.tx_checksum ? 1 : 0);
        rte_tel_data_add_dict_u64(dict, "rx_checksum", port.rx_checksum ? 1 : 0);
        rte_tel_data_add_dict_u64(dict, "zero_copy", port.zero_copy() ? 1 : 0);
        rte_tel_data_add_dict_string(dict, "frees", name_of(port.freeing));
        add_dict(answer, port.name, dict);
    }
    return 0;
}

int Telemetry::tcp_stats(rte_tel_data* answer) {
    std::array<PortTcpStats, ports_max> sums{};
    const bool answered = for_workers(nullptr, [&](const WorkerSnapshot& snapshot) {
        for (size_t port = 0; port < parts_.ports.size(); ++port) {
            sums[port][0].add(snapshot.tcp[port][0]);
            sums[port][1].add(snapshot.tcp[port][1]);
        }
    });
    rte_tel_data_start_dict(answer);
    for (size_t port = 0; port < parts_.ports.size(); ++port) {
        add_dict(answer, parts_.ports[port].name + "_ipv4", describe(sums[port][0]));
        add_dict(answer, parts_.ports[port].name + "_ipv6", describe(sums[port][1]));
    }
    return answered ? 0 : -1;
}

int Telemetry::tcp_stats_clear(rte_tel_data* answer) {
    return command(Order::clear_tcp_stats, answer);
}

int Telemetry::command(Order order, rte_tel_data* answer) {
    uint32_t obeyed = 0;
    for (uint32_t worker = 0; worker < snapshots_.size(); ++worker) {
        obeyed += ask(worker, tcp::no_conn, order) != nullptr ? 1u : 0u;
    }
    rte_tel_data_start_dict(answer);
    rte_tel_data_add_dict_u64(answer, "workers", obeyed);
    return obeyed == snapshots_.size() ? 0 : -1;
}

int Telemetry::pause(rte_tel_data* answer) {
    return command(Order::pause, answer);
}

int Telemetry::upload_all(rte_tel_data* answer) {
    return command(Order::upload_all, answer);
}

int Telemetry::resume(rte_tel_data* answer) {
    return command(Order::resume, answer);
}

int Telemetry::usage(rte_tel_data* answer) {
    Sums sums;
    const bool answered = for_workers(nullptr, [&](const WorkerSnapshot& snapshot) {
        sums.add("connections", snapshot.usage.tcp.connections);
        sums.add("held", snapshot.usage.held);
        sums.add("time_waits", snapshot.usage.time_waits);
        sums.add("send_items", snapshot.usage.tcp.send_items);
        sums.add("receive_items", snapshot.usage.receive_items);
        sums.add("initiates_waiting", snapshot.usage.initiates);
        sums.add("workers_paused", snapshot.intake != chimney::Intake::open ? 1 : 0);
        sums.add("receive_chunks", snapshot.usage.tcp.receive_chunks);
        sums.add("nic_references", snapshot.usage.nic_references);
        sums.add("flows", snapshot.flows);
        sums.add("held_packets", snapshot.held_packets);
        sums.add("worker_queues", snapshot.queues);
    });
    for (const Pools& pools : parts_.pools) {
        sums.add("rx_mbufs", rte_mempool_in_use_count(pools.rx));
        sums.add("header_mbufs", rte_mempool_in_use_count(pools.header));
        sums.add("payload_mbufs", rte_mempool_in_use_count(pools.payload));
        sums.add("copy_mbufs", rte_mempool_in_use_count(pools.copy));
    }
    const Control::Usage control = parts_.control->usage();
    sums.add("sessions", control.sessions);
    sums.add("queues", control.queues);
    sums.add("regions", control.regions);
    sums.add("held_sessions", control.held);
    sums.write(answer);
    return answered ? 0 : -1;
}

}  // namespace flue::target
