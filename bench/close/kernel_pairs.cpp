#include "kernel_pairs.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace flue::bench {

namespace {

constexpr uint32_t loopback_addresses = 65'000;

sockaddr_in loopback(uint32_t offset) {
    sockaddr_in address{};
    address.sin_family      = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + offset);
    return address;
}

const sockaddr* generic(const sockaddr_in& address) {
    return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

KernelPairs::~KernelPairs() {
    close();
    if (listener_ >= 0) {
        ::close(listener_);
    }
}

bool KernelPairs::connect(uint32_t pairs, bool abortive) {
    if (listener_ < 0) {
        const sockaddr_in any_port = loopback(0);
        listener_                  = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (listener_ < 0 || ::bind(listener_, generic(any_port), sizeof any_port) != 0 ||
            ::listen(listener_, 16) != 0) {
            return false;
        }
    }
    while (pairs_.size() < pairs) {
        if (!connect_one(abortive)) {
            return false;
        }
    }
    return true;
}

bool KernelPairs::connect_one(bool abortive) {
    sockaddr_in listening{};
    socklen_t length = sizeof listening;
    if (::getsockname(listener_, reinterpret_cast<sockaddr*>(&listening), &length) != 0) {
        return false;
    }
    next_address_          = (next_address_ + 1) % loopback_addresses;
    const sockaddr_in from = loopback(next_address_);
    const int near         = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (near < 0 || ::bind(near, generic(from), sizeof from) != 0 ||
        ::connect(near, generic(listening), sizeof listening) != 0) {
        ::close(near);
        return false;
    }
    const int far = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    const linger at_once{.l_onoff = abortive ? 1 : 0, .l_linger = 0};
    ::setsockopt(near, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    pairs_.emplace_back(near, far);
    return far >= 0;
}

void KernelPairs::close() {
    for (const auto& [near, far] : pairs_) {
        ::close(near);
    }
    for (const auto& [near, far] : pairs_) {
        ::close(far);
    }
    pairs_.clear();
}

}  // namespace flue::bench
