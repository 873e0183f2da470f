#include <array>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "fleet.hpp"
#include "peer.hpp"
#include "testbed/namespace.hpp"
#include "testbed/process.hpp"
#include "testbed/telemetry_client.hpp"

/// Random connections between a running target and the kernel for as long as is wanted, over a wire
/// that loses 1 % and reorders some.  Plans come from a seed and the connection's number.
///
/// They are made in generations, each a session of its own that ends with some abandoned for the
/// target to drain.  Then nothing may be in use that was not before the
/// first one, and the target may have no more memory than after it.
namespace flue::peers {

namespace {

using namespace std::chrono_literals;
using Clock                         = std::chrono::steady_clock;

constexpr uint32_t width            = 12;  ///< connections at a time
constexpr uint32_t generation       = 150;
constexpr uint32_t abandoned        = 4;  ///< of each generation, beside these
constexpr uint32_t bytes_log2_max   = 21;
constexpr uint64_t memory_slack_kib = 1024;
constexpr unsigned complaints_max   = 20;
constexpr auto progress_interval    = 10s;

constexpr testbed::LinkQuality wire{.delay = 1ms, .loss_permille = 10, .late_permille = 5};
constexpr std::array controls{"cubic", "reno", "bbr"};
constexpr std::array ending_names{"closes_first", "closes_last", "aborts", "is_aborted"};

struct Plan {
    uint64_t number      = 0;
    bool ipv6            = false;
    bool remote_connects = false;
    bool abandoned       = false;  ///< its host leaves right behind the hand-over
    const char* control  = nullptr;
    HostPlan host;
    e2e::PeerPlan peer;
};

/// Small ones as likely as large ones, and none at all now and then.
uint64_t draw_bytes(Prng& prng) {
    const uint32_t log2 = prng.below(bytes_log2_max + 1);
    const uint32_t more = prng.below(uint32_t{1} << log2);
    return prng.chance(1, 10) ? 0 : (uint64_t{1} << log2) + more;
}

uint64_t draw_part(Prng& prng, uint64_t bytes) {
    return prng.below(static_cast<uint32_t>(bytes) + 1);
}

Plan plan_of(uint64_t seed, uint64_t number) {
    Prng prng(seed * 1'000'003 + number);
    Plan plan;
    plan.number             = number;
    plan.ipv6               = prng.chance(1, 2);
    plan.remote_connects    = prng.chance(1, 2);
    plan.control            = controls[prng.below(controls.size())];
    plan.host.ending        = static_cast<Ending>(prng.below(ending_names.size()));
    plan.host.bytes_to_send = draw_bytes(prng);
    plan.host.send_from     = prng.below(e2e::Pattern::period);
    plan.host.rcv_wnd_max   = prng.chance(1, 4) ? 4096 + prng.below(60'000) : 0;
    plan.peer.bytes_to_send = draw_bytes(prng);
    plan.peer.send_from     = prng.below(e2e::Pattern::period);
    plan.peer.expect_from   = plan.host.send_from;
    plan.host.expect_from   = plan.peer.send_from;
    plan.host.kernel_bytes  = prng.chance(1, 2) ? draw_part(prng, plan.host.bytes_to_send) : 0;
    if (plan.host.ending == Ending::aborts) {
        // Nobody sends a lost RST again, but it is what unacknowledged data is answered with: more
        // of it than buffers take makes sure that the peer learns.
        plan.host.abort_after_bytes = plan.peer.bytes_to_send;
        plan.peer.bytes_to_send += uint64_t{1} << 20;
    }
    plan.peer.abort = plan.host.ending == Ending::is_aborted;
    if (plan.peer.abort) {
        // Not before it has been handed over: an aborted socket cannot be.
        const uint64_t behind       = plan.host.bytes_to_send - plan.host.kernel_bytes;
        plan.peer.abort_after_bytes = plan.host.kernel_bytes + 1 + draw_part(prng, behind);
        plan.host.bytes_to_send += 1;
    }
    plan.peer.close_first = plan.host.ending == Ending::closes_last;
    return plan;
}

/// Nothing is sent to a host that leaves: data for it would be answered with an RST.
Plan abandoned_plan_of(uint64_t seed, uint64_t number) {
    Plan plan               = plan_of(seed, number);
    plan.abandoned          = true;
    plan.host.ending        = Ending::closes_first;
    plan.peer.bytes_to_send = 0;
    plan.peer.abort         = false;
    plan.peer.close_first   = false;
    return plan;
}

std::string describe(const Plan& plan) {
    std::ostringstream out;
    out << "connection " << plan.number << " (" << (plan.ipv6 ? "IPv6, " : "IPv4, ")
        << ending_names[static_cast<size_t>(plan.host.ending)] << ", " << plan.host.bytes_to_send
        << " bytes from the host, " << plan.host.kernel_bytes << " of them from its kernel, "
        << plan.peer.bytes_to_send << " to it, window " << plan.host.rcv_wnd_max << ", "
        << (plan.remote_connects ? "accepted, " : "connected, ")
        << (plan.abandoned ? "abandoned, " : "") << plan.control << ")";
    return out.str();
}

/// Does something for a connection, and names it when that fails.
template <typename Action>
auto attempt(const Plan& plan, Action&& action) {
    try {
        return action();
    } catch (const std::exception& error) {
        throw std::runtime_error(describe(plan) + ": " + error.what());
    }
}

/// What a target has of memory, in KiB: what is resident, but of DPDK's reserve what is allocated,
/// since pages of it become resident when they are first touched, however late.
uint64_t memory_kib(const e2e::Rig& rig) {
    std::ifstream maps("/proc/" + std::to_string(rig.flued().pid()) + "/smaps");
    uint64_t sum    = 0;
    bool of_reserve = false;
    std::string line;
    while (std::getline(maps, line)) {
        if (line.starts_with("Rss:")) {
            sum += of_reserve ? 0 : std::strtoull(line.c_str() + 4, nullptr, 10);
        } else if (line.find(':') > line.find('-')) {
            of_reserve = line.find("/memfd:nohuge") != std::string::npos;
        }
    }
    const auto heap = testbed::TelemetryClient(rig.file_prefix()).ask("/eal/heap_info", "0");
    return sum + heap.at("Alloc_size").get<uint64_t>() / 1024;
}

/// In TIME-WAIT nothing leaks, but it should not take a minute to see that.
testbed::FluedOptions target() {
    testbed::FluedOptions options = modest_target();
    options.flued_options.insert(options.flued_options.end(), {"--time-wait-ms", "100"});
    return options;
}

uint64_t distance(uint64_t a, uint64_t b) {
    return a > b ? a - b : b - a;
}

}  // namespace

class Soak {
  public:
    /// With `only`, all connections are planned as that one.
    Soak(uint64_t seed, std::optional<uint64_t> only)
        : seed_(seed),
          only_(only),
          rig_({.distant = true, .seed = seed}, target()),
          base_(rig_.usage()) {
        rig_.bottle().link().set(wire);
    }

