#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace flue::bench {

/// KernelPairs is a number of kernel TCP connections over the loopback interface: what the engine
/// is compared with.  Both ends are this process's, so a close costs both ends' work.
class KernelPairs {
  public:
    KernelPairs() = default;
    ~KernelPairs();
    KernelPairs(const KernelPairs&)            = delete;
    KernelPairs& operator=(const KernelPairs&) = delete;

    /// connect makes `pairs` connections, with `abortive` such that closing one end sends an RST.
    /// Returns false, with errno set, where the system does not let it.
    [[nodiscard]] bool connect(uint32_t pairs, bool abortive);
    /// close closes one end of all, then the other.
    void close();

  private:
    bool connect_one(bool abortive);

    int listener_          = -1;
    uint32_t next_address_ = 0;  ///< so that no port waits for TIME-WAIT to end
    std::vector<std::pair<int, int>> pairs_;
};

}  // namespace flue::bench
