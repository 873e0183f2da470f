#include "host/linux/netlink.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <span>
#include <sys/socket.h>

#include "base/unique_fd.hpp"
#include "host/linux/endpoint.hpp"

namespace flue::host {

namespace {

constexpr uint32_t resolve_poll_ms = 5;

/// A neighbour in one of these states has an address that the kernel would use.
constexpr uint16_t usable_states =
    NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;

struct Address {
    std::array<uint8_t, 16> bytes{};
    uint8_t family = 0;
    size_t length  = 0;
};

/// Request is one rtnetlink message with room for its attributes.
template <typename Header>
struct Request {
    nlmsghdr header{};
    Header body{};
    alignas(RTA_ALIGNTO) uint8_t attributes[128]{};

    Request(uint16_t type, uint16_t flags) {
        header.nlmsg_type  = type;
        header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
        header.nlmsg_len   = offsetof(Request, attributes);
    }

    void add(uint16_t type, std::span<const uint8_t> value) {
        const size_t used = header.nlmsg_len - offsetof(Request, attributes);
        const rtattr attribute{.rta_len  = static_cast<uint16_t>(RTA_LENGTH(value.size())),
                               .rta_type = type};
        FLUE_ASSERT(used + RTA_SPACE(value.size()) <= sizeof(attributes));
        std::memcpy(attributes + used, &attribute, sizeof(attribute));
        std::memcpy(attributes + used + RTA_LENGTH(0), value.data(), value.size());
        header.nlmsg_len += static_cast<uint32_t>(RTA_SPACE(value.size()));
    }

    void add(uint16_t type, uint32_t value) {
        uint8_t bytes[sizeof(value)];
        std::memcpy(bytes, &value, sizeof(value));
        add(type, bytes);
    }

    [[nodiscard]] std::span<const std::byte> message() const {
        return std::as_bytes(std::span(this, 1)).first(header.nlmsg_len);
    }
};

using Attributes = std::span<const std::byte>;

/// find_attribute returns the value of the first attribute of a type, empty if there is none.
Attributes find_attribute(Attributes attributes, uint16_t type) {
    while (attributes.size() >= sizeof(rtattr)) {
        rtattr found{};
        std::memcpy(&found, attributes.data(), sizeof(found));
        if (found.rta_len < sizeof(rtattr) || found.rta_len > attributes.size()) {
            break;
        }
        if (found.rta_type == type) {
            return attributes.subspan(RTA_LENGTH(0), found.rta_len - RTA_LENGTH(0));
        }
        attributes =
            attributes.subspan(std::min<size_t>(RTA_ALIGN(found.rta_len), attributes.size()));
    }
    return {};
}

/// number returns a 32-bit attribute's value, 0 if it is not there.
uint32_t number(Attributes attribute) {
    uint32_t value = 0;
    if (attribute.size() == sizeof(value)) {
        std::memcpy(&value, attribute.data(), sizeof(value));
    }
    return value;
}

/// Reply is the answer to one request: a single message, or the error that came instead.
struct Reply {
    alignas(nlmsghdr) std::array<std::byte, 8192> buffer;
    int error = 0;  ///< errno value

    template <typename Header>
    [[nodiscard]] Header body() const {
        Header header{};
        std::memcpy(&header, buffer.data() + NLMSG_HDRLEN, sizeof(header));
        return header;
    }

