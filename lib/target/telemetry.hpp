#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "target/control.hpp"
#include "target/messages.hpp"
#include "target/pools.hpp"
#include "target/port.hpp"

struct rte_tel_data;

namespace flue::target {

/// Telemetry answers over rte_telemetry's socket (dpdk-telemetry.py, `flue`):
///
///   /flue/stats[,WORKER]      counters, all workers together or of one
///   /flue/drops[,WORKER]      why segments were not processed: name -> count
///   /flue/drop_text           name -> what it means
///   /flue/conns,WORKER,FROM   up to a page of connections of a worker, from index FROM on;
///                             an empty list ends
///   /flue/ports               how each port is used
///   /flue/usage               objects in use, all workers together
///   /flue/tcp_stats           of offloaded connections, per port and IP version.  R118, R119
///   /flue/tcp_stats_clear     sets these to zero
///   /flue/sessions,FROM       up to a page of sessions from id FROM on
///   /flue/refusals            what hosts asked for in vain: reason -> count
///   /flue/pause, /flue/upload_all, /flue/resume   whether new connections are taken.  R27, R116
///
/// Workers are asked by message and fill in a copy; live data is not shared.
/// Thread: rte_telemetry's, one a client, one at a time.
class Telemetry {
  public:
    struct Parts {
        std::span<const Lanes> lanes;
        std::span<const Port> ports;
        std::span<const Pools> pools;
        Control* control = nullptr;
    };

    explicit Telemetry(const Parts& parts);
    ~Telemetry();
    Telemetry(const Telemetry&)            = delete;
    Telemetry& operator=(const Telemetry&) = delete;

    /// start registers the commands.  Without telemetry in the EAL it does nothing.
    [[nodiscard]] bool start();

    // The commands; `parameters` is what follows the first comma, or null.
    int stats(const char* parameters, rte_tel_data* answer);
    int drops(const char* parameters, rte_tel_data* answer);
    int conns(const char* parameters, rte_tel_data* answer);
    int ports(rte_tel_data* answer);
    int usage(rte_tel_data* answer);
    int tcp_stats(rte_tel_data* answer);
    int tcp_stats_clear(rte_tel_data* answer);
    int pause(rte_tel_data* answer);
    int upload_all(rte_tel_data* answer);
    int resume(rte_tel_data* answer);
    // telemetry_sessions.cpp
    int sessions(const char* parameters, rte_tel_data* answer);
    int refusals(rte_tel_data* answer);

  private:
    /// ask has a worker fill its snapshot.  Null: it does not answer.
    [[nodiscard]] const WorkerSnapshot* ask(uint32_t worker,
                                            tcp::ConnIndex list_from,
                                            Order order = Order::none);
    /// command gives every worker an order and answers how many have carried it out.
    int command(Order order, rte_tel_data* answer);

    /// for_workers calls `add` with the snapshot of one worker, or of each.
    template <typename Add>
    [[nodiscard]] bool for_workers(const char* parameters, Add add) {
        const Workers workers = workers_of(parameters);
        for (uint32_t i = workers.first; i < workers.end; ++i) {
            const WorkerSnapshot* snapshot = i < snapshots_.size() ? ask(i, tcp::no_conn) : nullptr;
            if (snapshot == nullptr) {
                return false;
            }
            add(*snapshot);
        }
        return true;
    }

    struct Workers {
        uint32_t first = 0;
        uint32_t end   = 0;
    };

    /// The worker that a command names, or all.
    [[nodiscard]] Workers workers_of(const char* parameters) const;
    [[nodiscard]] static uint32_t first_number(const char* parameters);

    Parts parts_;
    std::deque<WorkerSnapshot> snapshots_;
    std::vector<WorkerSnapshot*> questions_;  ///< the address of each, as the rings take it
};

}  // namespace flue::target
