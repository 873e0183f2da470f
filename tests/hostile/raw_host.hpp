#pragma once

#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/prng.hpp"
#include "queue/host_rings.hpp"
#include "queue/queue_memory.hpp"
#include "queue/region_memory.hpp"
#include "queue/session_socket.hpp"

namespace flue::hostile {

using queue::Message;
using queue::MessageType;
using queue::SessionStatus;

/// RawHost speaks the session protocol message by message and keeps no rule of it.
class RawHost {
  public:
    explicit RawHost(const std::string& path) {
        auto connected = queue::connect_to(path.c_str());
        if (!connected.ok()) {
            throw std::runtime_error("no target");
        }
        socket_ = std::move(connected.value());
    }

    bool send(Message message, MessageType type, std::span<const int> fds = {}) {
        message.type = static_cast<uint16_t>(type);
        message.tag  = ++tag_;
        return queue::send_message(socket_.get(), message, fds).ok();
    }

    /// receive returns the next reply; nothing when the target has ended the session.
    std::optional<queue::Received> receive() {
        if (!queue::wait_readable(socket_.get(), 10'000)) {
            throw std::runtime_error("the target does not answer");
        }
        auto received = queue::receive_message(socket_.get());
        return received.ok() ? std::optional{std::move(received.value())} : std::nullopt;
    }

    std::optional<queue::Received> ask(const Message& message,
                                       MessageType type,
                                       std::span<const int> fds = {}) {
        return send(message, type, fds) ? receive() : std::nullopt;
    }

    std::optional<SessionStatus> status(const Message& message,
                                        MessageType type,
                                        std::span<const int> fds = {}) {
        const auto reply = ask(message, type, fds);
        return reply ? std::optional{static_cast<SessionStatus>(reply->message.status)}
                     : std::nullopt;
    }

    /// hello; false: there is no room for another session.
    bool hello() {
        const auto reply = ask({}, MessageType::hello);
        workers_         = reply ? reply->message.worker_count : 0;
        return workers_ > 0;
    }

    [[nodiscard]] uint32_t workers() const { return workers_; }

    [[nodiscard]] int fd() const { return socket_.get(); }

  private:
    UniqueFd socket_;
    uint32_t tag_     = 0;
    uint32_t workers_ = 0;
};

/// RawQueue is a host queue of which the shared memory can be written at will.
struct RawQueue {
    static constexpr uint32_t entries = 256;

    explicit RawQueue(RawHost& host) {
        Message request;
        request.submission_entries = entries;
        request.completion_entries = entries;
        auto reply                 = host.ask(request, MessageType::create_queue);
        if (!reply || reply->fd_count != 2) {
            throw std::runtime_error("no queue");
        }
        id     = reply->message.queue_id;
        memory = std::move(reply->fds[0]);
        wake   = std::move(reply->fds[1]);
        bytes  = reply->message.bytes;
        auto mapped =
            queue::map_queue_memory(memory.get(), {host.workers(), entries, entries}, bytes);
        if (!mapped.ok()) {
            throw std::runtime_error("the queue cannot be mapped");
        }
        rings = std::move(mapped.value());
    }

    /// post puts what fits into the ring of worker 0.
    void post(std::span<const flue_wr> requests) {
        [[maybe_unused]] const uint32_t posted = rings.submissions(0).enqueue(requests);
    }

    /// poll throws completions away, and returns how many had `status`.
    uint32_t poll(uint8_t status = FLUE_SUCCESS) {
        flue_wc wc[64];
        uint32_t found = 0;
        for (uint32_t got = rings.completions(0).dequeue(wc); got > 0;
             got          = rings.completions(0).dequeue(wc)) {
            for (uint32_t i = 0; i < got; ++i) {
                found += wc[i].status == status ? 1 : 0;
            }
        }
        return found;
    }

    uint32_t id = 0;
    UniqueFd memory;
    UniqueFd wake;
    uint64_t bytes = 0;
    queue::QueueRings rings;
};

/// RawRegion is a registered memory region.
struct RawRegion {
    RawRegion(RawHost& host, size_t size) {
        auto made = queue::HostRegion::create(size, -1);
        if (!made.ok()) {
            throw std::runtime_error("no memory");
        }
        memory = std::move(made.value());
        Message request;
        request.bytes    = size;
        const int fds[]  = {memory.fd.get()};
        const auto reply = host.ask(request, MessageType::register_region, fds);
        if (!reply || reply->message.status != 0) {
            throw std::runtime_error("no region");
        }
        key = reply->message.region_key;
    }

    queue::HostRegion memory;
    uint32_t key = 0;
};

}  // namespace flue::hostile
