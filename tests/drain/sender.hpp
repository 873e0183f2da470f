#pragma once

#include <chrono>
#include <csignal>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "flue/drain.h"
#include "gtest/gtest.h"
#include "pattern.hpp"
#include "peer.hpp"
#include "rig.hpp"
#include "testbed/descriptor.hpp"

namespace flue::drain {

/// The examples under test; set by main().
extern std::string c_example;
extern std::string python;
extern std::string python_example;

constexpr const char* socket_path = "/run/flued.sock";

struct Terms {
    uint32_t drain_ms = 0;
    uint32_t flags    = 0;
    uint16_t version  = FLUE_DRAIN_VERSION;
};

/// connect_to_target opens a session socket, on which nothing has been said yet.
testbed::Descriptor connect_to_target();
/// send_drain sends the message with these descriptors beside it.
void send_drain(int target, std::span<const int> fds, const Terms& terms);
void send_drain(int target, int fd, const Terms& terms = {});

struct Answer {
    uint16_t status                      = UINT16_MAX;  ///< enum flue_drain_status
    int error                            = 0;

    bool operator==(const Answer&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Answer& answer);

/// await_answer waits for it.  UINT16_MAX: the target ended the session without one.
Answer await_answer(int target);
/// ask is all of the above.
Answer ask(int fd, const Terms& terms = {});

/// fill_socket writes the pattern, from its start on, until `bytes` are written or, not waiting,
/// the socket takes no more.  Returns how many bytes it took.
uint64_t fill_socket(int fd, const e2e::Pattern& pattern, uint64_t bytes);

/// become_nobody gives up every capability for good.
void become_nobody();

/// can_repair tells whether this process may use TCP_REPAIR on a socket.
bool can_repair(int fd);

/// DrainRig is a target with a short 2MSL.  Sockets of the host take megabytes, those of the remote
/// little, so that a peer that does not read leaves most of it unsent.
class DrainRig {
  public:
    explicit DrainRig(std::vector<std::string> flued_options = {});

    [[nodiscard]] e2e::Rig& rig() { return rig_; }

    [[nodiscard]] e2e::SocketPair connect(bool ipv6 = false) const {
        return e2e::connect_pair(rig_.bottle().host(), rig_.bottle().remote(), ipv6);
    }

    /// A count of /flue/drains, or of that since the last `mark`.
    [[nodiscard]] uint64_t count(const std::string& name) const;
    [[nodiscard]] uint64_t count_since_mark(const std::string& name) const;

    void mark() { mark_ = rig_.ask("/flue/drains"); }

    /// Waits for a count since the mark.
    [[nodiscard]] bool reaches(const std::string& name, uint64_t count) const;
    /// Expects everything that was in use since the start to be given back.
    void expect_settled() const;

  private:
    /// What is in use; the service keeps regions that it made.
    [[nodiscard]] nlohmann::json usage() const;

    e2e::Rig rig_;
    nlohmann::json baseline_ = usage();
    nlohmann::json mark_     = rig_.ask("/flue/drains");
};

/// DrainTest is a test on a rig that a whole suite shares, and that it leaves as it was.
class DrainTest : public testing::Test {
  protected:
    static void SetUpTestSuite() { shared_ = std::make_unique<DrainRig>(); }

    static void TearDownTestSuite() {
        EXPECT_TRUE(shared_->rig().flued().stop(SIGTERM).ok());
        shared_.reset();
    }

    void SetUp() override { rig().mark(); }

    void TearDown() override { rig().expect_settled(); }

    static DrainRig& rig() { return *shared_; }

  private:
    static inline std::unique_ptr<DrainRig> shared_;
};

/// wait_until tries until something holds, for at most 30 s.
bool wait_until(const std::function<bool()>& holds);

}  // namespace flue::drain
