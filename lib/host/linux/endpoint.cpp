#include "host/linux/endpoint.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <ifaddrs.h>
#include <memory>
#include <netinet/in.h>

namespace flue::host {

namespace {

struct Address {
    uint8_t family = 0;
    uint8_t bytes[16]{};
    uint16_t port = 0;
};

bool decode(const sockaddr_storage& storage, Address& out) {
    if (storage.ss_family == AF_INET) {
        sockaddr_in in{};
        std::memcpy(&in, &storage, sizeof(in));
        out.family = 4;
        out.port   = ntohs(in.sin_port);
        std::memcpy(out.bytes, &in.sin_addr, 4);
        return true;
    }
    if (storage.ss_family != AF_INET6) {
        return false;
    }
    sockaddr_in6 in6{};
    std::memcpy(&in6, &storage, sizeof(in6));
    out.port          = ntohs(in6.sin6_port);
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr);
    out.family        = mapped ? 4 : 6;
    const auto* from  = reinterpret_cast<const uint8_t*>(&in6.sin6_addr);
    std::memcpy(out.bytes, mapped ? from + 12 : from, mapped ? 4 : 16);
    return true;
}

using InterfaceList = std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)>;

uint32_t scope_of(const in6_addr& local) {
    ifaddrs* first = nullptr;
    if (::getifaddrs(&first) != 0) {
        return 0;
    }
    const InterfaceList list(first, &::freeifaddrs);
    for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
        if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET6) {
            continue;
        }
        sockaddr_in6 in6{};
        std::memcpy(&in6, entry->ifa_addr, sizeof(in6));
        if (std::memcmp(&in6.sin6_addr, &local, sizeof(local)) == 0) {
            return in6.sin6_scope_id;
        }
    }
    return 0;
}

Endpoint encode(const flue_state& state, const uint8_t (&address)[16], uint16_t port) {
    Endpoint endpoint;
    if (state.family == 4) {
        sockaddr_in in{};
        in.sin_family = AF_INET;
        in.sin_port   = htons(port);
        std::memcpy(&in.sin_addr, address, 4);
        std::memcpy(&endpoint.storage, &in, sizeof(in));
        endpoint.length = sizeof(in);
        return endpoint;
    }
    sockaddr_in6 in6{};
    in6.sin6_family = AF_INET6;
    in6.sin6_port   = htons(port);
    std::memcpy(&in6.sin6_addr, address, 16);
    if (IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr)) {
        in6_addr local{};
        std::memcpy(&local, state.local_addr, 16);
        in6.sin6_scope_id = scope_of(local);
    }
    std::memcpy(&endpoint.storage, &in6, sizeof(in6));
    endpoint.length = sizeof(in6);
    return endpoint;
}

}  // namespace

HandoffError read_endpoints(int fd, flue_state& state) {
    sockaddr_storage local{};
    sockaddr_storage remote{};
    socklen_t local_length  = sizeof(local);
    socklen_t remote_length = sizeof(remote);
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_length) != 0 ||
        ::getpeername(fd, reinterpret_cast<sockaddr*>(&remote), &remote_length) != 0) {
        return last_error("the socket has no peer");
    }
    Address from;
    Address to;
    if (!decode(local, from) || !decode(remote, to) || from.family != to.family) {
        return HandoffError{EAFNOSUPPORT, "the socket is neither IPv4 nor IPv6"};
    }
    state.family      = from.family;
    state.local_port  = from.port;
    state.remote_port = to.port;
    std::copy_n(from.bytes, 16, state.local_addr);
    std::copy_n(to.bytes, 16, state.remote_addr);
    return {};
}

Endpoint local_endpoint(const flue_state& state) {
    return encode(state, state.local_addr, state.local_port);
}

Endpoint remote_endpoint(const flue_state& state) {
    return encode(state, state.remote_addr, state.remote_port);
}

std::span<const uint8_t> address_bytes(const flue_state& state, const uint8_t (&field)[16]) {
    return std::span<const uint8_t>(field).first(state.family == 4 ? 4 : 16);
}

}  // namespace flue::host