    /// attribute returns the value of the first attribute of a type, empty if there is none.
    template <typename Header>
    [[nodiscard]] Attributes attribute(uint16_t type) const {
        nlmsghdr header{};
        std::memcpy(&header, buffer.data(), sizeof(header));
        const size_t start = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(Header));
        const size_t end   = std::min<size_t>(header.nlmsg_len, buffer.size());
        return find_attribute(std::span(buffer).subspan(start, end - std::min(start, end)), type);
    }
};

/// ask sends one request and reads one answer.  An acknowledgement is a reply without error.
Reply ask(int fd, std::span<const std::byte> request) {
    Reply reply{};
    if (::send(fd, request.data(), request.size(), 0) < 0) {
        reply.error = errno;
        return reply;
    }
    const ssize_t got = ::recv(fd, reply.buffer.data(), reply.buffer.size(), 0);
    if (got < static_cast<ssize_t>(sizeof(nlmsghdr))) {
        reply.error = got < 0 ? errno : EBADMSG;
        return reply;
    }
    nlmsghdr header{};
    std::memcpy(&header, reply.buffer.data(), sizeof(header));
    if (header.nlmsg_type == NLMSG_ERROR) {
        reply.error = -reply.body<nlmsgerr>().error;
    }
    return reply;
}

uint8_t address_family(const flue_state& tuple) {
    return tuple.family == 4 ? AF_INET : AF_INET6;
}

Address make_address(uint8_t family, std::span<const std::byte> bytes) {
    Address address;
    address.family = family;
    address.length = std::min(bytes.size(), address.bytes.size());
    std::memcpy(address.bytes.data(), bytes.data(), address.length);
    return address;
}

struct Route {
    uint32_t interface = 0;
    uint32_t mtu       = 0;  ///< 0 = the interface's
    Address neighbour;
};

Result<Route, HandoffError> find_route(int fd, const flue_state& tuple, uint32_t interface) {
    const auto remote = address_bytes(tuple, tuple.remote_addr);
    const auto local  = address_bytes(tuple, tuple.local_addr);
    Request<rtmsg> request(RTM_GETROUTE, 0);
    request.body.rtm_family  = address_family(tuple);
    request.body.rtm_dst_len = static_cast<uint8_t>(remote.size() * 8);
    request.body.rtm_src_len = static_cast<uint8_t>(local.size() * 8);
    request.add(RTA_DST, remote);
    request.add(RTA_SRC, local);
    if (interface != 0) {
        request.add(RTA_OIF, interface);
    }
    const Reply reply = ask(fd, request.message());
    if (reply.error != 0) {
        return HandoffError{reply.error, "no route to the peer"};
    }
    if (reply.body<rtmsg>().rtm_type != RTN_UNICAST) {
        return HandoffError{EHOSTUNREACH,
                            "the peer is on this host, or its address is not unicast"};
    }
    Route route;
    route.interface = number(reply.attribute<rtmsg>(RTA_OIF));
    route.mtu       = number(find_attribute(reply.attribute<rtmsg>(RTA_METRICS), RTAX_MTU));
    // RTA_VIA is a gateway of the other family: 16 bits of family, then the address.
    const auto via     = reply.attribute<rtmsg>(RTA_VIA);
    const auto gateway = reply.attribute<rtmsg>(RTA_GATEWAY);
    if (via.size() > sizeof(uint16_t)) {
        route.neighbour = make_address(AF_INET6, via.subspan(sizeof(uint16_t)));
    } else if (!gateway.empty()) {
        route.neighbour = make_address(address_family(tuple), gateway);
    } else {
        route.neighbour = make_address(address_family(tuple), std::as_bytes(remote));
    }
    return route;
}

uint32_t interface_mtu(int fd, uint32_t interface) {
    Request<ifinfomsg> request(RTM_GETLINK, 0);
    request.body.ifi_family = AF_UNSPEC;
    request.body.ifi_index  = static_cast<int32_t>(interface);
    return number(ask(fd, request.message()).attribute<ifinfomsg>(IFLA_MTU));
}

Request<ndmsg> neighbour_request(uint16_t type, uint16_t flags, const Route& route) {
    Request<ndmsg> request(type, flags);
    request.body.ndm_family  = route.neighbour.family;
    request.body.ndm_ifindex = static_cast<int32_t>(route.interface);
    request.add(NDA_DST, std::span(route.neighbour.bytes).first(route.neighbour.length));
    return request;
}

/// read_neighbour returns the entry's link-layer address, empty when it is unknown or not to be
/// used.
Result<NextHop, HandoffError> read_neighbour(int fd, const Route& route) {
    const Reply reply = ask(fd, neighbour_request(RTM_GETNEIGH, 0, route).message());
    if (reply.error != 0) {
        return HandoffError{EHOSTUNREACH, "the next hop is not in the neighbour table"};
    }
    const auto address = reply.attribute<ndmsg>(NDA_LLADDR);
    if ((reply.body<ndmsg>().ndm_state & usable_states) == 0) {
        return HandoffError{EHOSTUNREACH, "the next hop does not answer"};
    }
    NextHop hop{.interface = route.interface, .mac = {}, .path_mtu = 0};
    if (address.size() != hop.mac.size()) {
        return HandoffError{EOPNOTSUPP, "the route's interface has no Ethernet addresses"};
    }
    std::memcpy(hop.mac.data(), address.data(), hop.mac.size());
    return hop;
}

/// resolve makes the kernel ask for the neighbour's address as if it had a packet for it.
HandoffError resolve(int fd, const Route& route) {
    auto request           = neighbour_request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_ACK, route);
    request.body.ndm_flags = NTF_USE;
    request.body.ndm_state = NUD_NONE;
    const Reply reply      = ask(fd, request.message());
    return reply.error == 0 ? HandoffError{}
                            : HandoffError{reply.error, "the next hop cannot be resolved"};
}

/// await_neighbour resolves the next hop if need be and waits for the answer.
Result<NextHop, HandoffError> await_neighbour(int fd, const Route& route, uint32_t wait_ms) {
    auto hop = read_neighbour(fd, route);
    if (hop.ok() || hop.error().code == EOPNOTSUPP) {
        return hop;
    }
    if (const HandoffError error = resolve(fd, route); error.failed()) {
        return error;
    }
    if (wait_ms == 0) {
        return HandoffError{EINPROGRESS, "the next hop has not answered yet"};
    }
    for (uint32_t waited_ms = 0; !hop.ok() && waited_ms < wait_ms; waited_ms += resolve_poll_ms) {
        ::poll(nullptr, 0, resolve_poll_ms);
        hop = read_neighbour(fd, route);
    }
    return hop;
}

}  // namespace

Result<NextHop, HandoffError> find_next_hop(const flue_state& tuple,
                                            uint32_t interface,
                                            uint32_t wait_ms) {
    const UniqueFd netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!netlink.valid()) {
        return last_error("no netlink socket");
    }
    const auto route = find_route(netlink.get(), tuple, interface);
    if (!route.ok()) {
        return route.error();
    }
    auto hop = await_neighbour(netlink.get(), route.value(), wait_ms);
    if (hop.ok()) {
        const uint32_t of_route = route.value().mtu;
        const uint32_t mtu =
            of_route != 0 ? of_route : interface_mtu(netlink.get(), hop.value().interface);
        hop.value().path_mtu = static_cast<uint16_t>(std::min(mtu, uint32_t{UINT16_MAX}));
    }
    return hop;
}

}  // namespace flue::host
