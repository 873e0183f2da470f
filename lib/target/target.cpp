#include "target/target.hpp"

#include <algorithm>
#include <bit>
#include <climits>
#include <string>
#include <thread>
#include <utility>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_ring.h>

#include "target/log.hpp"

namespace flue::target {

namespace {

constexpr uint32_t lane_frames           = 1024;
constexpr uint32_t lane_messages         = 256;
constexpr uint32_t lane_snapshots        = 8;
constexpr uint32_t crowded_idle_sleep_us = 50;

std::vector<unsigned> worker_lcores() {
    std::vector<unsigned> lcores{rte_get_main_lcore()};
    constexpr int not_main = 1;
    constexpr int no_wrap  = 0;
    for (unsigned lcore = rte_get_next_lcore(UINT_MAX, not_main, no_wrap); lcore < RTE_MAX_LCORE;
         lcore          = rte_get_next_lcore(lcore, not_main, no_wrap)) {
        lcores.push_back(lcore);
    }
    return lcores;
}

struct Launch {
    Worker* worker          = nullptr;
    std::atomic<bool>* stop = nullptr;
};

int run_worker(void* argument) {
    const auto* launch = static_cast<const Launch*>(argument);
    launch->worker->run(*launch->stop);
    return 0;
}

uint16_t smallest_table(std::span<const Port> ports) {
    uint16_t buckets = Steering::buckets_software;
    for (const Port& port : ports) {
        buckets = port.rss_buckets == 0 ? buckets : std::min(buckets, port.rss_buckets);
    }
    return buckets;
}

}  // namespace

void Target::FreeRing::operator()(rte_ring* ring) const {
    rte_ring_free(ring);
}

Target::Target(const Options& options, DrainTaker* drains)
    : options_(options), drains_(drains), lcores_(worker_lcores()) {
    for (const unsigned lcore : lcores_) {
        nodes_.push_back(static_cast<int>(rte_lcore_to_socket_id(lcore)));
    }
}

Target::~Target() {
    telemetry_.reset();
    // Closing a port frees what it still holds, which tells the workers; so they go after their
    // ports.
    std::ranges::for_each(ports_, close_port);
    std::ranges::for_each(taps_, [](const Port& tap) {
        if (tap.id != no_port) {
            close_port(tap);
        }
    });
    workers_.clear();
    control_.reset();
    std::ranges::for_each(pools_, free_pools);
}

bool Target::start() {
    return open_ports() && make_lanes() && make_pools() && start_ports() && make_workers() &&
           start_threads();
}

bool Target::open_ports() {
    const auto workers = static_cast<uint16_t>(lcores_.size());
    const PortWishes wishes{workers, options_.rx_descriptors, options_.tx_descriptors, false};
    for (const std::string& name : options_.ports) {
        std::optional<Port> port = probe_port(name, wishes);
        if (!port) {
            return false;
        }
        ports_.push_back(std::move(*port));
    }
    steering_.emplace(workers, smallest_table(ports_));
    return open_taps({workers, options_.rx_descriptors, options_.tx_descriptors, true});
}

bool Target::open_taps(const PortWishes& wishes) {
    for (uint16_t i = 0; i < ports_.size(); ++i) {
        const std::string& name = options_.exception_taps[i];
        if (name == "none") {
            FLUE_LOG(INFO,
                     "port %s: no exception path, frames that are not offloaded are dropped",
                     ports_[i].name.c_str());
            taps_.emplace_back().id = no_port;
            continue;
        }
        std::optional<Port> tap = open_tap(name, i, ports_[i], wishes);
        if (!tap) {
            return false;
        }
        taps_.push_back(std::move(*tap));
        if (taps_.back().tx_queues < wishes.workers || taps_.back().rx_queues < wishes.workers) {
            FLUE_LOG(ERR,
                     "a TAP has no queue for each of %u workers; give the EAL fewer lcores (-l)",
                     wishes.workers);
            return false;
        }
    }
    return true;
}

bool Target::relays() const {
    return lcores_.size() > 1 && std::ranges::any_of(ports_, [](const Port& port) {
               return !port.own_rx_queue || port.tx_queues == 1;
           });
}

uint32_t Target::tx_mbufs() const {
    uint32_t descriptors = 0;
    for (const Port& port : ports_) {
        descriptors += uint32_t{port.tx_descriptors} + TxQueue::frames_max;
    }
    // What queues and batches can hold, rings between workers too, and one mbuf in each place of a
    // cache.
    const uint32_t between = relays() ? lane_frames : 0;
    return std::bit_ceil(descriptors + between + 2 * FrameBuilder::batch_max + 512) - 1;
}

rte_ring* Target::make_ring(const char* purpose,
                            uint16_t worker,
                            unsigned element_bytes,
                            uint32_t entries) {
    const std::string name = "flue_" + std::string(purpose) + "_" + std::to_string(worker);
    rte_ring* ring         = rte_ring_create_elem(
        name.c_str(), element_bytes, entries, nodes_[worker], RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (ring == nullptr) {
        FLUE_LOG(ERR,
                 "no memory for the ring %s: %s; give the EAL more with -m",
                 name.c_str(),
                 rte_strerror(rte_errno));
        return nullptr;
    }
    rings_.emplace_back(ring);
    return ring;
}

bool Target::make_lanes() {
    const bool with_relays = relays();
    for (uint16_t worker = 0; worker < lcores_.size(); ++worker) {
        Lanes lanes;
        lanes.requests = queue::Ring<ControlMessage>{
            make_ring("requests", worker, sizeof(ControlMessage), lane_messages)};
        lanes.replies = queue::Ring<ControlMessage>{
            make_ring("replies", worker, sizeof(ControlMessage), lane_messages)};
        lanes.snapshots = queue::Ring<WorkerSnapshot*>{
            make_ring("snapshots", worker, sizeof(void*), lane_snapshots)};
        bool made = lanes.requests.get() != nullptr && lanes.replies.get() != nullptr &&
                    lanes.snapshots.get() != nullptr;
        if (worker != 0) {
            // Filled by worker 0 when it sends for this one, and by the main thread when it closes
            // the ports.
            lanes.freed = queue::Ring<tcp::ItemIndex>{
                make_ring("freed", worker, sizeof(tcp::ItemIndex), std::bit_ceil(tx_mbufs() + 1))};
            lanes.too_big = queue::Ring<wire::PacketTooBig>{
                make_ring("too_big", worker, sizeof(wire::PacketTooBig), lane_messages)};
            made = made && lanes.freed.get() != nullptr && lanes.too_big.get() != nullptr;
        }
        if (with_relays && worker != 0) {
            lanes.inbound =
                queue::Ring<rte_mbuf*>{make_ring("inbound", worker, sizeof(void*), lane_frames)};
            lanes.outbound =
                queue::Ring<rte_mbuf*>{make_ring("outbound", worker, sizeof(void*), lane_frames)};
            made = made && lanes.inbound.get() != nullptr && lanes.outbound.get() != nullptr;
        }
        if (!made) {
            return false;
        }
        lanes_.push_back(lanes);
    }
    return true;
}

bool Target::make_pools() {
    const bool shared  = relays();
    const uint16_t mtu = std::ranges::max(ports_, {}, &Port::mtu).mtu;
    for (uint16_t worker = 0; worker < lcores_.size(); ++worker) {
        // Where worker 0 receives for all, its frames stay with the others.
        const bool receives_for_all =
            worker == 0 && !std::ranges::all_of(ports_, &Port::own_rx_queue);
        const auto shares = receives_for_all ? static_cast<uint32_t>(lcores_.size()) : 1u;
        const auto pools  = create_pools({.worker           = worker,
                                          .socket           = nodes_[worker],
                                          .rx_mbufs         = options_.rx_mbufs * shares,
                                          .tx_mbufs         = tx_mbufs(),
                                          .copy_below_bytes = options_.copy_below_bytes,
                                          .mtu              = mtu,
                                          .shared           = shared});
        if (!pools) {
            return false;
        }
        pools_.push_back(*pools);
    }
    return true;
}

bool Target::start_ports() {
    std::vector<rte_mempool*> rx_pools;
    std::ranges::transform(pools_, std::back_inserter(rx_pools), &Pools::rx);
    const auto workers = static_cast<uint16_t>(lcores_.size());
    for (Port& port : ports_) {
        if (!start_port(port, *steering_, rx_pools)) {
            return false;
        }
        report_port(port, workers);
    }
    for (size_t i = 0; i < taps_.size(); ++i) {
        Port& tap = taps_[i];
        if (tap.id == no_port) {
            continue;
        }
        if (!start_port(tap, *steering_, rx_pools)) {
            return false;
        }
        FLUE_LOG(INFO,
                 "port %s <-> kernel interface %s",
                 ports_[i].name.c_str(),
                 options_.exception_taps[i].c_str());
    }
    return true;
}

bool Target::make_workers() {
    for (uint16_t i = 0; i < lcores_.size(); ++i) {
        auto flows = FlowTable::create("flue_flows_" + std::to_string(i),
                                       options_.connections + options_.time_waits,
                                       nodes_[i]);
        if (!flows) {
            FLUE_LOG(ERR,
                     "no memory for the flow table of worker %u: %s; give the EAL more with -m, or "
                     "lower --connections or "
                     "--time-waits",
                     i,
                     rte_strerror(rte_errno));
            return false;
        }
        const Worker::Parts parts{i,
                                  lcores_[i],
                                  &options_,
                                  &*steering_,
                                  pools_[i],
                                  lanes_,
                                  ports_,
                                  taps_,
                                  rte_rdtsc() + i,
                                  idle_sleep_us()};
        workers_.emplace_back(parts, std::move(*flows));
    }
    return true;
}

uint32_t Target::idle_sleep_us() const {
    // Workers that spin on every CPU starve the kernel and the hosts that they wait for.
    const bool all_cpus = lcores_.size() >= std::thread::hardware_concurrency();
    return options_.idle_sleep_us.value_or(all_cpus ? crowded_idle_sleep_us : 0);
}

bool Target::start_threads() {
    control_ = std::make_unique<Control>(
        Control::Parts{&options_, lanes_, nodes_, ports_, &*steering_, &stop_, drains_});
    telemetry_ =
        std::make_unique<Telemetry>(Telemetry::Parts{lanes_, ports_, pools_, control_.get()});
    return telemetry_->start() && control_->start();
}

void Target::run() {
    std::vector<Launch> launches;
    for (Worker& worker : workers_) {
        launches.push_back({&worker, &stop_});
    }
    if (const uint32_t sleep_us = idle_sleep_us(); sleep_us > 0) {
        FLUE_LOG(INFO,
                 "an idle worker sleeps %u us at a time: --idle-sleep 0 polls, if each worker has "
                 "a CPU of its own",
                 sleep_us);
    }
    FLUE_LOG(INFO, "%zu workers run; SIGINT or SIGTERM ends", workers_.size());
    for (size_t i = 1; i < workers_.size(); ++i) {
        rte_eal_remote_launch(run_worker, &launches[i], lcores_[i]);
    }
    workers_.front().run(stop_);
    rte_eal_mp_wait_lcore();
    control_->join();
    FLUE_LOG(INFO, "ended");
}

}  // namespace flue::target
