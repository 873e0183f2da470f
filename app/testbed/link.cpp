#include "testbed/link.hpp"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <span>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <utility>

#include "wire/frame.hpp"

namespace flue::testbed {
namespace {

constexpr size_t frame_bytes_max = 16 * 1024;
constexpr unsigned burst_max     = 64;

Descriptor make_tap(const Link::End& end) {
    return inside(end.place, [&] {
        Descriptor tap =
            owned(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "opening /dev/net/tun");
        ifreq request{};
        request.ifr_flags = IFF_TAP | IFF_NO_PI;
        std::snprintf(request.ifr_name, sizeof request.ifr_name, "%s", end.interface.c_str());
        if (::ioctl(tap.get(), TUNSETIFF, &request) != 0) {
            throw_errno("making the TAP " + end.interface);
        }
        return tap;
    });
}

bool may_be_harmed(std::span<const std::byte> bytes) {
    wire::Frame frame;
    return wire::parse_frame(bytes, wire::Checksum::trust, frame) == wire::ParseResult::tcp &&
           (frame.tcp.flags & wire::tcp_rst) == 0;
}

}  // namespace

Link::Link(const End& near, const End& far, uint64_t seed)
    : taps_{make_tap(near), make_tap(far)},
      lanes_{{{taps_[0].get(), taps_[1].get(), Prng(seed), {}},
              {taps_[1].get(), taps_[0].get(), Prng(seed + 1), {}}}},
      stop_(owned(::eventfd(0, EFD_CLOEXEC), "eventfd")),
      thread_([this] { run(); }) {
}

Link::~Link() {
    ::eventfd_write(stop_.get(), 1);
    thread_.join();
}

void Link::set(const LinkQuality& quality) {
    const std::lock_guard lock{mutex_};
    quality_ = quality;
    counts_  = {};
}

Link::Counts Link::counts() {
    const std::lock_guard lock{mutex_};
    return counts_;
}

void Link::run() {
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    for (;;) {
        timespec left{};
        const timespec* timeout = nullptr;
        if (!held_.empty()) {
            const auto ns = std::max<int64_t>(
                0, std::chrono::nanoseconds(held_.top().due - Clock::now()).count());
            left    = {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
            timeout = &left;
        }
        std::array<pollfd, 3> waiting{{{.fd = lanes_[0].in, .events = POLLIN, .revents = 0},
                                       {.fd = lanes_[1].in, .events = POLLIN, .revents = 0},
                                       {.fd = stop_.get(), .events = POLLIN, .revents = 0}}};
        ::ppoll(waiting.data(), waiting.size(), timeout, nullptr);
        if (waiting[2].revents != 0) {
            return;
        }
        const std::lock_guard lock{mutex_};
        for (auto& lane : lanes_) {
            take(lane);
        }
        send_due();
    }
}

void Link::take(Lane& lane) {
    std::array<std::byte, frame_bytes_max> frame;
    for (unsigned i = 0; i < burst_max; ++i) {
        const ssize_t got = ::read(lane.in, frame.data(), frame.size());
        if (got <= 0) {
            return;
        }
        take_one(lane, {frame.data(), frame.data() + got});
    }
}

void Link::take_one(Lane& lane, std::vector<std::byte> frame) {
    const auto now = Clock::now();
    const bool at_risk =
        quality_.loss_permille + quality_.late_permille > 0 && may_be_harmed(frame);
    // Drawn for each segment, so that the fate of the next ones does not hang on this one's.
    const bool lost = at_risk && lane.chance.chance(quality_.loss_permille, 1000);
    const bool late = at_risk && lane.chance.chance(quality_.late_permille, 1000);
    if (lost) {
        ++counts_.lost;
        return;
    }
    auto leaves = std::max(now, lane.idle_at);
    if (leaves - now > quality_.queue) {
        ++counts_.crowded;
        return;
    }
    if (quality_.bits_per_second != 0) {
        leaves +=
            std::chrono::nanoseconds(frame.size() * 8 * 1'000'000'000 / quality_.bits_per_second);
    }
    lane.idle_at = leaves;
    counts_.late += late ? 1 : 0;
    const auto due = leaves + quality_.delay + (late ? quality_.late_by : Clock::duration::zero());
    held_.push({due, ++taken_, lane.out, std::move(frame)});
}

void Link::send_due() {
    const auto now = Clock::now();
    while (!held_.empty() && held_.top().due <= now) {
        const Held& first = held_.top();
        ++counts_.carried;
        counts_.bytes_max = std::max<uint64_t>(counts_.bytes_max, first.frame.size());
        // A TAP that is down takes nothing, which is a loss like another.
        (void)!::write(first.out, first.frame.data(), first.frame.size());
        held_.pop();
    }
}

}  // namespace flue::testbed
