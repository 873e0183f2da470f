#include "testbed/bottle.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdexcept>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

#include "testbed/process.hpp"

namespace flue::testbed {
namespace {

/// One ioctl on an interface of the calling thread's namespace.
void interface_ioctl(const std::string& interface, unsigned long request, ifreq& argument) {
    std::snprintf(argument.ifr_name, sizeof argument.ifr_name, "%s", interface.c_str());
    const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int result = ::ioctl(socket, request, &argument);
    const int error  = errno;
    ::close(socket);
    if (result != 0) {
        throw std::system_error(error, std::generic_category(), "ioctl on " + interface);
    }
}

std::string mac_text(const std::array<uint8_t, 6>& mac) {
    std::array<char, 18> text{};
    std::snprintf(text.data(),
                  text.size(),
                  "%02x:%02x:%02x:%02x:%02x:%02x",
                  mac[0],
                  mac[1],
                  mac[2],
                  mac[3],
                  mac[4],
                  mac[5]);
    return text.data();
}

void move_to(const std::string& interface, const Namespace& target) {
    run_tool({"ip",
              "link",
              "set",
              interface,
              "netns",
              "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(target.fd())});
}

void set_up(const std::string& interface, unsigned mtu) {
    disable_offloads(interface);
    run_tool({"ip", "link", "set", interface, "mtu", std::to_string(mtu), "up"});
}

void add_addresses(const std::string& interface, const std::string& ipv4, const std::string& ipv6) {
    run_tool({"ip", "address", "add", ipv4 + "/24", "dev", interface});
    run_tool({"ip", "address", "add", ipv6 + "/64", "dev", interface, "nodad"});
}

/// The kernel gets copies of the frames that the target reads from the wire; it must neither answer
/// them nor deliver them to the sockets that the same frames reach through the TAP.
void make_deaf(const std::string& interface) {
    set_sysctl("net/ipv6/conf/" + interface + "/disable_ipv6", "1");
    set_sysctl("net/ipv4/conf/" + interface + "/rp_filter", "1");
}

std::string chance(unsigned permille, const std::string& verdict) {
    return permille == 0
               ? ""
               : "numgen random mod 1000 < " + std::to_string(permille) + " " + verdict + ";";
}

}  // namespace

Bottle::Bottle(const BottleOptions& options) : options_(options) {
    lay_wire();
    configure_host();
    inside(remote_, [this] { configure_remote(); });
    if (options_.impairable) {
        inside(middle_, [this] { configure_middle(); });
        detour_.emplace(
            middle_,
            std::array<Detour::Way, 2>{{{"near-late-out", "far"}, {"far-late-out", "near"}}},
            std::chrono::milliseconds{2});
        set_impairment({});
    }
    if (options_.routed) {
        inside(middle_, [this] {
            for (const std::string end : {"near", "far"}) {
                set_up(end, options_.mtu);
            }
        });
        router_.emplace(middle_,
                        Router::Side{"near", host_ipv4, host_ipv6},
                        Router::Side{"far", remote_ipv4, remote_ipv6});
    }
}

Bottle::~Bottle() {
    // The kernel removes what is in a namespace some time after its end; the name must be free now.
    const NamespaceScope scope{host_};
    Child::execute({"ip", "link", "delete", wire}).wait();
}

void Bottle::lay_wire() {
    if (options_.distant) {
        link_.emplace(Link::End{host_, wire}, Link::End{remote_, far_end}, options_.seed);
        return;
    }
    if (!options_.impairable && !options_.routed) {
        run_tool({"ip", "link", "add", wire, "type", "veth", "peer", "name", far_end});
        move_to(far_end, remote_);
        return;
    }
    run_tool({"ip", "link", "add", wire, "type", "veth", "peer", "name", "near"});
    run_tool({"ip", "link", "add", far_end, "type", "veth", "peer", "name", "far"});
    move_to("near", middle_);
    move_to("far", middle_);
    move_to(far_end, remote_);
}

void Bottle::configure_host() const {
    make_deaf(wire);
    set_up(wire, options_.mtu);
}

void Bottle::configure_remote() const {
    set_up(far_end, options_.mtu);
    add_addresses(far_end, remote_ipv4, remote_ipv6);
}

/// Late frames of each direction leave the straight way over a veth pair of their own.
void Bottle::configure_middle() const {
    for (const std::string end : {"near", "far"}) {
        make_deaf(end);
        set_up(end, options_.mtu);
        const std::string detour = end + "-late";
        run_tool({"ip", "link", "add", detour, "type", "veth", "peer", "name", detour + "-out"});
        for (const auto& side : {detour, detour + "-out"}) {
            make_deaf(side);
            set_up(side, options_.mtu);
        }
    }
}

void Bottle::set_impairment(const Impairment& impairment) const {
    if (!options_.impairable) {
        throw std::logic_error("this Bottle's wire is direct: construct it with impairable = true");
    }
    const auto chain = [&](const std::string& from, const std::string& to) {
        // An RST is sent once: who loses it never learns of it, and a test would wait in vain.
        const std::string spared = "tcp flags & rst == rst fwd to " + to + "; ";
        return "chain " + from + " { type filter hook ingress device " + from +
               " priority 0; policy accept; " + spared + chance(impairment.loss_permille, "drop") +
               chance(impairment.late_permille, "fwd to " + from + "-late") + "fwd to " + to +
               "; }\n";
    };
    const std::string rules = "table netdev wire\ndelete table netdev wire\ntable netdev wire {\n" +
                              chain("near", "far") + chain("far", "near") + "}\n";
    inside(middle_, [&] { run_tool({"nft", rules}); });
}

void Bottle::attach_tap(const std::string& tap) const {
    const NamespaceScope scope{host_};
    run_tool({"ip",
              "link",
              "set",
              tap,
              "address",
              mac_text(mac_address(wire)),
              "mtu",
              std::to_string(options_.mtu)});
    run_tool({"ip", "link", "set", tap, "up"});
    add_addresses(tap, host_ipv4, host_ipv6);
}

std::array<uint8_t, 6> mac_address(const std::string& interface) {
    ifreq request{};
    interface_ioctl(interface, SIOCGIFHWADDR, request);
    std::array<uint8_t, 6> mac{};
    std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
    return mac;
}

void disable_offloads(const std::string& interface) {
    for (const uint32_t command : {uint32_t{ETHTOOL_STSO},
                                   uint32_t{ETHTOOL_SGSO},
                                   uint32_t{ETHTOOL_SGRO},
                                   uint32_t{ETHTOOL_STXCSUM}}) {
        ethtool_value off{.cmd = command, .data = 0};
        ifreq request{};
        request.ifr_data = reinterpret_cast<char*>(&off);
        interface_ioctl(interface, SIOCETHTOOL, request);
    }
}

}  // namespace flue::testbed
