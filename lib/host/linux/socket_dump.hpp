#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.hpp"
#include "flue/abi.h"
#include "host/linux/socket_options.hpp"

namespace flue::host {

/// SocketDump is a kernel connection as flue writes it down.
///
///       snd_una            snd_nxt = snd_max                  snd_una + send_bytes
///          |  sent, not acked  |          unsent                 |  FIN, when fin_pending
///
/// The FIN follows Linux's books (observed on 6.18, tests/unit/host/linux):
///  * shutdown(SHUT_WR) moves the socket to FIN-WAIT-1 or LAST-ACK at once, while data and FIN may
///  still be unsent; a
///    peer's FIN then moves FIN-WAIT-1 on to CLOSING although ours never left.  A queued FIN is
///    counted by TCP_QUEUE_SEQ of the send queue, SIOCOUTQ and SIOCOUTQNSD, sent or not; the
///    queue's bytes (MSG_PEEK) leave it out. Such a state is written down as ESTABLISHED or
///    CLOSE-WAIT with fin_pending.
///  * a received FIN is counted by TCP_QUEUE_SEQ of the receive queue; SIOCINQ and MSG_PEEK leave
///  it out.
///  * a socket in TIME-WAIT reads as CLOSED: the kernel has moved its state elsewhere.
struct SocketDump {
    flue_state state{};  ///< not sealed; next_hop_mac is zero
    uint32_t send_bytes = 0;
    uint32_t receive_bytes =
        0;  ///< received, acknowledged, not yet read: the bytes just left of rcv_nxt (and FIN)
    bool fin_pending = false;
};

/// FrozenSocket is a connected TCP socket that stands still: segments that reach it are dropped
/// unseen (the peer sends them again), nothing new leaves it, and repair mode shows its insides.
/// When the object goes the socket works on as before, unless close_silently was called.
///
/// Pre: no other thread uses the socket.  A retransmission timer that fires meanwhile may repeat an
/// old segment: the same bytes, harmless to whoever owns the connection then.
class FrozenSocket {
  public:
    /// check tells whether freeze would refuse a socket, and does nothing to it.  Errors:
    ///   EBADF, ENOTSOCK, EPROTOTYPE  not a TCP socket
    ///   ENOTCONN    CLOSED (TIME-WAIT reads so too), LISTEN, SYN-SENT or SYN-RECEIVED
    ///   EOPNOTSUPP  upper-layer protocol (TLS), microsecond timestamps, or a packet filter of the
    ///   application's EBUSY       urgent data is waiting
    [[nodiscard]] static HandoffError check(int fd);

    /// freeze.  Errors, the socket being as before: those of check, and EPERM: no CAP_NET_ADMIN in
    /// the user namespace that the socket's network namespace belongs to, or the socket's filter is
    /// locked.
    static Result<FrozenSocket, HandoffError> freeze(int fd);

    FrozenSocket(FrozenSocket&& other) noexcept;
    FrozenSocket& operator=(FrozenSocket&&) = delete;
    ~FrozenSocket();

    /// dump reads everything but the queues' bytes.
    [[nodiscard]] Result<SocketDump, HandoffError> dump() const;

    /// copy_send_queue writes the bytes [snd_una, snd_una + send_bytes); out.size() ==
    /// dump.send_bytes.
    [[nodiscard]] HandoffError copy_send_queue(std::span<std::byte> out) const;
    /// copy_receive_queue writes the bytes that were not read yet; out.size() ==
    /// dump.receive_bytes.
    [[nodiscard]] HandoffError copy_receive_queue(std::span<std::byte> out) const;

    /// unchanged tells whether the socket still is where `dump` saw it: no segment slipped in.
    [[nodiscard]] bool unchanged(const SocketDump& dump) const;

    /// close_silently ends the kernel's connection without a segment and closes the descriptor.
    /// Other descriptors of the same socket (dup, fork) are left with an unconnected one.
    void close_silently();

  private:
    explicit FrozenSocket(int fd) : fd_(fd) {}

    [[nodiscard]] HandoffError stop_segments();
    [[nodiscard]] HandoffError stop_sending();
    void thaw();

    /// TCP_REPAIR_WINDOW.
    struct Window {
        uint32_t snd_wl1;
        uint32_t snd_wnd;
        uint32_t max_window;
        uint32_t rcv_wnd;
        uint32_t rcv_wup;
    };

    int fd_             = -1;
    int reuse_address_  = 0;  ///< SO_REUSEADDR, which leaving repair mode clears
    bool filtered_      = false;
    bool repairing_     = false;
    bool window_closed_ = false;
    Window window_{};  ///< as it was before stop_sending
};

}  // namespace flue::host
