#pragma once

#include <cstddef>
#include <cstdint>
#include <gtest/gtest.h>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "testbed/descriptor.hpp"
#include "testbed/namespace.hpp"

namespace flue::test {

using Bytes = std::vector<std::byte>;

/// Two kernels' worth of TCP, back to back: `near`, whose sockets are taken apart, and `far`, the
/// unsuspecting peer.
///
///     near  10.8.0.1, fd08::1  near0 <--- veth ---> far0  10.8.0.2, fd08::2  far
class TwoHosts {
  public:
    TwoHosts();

    const testbed::Namespace near = testbed::Namespace::create();
    const testbed::Namespace far  = testbed::Namespace::create();

    /// hold keeps far's TCP segments from near's TCP, as a target does that has taken over the flow
    /// (they are lost, where a target keeps them); deafen keeps near's from far's, so that far
    /// acknowledges nothing.
    void hold() const;
    void release() const;
    void deafen() const;
    void undeafen() const;

    /// In near: what passes on near0.
    [[nodiscard]] testbed::Descriptor tap() const;
};

/// fresh_hosts returns the two hosts that all tests of a program share, with nothing held and no
/// one deaf.
TwoHosts& fresh_hosts();

/// A connection from near to far.
struct Connection {
    UniqueFd near;
    UniqueFd far;
};

/// family: 4 or 6.  Errors of every function here: std::system_error.
UniqueFd listen_on(const testbed::Namespace& where, int family);
Connection connect_pair(const TwoHosts& hosts, int family);
/// connect_to connects from far to a listener in near.
Connection connect_to(const TwoHosts& hosts, int near_listener, int family);
/// start_connecting begins to connect from near and does not wait.
UniqueFd start_connecting(const TwoHosts& hosts, int far_listener);

/// random_bytes depends on its seed only.
Bytes random_bytes(size_t count, uint64_t seed);
/// send_all blocks until the kernel has taken all; receive_exactly until all came, at most 10 s.
void send_all(int fd, std::span<const std::byte> bytes);
Bytes receive_exactly(int fd, size_t count);
/// Sends without waiting until the kernel takes no more, at most `bytes`; how many it took.
size_t send_some(int fd, std::span<const std::byte> bytes);
/// True when the peer has closed its half, waiting up to 10 s.
bool at_end(int fd);
/// Waits until the receive queue holds `count` bytes.
void await_readable(int fd, size_t count);
/// Waits until urgent data has come.
void await_urgent(int fd);
/// The kernel's name for the connection's state (netinet/tcp.h), after waiting up to 10 s for
/// `state`.
bool await_state(int fd, uint8_t state);

/// Fields of a TCP header for a hand-made segment without options.
struct RawSegment {
    uint32_t seq    = 0;
    uint32_t ack    = 0;
    uint8_t flags   = 0;
    uint16_t window = 0;
};

/// inject sends a segment to the socket `to` (in near) that looks like its peer's, from far.
void inject(const TwoHosts& hosts, int to, const RawSegment& segment);

/// count_tcp_segments reads what a tap has seen and counts the TCP segments that near has sent.
size_t count_tcp_segments(int tap);

/// exchange sends random bytes both ways at once and expects them to arrive.
void expect_conversation(int a, int b, size_t bytes, uint64_t seed);

/// Names the tests of a suite that runs for both families.
inline std::string family_name(const testing::TestParamInfo<int>& family) {
    return "v" + std::to_string(family.param);
}

}  // namespace flue::test
