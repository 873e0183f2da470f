#include "attacks.hpp"

#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <thread>
#include <unistd.h>

#include "base/crc32c.hpp"
#include "flue/flue.h"
#include "raw_host.hpp"

namespace flue::hostile {

namespace {

Prng& dice() {
    static Prng prng(static_cast<uint64_t>(::getpid()));
    return prng;
}

void expect(bool right, const char* what) {
    if (!right) {
        throw std::runtime_error(what);
    }
}

/// A host with a session, or nothing while the target has no room for one.
std::unique_ptr<RawHost> enter(const Prey& prey) {
    auto host = std::make_unique<RawHost>(prey.socket_path);
    return host->hello() ? std::move(host) : nullptr;
}

/// A session with a queue and a region that lasts as long as the attack.
struct Camp {
    explicit Camp(const Prey& prey) : host(prey.socket_path) {
        expect(host.hello(), "no session");
        queue  = std::make_unique<RawQueue>(host);
        region = std::make_unique<RawRegion>(host, region_bytes);
    }

    static constexpr size_t region_bytes = 1 << 20;

    RawHost host;
    std::unique_ptr<RawQueue> queue;
    std::unique_ptr<RawRegion> region;
};

Camp& camp(const Prey& prey) {
    static Camp made(prey);
    return made;
}

flue_state state_of(uint16_t local_port, uint16_t remote_port) {
    flue_state state{};
    state.family         = 4;
    state.local_port     = local_port;
    state.remote_port    = remote_port;
    state.local_addr[0]  = 10;
    state.local_addr[1]  = 9;
    state.local_addr[3]  = 1;
    state.remote_addr[0] = 10;
    state.remote_addr[1] = 9;
    state.remote_addr[3] = 2;
    state.remote_mss     = 1460;
    state.path_mtu       = 1500;
    state.ttl            = 64;
    state.rcv_wnd_max    = 65536;
    state.tcp_state      = FLUE_TCP_ESTABLISHED;
    state.rcv_wnd        = 65536;
    state.snd_wnd        = 65536;
    state.max_snd_wnd    = 65536;
    state.cwnd           = 65536;
    flue_state_seal(&state);
    return state;
}

flue_wr request(uint8_t opcode, flue_conn conn, const flue_sge& sge) {
    flue_wr wr{};
    wr.opcode    = opcode;
    wr.conn      = conn;
    wr.sge_count = 1;
    wr.sge[0]    = sge;
    return wr;
}

flue_wr any_request() {
    flue_wr wr{};
    auto* words = reinterpret_cast<uint64_t*>(&wr);
    for (size_t i = 0; i < sizeof(wr) / sizeof(uint64_t); ++i) {
        words[i] = dice().next();
    }
    wr.opcode    = static_cast<uint8_t>(dice().below(14));
    wr.sge_count = static_cast<uint8_t>(dice().below(4));
    wr.object    = static_cast<uint8_t>(dice().below(5));
    wr.flags &= 0x3f;
    return wr;
}

// ---------------------------------------------------------------- messages and descriptors

void torn_messages(const Prey& prey) {
    static constexpr size_t sizes[] = {0, 1, 127, 129, 4096, 65536};
    for (const size_t size : sizes) {
        const auto host = enter(prey);
        const std::vector<std::byte> bytes(size);
        if (host) {
            (void)::send(host->fd(), bytes.data(), size, MSG_NOSIGNAL);
            expect(!host->receive(), "a torn message was answered");
        }
    }
    for (uint16_t type = 0; type < 64; ++type) {
        RawHost host(prey.socket_path);  // not even a hello
        Message message;
        message.version = static_cast<uint16_t>(dice().next());
        (void)host.send(message, static_cast<MessageType>(type));
    }
}

void wrong_descriptors(const Prey& prey) {
    const auto host = enter(prey);
    if (!host) {
        return;
    }
    const UniqueFd unsealed(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    const UniqueFd sealed(::memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    expect(::ftruncate(unsealed.get(), 4096) == 0 && ::ftruncate(sealed.get(), 4096) == 0,
           "ftruncate");
    ::fcntl(sealed.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE);
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const UniqueFd zero(::open("/dev/zero", O_RDWR | O_CLOEXEC));
    const UniqueFd folder(::open("/", O_RDONLY | O_CLOEXEC));
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    for (const int fd : {unsealed.get(),
                         sealed.get(),
                         null.get(),
                         zero.get(),
                         folder.get(),
                         socket.get(),
                         host->fd()}) {
        for (const uint64_t bytes : {UINT64_C(0), UINT64_C(4096), UINT64_C(4097), UINT64_MAX}) {
            Message message;
            message.bytes   = bytes;
            const int fds[] = {fd};
            const auto is   = host->status(message, MessageType::register_region, fds);
            expect(is && *is != SessionStatus::ok, "a wrong descriptor was taken");
            const auto claimed = host->status(message, MessageType::claim, fds);
            expect(claimed && *claimed != SessionStatus::ok, "a wrong descriptor was a proof");
        }
    }
}

void descriptor_flood(const Prey& prey) {
    const auto host = enter(prey);
    if (!host) {
        return;
    }
    std::array<int, 253> fds;
    fds.fill(host->fd());
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(fds))] = {};
    Message message;
    message.type = static_cast<uint16_t>(MessageType::register_region);
    iovec data{&message, sizeof(message)};
    msghdr header{};
    header.msg_iov        = &data;
    header.msg_iovlen     = 1;
    header.msg_control    = control;
    header.msg_controllen = sizeof(control);
    cmsghdr* part         = CMSG_FIRSTHDR(&header);
    part->cmsg_level      = SOL_SOCKET;
    part->cmsg_type       = SCM_RIGHTS;
    part->cmsg_len        = CMSG_LEN(sizeof(fds));
    std::memcpy(CMSG_DATA(part), fds.data(), sizeof(fds));
    expect(::sendmsg(host->fd(), &header, MSG_NOSIGNAL) > 0, "sendmsg");
    expect(!host->receive(), "253 descriptors were answered");
}

/// A socket whose last close() waits for an hour: nobody reads what it has sent.
UniqueFd lingering_socket() {
    static const UniqueFd listener = [] {
        UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int small = 4096;
        ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
        sockaddr_in any{};
        any.sin_family      = AF_INET;
        any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        expect(::bind(fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)) == 0, "bind");
        expect(::listen(fd.get(), 4096) == 0, "listen");
        return fd;
    }();
    sockaddr_in name{};
    socklen_t length = sizeof(name);
    ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &length);
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int small = 4096;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    expect(::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), length) == 0, "connect");
    const std::vector<char> much(1 << 16);
    while (::send(fd.get(), much.data(), much.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    const linger hour{.l_onoff = 1, .l_linger = 3600};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &hour, sizeof(hour));
    return fd;
}

