#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "base/instant.hpp"
#include "pattern.hpp"
#include "tcp/engine.hpp"
#include "wire/frame.hpp"

namespace flue::peers {

/// EngineEnd is one connection of an engine and its application, in whole frames: it answers the
/// peer's SYN, which no engine does, and hands the connection over to the engine.
class EngineEnd {
  public:
    struct Plan {
        uint64_t bytes_to_send     = 0;
        uint64_t abort_after_bytes = UINT64_MAX;  ///< received
        uint64_t pause_after_bytes = UINT64_MAX;  ///< received: takes no more until resume()
        uint64_t seed              = 1;
    };

    using Output = std::function<void(std::vector<std::byte>)>;

    EngineEnd(const e2e::Pattern& sends,
              const e2e::Pattern& expects,
              const Plan& plan,
              Output output);

    void receive(Instant now, std::span<const std::byte> frame);
    void on_time(Instant now);

    [[nodiscard]] Instant next_deadline() const { return engine_.next_deadline(); }

    /// close posts a FIN behind what is posted.
    void close(Instant now);
    void resume(Instant now);
    /// forget ends the connection.  Pre: over().
    void forget();

    struct Seen {
        uint64_t bytes_received = 0;
        uint64_t bytes_acked    = 0;
        bool bytes_right        = true;
        bool fin                = false;
        bool fins_crossed       = false;
        bool reset              = false;
        bool aborted            = false;  ///< by itself
        bool uploaded           = false;  ///< for another reason than TIME-WAIT
    };

    [[nodiscard]] const Seen& seen() const { return seen_; }

    [[nodiscard]] bool connected() const { return connected_; }

    [[nodiscard]] bool paused() const { return paused_; }

    /// Both FINs are acknowledged, or there was an RST.
    [[nodiscard]] bool over() const;

    [[nodiscard]] const tcp::Engine& engine() const { return engine_; }

  private:
    void answer_syn(const wire::Frame& syn);
    void adopt(Instant now, const wire::Frame& ack);
    void post_sends(Instant now);
    void work(Instant now);
    void take_data(Instant now);
    void pop_acked();
    void transmit(Instant now);
    void build(const wire::TcpFields& tcp, std::span<const std::byte> payload);
    void release();

    static constexpr tcp::ConnIndex conn = 0;

    const e2e::Pattern& sends_;
    const e2e::Pattern& expects_;
    Plan plan_;
    Output output_;
    tcp::Engine engine_;
    wire::FlowHeader flow_;
    Seq iss_;
    uint64_t posted_ = 0;
    std::map<uint64_t, std::vector<std::byte>> kept_;  ///< frames whose payload the engine has
    uint64_t frames_ = 0;
    bool connected_  = false;
    bool closing_    = false;
    bool paused_     = false;
    bool has_paused_ = false;
    Seen seen_;
};

}  // namespace flue::peers
