#include "honest.hpp"

#include <array>
#include <netinet/in.h>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>

#include "peer.hpp"

namespace flue::hostile {

using namespace std::chrono_literals;

namespace {

uint16_t port_of(int fd, int (*ask)(int, sockaddr*, socklen_t*)) {
    sockaddr_in name{};
    socklen_t length = sizeof(name);
    if (ask(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) {
        testbed::throw_errno("getsockname");
    }
    return ntohs(name.sin_port);
}

}  // namespace

HonestStream::HonestStream(const e2e::Rig& rig) : session_(rig, state_at + 4096 + lent_bytes) {
    e2e::SocketPair pair = e2e::connect_pair(rig.bottle().host(), rig.bottle().remote(), false);
    local_port_          = port_of(pair.host.get(), ::getsockname);
    remote_port_         = port_of(pair.host.get(), ::getpeername);
    remote_              = std::move(pair.remote);
    hand_over(std::move(pair.host));
    receiver_ = std::jthread([this] { receive(); });
    sender_   = std::jthread([this] {
        try {
            send();
        } catch (const std::exception&) {
            failed_ = true;
        }
    });
}

HonestStream::~HonestStream() {
    stop_ = true;
}

void HonestStream::hand_over(testbed::Descriptor socket) {
    flue_socket_offload_options options{};
    options.mr        = session_.region();
    options.mr_offset = state_at + 4096;
    options.mr_bytes  = lent_bytes;
    flue_socket_offload_result result{};
    const int fd = socket.release();
    if (flue_socket_offload(session_.queue(), fd, &options, &result) != 0) {
        throw std::runtime_error(flue_error_text());
    }
    conn_ = result.conn;
}

void HonestStream::post_send(uint64_t slot) {
    const uint64_t at = slot * send_bytes;
    pattern_.write(posted_, {session_.data(at), send_bytes});
    posted_ += send_bytes;
    session_.post(FLUE_OP_SEND, conn_, slot, session_.range(at, send_bytes));
}

void HonestStream::send() {
    for (uint64_t slot = 0; slot < slots; ++slot) {
        post_send(slot);
    }
    uint32_t outstanding = slots;
    while (outstanding > 0) {
        const flue_wc wc = session_.wait();
        if (wc.opcode != FLUE_OP_SEND) {
            continue;
        }
        if (wc.status != FLUE_SUCCESS) {
            failed_ = true;
        }
        if (stop_ || failed_) {
            --outstanding;
        } else {
            post_send(wc.wr_id);
        }
    }
}

void HonestStream::receive() {
    std::array<uint8_t, 64 * 1024> chunk;
    while (true) {
        pollfd entry{.fd = remote_.get(), .events = POLLIN, .revents = 0};
        if (::poll(&entry, 1, 100) == 0) {
            if (stop_ && failed_) {
                return;
            }
            continue;
        }
        const ssize_t got = ::recv(remote_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
        if (got <= 0) {
            saw_fin_ = got == 0;
            ::shutdown(remote_.get(), SHUT_WR);
            return;
        }
        const auto bytes = std::span<const uint8_t>(chunk).first(static_cast<size_t>(got));
        if (!pattern_.matches(received_, bytes)) {
            right_ = false;
        }
        received_ += bytes.size();
    }
}

HonestStream::Pace HonestStream::pace(std::chrono::milliseconds time) const {
    using Clock          = std::chrono::steady_clock;
    const auto start     = Clock::now();
    const uint64_t first = received_;
    auto last_progress   = start;
    uint64_t last        = first;
    Pace pace;
    while (Clock::now() - start < time) {
        std::this_thread::sleep_for(5ms);
        if (received_ != last) {
            last          = received_;
            last_progress = Clock::now();
        }
        pace.longest_gap = std::max(
            pace.longest_gap,
            std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - last_progress));
    }
    pace.bytes = last - first;
    return pace;
}

HonestStream::Result HonestStream::finish() {
    stop_ = true;
    sender_.join();
    session_.post(FLUE_OP_DISCONNECT, conn_, 1000);
    bool peer_fin = false;
    bool closed   = false;
    while (!peer_fin || !closed) {
        const flue_wc wc = session_.wait();
        closed           = closed || wc.opcode == FLUE_OP_DISCONNECT;
        peer_fin         = peer_fin || wc.opcode == FLUE_EVENT_DISCONNECT;
    }
    receiver_.join();
    session_.post(FLUE_OP_TERMINATE, conn_, 1001, session_.range(state_at, sizeof(flue_state)));
    flue_wc wc = session_.wait();
    while (wc.opcode != FLUE_OP_TERMINATE) {
        wc = session_.wait();
    }
    return {.bytes_right = right_ && !failed_ && received_ == posted_,
            .saw_fin     = saw_fin_,
            .terminated  = wc.status == FLUE_SUCCESS};
}

}  // namespace flue::hostile
