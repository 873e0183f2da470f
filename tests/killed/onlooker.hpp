#pragma once

#include <cstdint>

#include "pattern.hpp"
#include "testbed/descriptor.hpp"

namespace flue::killed {

/// How a connection ended for its peer.
enum class End : uint8_t { none, fin, reset };

/// Onlooker is the kernel peer.  It does nothing by itself, so that a step lasts until its host is
/// dead.
class Onlooker {
  public:
    explicit Onlooker(testbed::Descriptor socket) : socket_(std::move(socket)) {}

    void send(const e2e::Pattern& pattern, uint64_t from, uint64_t to) const;
    void close_sending() const;
    /// The kernel's TCP state of this end, as in TCP_INFO.
    [[nodiscard]] int state() const;

    struct Seen {
        uint64_t bytes   = 0;
        bool bytes_right = true;
        End end          = End::none;
    };

    /// Reads to the end of the connection.  A quiet connection is probed with a byte, which an
    /// owner takes and nobody answers with an RST.  After a FIN, an RST is waited for if
    /// `expect_reset`; else this end closes too.
    Seen read_to_end(const e2e::Pattern& expected, bool expect_reset);

  private:
    [[nodiscard]] bool probe_is_reset() const;

    testbed::Descriptor socket_;
};

}  // namespace flue::killed
