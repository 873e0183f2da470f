#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "target/control.hpp"
#include "target/flow_table.hpp"
#include "target/messages.hpp"
#include "target/options.hpp"
#include "target/pools.hpp"
#include "target/port.hpp"
#include "target/steering.hpp"
#include "target/telemetry.hpp"
#include "target/worker.hpp"

namespace flue::target {

/// Target is flued without its command line: ports, one worker a lcore, the control thread and
/// telemetry. Pre: the EAL has started; SIGINT and SIGTERM are blocked.  Thread: the main lcore's,
/// which is worker 0.
class Target {
  public:
    /// `drains` takes what is to be drained; null: nothing is.
    explicit Target(const Options& options, DrainTaker* drains = nullptr);
    ~Target();
    Target(const Target&)            = delete;
    Target& operator=(const Target&) = delete;

    /// start sets everything up.  False: it is logged why and what to do.
    [[nodiscard]] bool start();
    /// run works until SIGINT or SIGTERM.
    void run();

  private:
    [[nodiscard]] bool open_ports();
    [[nodiscard]] bool open_taps(const PortWishes& wishes);
    [[nodiscard]] bool make_lanes();
    [[nodiscard]] bool make_pools();
    [[nodiscard]] bool start_ports();
    [[nodiscard]] bool make_workers();
    [[nodiscard]] bool start_threads();
    [[nodiscard]] uint32_t tx_mbufs() const;
    [[nodiscard]] uint32_t idle_sleep_us() const;
    [[nodiscard]] bool relays() const;
    [[nodiscard]] rte_ring* make_ring(const char* purpose,
                                      uint16_t worker,
                                      unsigned element_bytes,
                                      uint32_t entries);

    struct FreeRing {
        void operator()(rte_ring* ring) const;
    };

    const Options& options_;
    DrainTaker* drains_;
    std::vector<unsigned> lcores_;  ///< of worker i
    std::vector<int> nodes_;
    std::vector<Port> ports_;
    std::vector<Port> taps_;
    std::optional<Steering> steering_;
    std::vector<std::unique_ptr<rte_ring, FreeRing>> rings_;
    std::vector<Lanes> lanes_;
    std::vector<Pools> pools_;
    std::deque<Worker> workers_;
    std::atomic<bool> stop_{false};
    std::unique_ptr<Control> control_;
    std::unique_ptr<Telemetry> telemetry_;
};

}  // namespace flue::target