void lingering_descriptors(const Prey& prey) {
    const auto host = enter(prey);
    if (!host) {
        return;
    }
    const auto send_one = [&host](MessageType type) {
        const UniqueFd socket = lingering_socket();
        Message message;
        message.bytes = 4096;
        if (!host->send(message, type, std::array{socket.get()})) {
            queue::let_go(socket.get());  // nobody else has it: it is not to hold this process up
        }
    };
    send_one(MessageType::register_region);
    expect(host->receive().has_value(), "no answer");
    // And one that the target has not read yet when the session ends.
    send_one(MessageType::create_queue);
    send_one(MessageType::create_queue);
}

void silent_reader(const Prey& prey) {
    const auto host = enter(prey);
    if (!host) {
        return;
    }
    Message message;
    message.type = static_cast<uint16_t>(MessageType::destroy_queue);
    auto sent    = queue::send_message(host->fd(), message);
    while (sent.ok() || sent.error() == queue::SocketError::again) {
        sent = queue::send_message(host->fd(), message);
    }
}

void session_flood(const Prey& prey) {
    static std::vector<std::unique_ptr<RawHost>> silent;
    if (silent.size() > 200) {
        silent.clear();
    }
    silent.push_back(std::make_unique<RawHost>(prey.socket_path));
}

