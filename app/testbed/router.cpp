#include "testbed/router.hpp"

#include "testbed/process.hpp"

namespace flue::testbed {

namespace {

constexpr const char* own_ipv4 = "10.9.0.254";
constexpr const char* own_ipv6 = "fd09::fe";

void forward_between(const Router::Side& here, const Router::Side& there) {
    const std::string& interface = here.interface;
    set_sysctl("net/ipv4/conf/" + interface + "/proxy_arp", "1");
    set_sysctl("net/ipv6/conf/" + interface + "/proxy_ndp", "1");
    for (const std::string version : {"ipv4", "ipv6"}) {  // it need not look less than eager
        set_sysctl("net/" + version + "/neigh/" + interface + "/proxy_delay", "0");
    }
    run_tool({"ip", "link", "set", interface, "up"});
    run_tool({"ip", "address", "add", std::string{own_ipv4} + "/32", "dev", interface});
    run_tool({"ip", "address", "add", std::string{own_ipv6} + "/128", "dev", interface, "nodad"});
    run_tool({"ip", "route", "add", here.ipv4 + "/32", "dev", interface});
    run_tool({"ip", "-6", "route", "add", here.ipv6 + "/128", "dev", interface});
    run_tool({"ip", "-6", "neighbor", "add", "proxy", there.ipv6, "dev", interface});
}

}  // namespace

Router::Router(const Namespace& place, const Side& near, const Side& far)
    : place_(place), far_(far) {
    const NamespaceScope scope{place_};
    set_sysctl("net/ipv4/ip_forward", "1");
    set_sysctl("net/ipv6/conf/all/forwarding", "1");
    forward_between(near, far);
    forward_between(far, near);
}

void Router::set_mtu(unsigned bytes) const {
    const NamespaceScope scope{place_};
    const std::string mtu = std::to_string(bytes);
    run_tool({"ip", "route", "replace", far_.ipv4 + "/32", "dev", far_.interface, "mtu", mtu});
    run_tool(
        {"ip", "-6", "route", "replace", far_.ipv6 + "/128", "dev", far_.interface, "mtu", mtu});
}

void Router::tell(bool senders) const {
    const std::string chain =
        "chain told { type filter hook output priority 0; policy accept;\n"
        "icmp type destination-unreachable drop;\nicmpv6 type packet-too-big drop;\n}\n";
    const NamespaceScope scope{place_};
    run_tool({"nft",
              "table inet router\ndelete table inet router\ntable inet router {\n" +
                  (senders ? std::string{} : chain) + "}\n"});
}

}  // namespace flue::testbed
