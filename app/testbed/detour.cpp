#include "testbed/detour.hpp"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "testbed/packet_socket.hpp"

namespace flue::testbed {

using Clock = std::chrono::steady_clock;

Detour::Detour(const Namespace& place,
               const std::array<Way, 2>& ways,
               std::chrono::microseconds delay)
    : delay_(delay), stop_(owned(::eventfd(0, EFD_CLOEXEC), "eventfd")) {
    const NamespaceScope scope{place};
    for (size_t i = 0; i < ways.size(); ++i) {
        lanes_[i] = {.in  = packet_socket(ways[i].from, Listen::yes),
                     .out = packet_socket(ways[i].to, Listen::no)};
    }
    thread_ = std::thread([this] { run(); });
}

Detour::~Detour() {
    ::eventfd_write(stop_.get(), 1);
    thread_.join();
}

int Detour::wait_ms() const {
    if (held_.empty()) {
        return -1;
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(held_.front().due - Clock::now()).count();
    return left > 0 ? static_cast<int>(left) : 0;
}

void Detour::run() {
    for (;;) {
        std::array<pollfd, 3> waiting{{{.fd = lanes_[0].in.get(), .events = POLLIN, .revents = 0},
                                       {.fd = lanes_[1].in.get(), .events = POLLIN, .revents = 0},
                                       {.fd = stop_.get(), .events = POLLIN, .revents = 0}}};
        ::poll(waiting.data(), waiting.size(), wait_ms());
        if (waiting[2].revents != 0) {
            return;
        }
        for (const auto& lane : lanes_) {
            take(lane);
        }
        send_due();
    }
}

void Detour::take(const Lane& lane) {
    std::vector<std::byte> frame(65536);
    sockaddr_ll from{};
    socklen_t from_bytes = sizeof from;
    ssize_t got          = 0;
    while ((got = ::recvfrom(lane.in.get(),
                             frame.data(),
                             frame.size(),
                             MSG_DONTWAIT,
                             reinterpret_cast<sockaddr*>(&from),
                             &from_bytes)) > 0) {
        if (from.sll_pkttype != PACKET_OUTGOING) {
            const auto* begin = frame.data();
            held_.push_back(
                {.due = Clock::now() + delay_, .lane = &lane, .frame = {begin, begin + got}});
        }
    }
}

void Detour::send_due() {
    while (!held_.empty() && held_.front().due <= Clock::now()) {
        const auto& [due, lane, frame] = held_.front();
        ::send(lane->out.get(), frame.data(), frame.size(), 0);
        held_.pop_front();
    }
}

}  // namespace flue::testbed
