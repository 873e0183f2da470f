#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "base/unique_fd.hpp"
#include "flue/flue.h"
#include "peer.hpp"
#include "rig.hpp"

namespace flue::handoff {

using Bytes = std::vector<uint8_t>;

/// The target that all tests of a program share.
e2e::Rig& shared_rig();

/// expect_no_more_than waits until nothing is in use in the target beyond what was in use before.
void expect_no_more_than(const nlohmann::json& before);

/// Bytes from a seed.
Bytes random_bytes(size_t count, uint64_t seed);

/// Application is a host whose one connection lives in the kernel or in the target, in turn.
///
/// Region: [0, lent) for the hand-offs, [lent, lent + sending) for SENDs, then as much for RECVs.
/// Errors: std::runtime_error.
class Application {
  public:
    explicit Application(UniqueFd socket);

    static constexpr uint64_t lent_bytes = 8 << 20;
    static constexpr uint64_t area_bytes = 8 << 20;

    /// The kernel's socket; -1 while the target has the connection.
    [[nodiscard]] int fd() const { return socket_.get(); }

    [[nodiscard]] flue_conn conn() const { return conn_; }

    [[nodiscard]] e2e::Session& session() { return session_; }

    /// What offload told last.
    [[nodiscard]] const flue_socket_offload_result& offloaded() const { return result_; }

    /// offload and upload return 0, or errno after a failure, and track the requests that are
    /// outstanding.
    int offload(uint64_t mr_bytes = lent_bytes);
    int upload(uint64_t mr_bytes = lent_bytes, bool list_sends = true);

    // While the target has the connection:
    void send(const Bytes& bytes);
    void disconnect();
    /// Waits until every listed SEND and DISCONNECT has completed with success.
    void finish_sends();
    Bytes receive(size_t count);
    /// Waits for the event that says that the peer's FIN has come.
    void await_peer_fin();
    void terminate();

    [[nodiscard]] size_t outstanding_sends() const { return sends_.size(); }

    [[nodiscard]] flue_state query();

  private:
    void note(const flue_wc& wc);
    flue_wc await(uint8_t opcode);

    e2e::Session session_;
    UniqueFd socket_;
    flue_conn conn_ = FLUE_NO_CONN;
    flue_socket_offload_result result_{};
    std::deque<flue_wr> sends_;  ///< posted and not completed
    uint64_t send_used_  = 0;
    uint64_t next_wr_id_ = 1000;
    bool peer_fin_       = false;
};

// On kernel sockets; all block, at most 20 s.
void write_all(int fd, const Bytes& bytes);
Bytes read_exactly(int fd, size_t count);
bool at_end(int fd);
/// Writes without waiting until the kernel takes no more, and returns what it took.
Bytes write_until_full(int fd, size_t count_max, uint64_t seed);
/// Makes the remote's kernel hear nothing of TCP, or hear again.
void deafen(const testbed::Namespace& remote, bool deaf);

}  // namespace flue::handoff
