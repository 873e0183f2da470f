#include "testbed/process.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdexcept>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

namespace flue::testbed {
namespace {

using Clock = std::chrono::steady_clock;

struct Pipe {
    Descriptor read;
    Descriptor write;
};

Pipe make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        throw_errno("making a pipe");
    }
    return {Descriptor{ends[0]}, Descriptor{ends[1]}};
}

void write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(fd, text.data(), text.size());
        if (written < 0 && errno != EINTR) {
            return;  // the parent is gone, and this process soon will be
        }
        text.remove_prefix(written > 0 ? static_cast<size_t>(written) : 0);
    }
}

/// In the child: die with the parent, also if it died before this call.
void die_with(pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) {
        ::_exit(127);
    }
}

/// Forks; the child runs `body` with the pipe's write end and exits with what it returns.
template <typename Body>
std::pair<pid_t, Descriptor> fork_with_pipe(const Body& body) {
    const pid_t parent = ::getpid();
    Pipe pipe          = make_pipe();
    const pid_t pid    = ::fork();
    if (pid < 0) {
        throw_errno("fork");
    }
    if (pid == 0) {
        die_with(parent);
        pipe.read = Descriptor{};
        ::_exit(body(pipe.write.get()));
    }
    return {pid, std::move(pipe.read)};
}

int execute_in_child(const std::vector<std::string>& argv, int output) {
    std::vector<char*> arguments;
    arguments.reserve(argv.size() + 1);
    for (const auto& argument : argv) {
        arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    ::dup2(null, STDIN_FILENO);
    ::dup2(output, STDOUT_FILENO);
    ::dup2(output, STDERR_FILENO);
    ::execvp(arguments[0], arguments.data());
    write_all(STDERR_FILENO, argv[0] + ": " + std::strerror(errno) + "\n");
    return 127;
}

std::string joined(const std::vector<std::string>& argv) {
    std::string text;
    for (const auto& argument : argv) {
        text += (text.empty() ? "" : " ") + argument;
    }
    return text;
}

}  // namespace

std::string to_string(const ChildExit& exit) {
    return exit.signal != 0 ? "killed by signal " + std::to_string(exit.signal)
                            : "exit status " + std::to_string(exit.code);
}

void Report::line(std::string_view text) const {
    write_all(fd_, std::string(text) + "\n");
}

Child Child::call(const std::function<void(const Report&)>& body) {
    auto [pid, output] = fork_with_pipe([&body](int fd) {
        const Report report{fd};
        try {
            body(report);
            return 0;
        } catch (const std::exception& error) {
            report.line(error.what());
            return 1;
        }
    });
    return Child{pid, std::move(output)};
}

Child Child::execute(std::vector<std::string> argv, const std::string& log_path) {
    auto [pid, output] = fork_with_pipe([&](int fd) {
        if (!log_path.empty()) {
            const int log =
                ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
            return execute_in_child(argv, log);
        }
        return execute_in_child(argv, fd);
    });
    return Child{pid, std::move(output)};
}

Child& Child::operator=(Child&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(output_, other.output_);
    std::swap(buffer_, other.buffer_);
    return *this;
}

Child::~Child() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
}

void Child::signal(int number) const {
    if (pid_ > 0) {
        ::kill(pid_, number);
    }
}

bool Child::ended() const {
    siginfo_t info{};
    return pid_ < 0 ||
           (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid == pid_);
}

/// Reads what there is; false at the end of the output and at the deadline.
bool Child::fill(Clock::time_point deadline) {
    if (output_.get() < 0) {
        return false;
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd waiting{.fd = output_.get(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&waiting, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready < 0 && errno == EINTR) {
        return true;
    }
    if (ready <= 0) {
        return false;
    }
    std::array<char, 4096> chunk{};
    const ssize_t got = ::read(output_.get(), chunk.data(), chunk.size());
    if (got <= 0) {
        output_ = Descriptor{};
        return false;
    }
    buffer_.append(chunk.data(), static_cast<size_t>(got));
    return true;
}

std::optional<std::string> Child::line(std::chrono::milliseconds timeout) {
    const auto deadline = Clock::now() + timeout;
    for (;;) {
        if (const auto end = buffer_.find('\n'); end != std::string::npos) {
            std::string text = buffer_.substr(0, end);
            buffer_.erase(0, end + 1);
            return text;
        }
        if (!fill(deadline)) {
            return std::nullopt;
        }
    }
}

ChildExit Child::reap() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return {.code   = WIFEXITED(status) ? WEXITSTATUS(status) : 0,
            .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
            .output = std::move(buffer_)};
}

ChildExit Child::wait(std::chrono::milliseconds timeout) {
    if (pid_ < 0) {
        throw std::logic_error("the child has been waited for already");
    }
    const auto deadline = Clock::now() + timeout;
    // Its output may end before it does, and a grandchild may hold it open for longer.
    while (!ended() && Clock::now() < deadline) {
        if (output_.get() < 0) {
            ::usleep(1000);
        }
        fill(std::min(deadline, Clock::now() + std::chrono::milliseconds{20}));
    }
    const bool late = !ended();
    if (late) {
        ::kill(pid_, SIGKILL);
    }
    while (!late && fill(Clock::now())) {
    }
    ChildExit exit = reap();
    if (late) {
        throw std::runtime_error("a child process did not end within " +
                                 std::to_string(timeout.count()) +
                                 " ms; its output: " + exit.output);
    }
    return exit;
}

std::string run_tool(const std::vector<std::string>& argv, std::chrono::milliseconds timeout) {
    ChildExit exit = Child::execute(argv).wait(timeout);
    if (!exit.ok()) {
        throw std::runtime_error(joined(argv) + ": " + to_string(exit) + ": " + exit.output);
    }
    return std::move(exit.output);
}

}  // namespace flue::testbed
