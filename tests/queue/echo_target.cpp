// A target without TCP: it serves sessions, queues and regions with the real lib/queue and answers
// each request from what the request itself says, so that tests of the host's side can tell right
// answers from wrong ones.
//
//   HOLD, OFFLOAD   owned by worker host_handle % workers; others answer NOT_OWNER
//   SEND            bytes = their number, info = the low half of their CRC-32C
//   DISCONNECT      as SEND, and an EVENT_DISCONNECT follows
//   RECV            fills the buffer with the low byte of wr_id
//   QUERY           kept, with a reference to its region, until the next RELEASE at the same
//   worker; then both complete
//
// Usage: queue-echo-target SOCKET WORKERS.  Prints a line when it listens.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "base/crc32c.hpp"
#include "queue/queue_memory.hpp"
#include "queue/region_memory.hpp"
#include "queue/regions.hpp"
#include "queue/session_socket.hpp"
#include "queue/target_queue.hpp"

namespace flue::queue {
namespace {

/// Worker is one worker's end of one queue and what it has not answered yet.
struct Worker {
    Worker(const TargetQueue::Parts& parts, uint32_t worker, uint32_t workers)
        : queue(parts), index(worker), worker_count(workers) {}

    TargetQueue queue;
    uint32_t index;
    uint32_t worker_count;
    std::vector<flue_wr> kept;
    std::deque<flue_wc> events;

    /// turn returns how many requests it took.
    uint32_t turn();
    void answer(const flue_wr& wr);
    void claim(const flue_wr& wr, flue_wc& wc) const;
    void transfer(const flue_wr& wr, flue_wc& wc);
    void release_kept();
};

uint32_t Worker::turn() {
    flue_wr burst[32];
    const uint32_t count = queue.take(burst);
    for (const flue_wr& wr : std::span(burst, count)) {
        answer(wr);
    }
    while (!events.empty() && queue.post_event(events.front())) {
        events.pop_front();
    }
    queue.flush();
    return count;
}

void Worker::answer(const flue_wr& wr) {
    flue_wc wc{};
    wc.wr_id  = wr.wr_id;
    wc.conn   = wr.conn;
    wc.opcode = wr.opcode;
    switch (wr.opcode) {
        case FLUE_OP_HOLD:
        case FLUE_OP_OFFLOAD:
            claim(wr, wc);
            break;
        case FLUE_OP_SEND:
        case FLUE_OP_DISCONNECT:
        case FLUE_OP_RECV:
            transfer(wr, wc);
            break;
        case FLUE_OP_QUERY:
            if (queue.regions().resolve(wr.sge[0])) {
                queue.regions().acquire(wr.sge[0].mr, index);
                kept.push_back(wr);
                return;
            }
            wc.status = FLUE_BAD_REGION;
            break;
        case FLUE_OP_RELEASE:
            release_kept();
            break;
        case FLUE_OP_TERMINATE:
            break;
        default:
            wc.status = FLUE_BAD_OPCODE;
            break;
    }
    queue.complete(wc);
    if (wr.opcode == FLUE_OP_DISCONNECT) {
        flue_wc event{};
        event.conn   = wr.conn;
        event.opcode = FLUE_EVENT_DISCONNECT;
        events.push_back(event);
    }
}

void Worker::claim(const flue_wr& wr, flue_wc& wc) const {
    const auto owner = static_cast<uint32_t>(wr.host_handle % worker_count);
    wc.host_handle   = wr.host_handle;
    if (owner != index) {
        wc.status = FLUE_NOT_OWNER;
        wc.info   = static_cast<uint16_t>(owner);
        return;
    }
    wc.conn = uint64_t{index} << 56 | uint64_t{1} << 24 | (wr.host_handle & 0xffffff);
}

void Worker::transfer(const flue_wr& wr, flue_wc& wc) {
    std::vector<std::byte> bytes;
    for (uint32_t i = 0; i < wr.sge_count && i < FLUE_SGE_MAX; ++i) {
        const auto range = queue.regions().resolve(wr.sge[i]);
        if (!range) {
            wc.status = FLUE_BAD_REGION;
            return;
        }
        if (wr.opcode == FLUE_OP_RECV) {
            std::memset(range->data, static_cast<int>(wr.wr_id & 0xff), wr.sge[i].length);
        }
        bytes.insert(bytes.end(), range->data, range->data + wr.sge[i].length);
    }
    wc.bytes = static_cast<uint32_t>(bytes.size());
    wc.info  = static_cast<uint16_t>(crc32c(bytes));
}

void Worker::release_kept() {
    for (const flue_wr& wr : kept) {
        queue.regions().release(wr.sge[0].mr, index);
        flue_wc wc{};
        wc.wr_id  = wr.wr_id;
        wc.conn   = wr.conn;
        wc.opcode = wr.opcode;
        queue.complete(wc);
    }
    kept.clear();
}

struct HostQueue {
    TargetQueueMemory memory;
    std::list<Worker> workers;
};

/// EchoSession serves one host.
class EchoSession {
  public:
    EchoSession(UniqueFd socket, uint32_t workers)
        : socket_(std::move(socket)), workers_(workers), regions_(64, workers) {}

    /// turn returns false when the session has ended.
    bool turn();

    [[nodiscard]] uint64_t requests() const { return requests_; }

