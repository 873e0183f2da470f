#include "lwip_peer.hpp"

#include <algorithm>
#include <array>
#include <lwip/init.h>
#include <lwip/ip.h>
#include <lwip/ip6_addr.h>
#include <lwip/netif.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>
#include <stdexcept>
#include <utility>

namespace {

uint64_t clock_ms = 1;

}  // namespace

/// Takes the place of the clock in the library.
extern "C" u32_t sys_now() {
    return static_cast<u32_t>(clock_ms);
}

namespace flue::peers::lwip {

namespace {

netif interface;
std::function<void(Packet)> take_packet;

err_t send_packet(pbuf* buffer) {
    Packet packet(buffer->tot_len);
    pbuf_copy_partial(buffer, packet.data(), buffer->tot_len, 0);
    take_packet(std::move(packet));
    return ERR_OK;
}

err_t send_ipv4(netif* /*from*/, pbuf* buffer, const ip4_addr_t* /*to*/) {
    return send_packet(buffer);
}

err_t send_ipv6(netif* /*from*/, pbuf* buffer, const ip6_addr_t* /*to*/) {
    return send_packet(buffer);
}

err_t set_up(netif* made) {
    made->name[0]    = 'f';
    made->name[1]    = 'l';
    made->mtu        = 1500;
    made->output     = send_ipv4;
    made->output_ip6 = send_ipv6;
    return ERR_OK;
}

ip6_addr_t parse_ipv6(const char* text) {
    ip6_addr_t address{};
    if (ip6addr_aton(text, &address) == 0) {
        throw std::logic_error("not an IPv6 address");
    }
    return address;
}

ip_addr_t other_address(bool ipv6) {
    ip_addr_t address{};
    if (ipv6) {
        ip_addr_copy_from_ip6(address, parse_ipv6(other_address_ipv6));
    } else {
        ip_addr_set_ip4_u32_val(address, lwip_htonl(other_address_ipv4));
    }
    return address;
}

void make_interface() {
    ip4_addr_t address{.addr = lwip_htonl(address_ipv4)};
    ip4_addr_t mask{.addr = lwip_htonl(0xffffff00)};
    ip4_addr_t gateway{};
    // Everything runs on one thread: packets go straight to IP.
    if (netif_add(&interface, &address, &mask, &gateway, nullptr, set_up, ip_input) == nullptr) {
        throw std::runtime_error("netif_add");
    }
    const ip6_addr_t ipv6 = parse_ipv6(address_ipv6);
    s8_t index            = -1;
    if (netif_add_ip6_address(&interface, &ipv6, &index) != ERR_OK) {
        throw std::runtime_error("netif_add_ip6_address");
    }
    netif_ip6_addr_set_state(&interface, index, IP6_ADDR_PREFERRED);
    netif_set_default(&interface);
    netif_set_link_up(&interface);
    netif_set_up(&interface);
}

unsigned length_of(const tcp_pcb* list) {
    unsigned count = 0;
    for (; list != nullptr; list = list->next) {
        ++count;
    }
    return count;
}

tcp_pcb* pcb_of(void* opaque) {
    return static_cast<tcp_pcb*>(opaque);
}

}  // namespace

void start(std::function<void(Packet)> output) {
    take_packet = std::move(output);
    if (interface.input == nullptr) {
        lwip_init();
        make_interface();
    }
}

void input(std::span<const std::byte> packet) {
    const auto bytes = static_cast<u16_t>(packet.size());
    // PBUF_POOL buffers of Debian's build are shorter than what they are said to hold.
    pbuf* buffer = pbuf_alloc(PBUF_RAW, bytes, PBUF_RAM);
    if (buffer == nullptr) {
        throw std::runtime_error("pbuf_alloc");
    }
    pbuf_take(buffer, packet.data(), bytes);
    if (interface.input(buffer, &interface) != ERR_OK) {
        pbuf_free(buffer);
    }
}

void set_clock(uint64_t now_ms) {
    clock_ms = std::max(clock_ms, now_ms);
    sys_check_timeouts();
}

uint32_t idle_ms() {
    return sys_timeouts_sleeptime();
}

unsigned connections() {
    return length_of(tcp_active_pcbs) + length_of(tcp_tw_pcbs);
}

/// What lwIP calls.
struct Peer::Calls {
    static Peer& peer_of(void* argument) { return *static_cast<Peer*>(argument); }

    static err_t connected(void* argument, tcp_pcb* /*pcb*/, err_t /*error*/) {
        peer_of(argument).write();
        return ERR_OK;
    }

    static err_t sent(void* argument, tcp_pcb* /*pcb*/, u16_t /*bytes*/) {
        peer_of(argument).write();
        return ERR_OK;
    }

