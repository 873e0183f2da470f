#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "base/unique_fd.hpp"
#include "flue/flue.h"
#include "queue/session_socket.hpp"

namespace flue::host {

/// Session is the connection to a target: requests and replies, one at a time.  Queues and regions
/// share it. Thread: any.
class Session {
  public:
    /// open connects and says hello.  Null: errno and error text are set.
    static std::shared_ptr<Session> open(const char* path, const flue_open_options& options);
    /// reattach connects and takes up the session of this token.  Null: errno and error text are
    /// set.
    static std::shared_ptr<Session> reattach(const char* path, const queue::Token& token);
    ~Session();
    Session(const Session&)            = delete;
    Session& operator=(const Session&) = delete;

    [[nodiscard]] uint32_t worker_count() const { return worker_count_; }

    /// The NUMA node that regions are best placed on, -1 = any.
    [[nodiscard]] int memory_node() const { return memory_node_; }

    /// What reattach needs; null when the session ends with its host.
    [[nodiscard]] const queue::Token* token() const { return held_ ? &token_ : nullptr; }

    /// request sends a message and waits for its reply, which has status ok and `fds_expected`
    /// descriptors. `timeout_ms`: -1 for ever.  A target that does not answer in time, or
    /// strangely, is lost. Nothing: errno and error text are set; `what` says in the text what was
    /// tried.
    std::optional<queue::Received> request(const char* what,
                                           queue::Message message,
                                           std::span<const int> fds,
                                           uint32_t fds_expected,
                                           int timeout_ms);

    /// The target wants a proof for each connection: see claim.
    [[nodiscard]] bool must_claim() const { return must_claim_; }

    /// claim shows the target a socket of which the connection is to be claimed.  False: errno and
    /// error text are set.
    bool claim(const char* what, int fd);

    /// close says goodbye; every later request fails.
    void close();

  private:
    explicit Session(UniqueFd socket) : socket_(std::move(socket)) {}

    static std::shared_ptr<Session> connect(const char* path);
    bool hello(const char* path, const flue_open_options& options);
    bool greet(const char* what, const char* path, const queue::Message& message);
    std::optional<queue::Received> await_reply(const char* what,
                                               const queue::Message& request,
                                               int timeout_ms);

    std::mutex mutex_;  ///< a request and its reply
    UniqueFd socket_;
    bool lost_             = false;  ///< under mutex_
    uint32_t next_tag_     = 1;      ///< under mutex_
    uint32_t worker_count_ = 0;
    int memory_node_       = -1;
    bool must_claim_       = false;
    bool held_             = false;  ///< when its host is gone
    queue::Token token_{};
};

constexpr int reply_timeout_ms = 30'000;
constexpr int hello_timeout_ms = 5'000;

}  // namespace flue::host

struct flue_context {
    std::shared_ptr<flue::host::Session> session;
    // where recovering goes on
    uint32_t last_region_key = 0;
    uint32_t last_queue_id   = 0;
};
