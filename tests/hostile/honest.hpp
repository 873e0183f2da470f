#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "flue/flue.h"
#include "pattern.hpp"
#include "rig.hpp"
#include "testbed/descriptor.hpp"

namespace flue::hostile {

/// HonestStream is a host that hands a connection over and sends its pattern to a kernel peer,
/// which compares each byte, until it is finished.  Errors: std::runtime_error.
class HonestStream {
  public:
    explicit HonestStream(const e2e::Rig& rig);
    ~HonestStream();
    HonestStream(const HonestStream&)            = delete;
    HonestStream& operator=(const HonestStream&) = delete;

    [[nodiscard]] flue_conn handle() const { return conn_; }

    [[nodiscard]] uint16_t local_port() const { return local_port_; }

    [[nodiscard]] uint16_t remote_port() const { return remote_port_; }

    /// Bytes that have reached the peer and were right.
    [[nodiscard]] uint64_t bytes() const { return received_; }

    /// How many of them arrive in the next `time`, and the longest that none did.
    struct Pace {
        uint64_t bytes = 0;
        std::chrono::milliseconds longest_gap{0};
    };

    [[nodiscard]] Pace pace(std::chrono::milliseconds time) const;

    struct Result {
        bool bytes_right = false;
        bool saw_fin     = false;  ///< right behind the last byte that was posted
        bool terminated  = false;
    };

    /// Closes the connection in order.
    Result finish();

  private:
    void hand_over(testbed::Descriptor socket);
    void send();
    void receive();
    void post_send(uint64_t slot);

    static constexpr uint32_t send_bytes = 64 * 1024;
    static constexpr uint32_t slots      = 16;
    static constexpr uint64_t state_at   = uint64_t{slots} * send_bytes;
    static constexpr uint64_t lent_bytes = 1 << 20;

    const e2e::Pattern pattern_{11};
    e2e::Session session_;
    testbed::Descriptor remote_;
    flue_conn conn_       = FLUE_NO_CONN;
    uint16_t local_port_  = 0;
    uint16_t remote_port_ = 0;
    uint64_t posted_      = 0;
    std::atomic<uint64_t> received_{0};
    std::atomic<bool> right_{true};
    std::atomic<bool> saw_fin_{false};
    std::atomic<bool> stop_{false};
    std::atomic<bool> failed_{false};
    std::jthread receiver_;
    std::jthread sender_;
};

}  // namespace flue::hostile