void queue_flood(const Prey& prey) {
    const auto host = enter(prey);
    if (!host) {
        return;
    }
    Message message;
    message.submission_entries = 8;
    message.completion_entries = 8;
    std::vector<uint32_t> ids;
    for (int i = 0; i < 24; ++i) {
        const auto reply = host->ask(message, MessageType::create_queue);
        expect(reply.has_value(), "no answer");
        if (reply->message.status == 0) {
            ids.push_back(reply->message.queue_id);
        }
    }
    expect(ids.size() <= 16, "more queues than allowed");
    for (const uint32_t id : ids) {
        message.queue_id = id;
        (void)host->status(message, MessageType::destroy_queue);
        (void)host->status(message, MessageType::destroy_queue);
    }
}

void region_flood(const Prey& prey) {
    const auto host = enter(prey);
    if (!host) {
        return;
    }
    Message message;
    message.bytes = 1;
    for (int i = 0; i < 1030; ++i) {
        auto made = queue::HostRegion::create(message.bytes, -1);
        expect(made.ok(), "no memory");
        const auto is =
            host->status(message, MessageType::register_region, std::array{made.value().fd.get()});
        expect(is.has_value(), "no answer");
        if (*is == SessionStatus::quota) {
            return;
        }
        expect(*is == SessionStatus::ok, "refused for another reason");
    }
    throw std::runtime_error("more regions than allowed");
}

// ---------------------------------------------------------------- shared memory

void random_requests(const Prey& prey) {
    Camp& mine = camp(prey);
    std::array<flue_wr, 64> batch;
    for (int round = 0; round < 64; ++round) {
        for (flue_wr& wr : batch) {
            wr = any_request();
        }
        mine.queue->post(batch);
        if (dice().below(4) != 0) {
            mine.queue->poll();
        }
    }
}

void requests_out_of_bounds(const Prey& prey) {
    Camp& mine             = camp(prey);
    const uint32_t key     = mine.region->key;
    const flue_sge wrong[] = {
        {key, sizeof(flue_state), Camp::region_bytes},
        {key, sizeof(flue_state), Camp::region_bytes - sizeof(flue_state) + 1},
        {key, UINT32_MAX, 0},
        {key, UINT32_MAX, UINT64_MAX},
        {key, sizeof(flue_state), UINT64_MAX - 8},
        {key + (1u << 16), sizeof(flue_state), 0},
        {key ^ 1, sizeof(flue_state), 0},
        {0, sizeof(flue_state), 0},
        {UINT32_MAX, sizeof(flue_state), 0},
    };
    for (const flue_sge& sge : wrong) {
        const flue_wr wr = request(FLUE_OP_HOLD, FLUE_NO_CONN, sge);
        mine.queue->post(std::span(&wr, 1));
    }
    expect(mine.queue->poll(FLUE_SUCCESS) == 0, "memory of nobody was read");
}

/// The requests change while the target copies them, and so does what they point to.
void changing_requests(const Prey& prey) {
    Camp& mine = camp(prey);
    const std::span<std::byte> slots(
        reinterpret_cast<std::byte*>(mine.queue->rings.submissions(0).get()),
        RawQueue::entries * sizeof(flue_wr));
    std::atomic<bool> stop = false;
    std::thread writer([&] {
        Prng prng(7);
        while (!stop) {
            // Behind head and tail words, which stay right.
            const size_t at = 384 + prng.below(static_cast<uint32_t>(slots.size()) - 384);
            slots[at]       = static_cast<std::byte>(prng.next());
            mine.region->memory.mapping.data()[prng.below(512)] =
                static_cast<std::byte>(prng.next());
        }
    });
    const flue_state state = state_of(4000, 5000);
    for (int i = 0; i < 2000; ++i) {
        std::memcpy(mine.region->memory.mapping.data(), &state, sizeof(state));
        const flue_wr wr =
            request(FLUE_OP_HOLD, FLUE_NO_CONN, {mine.region->key, sizeof(flue_state), 0});
        mine.queue->post(std::span(&wr, 1));
        mine.queue->poll();
    }
    stop = true;
    writer.join();
}

