#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

#include "pattern.hpp"
#include "testbed/descriptor.hpp"
#include "testbed/namespace.hpp"

namespace flue::e2e {

/// What a kernel peer does with its end of a connection.
struct PeerPlan {
    uint64_t bytes_to_send = 0;
    uint64_t send_from     = 0;  ///< where in its pattern its stream begins
    uint64_t expect_from   = 0;  ///< likewise of the one that it receives
    bool close_first =
        false;  ///< close as soon as its bytes are sent; else when the other end has closed
    bool abort                 = false;  ///< close with SO_LINGER 0, which sends an RST
    uint64_t abort_after_bytes = 0;      ///< abort: when so many bytes have been received
};

/// KernelPeer is the remote application: it sends its pattern, compares what it receives, and
/// closes by its plan, on a thread of its own.
class KernelPeer {
  public:
    KernelPeer(testbed::Descriptor socket,
               const Pattern& sends,
               const Pattern& expects,
               const PeerPlan& plan);
    /// Ends the plan if finish() did not.
    ~KernelPeer();
    KernelPeer(const KernelPeer&)            = delete;
    KernelPeer& operator=(const KernelPeer&) = delete;

    struct Result {
        uint64_t bytes_received = 0;
        uint64_t bytes_sent     = 0;
        bool bytes_right        = true;
        bool saw_fin            = false;
        int error               = 0;  ///< errno of the read or write that failed, 0 = none
        std::chrono::steady_clock::time_point fin_at;  ///< when it saw the FIN
    };

    /// Waits for the end of the plan.
    Result finish();

  private:
    void run();
    bool write_some();
    bool read_some();
    void close_now();

    testbed::Descriptor socket_;
    const Pattern& sends_;
    const Pattern& expects_;
    PeerPlan plan_;
    Result result_;
    bool write_closed_      = false;
    std::atomic<bool> stop_ = false;
    std::jthread thread_;
};

/// A connected pair of kernel sockets, the host's and the remote's.
struct SocketPair {
    testbed::Descriptor host;
    testbed::Descriptor remote;
};

/// What is set on the sockets of a pair before they connect; 0 and null leave it to the kernel.
struct PairTuning {
    int host_receive_bytes        = 0;  ///< SO_RCVBUF
    int remote_receive_bytes      = 0;
    const char* host_congestion   = nullptr;  ///< TCP_CONGESTION
    const char* remote_congestion = nullptr;
};

/// connect_pair connects from the host's namespace to the remote's, or with `remote_connects` the
/// other way round.
SocketPair connect_pair(const testbed::Namespace& host,
                        const testbed::Namespace& remote,
                        bool ipv6,
                        bool remote_connects     = false,
                        const PairTuning& tuning = {});

}  // namespace flue::e2e
