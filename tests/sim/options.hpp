#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/prng.hpp"
#include "wire/fields.hpp"

/// Everything about a run is drawn from its seed before it starts, so that it can be printed.
namespace flue::sim {

enum class Mode : uint8_t {
    swarm,  ///< every world that there is
    lite,   ///< small worlds, for crashes
    perf    ///< no faults but loss: goodput
};

/// A bug planted on purpose, in the harness and not in what is tested.
enum class Canary : uint8_t { none, payload, completion };

/// A fault that comes and goes at moments drawn while the run goes on.
enum class Fault : uint8_t {
    clog,            ///< a connection's frames wait, both ways
    one_way,         ///< frames of one direction are lost
    peer_stops,      ///< a plain peer does not read: its window shuts
    window_shrinks,  ///< a plain peer takes back window that it had given.  RFC 9293 §3.8.6
    host_silent,     ///< a host neither polls nor posts
    port_shut,       ///< a target's port takes nothing
    upload,          ///< TERMINATE, and OFFLOAD again later, here or at the other target
    abort,           ///< an abortive DISCONNECT
    peer_aborts,     ///< an RST from a plain peer
    forged_rst,      ///< a stranger's RST, in the window or outside of it, that must be ignored
    forged_syn,      ///< a stranger's SYN
    query,           ///< QUERY
    update,          ///< UPDATE: path MTU, receive window, Nagle
    invalidate,      ///< INVALIDATE
    pause,           ///< a target takes nothing new
    upload_all,      ///< a target wants everything taken back
    host_dies,
    peer_reneges,  ///< a plain peer throws away what it had reported.  RFC 2018 §8
    forged_sack,   ///< a stranger reports nonsense: what never came, or was never sent
};

constexpr uint32_t fault_count = static_cast<uint32_t>(Fault::forged_sack) + 1;

const char* to_string(Fault fault);

/// What can be left out of every world, to see whether a finding needs it.
enum Feature : uint8_t {
    feature_sack       = 0x01,
    feature_ecn        = 0x02,
    feature_congestion = 0x04,  ///< else all have the target's default
    feature_pacing     = 0x08,
    feature_path_mtu   = 0x10,
};

/// How a world is to be drawn, beside its seed.
struct Drawing {
    Mode mode       = Mode::swarm;
    Canary canary   = Canary::none;
    uint8_t without = 0;  ///< Feature
};

struct LinkOptions {
    std::array<uint32_t, 2> loss_ppm{};  ///< [direction]
    uint32_t duplicate_ppm = 0;
    uint32_t reorder_ppm   = 0;
    uint32_t flip_ppm      = 0;
    uint32_t delay_us      = 0;
    uint32_t jitter_us     = 0;
    uint32_t reorder_us    = 0;
    uint32_t frame_us      = 0;  ///< what a frame occupies the wire for
    uint32_t queue_us      = 0;  ///< frames that would wait longer for the wire are dropped
    uint32_t mark_ppm      = 0;  ///< of those that are ECN-capable: congestion experienced
    uint32_t mark_us       = 0;  ///< these are marked, too, when they wait longer.  0 = not
};

struct EndOptions {
    bool chimney            = false;  ///< else a plain peer
    uint8_t target          = 0;
    uint8_t host            = 0;
    uint32_t iss            = 0;
    uint32_t ts_start       = 0;
    uint8_t wind_shift      = 0;
    uint32_t buffer         = 0;  ///< bytes: the receive window when nothing waits
    uint32_t initial_window = 0;
    uint32_t stream_bytes   = 0;
    bool close_first        = false;  ///< closes as soon as all is sent; else after the other end
    // a chimney's
    uint32_t send_depth     = 1;
    uint32_t send_bytes_max = 1;
    uint32_t recv_depth     = 1;
    uint32_t recv_bytes_max = 1;
    bool no_push            = false;
    bool on_event           = false;  ///< posts RECVs when DATA_AVAILABLE says so only
    bool keep_time_wait     = false;
    bool hold_first         = false;  ///< HOLD, then OFFLOAD
    bool zero_copy          = false;
    bool empty_requests     = false;  ///< posts SENDs and RECVs of no length, too
    bool deadlines          = false;  ///< gives DISCONNECTs a deadline
    uint32_t cwnd           = 0;
    uint8_t congestion      = 0;  ///< enum flue_congestion
    // a plain peer's
    bool keeps_out_of_order = false;
    bool fast_retransmit    = false;
    bool sack_recovery      = false;  ///< sends again what SACK says is missing.  RFC 6675
    bool reports_duplicates = false;  ///< RFC 2883
    uint32_t ack_parts      = 1;      ///< ACKs that it makes out of each
    uint32_t ack_every      = 1;
    uint32_t delayed_ack_us = 0;
    uint32_t segments_max   = 1;  ///< in flight
    uint32_t rto_us         = 0;
    uint32_t read_every_us  = 0;
    uint32_t read_bytes     = 0;
    uint32_t write_every_us = 0;
    uint32_t write_bytes    = 0;
};

struct ConnectionOptions {
    wire::Family family    = wire::Family::ipv4;
    uint16_t vlan_id       = 0;
    bool timestamps        = false;
    bool sack              = false;
    bool ecn               = false;
    bool nagle             = false;
    uint32_t keep_alive_ms = 0;     ///< 0 = none
    uint16_t mss           = 1460;  ///< as both ends announced it
    uint16_t mtu           = 1500;
    uint16_t path_mtu      = 0;  ///< that of a router in between, for what chimneys send.  0 = none
    bool tells_too_big     = false;  ///< else what is too large just vanishes
    uint64_t pattern       = 0;
    std::array<EndOptions, 2> ends;
};

struct TargetOptions {
    uint32_t connections    = 0;
    uint32_t send_items     = 0;
    uint32_t receive_items  = 0;
    uint32_t receive_chunks = 0;
    uint32_t reassembly     = 0;
    uint32_t payloads       = 0;
    uint32_t held_max       = 0;  ///< packets kept for one connection
    uint32_t batch          = 0;  ///< segments a turn
    uint32_t nic_us         = 0;  ///< how long the NIC refers to what was sent; 0 = not at all
    uint32_t turn_us        = 0;
    uint32_t idle_us        = 0;
    uint32_t delayed_ack_us = 0;
    uint32_t rto_min_us     = 0;
    uint32_t rto_max_us     = 0;
    uint32_t time_wait_us   = 0;
    uint32_t time_waits     = 0;
    uint32_t push_us        = 0;
    uint32_t quantum_bytes  = 0;
    uint8_t congestion      = 0;  ///< enum flue_congestion
    bool pacing             = false;
};

struct HostOptions {
    uint32_t ring_entries = 0;
    uint32_t poll_us      = 0;
    uint32_t poll_batch   = 0;
    bool abort_on_loss    = false;
};

struct WorldOptions {
    uint64_t seed      = 0;
    Canary canary      = Canary::none;
    uint64_t start_us  = 0;
    uint32_t safety_us = 0;
    uint64_t bound_us  = 0;  ///< in which everything must be over once the faults are
    LinkOptions link;
    uint32_t fault_every_us = 0;
    uint32_t fault_us       = 0;  ///< how long one lasts at most
    std::array<uint8_t, fault_count> weights{};
    TargetOptions target;
    std::vector<HostOptions> hosts;
    std::vector<ConnectionOptions> connections;
};

constexpr uint32_t target_count = 2;
constexpr uint32_t perf_bytes   = 4'000'000;

/// draw makes a world out of a seed.
WorldOptions draw(uint64_t seed, const Drawing& drawing);

/// perf_world makes the world of one cell of a table of goodput: one connection from a target with
/// this congestion control to a plain peer, 20 ms there and back, that loses some frames and has
/// this receive buffer.
WorldOptions perf_world(uint8_t congestion, uint32_t loss_ppm, uint32_t buffer);

/// describe returns the options of the command line that draw a world this way.
std::string describe(const Drawing& drawing);

/// print shows a world in a few lines.
void print(const WorldOptions& options);

struct CommandLine {
    Drawing drawing;
    uint64_t seed  = 1;
    uint64_t count = 1;
    bool replay    = false;  ///< print the whole trace
    bool twice     = false;  ///< each seed twice: the hashes must agree
    bool goes_on   = false;  ///< after a finding, of which one line is printed
    bool hashes    = false;  ///< print the hash of each
    bool figures   = false;  ///< print what the runs have been through
    std::string file;        ///< of seeds to run
};

/// parse_seed reads a decimal number or 40 hex digits, of which the first 64 bits count.
std::optional<uint64_t> parse_seed(std::string_view text);
/// parse_command_line returns nothing, having said why, when it does not understand.
std::optional<CommandLine> parse_command_line(int argc, char** argv);

}  // namespace flue::sim
