#include "target/port.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>
#include <vector>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>

#include "target/log.hpp"

namespace flue::target {

namespace {

constexpr uint64_t tx_checksums  = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
constexpr uint64_t rx_checksums  = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
constexpr uint64_t rss_on_tuples = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP;
constexpr uint16_t reta_group    = RTE_ETH_RETA_GROUP_SIZE;
constexpr uint16_t segments_unlimited = 16;  ///< more than a frame ever has

bool is_virtual_device(const rte_eth_dev_info& info) {
    return info.device == nullptr ||
           std::string_view{rte_bus_name(rte_dev_bus(info.device))} == "vdev";
}

/// These copy, or pass on, the bytes within tx_burst.
bool frees_at_once(std::string_view driver) {
    constexpr std::array drivers{"net_af_packet", "net_tap", "net_null", "net_pcap", "net_ring"};
    return std::ranges::find(drivers, driver) != drivers.end();
}

/// These spread what comes in over all their queues, whether somebody polls them or not.
bool uses_all_queues(std::string_view driver) {
    return driver == "net_af_packet" || driver == "net_ring" || driver == "net_af_xdp";
}

uint16_t segments_max(const rte_eth_dev_info& info) {
    if ((info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) == 0) {
        return 1;
    }
    const uint16_t limit = info.tx_desc_lim.nb_mtu_seg_max;
    return limit == 0 ? segments_unlimited : std::min(limit, segments_unlimited);
}

bool can_steer(const rte_eth_dev_info& info, uint16_t workers) {
    return info.max_rx_queues >= workers && std::has_single_bit(info.reta_size) &&
           info.hash_key_size == Steering::key_bytes &&
           (info.flow_type_rss_offloads & rss_on_tuples) == rss_on_tuples;
}

void decide(Port& port, const rte_eth_dev_info& info, const PortWishes& wishes) {
    port.driver          = info.driver_name;
    port.is_virtual      = is_virtual_device(info);
    port.tx_checksum     = (info.tx_offload_capa & tx_checksums) == tx_checksums;
    port.rx_checksum     = (info.rx_offload_capa & rx_checksums) == rx_checksums;
    port.tso             = (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_TSO) != 0;
    port.fast_free       = (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE) != 0;
    port.tx_segments_max = segments_max(info);
    port.tx_queues       = info.max_tx_queues >= wishes.workers ? wishes.workers : uint16_t{1};
    if (wishes.workers > 1 && can_steer(info, wishes.workers)) {
        port.rss_buckets   = info.reta_size;
        port.rss_functions = info.flow_type_rss_offloads & rss_on_tuples;
        port.rx_queues     = wishes.workers;
    } else if (wishes.queues_without_rss && info.max_rx_queues >= wishes.workers) {
        port.rx_queues = wishes.workers;
    } else {
        port.rx_queues    = uses_all_queues(port.driver) ? info.max_rx_queues : uint16_t{1};
        port.own_rx_queue = port.rx_queues == wishes.workers && wishes.workers == 1;
    }
}

rte_eth_conf configuration(const Port& port) {
    rte_eth_conf conf{};
    conf.rxmode.mtu      = port.mtu;
    conf.rxmode.offloads = port.rx_checksum ? rx_checksums : 0;
    conf.txmode.offloads = (port.tx_checksum ? tx_checksums : 0) |
                           (port.tx_segments_max > 1 ? RTE_ETH_TX_OFFLOAD_MULTI_SEGS : 0);
    if (port.rss_buckets > 0) {
        conf.rxmode.mq_mode                   = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_key     = const_cast<uint8_t*>(Steering::rss_key().data());
        conf.rx_adv_conf.rss_conf.rss_key_len = Steering::key_bytes;
        conf.rx_adv_conf.rss_conf.rss_hf      = port.rss_functions;
    }
    return conf;
}

bool failed(const Port& port, const char* step, int error) {
    FLUE_LOG(ERR,
             "port %s (%s): %s failed: %s; check the device's arguments and that nothing else uses "
             "it, or choose another "
             "--port",
             port.name.c_str(),
             port.driver.c_str(),
             step,
             rte_strerror(-error));
    return false;
}

bool set_up_queues(const Port& port,
                   const rte_eth_dev_info& info,
                   const rte_eth_conf& conf,
                   std::span<rte_mempool* const> rx_pools) {
    const auto socket = static_cast<unsigned>(port.socket);
    rte_eth_rxconf rx = info.default_rxconf;
    rx.offloads       = conf.rxmode.offloads;
    for (uint16_t queue = 0; queue < port.rx_queues; ++queue) {
        const int error = rte_eth_rx_queue_setup(port.id,
                                                 queue,
                                                 port.rx_descriptors,
                                                 socket,
                                                 &rx,
                                                 rx_pools[port.own_rx_queue ? queue : 0]);
        if (error != 0) {
            return failed(port, "setting up an RX queue", error);
        }
    }
    rte_eth_txconf tx = info.default_txconf;
    tx.offloads       = conf.txmode.offloads;
    for (uint16_t queue = 0; queue < port.tx_queues; ++queue) {
        const int error = rte_eth_tx_queue_setup(port.id, queue, port.tx_descriptors, socket, &tx);
        if (error != 0) {
            return failed(port, "setting up a TX queue", error);
        }
    }
    return true;
}

bool configure_and_start(Port& port, std::span<rte_mempool* const> rx_pools) {
    rte_eth_dev_info info{};
    if (const int error = rte_eth_dev_info_get(port.id, &info); error != 0) {
        return failed(port, "asking for its capabilities", error);
    }
    const rte_eth_conf conf = configuration(port);
    if (const int error = rte_eth_dev_configure(port.id, port.rx_queues, port.tx_queues, &conf);
        error != 0) {
        return failed(port, "configuring", error);
    }
    if (const int error =
            rte_eth_dev_adjust_nb_rx_tx_desc(port.id, &port.rx_descriptors, &port.tx_descriptors);
        error != 0) {
        return failed(port, "choosing ring sizes", error);
    }
    if (!set_up_queues(port, info, conf, rx_pools)) {
        return false;
    }
    if (const int error = rte_eth_dev_start(port.id); error != 0) {
        return failed(port, "starting", error);
    }
    return true;
}

/// Writes the indirection table and reads the key back: only then do we know where the port sends a
/// flow.
bool program_rss(const Port& port, const Steering& steering) {
    const size_t groups = (port.rss_buckets + size_t{reta_group} - 1) / reta_group;
    std::vector<rte_eth_rss_reta_entry64> table(groups);
    for (uint16_t bucket = 0; bucket < port.rss_buckets; ++bucket) {
        rte_eth_rss_reta_entry64& group = table[bucket / reta_group];
        const unsigned slot             = bucket % reta_group;
        group.mask |= uint64_t{1} << slot;
        group.reta[slot] = steering.queue_of_bucket(bucket);
    }
    if (rte_eth_dev_rss_reta_update(port.id, table.data(), port.rss_buckets) != 0) {
        return false;
    }
    std::array<uint8_t, Steering::key_bytes> key{};
    rte_eth_rss_conf conf{};
    conf.rss_key     = key.data();
    conf.rss_key_len = Steering::key_bytes;
    return rte_eth_dev_rss_hash_conf_get(port.id, &conf) == 0 && key == Steering::rss_key() &&
           (conf.rss_hf & rss_on_tuples) == rss_on_tuples;
}

void receive_multicast(const Port& port) {
    // Neighbour discovery comes to multicast addresses.
    if (rte_eth_allmulticast_enable(port.id) == 0 || rte_eth_promiscuous_enable(port.id) == 0) {
        return;
    }
    FLUE_LOG(WARNING,
             "port %s: neither all-multicast nor promiscuous mode: IPv6 neighbours may not find "
             "us; add static ones with ip "
             "-6 neigh",
             port.name.c_str());
}

void find_out_freeing(Port& port) {
    if (frees_at_once(port.driver)) {
        port.freeing = Port::Freeing::at_once;
    } else if (rte_eth_tx_done_cleanup(port.id, 0, 0) >= 0) {
        port.freeing = Port::Freeing::on_request;
    } else {
        port.freeing = Port::Freeing::later;
    }
}

}  // namespace

std::optional<Port> probe_port(const std::string& name, const PortWishes& wishes) {
    Port port;
    port.name = name;
    if (rte_eth_dev_get_port_by_name(name.c_str(), &port.id) != 0) {
        FLUE_LOG(
            ERR,
            "there is no port %s; give the EAL its device (-a PCI address, or --vdev as in --vdev "
            "net_af_packet0,iface=eth1) and --port the same name",
            name.c_str());
        return std::nullopt;
    }
    rte_eth_dev_info info{};
    rte_ether_addr mac{};
    if (rte_eth_dev_info_get(port.id, &info) != 0 || rte_eth_macaddr_get(port.id, &mac) != 0 ||
        rte_eth_dev_get_mtu(port.id, &port.mtu) != 0) {
        FLUE_LOG(
            ERR, "port %s does not tell its capabilities; choose another --port", name.c_str());
        return std::nullopt;
    }
    std::memcpy(port.mac.data(), mac.addr_bytes, port.mac.size());
    const int socket    = rte_eth_dev_socket_id(port.id);
    port.socket         = socket < 0 ? static_cast<int>(rte_socket_id()) : socket;
    port.rx_descriptors = wishes.rx_descriptors;
    port.tx_descriptors = wishes.tx_descriptors;
    decide(port, info, wishes);
    return port;
}

bool start_port(Port& port, const Steering& steering, std::span<rte_mempool* const> rx_pools) {
    if (!configure_and_start(port, rx_pools)) {
        return false;
    }
    if (port.rss_buckets > 0 && !program_rss(port, steering)) {
        (void)rte_eth_dev_stop(port.id);
        port.rss_buckets  = 0;
        port.rx_queues    = 1;
        port.own_rx_queue = false;
        if (!configure_and_start(port, rx_pools)) {
            return false;
        }
    }
    receive_multicast(port);
    find_out_freeing(port);
    return true;
}

void close_port(const Port& port) {
    (void)rte_eth_dev_stop(port.id);
    (void)rte_eth_dev_close(port.id);
}

std::optional<Port> open_tap(const std::string& interface,
                             uint16_t number,
                             const Port& wire,
                             const PortWishes& wishes) {
    const std::string name = "net_tap_flue" + std::to_string(number);
    std::array<char, RTE_ETHER_ADDR_FMT_SIZE> mac{};
    rte_ether_addr address{};
    std::memcpy(address.addr_bytes, wire.mac.data(), wire.mac.size());
    rte_ether_format_addr(mac.data(), static_cast<uint16_t>(mac.size()), &address);
    const std::string arguments = "iface=" + interface + ",mac=" + mac.data();
    if (const int error = rte_eal_hotplug_add("vdev", name.c_str(), arguments.c_str());
        error != 0) {
        FLUE_LOG(ERR,
                 "cannot make the TAP %s: %s; it needs /dev/net/tun and CAP_NET_ADMIN in this "
                 "network namespace (unshare -Urn "
                 "gives it), and a name that is free (ip link)",
                 interface.c_str(),
                 rte_strerror(-error));
        return std::nullopt;
    }
    std::optional<Port> tap = probe_port(name, wishes);
    if (tap) {
        tap->mtu = wire.mtu;
        // The kernel's frames pass unchanged, so there is nothing to verify on the way.
        tap->rx_checksum = false;
        tap->tx_checksum = false;
    }
    return tap;
}

}  // namespace flue::target
