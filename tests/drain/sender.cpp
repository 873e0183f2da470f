#include "sender.hpp"

#include <cerrno>
#include <cstring>
#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace flue::drain {

using testbed::Descriptor;
using testbed::throw_errno;
using namespace std::chrono_literals;

std::string c_example;
std::string python;
std::string python_example;

namespace {

constexpr int answer_ms = 20'000;

testbed::FluedOptions with_short_time_wait(std::vector<std::string> options) {
    options.insert(options.end(), {"--time-wait-ms", "100"});
    testbed::FluedOptions all;
    all.socket_path   = socket_path;
    all.flued_options = std::move(options);
    return all;
}

}  // namespace

Descriptor connect_to_target() {
    Descriptor target{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, socket_path);
    if (::connect(target.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
        throw_errno("connecting to the target");
    }
    return target;
}

void send_drain(int target, std::span<const int> fds, const Terms& terms) {
    flue_drain_message message{};
    message.version  = terms.version;
    message.type     = FLUE_DRAIN_TYPE;
    message.drain_ms = terms.drain_ms;
    message.flags    = terms.flags;
    iovec data{&message, sizeof(message)};
    alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))]{};
    msghdr parts{};
    parts.msg_iov    = &data;
    parts.msg_iovlen = 1;
    if (!fds.empty()) {
        parts.msg_control    = control;
        parts.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* rights      = CMSG_FIRSTHDR(&parts);
        rights->cmsg_level   = SOL_SOCKET;
        rights->cmsg_type    = SCM_RIGHTS;
        rights->cmsg_len     = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
    }
    // EPIPE: it was refused before it was read, and the answer is there.
    if (::sendmsg(target, &parts, MSG_NOSIGNAL) != sizeof(message) && errno != EPIPE) {
        throw_errno("sending to the target");
    }
}

void send_drain(int target, int fd, const Terms& terms) {
    send_drain(target, std::span(&fd, 1), terms);
}

std::ostream& operator<<(std::ostream& out, const Answer& answer) {
    return out << "status " << answer.status << ", " << std::strerror(answer.error);
}

Answer await_answer(int target) {
    flue_drain_message message{};
    pollfd item{.fd = target, .events = POLLIN, .revents = 0};
    if (::poll(&item, 1, answer_ms) != 1) {
        throw std::runtime_error("the target does not answer");
    }
    if (::recv(target, &message, sizeof(message), 0) != sizeof(message)) {
        return {};
    }
    return {message.status, static_cast<int>(message.error)};
}

Answer ask(int fd, const Terms& terms) {
    const Descriptor target = connect_to_target();
    send_drain(target.get(), fd, terms);
    return await_answer(target.get());
}

uint64_t fill_socket(int fd, const e2e::Pattern& pattern, uint64_t bytes) {
    std::vector<uint8_t> chunk(64 * 1024);
    uint64_t written = 0;
    while (written < bytes) {
        const size_t wanted = std::min<uint64_t>(chunk.size(), bytes - written);
        pattern.write(written, std::span(chunk).first(wanted));
        const ssize_t sent = ::send(fd, chunk.data(), wanted, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            return errno == EAGAIN ? written : 0;
        }
        written += static_cast<uint64_t>(sent);
    }
    return written;
}

void become_nobody() {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct none[2]{};
    if (::syscall(SYS_capset, &header, none) != 0 ||
        ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        throw_errno("giving up capabilities");
    }
}

bool can_repair(int fd) {
    const int on = 1;
    return ::setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) == 0;
}

DrainRig::DrainRig(std::vector<std::string> flued_options)
    : rig_({}, with_short_time_wait(std::move(flued_options))) {
    testbed::set_sysctl("net/ipv4/tcp_wmem", "4096 8388608 8388608");
    testbed::inside(rig_.bottle().remote(),
                    [] { testbed::set_sysctl("net/ipv4/tcp_rmem", "4096 65536 131072"); });
}

nlohmann::json DrainRig::usage() const {
    nlohmann::json usage = rig_.usage();
    usage.erase("regions");
    return usage;
}

uint64_t DrainRig::count(const std::string& name) const {
    return rig_.ask("/flue/drains").at(name).get<uint64_t>();
}

uint64_t DrainRig::count_since_mark(const std::string& name) const {
    return count(name) - mark_.at(name).get<uint64_t>();
}

bool DrainRig::reaches(const std::string& name, uint64_t wanted) const {
    return wait_until([&] { return count_since_mark(name) >= wanted; });
}

void DrainRig::expect_settled() const {
    wait_until([&] { return usage() == baseline_ && count("under_way") == 0; });
    EXPECT_EQ(usage(), baseline_);
    EXPECT_EQ(count("under_way"), 0u);
}

bool wait_until(const std::function<bool()>& holds) {
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    while (!holds()) {
        if (std::chrono::steady_clock::now() > deadline) {
            return false;
        }
        std::this_thread::sleep_for(10ms);
    }
    return true;
}

}  // namespace flue::drain
