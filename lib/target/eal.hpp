#pragma once

namespace flue::target {

/// Eal is DPDK's environment for as long as the object lives; one a process.
class Eal {
  public:
    Eal() = default;
    ~Eal();
    Eal(const Eal&)            = delete;
    Eal& operator=(const Eal&) = delete;

    /// start initialises it from the program's name and the EAL's options.  False: it is logged
    /// why.
    [[nodiscard]] bool start(int argc, char** argv);

  private:
    bool started_ = false;
};

}  // namespace flue::target
