#include "testbed/packet_socket.hpp"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/socket.h>

namespace flue::testbed {

Descriptor packet_socket(const std::string& interface, Listen listen) {
    Descriptor socket =
        owned(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), "opening a packet socket");
    sockaddr_ll where{};
    where.sll_family   = AF_PACKET;
    where.sll_protocol = listen == Listen::yes ? htons(ETH_P_ALL) : uint16_t{0};
    where.sll_ifindex  = static_cast<int>(::if_nametoindex(interface.c_str()));
    if (where.sll_ifindex == 0 ||
        ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0) {
        throw_errno("binding a packet socket to " + interface);
    }
    return socket;
}

}  // namespace flue::testbed
