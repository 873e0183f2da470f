#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <thread>

#include "pattern.hpp"
#include "testbed/descriptor.hpp"
#include "testbed/namespace.hpp"

namespace flue::e2e {

/// KernelSink is a remote server for many connections: each begins with its number (32 bits, host
/// order), the rest must be the pattern from number * stride on.  It closes a connection when the
/// other end has.
class KernelSink {
  public:
    KernelSink(const testbed::Namespace& place, const Pattern& expects, uint64_t stride);
    ~KernelSink();
    KernelSink(const KernelSink&)            = delete;
    KernelSink& operator=(const KernelSink&) = delete;

    [[nodiscard]] uint16_t port() const { return port_; }

    struct Result {
        uint64_t accepted    = 0;
        uint64_t closed      = 0;  ///< by FIN
        uint64_t reset       = 0;
        uint64_t complete    = 0;  ///< closed after exactly `stride` bytes
        uint64_t bytes       = 0;
        uint64_t bytes_wrong = 0;  ///< connections with a byte that was not as expected
    };

    [[nodiscard]] Result result();

  private:
    struct Connection {
        testbed::Descriptor socket;
        uint32_t number   = 0;
        uint64_t received = 0;  ///< the number included
    };

    void run(const std::stop_token& stop);
    void accept_all();
    void read_from(int fd);
    void check(Connection& connection, std::span<const uint8_t> bytes);

    const Pattern& expects_;
    uint64_t stride_;
    testbed::Descriptor listener_;
    testbed::Descriptor epoll_;
    uint16_t port_ = 0;
    std::map<int, Connection> connections_;
    std::mutex mutex_;  ///< guards result_
    Result result_;
    std::jthread thread_;
};

}  // namespace flue::e2e
