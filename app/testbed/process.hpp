#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>
#include <vector>

#include "testbed/descriptor.hpp"

namespace flue::testbed {

/// How a child ended, and what it wrote that line() had not returned.
struct ChildExit {
    int code   = 0;  ///< exit status; meaningless when a signal ended it
    int signal = 0;  ///< 0 = it exited by itself
    std::string output;

    [[nodiscard]] bool ok() const { return code == 0 && signal == 0; }
};

/// "exit status 1", "killed by signal 9".
std::string to_string(const ChildExit& exit);

/// Report is a child's way to tell its parent something while it runs.
class Report {
  public:
    explicit Report(int fd) : fd_(fd) {}

    void line(std::string_view text) const;

  private:
    int fd_;
};

/// Child is a process that cannot outlive the thread that started it: the kernel kills it
/// (PR_SET_PDEATHSIG) when that thread ends, however it ends.  It runs in the network namespace
/// that the thread was in.
class Child {
  public:
    /// Runs `body` in a forked process.  An exception ends it with status 1 and its text as the
    /// last line.
    static Child call(const std::function<void(const Report&)>& body);
    /// Executes argv[0], searched in PATH.  Its stdout and stderr are read by line() and wait(), or
    /// go to `log_path`.
    static Child execute(std::vector<std::string> argv, const std::string& log_path = {});

    Child(Child&& other) noexcept
        : pid_(std::exchange(other.pid_, -1)),
          output_(std::move(other.output_)),
          buffer_(std::move(other.buffer_)) {}

    Child& operator=(Child&& other) noexcept;
    /// Kills and reaps it if nobody has waited for it.
    ~Child();

    [[nodiscard]] pid_t pid() const { return pid_; }

    void signal(int number) const;
    /// The next line that the child wrote; none after `timeout` or at its end.
    std::optional<std::string> line(std::chrono::milliseconds timeout);
    /// Waits for the end; after `timeout` kills it and throws std::runtime_error.
    ChildExit wait(std::chrono::milliseconds timeout = std::chrono::seconds{60});
    /// True once it has ended; wait() then returns at once.
    [[nodiscard]] bool ended() const;

  private:
    Child(pid_t pid, Descriptor output) : pid_(pid), output_(std::move(output)) {}

    bool fill(std::chrono::steady_clock::time_point deadline);
    ChildExit reap();

    pid_t pid_;
    Descriptor output_;  ///< read end of the pipe; none once it has ended
    std::string buffer_;
};

/// run_tool executes a program to its end and returns what it wrote.  Errors: std::runtime_error
/// with the command and its output when it does not exit with status 0.
std::string run_tool(const std::vector<std::string>& argv,
                     std::chrono::milliseconds timeout = std::chrono::seconds{60});

}  // namespace flue::testbed