    /// Returns whether all was well.
    bool run(Clock::duration time);

  private:
    struct Active {
        Plan plan;
        uint32_t slot;
        std::unique_ptr<e2e::KernelPeer> peer;
    };

    void run_generation();
    void start(Fleet& fleet, const Plan& plan);
    void reap(Fleet& fleet);
    void finish(Fleet& fleet, Active& active);
    void check(const Plan& plan, const HostResult* mine, const e2e::KernelPeer::Result& theirs);
    void show();
    void complain(const Plan& plan, const std::string& what);
    void look_for_leaks();
    void report();

    uint64_t seed_;
    std::optional<uint64_t> only_;
    e2e::Rig rig_;
    nlohmann::json base_;
    const e2e::Pattern from_host_{1};
    const e2e::Pattern from_peer_{2};
    std::vector<Active> active_;
    Clock::time_point began_ = Clock::now();
    Clock::time_point until_;
    Clock::time_point reported_;
    uint64_t connections_      = 0;
    uint64_t bytes_            = 0;
    uint64_t bytes_wrong_      = 0;
    uint64_t leaked_           = 0;
    uint64_t failed_           = 0;
    uint64_t memory_first_kib_ = 0;
    uint64_t memory_kib_       = 0;
};

bool Soak::run(Clock::duration time) {
    until_    = Clock::now() + time;
    reported_ = Clock::now();
    do {
        run_generation();
        look_for_leaks();
        memory_kib_ = memory_kib(rig_);
        if (memory_first_kib_ == 0) {
            memory_first_kib_ = memory_kib_;
        }
        if (Clock::now() - reported_ > progress_interval) {
            report();
        }
    } while (Clock::now() < until_ && leaked_ == 0 && failed_ == 0);
    report();
    const bool flat = memory_kib_ <= memory_first_kib_ + memory_slack_kib;
    const bool well = flat && bytes_wrong_ == 0 && leaked_ == 0 && failed_ == 0;
    if (!well) {
        std::printf("soak: FAILED, %" PRIu64 " connections not as planned; the seed was %" PRIu64
                    "\n",
                    failed_,
                    seed_);
    }
    std::printf("soak: %" PRIu64 " connections, %" PRIu64 " bytes, %" PRIu64
                " wrong bytes, %" PRIu64 " leaked objects, memory %s (%" PRIu64 " -> %" PRIu64
                " KiB)\n",
                connections_,
                bytes_,
                bytes_wrong_,
                leaked_,
                flat ? "flat" : "GROWN",
                memory_first_kib_,
                memory_kib_);
    return well;
}

void Soak::run_generation() {
    std::optional<Fleet> fleet(std::in_place, rig_, from_host_, from_peer_, width);
    for (uint32_t i = 0; i < generation && Clock::now() < until_; ++i) {
        while (active_.size() == width) {
            fleet->turn(10);
            reap(*fleet);
        }
        start(*fleet, plan_of(seed_, only_.value_or(connections_)));
        fleet->turn(0);
        reap(*fleet);
    }
    for (auto& active : active_) {
        finish(*fleet, active);
    }
    active_.clear();
    for (uint32_t i = 0; i < abandoned; ++i) {
        start(*fleet, abandoned_plan_of(seed_, connections_));
    }
    fleet.reset();
    for (auto& active : active_) {
        check(active.plan, nullptr, active.peer->finish());
    }
    active_.clear();
}

void Soak::start(Fleet& fleet, const Plan& plan) {
    ++connections_;
    active_.push_back(attempt(plan, [&]() -> Active {
        auto pair = e2e::connect_pair(rig_.bottle().host(),
                                      rig_.bottle().remote(),
                                      plan.ipv6,
                                      plan.remote_connects,
                                      {.remote_congestion = plan.control});
        auto peer = std::make_unique<e2e::KernelPeer>(
            std::move(pair.remote), from_peer_, from_host_, plan.peer);
        const uint32_t slot = fleet.start(std::move(pair.host), plan.host);
        return {plan, slot, std::move(peer)};
    }));
}

void Soak::reap(Fleet& fleet) {
    for (auto& active : active_) {
        if (fleet.ended(active.slot)) {
            finish(fleet, active);
        }
    }
    std::erase_if(active_, [](const Active& active) { return active.peer == nullptr; });
}

void Soak::finish(Fleet& fleet, Active& active) {
    const HostResult mine = attempt(active.plan, [&] {
        try {
            return fleet.finish(active.slot);
        } catch (const std::exception&) {
            show();
            throw;
        }
    });
    check(active.plan, &mine, active.peer->finish());
    active.peer.reset();
}

/// `mine` is null for a connection that its host abandoned.
void Soak::check(const Plan& plan, const HostResult* mine, const e2e::KernelPeer::Result& theirs) {
    const bool aborted     = plan.host.ending >= Ending::aborts;
    const uint64_t to_host = mine != nullptr ? mine->bytes_received : 0;
    uint64_t wrong         = theirs.bytes_right ? 0 : theirs.bytes_received;
    wrong += mine == nullptr || mine->bytes_right ? 0 : to_host;
    if (!aborted) {
        wrong += distance(theirs.bytes_received, plan.host.bytes_to_send);
        wrong += distance(to_host, plan.peer.bytes_to_send);
    }
    bytes_ += theirs.bytes_received + to_host;
    bytes_wrong_ += wrong;
    if (wrong != 0) {
        complain(plan, std::to_string(wrong) + " bytes wrong or missing");
    }
    if (!aborted && (theirs.error != 0 || !theirs.saw_fin)) {
        complain(plan, "the peer had error " + std::to_string(theirs.error) + " and saw no FIN");
    }
    if (plan.host.ending == Ending::aborts && theirs.error != ECONNRESET && !theirs.saw_fin) {
        complain(plan,
                 "the peer had error " + std::to_string(theirs.error) + " and not ECONNRESET");
    }
    if (mine == nullptr) {
        return;
    }
    if (plan.host.ending == Ending::is_aborted ? !mine->saw_rst
                                               : mine->disconnect != FLUE_SUCCESS) {
        complain(plan, "DISCONNECT has status " + std::to_string(mine->disconnect));
    }
    if (mine->wrong_statuses != 0) {
        complain(plan, std::to_string(mine->wrong_statuses) + " wrong statuses");
    }
}

/// What both ends have to say while a connection hangs.
void Soak::show() {
    for (const char* command : {"/flue/conns", "/flue/drops", "/flue/stats"}) {
        std::printf("%s\n", rig_.ask(command).dump(1).c_str());
    }
    testbed::inside(rig_.bottle().remote(), [] {
        std::printf("%s\n", testbed::run_tool({"ss", "-tnmieo"}).c_str());
    });
}

void Soak::complain(const Plan& plan, const std::string& what) {
    if (++failed_ <= complaints_max) {
        std::printf("%s: %s\n", describe(plan).c_str(), what.c_str());
    }
}

void Soak::look_for_leaks() {
    const nlohmann::json now = rig_.usage_after_settling(base_);
    for (const auto& [name, count] : now.items()) {
        const auto before = base_.value(name, uint64_t{0});
        if (count.get<uint64_t>() != before) {
            leaked_ += distance(count.get<uint64_t>(), before);
            std::printf("%s: %" PRIu64 " in use, %" PRIu64 " at the beginning\n",
                        name.c_str(),
                        count.get<uint64_t>(),
                        before);
        }
    }
}

void Soak::report() {
    reported_ = Clock::now();
    std::printf("%6.0f s: %" PRIu64 " connections, %" PRIu64 " bytes, %" PRIu64
                " wrong bytes, %" PRIu64 " leaked objects, %" PRIu64 " KiB\n",
                std::chrono::duration<double>(reported_ - began_).count(),
                connections_,
                bytes_,
                bytes_wrong_,
                leaked_,
                memory_kib_);
    std::fflush(stdout);
}

}  // namespace flue::peers

/// Usage: PROGRAM PATH-OF-FLUED SECONDS [SEED [CONNECTION]]
int main(int argc, char** argv) {
    if (argc < 3 || argc > 5) {
        std::fprintf(stderr, "usage: %s PATH-OF-FLUED SECONDS [SEED [CONNECTION]]\n", argv[0]);
        return 2;
    }
    try {
        flue::testbed::enter_bottle();
        flue::e2e::flued_program = argv[1];
        const auto seconds       = std::chrono::seconds(std::stoul(argv[2]));
        const uint64_t seed      = argc > 3 ? std::stoull(argv[3]) : 1;
        std::optional<uint64_t> only;
        if (argc > 4) {
            only = std::stoull(argv[4]);
        }
        return flue::peers::Soak(seed, only).run(seconds) ? 0 : 1;
    } catch (const std::exception& error) {
        std::printf("soak: FAILED: %s\n", error.what());
        return 1;
    }
}