  private:
    bool serve(Received& request);
    bool create_queue(Message& reply);
    void register_region(Message& reply, int memfd);
    bool try_deregister(const Message& request);

    bool send(const Message& reply, std::span<const int> fds = {}) const {
        return send_message(socket_.get(), reply, fds).ok();
    }

    UniqueFd socket_;
    uint32_t workers_;
    Regions regions_;
    std::map<uint32_t, TargetRegion> mapped_;
    std::map<uint32_t, HostQueue> queues_;
    std::vector<Message> deregistering_;
    uint32_t next_queue_ = 1;
    uint32_t turns_      = 0;
    uint64_t requests_   = 0;
};

bool EchoSession::turn() {
    for (auto& [id, queue] : queues_) {
        for (Worker& worker : queue.workers) {
            requests_ += worker.turn();
        }
    }
    std::erase_if(deregistering_, [&](const Message& request) { return try_deregister(request); });
    if (++turns_ % 64 != 0) {
        return true;
    }
    auto received = receive_message(socket_.get());
    return received.ok() ? serve(received.value()) : received.error() == SocketError::again;
}

bool EchoSession::serve(Received& request) {
    Message reply = request.message;
    switch (static_cast<MessageType>(reply.type)) {
        case MessageType::hello:
            reply.worker_count = workers_;
            return send(reply);
        case MessageType::create_queue:
            return create_queue(reply);
        case MessageType::destroy_queue:
            queues_.erase(reply.queue_id);
            return send(reply);
        case MessageType::register_region:
            register_region(reply, request.fds[0].get());
            return send(reply);
        case MessageType::deregister_region:
            if (!regions_.close(reply.region_key)) {
                reply.status = static_cast<uint16_t>(SessionStatus::bad_key);
                return send(reply);
            }
            deregistering_.push_back(reply);
            return true;
        case MessageType::goodbye:
        case MessageType::claim:
        case MessageType::drain:
        case MessageType::reattach:
        case MessageType::recover_queue:
        case MessageType::recover_region:
            return false;
    }
    return false;
}

bool EchoSession::create_queue(Message& reply) {
    const QueueGeometry geometry{workers_, reply.submission_entries, reply.completion_entries};
    auto memory = TargetQueueMemory::create(geometry);
    if (!memory.ok()) {
        reply.status = static_cast<uint16_t>(SessionStatus::no_memory);
        return send(reply);
    }
    reply.queue_id   = next_queue_++;
    HostQueue& queue = queues_[reply.queue_id];
    queue.memory     = std::move(memory.value());
    for (uint32_t worker = 0; worker < workers_; ++worker) {
        TargetQueue::Parts parts = queue.memory.parts(worker);
        parts.regions            = &regions_;
        queue.workers.emplace_back(parts, worker, workers_);
    }
    reply.bytes = queue.memory.bytes();
    const int fds[]{queue.memory.memory_fd(), queue.memory.host_wake_fd()};
    const bool sent = send(reply, fds);
    queue.memory.close_host_wake();
    return sent;
}

void EchoSession::register_region(Message& reply, int memfd) {
    auto mapped = TargetRegion::map(memfd, reply.bytes);
    if (!mapped.ok()) {
        reply.status = static_cast<uint16_t>(mapped.error());
        return;
    }
    const auto key = regions_.add({mapped.value().mapping.data(), mapped.value().bytes, false});
    if (!key) {
        reply.status = static_cast<uint16_t>(SessionStatus::quota);
        return;
    }
    reply.region_key = *key;
    mapped_.emplace(*key, std::move(mapped.value()));
}

bool EchoSession::try_deregister(const Message& request) {
    for (uint32_t worker = 0; worker < workers_; ++worker) {
        if (regions_.references(request.region_key, worker) != 0) {
            return false;
        }
    }
    (void)regions_.remove(request.region_key);
    mapped_.erase(request.region_key);
    (void)send(request);
    return true;
}

using Sessions = std::list<std::unique_ptr<EchoSession>>;

uint64_t requests(const Sessions& sessions) {
    uint64_t sum = 0;
    for (const auto& session : sessions) {
        sum += session->requests();
    }
    return sum;
}

int serve(const char* path, uint32_t workers) {
    auto listener = listen_at(path, 0600);
    if (!listener.ok()) {
        std::fprintf(
            stderr, "%s: %s\n", listener.error().call, std::strerror(listener.error().code));
        return 1;
    }
    std::puts("listening");
    std::fflush(stdout);
    Sessions sessions;
    while (true) {
        UniqueFd accepted(::accept4(listener.value().get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (accepted.valid()) {
            sessions.push_back(std::make_unique<EchoSession>(std::move(accepted), workers));
        }
        const uint64_t before = requests(sessions);
        for (int turn = 0; turn < 256; ++turn) {
            std::erase_if(sessions, [](auto& session) { return !session->turn(); });
        }
        // No real target sleeps, but here many tests share few cores.
        if (requests(sessions) == before) {
            ::usleep(20);
        }
    }
}

}  // namespace
}  // namespace flue::queue

int main(int argc, char** argv) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s SOCKET WORKERS\n", argv[0]);
        return 2;
    }
    return flue::queue::serve(argv[1], static_cast<uint32_t>(std::strtoul(argv[2], nullptr, 10)));
}
