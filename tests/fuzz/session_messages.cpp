// A session of the control thread on a socket pair: messages of any size and content with any
// descriptors, and a host that hangs up at any point.  Its workers are played by answers as
// worker_messages.cpp gives them, late ones too.  No descriptor stays behind.

#include <deque>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <set>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_log.h>

#include "input.hpp"
#include "queue/mapping.hpp"
#include "target/session.hpp"
#include "target/socket_proof.hpp"

namespace {

using namespace flue;
using namespace flue::target;
using fuzz::Input;
using queue::Message;
using queue::MessageType;

constexpr uint32_t steps_max    = 100;
constexpr uint32_t workers      = 2;
constexpr uint32_t lane_entries = 64;
constexpr size_t lane_bytes     = 16384;
static_assert(lane_entries * sizeof(ControlMessage) < lane_bytes / 2);

/// Two rings a worker, in memory that lives as long as the process.
class AllLanes {
  public:
    AllLanes() {
        for (queue::RingMapping& ring : rings_) {
            const UniqueFd memory(::memfd_create("lane", MFD_CLOEXEC));
            FLUE_ASSERT(::ftruncate(memory.get(), lane_bytes) == 0);
            ring = std::move(
                queue::RingMapping::map(memory.get(), 0, lane_bytes, lane_entries).value());
            ring.initialise_shared();
        }
        for (uint32_t worker = 0; worker < workers; ++worker) {
            lanes_[worker].requests = queue::Ring<ControlMessage>(rings_[2 * worker].ring());
            lanes_[worker].replies  = queue::Ring<ControlMessage>(rings_[2 * worker + 1].ring());
        }
    }

    [[nodiscard]] std::span<const Lanes> all() const { return lanes_; }

  private:
    std::array<queue::RingMapping, 2 * workers> rings_;
    std::array<Lanes, workers> lanes_;
};

/// What a worker does with the control thread's messages, as far as that can see it.
class StandIn {
  public:
    explicit StandIn(const Lanes& lanes) : lanes_(lanes) {}

    void take() {
        std::array<ControlMessage, 8> messages;
        const uint32_t count = lanes_.requests.dequeue(messages);
        for (const ControlMessage& message : std::span{messages}.first(count)) {
            if (message.kind == ControlMessage::Kind::attach) {
                FLUE_ASSERT(attached_.insert(message.queue).second);
            } else if (message.kind == ControlMessage::Kind::reattach) {
                FLUE_ASSERT(attached_.contains(message.queue));
            } else {
                answers_.push_back(message);
            }
        }
    }

    /// answer sends back the oldest that it owes.
    void answer(flue_status status) {
        if (answers_.empty()) {
            return;
        }
        ControlMessage message = answers_.front();
        message.status         = status;
        if (message.kind == ControlMessage::Kind::lose) {
            FLUE_ASSERT(attached_.erase(message.queue) == 1);
        }
        if (lanes_.replies.enqueue({&message, 1}) == 1) {
            answers_.pop_front();
        }
    }

    [[nodiscard]] bool idle() const { return attached_.empty() && answers_.empty(); }

  private:
    Lanes lanes_;
    std::set<queue::TargetQueue*> attached_;
    std::deque<ControlMessage> answers_;
};

std::pair<UniqueFd, UniqueFd> socket_pair() {
    int ends[2] = {-1, -1};
    FLUE_ASSERT(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) == 0);
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

uint32_t descriptor_count() {
    DIR* directory = ::opendir("/proc/self/fd");
    FLUE_ASSERT(directory != nullptr);
    uint32_t count = 0;
    while (::readdir(directory) != nullptr) {
        ++count;
    }
    ::closedir(directory);
    return count;
}

Options small_options() {
    Options options;
    options.hold_ms             = 60'000;
    options.quotas.queues       = 2;
    options.quotas.regions      = 2;
    options.quotas.region_bytes = 1 << 16;
    options.quotas.ring_entries = 32;
    return options;
}

class Script {
  public:
    Script(Input& in, std::span<const Lanes> lanes)
        : in_(in), mail_(lanes), stand_ins_{StandIn(lanes[0]), StandIn(lanes[1])} {
        parts_.id           = 7;
        parts_.options      = &options_;
        parts_.dma          = &dma_;
        parts_.mail         = &mail_;
        parts_.worker_nodes = nodes_;
        parts_.peer         = {::getpid(), ::getuid(), ::getgid()};
        parts_.steering     = &steering_;
        parts_.network      = own_network();
        auto [host, target] = socket_pair();
        host_               = std::move(host);
        session_            = std::make_unique<Session>(parts_, std::move(target));
    }

