#include "drain_checks.hpp"

#include <algorithm>
#include <cerrno>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <utility>

#include "base/unique_fd.hpp"
#include "host/linux/endpoint.hpp"
#include "host/linux/netlink.hpp"
#include "host/linux/socket_dump.hpp"

namespace flue {

using queue::SessionStatus;

namespace {

uint64_t network_of(int fd) {
    return host::get_option<uint64_t>(fd, SOL_SOCKET, SO_NETNS_COOKIE).value_or(0);
}

}  // namespace

DrainRefusal refusal_of(int error) {
    switch (error) {
        case EBADF:
        case ENOTSOCK:
        case EPROTOTYPE:
        case ENOTCONN:
        case EAFNOSUPPORT:
        case ENONET:
            return {SessionStatus::bad_socket, error, DrainCount::refused_bad_socket};
        case ENETUNREACH:
        case EHOSTUNREACH:
            return {SessionStatus::refused, error, DrainCount::refused_no_route};
        case EOPNOTSUPP:
        case EBUSY:
        case EAGAIN:
            return {SessionStatus::refused, error, DrainCount::refused_unsupported};
        case EPERM:
        case EACCES:
            return {SessionStatus::refused, error, DrainCount::refused_no_permission};
        case ENOMEM:
        case EDQUOT:  // others may end soon
            return {SessionStatus::busy, error, DrainCount::refused_no_room};
        case ENOBUFS:
            return {SessionStatus::refused, error, DrainCount::refused_no_room};
        case ECONNRESET:
            return {SessionStatus::shutting_down, error, DrainCount::refused_ending};
        default:
            return {SessionStatus::refused, error, DrainCount::refused_other};
    }
}

DrainChecks::DrainChecks(std::vector<std::string> interfaces) : interfaces_(std::move(interfaces)) {
    const UniqueFd own(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    network_ = own.valid() ? network_of(own.get()) : 0;
    std::erase(interfaces_, "none");
}

bool DrainChecks::leaves_here(uint32_t interface) const {
    return interfaces_.empty() || std::ranges::any_of(interfaces_, [&](const std::string& name) {
               return ::if_nametoindex(name.c_str()) == interface;
           });
}

std::optional<DrainRefusal> DrainChecks::check(int fd) const {
    if (const auto error = host::FrozenSocket::check(fd); error.failed()) {
        return refusal_of(error.code);
    }
    if (network_ == 0 || network_of(fd) != network_) {
        return refusal_of(ENONET);
    }
    flue_state tuple{};
    if (const auto error = host::read_endpoints(fd, tuple); error.failed()) {
        return refusal_of(error.code);
    }
    const int bound_to = host::get_option<int>(fd, SOL_SOCKET, SO_BINDTOIFINDEX).value_or(0);
    const auto hop     = host::find_next_hop(tuple, static_cast<uint32_t>(bound_to), 0);
    if (!hop.ok()) {
        return refusal_of(hop.error().code);
    }
    if (!leaves_here(hop.value().interface)) {
        return refusal_of(ENETUNREACH);
    }
    return std::nullopt;
}

uint64_t queued_bytes(int fd) {
    int unread         = 0;
    int unacknowledged = 0;
    if (::ioctl(fd, SIOCINQ, &unread) != 0 || ::ioctl(fd, SIOCOUTQ, &unacknowledged) != 0) {
        return 0;
    }
    return static_cast<uint64_t>(unread) + static_cast<uint64_t>(unacknowledged);
}

}  // namespace flue