void scribbled_rings(const Prey& prey) {
    Camp& mine       = camp(prey);
    const auto words = [](rte_ring* ring) {
        // What is shared begins with the head and tail words.
        return std::span(reinterpret_cast<uint32_t*>(&ring->prod), 64);
    };
    for (int i = 0; i < 4096; ++i) {
        const bool submissions      = dice().below(2) == 0;
        auto shared                 = submissions ? words(mine.queue->rings.submissions(0).get())
                                                  : words(mine.queue->rings.completions(0).get());
        const auto value            = static_cast<uint32_t>(dice().next());
        shared[dice().below(64)]    = dice().below(2) == 0 ? value : value & 1023;
        *mine.queue->rings.armed(0) = value;
    }
}

/// Never sleeps but always asks to be woken, and never reads what wakes it.
void wake_flood(const Prey& prey) {
    Camp& mine = camp(prey);
    for (int i = 0; i < 4096; ++i) {
        *mine.queue->rings.armed(0) = 1;
        const flue_wr wr            = request(FLUE_OP_SEND, 0, {});
        mine.queue->post(std::span(&wr, 1));
        mine.queue->poll();
    }
}

void shrinking_region(const Prey& prey) {
    Camp& mine      = camp(prey);
    const int fd    = mine.region->memory.fd.get();
    const auto size = static_cast<off_t>(Camp::region_bytes);
    expect(::ftruncate(fd, 0) != 0, "a registered region was truncated");
    expect(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size) != 0,
           "a registered region got a hole");
    const flue_wr wr =
        request(FLUE_OP_HOLD, FLUE_NO_CONN, {mine.region->key, sizeof(flue_state), 4096});
    for (int i = 0; i < 256; ++i) {
        mine.queue->post(std::span(&wr, 1));
        ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size);
        ::madvise(mine.region->memory.mapping.data(), Camp::region_bytes, MADV_REMOVE);
        mine.queue->poll();
    }
}

// ---------------------------------------------------------------- others' connections

void foreign_handles(const Prey& prey) {
    Camp& mine        = camp(prey);
    const flue_sge at = {mine.region->key, sizeof(flue_state), 0};
    for (uint64_t delta = 0; delta < 32; ++delta) {
        // The victim's handle, its neighbours, and its earlier and later lives.
        for (const flue_conn conn : {prey.handle + delta,
                                     prey.handle - delta,
                                     prey.handle + (delta << 24),
                                     prey.handle - (delta << 24)}) {
            flue_wr abort       = request(FLUE_OP_DISCONNECT, conn, {});
            abort.flags         = FLUE_WR_ABORT;
            abort.sge_count     = 0;
            const flue_wr wrs[] = {abort,
                                   request(FLUE_OP_TERMINATE, conn, at),
                                   request(FLUE_OP_SEND, conn, at),
                                   request(FLUE_OP_RECV, conn, at),
                                   request(FLUE_OP_QUERY, conn, at),
                                   request(FLUE_OP_UPDATE, conn, at),
                                   request(FLUE_OP_INVALIDATE, conn, at),
                                   request(FLUE_OP_FORWARD, conn, at),
                                   request(FLUE_OP_OFFLOAD, conn, at),
                                   request(FLUE_OP_RELEASE, conn, {})};
            mine.queue->post(wrs);
            expect(mine.queue->poll(FLUE_SUCCESS) == 0, "another's connection obeyed");
        }
    }
}