    void run() {
        for (uint32_t step = 0; step < steps_max && !in_.empty(); ++step) {
            act();
            turn();
        }
        hang_up();
        for (uint32_t i = 0; i < 200 && !session_->finished(); ++i) {
            work(FLUE_SUCCESS);
            turn();
            session_->on_time(Session::Clock::now() + std::chrono::hours{2400});
        }
        FLUE_ASSERT(session_->finished());
        for (uint32_t i = 0; i < 200 && mail_.unanswered() > 0; ++i) {
            work(FLUE_SUCCESS);
            turn();
        }
        FLUE_ASSERT(mail_.unanswered() == 0);
        FLUE_ASSERT(stand_ins_[0].idle() && stand_ins_[1].idle());
        session_.reset();
    }

  private:
    void act() {
        switch (in_.below(12)) {
            case 0:
            case 1:
            case 2:
            case 3:
                return send(any_message());
            case 4:
                return send_bytes();
            case 5:
            case 6:
                return session_->serve();
            case 7:
                return receive();
            case 8:
                return in_.flag() ? hang_up() : come_back();
            default:
                return work(in_.pick({FLUE_SUCCESS, FLUE_QUOTA, FLUE_TUPLE_IN_USE}));
        }
    }

    /// One turn of the control thread.
    void turn() {
        mail_.flush();
        for (uint32_t worker = 0; worker < workers; ++worker) {
            std::array<ControlMessage, 8> answers;
            const uint32_t count = mail_.take(worker, answers);
            for (const ControlMessage& answer : std::span{answers}.first(count)) {
                session_->on_answer(answer);
            }
        }
        if (session_->is_guest()) {
            session_->turn_away();
        }
        session_->check();
        mail_.flush();
    }

    void work(flue_status status) {
        for (StandIn& worker : stand_ins_) {
            worker.take();
            worker.answer(status);
        }
    }

    // ---------------------------------------------------------------- the host

    Message any_message() {
        Message message;
        message.type = in_.below(14);
        if (in_.byte() > 250) {
            in_.fill(message);
        }
        message.host_loss          = in_.pick({0U, 1U, 2U, 77U});
        message.queue_id           = in_.below(4);
        message.submission_entries = in_.pick({8U, 16U, 0U, 9U, 65536U, UINT32_MAX});
        message.completion_entries = in_.pick({8U, 32U, 0U, 64U, 65536U});
        message.region_key         = in_.flag() ? region_key_ : in_.number<uint32_t>();
        message.bytes              = in_.pick({4096UL, 8192UL, 0UL, 1UL << 40, 1UL << 16, ~0UL});
        message.name[0]            = static_cast<char>(in_.byte());
        return message;
    }

