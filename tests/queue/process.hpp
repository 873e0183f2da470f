#pragma once

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <signal.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "base/unique_fd.hpp"

namespace flue::test {

/// EchoTarget is a running queue-echo-target (FLUE_ECHO_TARGET in the environment says where it is)
/// and its socket.
class EchoTarget {
  public:
    explicit EchoTarget(unsigned workers) {
        char pattern[]          = "/tmp/flue-echo-XXXXXX";
        directory_              = ::mkdtemp(pattern);
        const std::string count = std::to_string(workers);
        const std::string path  = socket_path();
        int out[2];
        EXPECT_EQ(::pipe(out), 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::dup2(out[1], 1);
            const char* program = std::getenv("FLUE_ECHO_TARGET");
            ::execl(program, program, path.c_str(), count.c_str(), nullptr);
            ::_exit(127);
        }
        ::close(out[1]);
        const UniqueFd lines(out[0]);
        char byte = 0;
        EXPECT_EQ(::read(lines.get(), &byte, 1), 1) << "the target did not start";
    }

    ~EchoTarget() {
        kill();
        std::filesystem::remove_all(directory_);
    }

    EchoTarget(const EchoTarget&)            = delete;
    EchoTarget& operator=(const EchoTarget&) = delete;

    [[nodiscard]] std::string socket_path() const { return directory_ + "/socket"; }

    void kill() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
            pid_ = -1;
        }
    }

    void signal(int number) const { ::kill(pid_, number); }

    [[nodiscard]] bool alive() const { return ::waitpid(pid_, nullptr, WNOHANG) == 0; }

    /// How many mappings of queues and regions the target has.
    [[nodiscard]] size_t shared_mappings() const {
        std::ifstream maps("/proc/" + std::to_string(pid_) + "/maps");
        size_t count = 0;
        for (std::string line; std::getline(maps, line);) {
            count += line.find("memfd:flue") != std::string::npos ? 1u : 0u;
        }
        return count;
    }

  private:
    std::string directory_;
    pid_t pid_ = -1;
};

/// eventually is true as soon as condition() is, false when it still is not after ten seconds.
template <typename Condition>
bool eventually(Condition condition) {
    for (int i = 0; i < 10'000; ++i) {
        if (condition()) {
            return true;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
}

}  // namespace flue::test