    static err_t received(void* argument, tcp_pcb* pcb, pbuf* buffer, err_t /*error*/) {
        Peer& peer = peer_of(argument);
        if (buffer == nullptr) {
            peer.seen_.fin = true;
            if (peer.closed_) {
                peer.let_go();
            }
            return ERR_OK;
        }
        for (const pbuf* part = buffer; part != nullptr; part = part->next) {
            peer.take({static_cast<const uint8_t*>(part->payload), part->len});
        }
        const auto bytes = buffer->tot_len;
        pbuf_free(buffer);
        if (peer.seen_.bytes_received >= peer.plan_.abort_after_bytes) {
            peer.seen_.aborted = true;
            peer.pcb_          = nullptr;
            tcp_abort(pcb);
            return ERR_ABRT;
        }
        if (!peer.has_paused_ && peer.seen_.bytes_received >= peer.plan_.pause_after_bytes) {
            peer.paused_ = peer.has_paused_ = true;
        }
        if (peer.paused_) {
            peer.untold_ += bytes;
        } else {
            tcp_recved(pcb, bytes);
        }
        return ERR_OK;
    }

    static void failed(void* argument, err_t error) {
        Peer& peer       = peer_of(argument);
        peer.pcb_        = nullptr;
        peer.seen_.reset = error == ERR_RST;
    }
};

Peer::Peer(bool ipv6,
           uint16_t port,
           const e2e::Pattern& sends,
           const e2e::Pattern& expects,
           const Plan& plan)
    : sends_(sends), expects_(expects), plan_(plan) {
    tcp_pcb* pcb = tcp_new_ip_type(ipv6 ? IPADDR_TYPE_V6 : IPADDR_TYPE_V4);
    if (pcb == nullptr) {
        throw std::runtime_error("tcp_new");
    }
    pcb_ = pcb;
    tcp_arg(pcb, this);
    tcp_recv(pcb, Calls::received);
    tcp_sent(pcb, Calls::sent);
    tcp_err(pcb, Calls::failed);
    const ip_addr_t other = other_address(ipv6);
    if (tcp_connect(pcb, &other, port, Calls::connected) != ERR_OK) {
        throw std::runtime_error("tcp_connect");
    }
}

Peer::~Peer() {
    if (pcb_ != nullptr) {
        tcp_pcb* pcb = pcb_of(pcb_);
        let_go();
        tcp_abort(pcb);
    }
}

/// Both directions are closed, and lwIP sees to the rest.
void Peer::let_go() {
    tcp_pcb* pcb = pcb_of(std::exchange(pcb_, nullptr));
    tcp_arg(pcb, nullptr);
    tcp_recv(pcb, nullptr);
    tcp_sent(pcb, nullptr);
    tcp_err(pcb, nullptr);
}

void Peer::write() {
    std::array<uint8_t, 8192> chunk;
    while (pcb_ != nullptr && !sent_all()) {
        const uint64_t left = plan_.bytes_to_send - seen_.bytes_sent;
        const auto bytes =
            static_cast<u16_t>(std::min<uint64_t>({left, chunk.size(), tcp_sndbuf(pcb_of(pcb_))}));
        sends_.write(seen_.bytes_sent, std::span(chunk).first(bytes));
        if (bytes == 0 ||
            tcp_write(pcb_of(pcb_), chunk.data(), bytes, TCP_WRITE_FLAG_COPY) != ERR_OK) {
            break;  // there will be room when something has been acknowledged
        }
        seen_.bytes_sent += bytes;
    }
    if (pcb_ != nullptr) {
        tcp_output(pcb_of(pcb_));
    }
    if (close_wanted_) {
        close();
    }
}

void Peer::take(std::span<const uint8_t> bytes) {
    seen_.bytes_right = seen_.bytes_right && expects_.matches(seen_.bytes_received, bytes);
    seen_.bytes_received += bytes.size();
}

void Peer::close() {
    close_wanted_ = !closed_;
    if (pcb_ == nullptr || closed_ || !sent_all()) {
        return;
    }
    // Without memory for the FIN it has to be asked again.
    closed_       = tcp_shutdown(pcb_of(pcb_), 0, 1) == ERR_OK;
    close_wanted_ = !closed_;
    if (closed_ && seen_.fin) {
        let_go();
    }
}

void Peer::resume() {
    paused_ = false;
    if (pcb_ == nullptr) {
        return;
    }
    for (; untold_ > 0;) {
        const auto bytes = static_cast<u16_t>(std::min<uint32_t>(untold_, 0xffff));
        tcp_recved(pcb_of(pcb_), bytes);
        untold_ -= bytes;
    }
}

}  // namespace flue::peers::lwip