    UniqueFd any_descriptor() {
        const uint8_t kind = in_.below(8);
        if (kind == 0) {
            return UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC));
        }
        if (kind == 1) {
            return UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        }
        if (kind == 2) {
            return UniqueFd(::dup(host_.valid() ? host_.get() : STDERR_FILENO));
        }
        UniqueFd memory(::memfd_create("region", MFD_CLOEXEC | MFD_ALLOW_SEALING));
        FLUE_ASSERT(::ftruncate(memory.get(), kind == 3 ? 100 : 8192) == 0);
        const int seals = kind == 4 ? F_SEAL_GROW : F_SEAL_SHRINK | (kind == 5 ? F_SEAL_WRITE : 0);
        FLUE_ASSERT(::fcntl(memory.get(), F_ADD_SEALS, seals) == 0);
        return memory;
    }

    /// The descriptors that its type takes, or 0 to 3 of any.
    void send(Message message) {
        const auto type     = static_cast<MessageType>(message.type);
        const bool takes_fd = type == MessageType::register_region || type == MessageType::claim;
        const uint8_t count = in_.byte();
        send_with({reinterpret_cast<const std::byte*>(&message), sizeof(message)},
                  count < 200 ? (takes_fd ? 1 : 0) : count % 4);
    }

    void send_bytes() {
        const auto bytes = std::as_bytes(in_.take(in_.byte()));
        send_with(bytes, in_.below(4));
    }

    void send_with(std::span<const std::byte> bytes, uint32_t fd_count) {
        std::array<UniqueFd, 3> owned;
        std::array<int, 3> fds{};
        for (uint32_t i = 0; i < fd_count; ++i) {
            owned[i] = any_descriptor();
            fds[i]   = owned[i].get();
        }
        if (!host_.valid()) {
            return;
        }
        std::array<std::byte, 256> copy{};
        std::ranges::copy(bytes, copy.begin());
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(fds))] = {};
        iovec data{copy.data(), bytes.size()};
        msghdr header{};
        header.msg_iov    = &data;
        header.msg_iovlen = 1;
        if (fd_count > 0) {
            header.msg_control    = control;
            header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
            cmsghdr* part         = CMSG_FIRSTHDR(&header);
            part->cmsg_level      = SOL_SOCKET;
            part->cmsg_type       = SCM_RIGHTS;
            part->cmsg_len        = CMSG_LEN(fd_count * sizeof(int));
            std::memcpy(CMSG_DATA(part), fds.data(), fd_count * sizeof(int));
        }
        (void)!::sendmsg(host_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    }

    void receive() {
        if (!host_.valid()) {
            return;
        }
        const auto received = queue::receive_message(host_.get());
        if (!received.ok()) {
            FLUE_ASSERT(received.error() != queue::SocketError::malformed);
            return;
        }
        const Message& reply = received.value().message;
        FLUE_ASSERT(reply.version == queue::session_protocol_version);
        if (reply.status == 0 && static_cast<MessageType>(reply.type) == MessageType::hello) {
            token_ = reply.token;
        }
        if (reply.status == 0 && reply.region_key != 0) {
            region_key_ = reply.region_key;
        }
        if (fuzz::canary && received.value().fd_count > 0) {
            (void)!::dup(received.value().fds[0].get());
        }
    }

    void hang_up() {
        if (host_.valid()) {
            host_.reset();
            session_->hang_up();
        }
    }

    /// A next host shows a token, the right one or another, on a socket of its own.
    void come_back() {
        auto [host, target] = socket_pair();
        Session guest(parts_, std::move(target));
        Message knock;
        knock.type     = static_cast<uint16_t>(MessageType::reattach);
        knock.token    = token_;
        knock.token[0] = static_cast<uint8_t>(knock.token[0] ^ (in_.byte() > 200 ? 1 : 0));
        FLUE_ASSERT(queue::send_message(host.get(), knock).ok());
        guest.serve();
        if (!guest.is_guest()) {
            return;
        }
        if (!session_->knows(guest)) {
            return guest.turn_away();
        }
        const bool was_held = session_->is_held();
        session_->let_in(guest);
        if (was_held) {
            FLUE_ASSERT(!session_->is_held());
            host_ = std::move(host);
        }
    }

    Input& in_;
    Session::Parts parts_;
    queue::Token token_{};
    Options options_ = small_options();
    DmaMapper dma_{{}};
    WorkerMail mail_;
    std::array<StandIn, workers> stand_ins_;
    std::array<int, workers> nodes_{-1, -1};
    Steering steering_{workers, Steering::buckets_software};
    UniqueFd host_;
    uint32_t region_key_ = 0;
    std::unique_ptr<Session> session_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const AllLanes lanes;
    rte_log_set_global_level(RTE_LOG_EMERG);
    const uint32_t before = descriptor_count();
    Input in({data, size});
    Script(in, lanes.all()).run();
    FLUE_ASSERT(descriptor_count() == before);
    return 0;
}