void foreign_tuples(const Prey& prey) {
    Camp& mine = camp(prey);
    for (uint16_t i = 0; i < 8; ++i) {
        const uint16_t port    = i == 0 ? prey.local_port : static_cast<uint16_t>(20'000 + i);
        const flue_state state = state_of(port, prey.remote_port);
        std::memcpy(mine.region->memory.mapping.data(), &state, sizeof(state));
        const flue_sge at   = {mine.region->key, sizeof(flue_state), 0};
        const flue_wr wrs[] = {request(FLUE_OP_HOLD, FLUE_NO_CONN, at),
                               request(FLUE_OP_OFFLOAD, FLUE_NO_CONN, at)};
        mine.queue->post(wrs);
        while (mine.queue->rings.submissions(0).count() > 0) {
            std::this_thread::yield();
        }
        expect(mine.queue->poll(FLUE_SUCCESS) == 0, "a connection of nobody here was claimed");
    }
}

/// A connection between the victim's addresses, in a network of the attacker's own.
UniqueFd forged_socket() {
    static const bool moved = ::unshare(CLONE_NEWNET) == 0 &&
                              std::system(
                                  "ip link set lo up && ip address add 10.9.0.1/32 dev lo "
                                  "&& ip address add 10.9.0.2/32 dev lo") == 0;
    expect(moved, "no network of my own");
    sockaddr_in remote{};
    remote.sin_family = AF_INET;
    inet_pton(AF_INET, "10.9.0.2", &remote.sin_addr);
    static const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    static const bool listens =
        ::bind(listener.get(), reinterpret_cast<sockaddr*>(&remote), sizeof(remote)) == 0 &&
        ::listen(listener.get(), 4096) == 0;
    expect(listens, "listen");
    socklen_t length = sizeof(remote);
    ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&remote), &length);
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    expect(::connect(fd.get(), reinterpret_cast<sockaddr*>(&remote), length) == 0, "connect");
    return fd;
}

void forged_proofs(const Prey& prey) {
    const auto host = enter(prey);
    if (!host) {
        return;
    }
    const UniqueFd forged = forged_socket();
    for (int i = 0; i < 16; ++i) {
        const auto is = host->status({}, MessageType::claim, std::array{forged.get()});
        expect(is == SessionStatus::bad_socket, "a forged socket was a proof");
    }
}

/// Claims all it can get, and leaves it lying.
void hold_flood(const Prey& prey) {
    Camp& mine           = camp(prey);
    static uint16_t port = 1;
    for (int i = 0; i < 512; ++i) {
        const flue_state state = state_of(port++, 7);
        const auto slot        = static_cast<uint64_t>(i) * 512;
        std::memcpy(mine.region->memory.mapping.data() + slot, &state, sizeof(state));
        const flue_wr wr =
            request(FLUE_OP_HOLD, FLUE_NO_CONN, {mine.region->key, sizeof(flue_state), slot});
        mine.queue->post(std::span(&wr, 1));
        mine.queue->poll();
    }
}

constexpr Attack attacks[] = {
    {"torn_messages", "sessions_ended_by_mistake", false, torn_messages},
    {"wrong_descriptors", "message_bad_descriptor", false, wrong_descriptors},
    {"descriptor_flood", "sessions_ended_by_mistake", false, descriptor_flood},
    {"lingering_descriptors", "message_bad_descriptor", false, lingering_descriptors},
    {"silent_reader", "sessions_ended_by_mistake", false, silent_reader},
    {"session_flood", "sessions_refused", false, session_flood},
    {"queue_flood", "message_quota", false, queue_flood},
    {"region_flood", "message_quota", false, region_flood},
    {"random_requests", "bad_request", false, random_requests},
    {"requests_out_of_bounds", "bad_region", false, requests_out_of_bounds},
    {"changing_requests", "not_permitted", false, changing_requests},
    {"scribbled_rings", "bad_connection", false, scribbled_rings},
    {"wake_flood", "bad_connection", false, wake_flood},
    {"shrinking_region", "bad_state", false, shrinking_region},
    {"foreign_handles", "bad_connection", false, foreign_handles},
    {"foreign_tuples", "not_permitted", false, foreign_tuples},
    {"forged_proofs", "message_bad_socket", false, forged_proofs},
    {"raw_random_requests", "bad_request", true, random_requests},
    {"raw_hold_flood", "quota", true, hold_flood},
};

}  // namespace

std::span<const Attack> all_attacks() {
    return attacks;
}

}  // namespace flue::hostile
