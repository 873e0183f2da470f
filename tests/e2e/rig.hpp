#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "flue/flue.h"
#include "testbed/bottle.hpp"
#include "testbed/flued.hpp"

namespace flue::e2e {

/// The programs under test; set by main().
extern std::string flued_program;
extern std::string flue_program;

/// Rig is a network in a bottle with a running target in it.  One at a time.
class Rig {
  public:
    explicit Rig(const testbed::BottleOptions& bottle_options = {},
                 testbed::FluedOptions flued_options          = {});

    [[nodiscard]] const testbed::Bottle& bottle() const { return bottle_; }

    [[nodiscard]] testbed::Bottle& bottle() { return bottle_; }

    [[nodiscard]] testbed::Flued& flued() { return flued_; }

    [[nodiscard]] const testbed::Flued& flued() const { return flued_; }

    [[nodiscard]] const std::string& file_prefix() const { return flued_.options().file_prefix; }

    /// The answer to a telemetry command.
    [[nodiscard]] nlohmann::json ask(const std::string& command) const;
    /// What is in use in the target: buffers of every pool, slots, references.
    [[nodiscard]] nlohmann::json usage() const;
    /// Waits until usage() is `baseline` again; returns the last one seen.
    [[nodiscard]] nlohmann::json usage_after_settling(const nlohmann::json& baseline) const;

  private:
    testbed::Bottle bottle_;
    testbed::Flued flued_;
};

/// Session is a host: a session with the target, a queue and a memory region.  Errors:
/// std::runtime_error.
class Session {
  public:
    Session(const Rig& rig, size_t region_bytes, flue_host_loss on_loss = FLUE_LOSS_DRAIN);
    Session(const std::string& socket_path,
            size_t region_bytes,
            flue_host_loss on_loss = FLUE_LOSS_DRAIN);
    ~Session();
    Session(const Session&)            = delete;
    Session& operator=(const Session&) = delete;

    [[nodiscard]] flue_hq* queue() { return queue_; }

    [[nodiscard]] flue_mr* region() { return region_; }

    [[nodiscard]] uint8_t* data(uint64_t offset) {
        return static_cast<uint8_t*>(flue_mr_data(region_)) + offset;
    }

    [[nodiscard]] flue_sge range(uint64_t offset, uint32_t length) {
        return {.mr = flue_mr_key(region_), .length = length, .offset = offset};
    }

    /// post hands one request over, waiting for room in the ring.
    void post(const flue_wr& wr);
    void post(
        uint8_t opcode, flue_conn conn, uint64_t wr_id, const flue_sge& sge, uint8_t flags = 0);
    void post(uint8_t opcode, flue_conn conn, uint64_t wr_id, uint8_t flags = 0);
    /// wait returns the next completion; FLUE_EVENT_SEND_BACKLOG is passed over.  Errors:
    /// std::runtime_error after `timeout_ms`.
    flue_wc wait(int timeout_ms = 30'000);

  private:
    flue_context* context_ = nullptr;
    flue_hq* queue_        = nullptr;
    flue_mr* region_       = nullptr;
};

}  // namespace flue::e2e
