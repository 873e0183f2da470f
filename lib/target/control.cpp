#include "target/control.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <csignal>
#include <cstring>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include <rte_lcore.h>

#include "base/assert.hpp"
#include "target/log.hpp"
#include "target/socket_proof.hpp"

namespace flue::target {

using queue::SessionStatus;

namespace {

constexpr int poll_interval_ms      = 2;
constexpr uint32_t accepts_per_turn = 16;

bool watch(int epoll, int operation, int fd, uint32_t events, void* source) {
    epoll_event event{};
    event.events   = events | EPOLLRDHUP;
    event.data.ptr = source;
    return epoll_ctl(epoll, operation, fd, &event) == 0;
}

/// Sessions cost descriptors, and the usual soft limit is a twentieth of the hard one.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        // A wish: with less, fewer regions can be had.
        (void)::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

bool cannot(const char* what) {
    FLUE_LOG(ERR, "cannot %s: %s", what, std::strerror(errno));
    return false;
}

}  // namespace

Control::Control(const Parts& parts)
    : parts_(parts), dma_(parts.ports), network_(own_network()), mail_(parts.lanes) {
}

Control::~Control() {
    FLUE_ASSERT(!running_);
    if (listener_.valid()) {
        ::unlink(parts_.options->socket_path.c_str());
    }
}

bool Control::start() {
    raise_descriptor_limit();
    const std::string& path        = parts_.options->socket_path;
    const Permissions& permissions = parts_.options->permissions;
    std::optional<gid_t> group;
    if (!permissions.socket_group.empty()) {
        group = find_group(permissions.socket_group);
        if (!group) {
            FLUE_LOG(ERR, "--socket-group: no group %s", permissions.socket_group.c_str());
            return false;
        }
    }
    auto listener = queue::listen_at(path.c_str(), permissions.socket_mode, group);
    if (!listener.ok()) {
        FLUE_LOG(ERR,
                 "cannot listen at %s: %s; choose another --socket, or end the flued that has it",
                 path.c_str(),
                 std::strerror(listener.error().code));
        return false;
    }
    listener_ = std::move(listener.value());
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    signals_ = UniqueFd{signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK)};
    epoll_   = UniqueFd{epoll_create1(EPOLL_CLOEXEC)};
    if (!signals_.valid() || !epoll_.valid() ||
        !watch(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), EPOLLIN, &listener_) ||
        !watch(epoll_.get(), EPOLL_CTL_ADD, signals_.get(), EPOLLIN, &signals_)) {
        return cannot("set up the control thread");
    }
    // Not where a worker polls, if there is another CPU: hosts can keep this thread busy.
    const auto body = [](void* control) -> void* {
        static_cast<Control*>(control)->run();
        return nullptr;
    };
    running_ = rte_ctrl_thread_create(&thread_, "flue-control", nullptr, body, this) == 0;
    if (!running_) {
        return cannot("start the control thread");
    }
    FLUE_LOG(INFO, "sessions at %s", path.c_str());
    return true;
}

void Control::join() {
    if (std::exchange(running_, false)) {
        pthread_join(thread_, nullptr);
    }
}

Control::Usage Control::usage() const {
    return {session_count_.load(std::memory_order_relaxed),
            queue_count_.load(std::memory_order_relaxed),
            region_count_.load(std::memory_order_relaxed),
            held_count_.load(std::memory_order_relaxed),
            wrong_tokens_.load(std::memory_order_relaxed)};
}

void Control::run() {
    std::array<epoll_event, 16> events;
    while (!parts_.stop->load(std::memory_order_relaxed)) {
        const int count =
            epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), wait_ms());
        const std::lock_guard lock{mutex_};
        turn(std::span{events}.first(static_cast<size_t>(std::max(count, 0))));
    }
}

void Control::turn(std::span<const epoll_event> events) {
    for (const epoll_event& event : events) {
        serve(event.events, event.data.ptr);
    }
    mail_.flush();
    take_answers();
    answer_guests();
    const auto now = Session::Clock::now();
    for (Session& session : sessions_) {
        session.check();
        session.on_time(now);
    }
    mail_.flush();
    end_finished();
    if (ending_ && parts_.drains->finished()) {
        parts_.stop->store(true, std::memory_order_relaxed);
    }
    listen_or_wait();
    publish_usage();
}

int Control::wait_ms() const {
    if (ending_ || mail_.unanswered() > 0 || std::ranges::any_of(sessions_, &Session::waiting)) {
        return poll_interval_ms;
    }
    std::optional<Session::Clock::time_point> first;
    for (const Session& session : sessions_) {
        if (const auto due = session.deadline(); due && (!first || *due < *first)) {
            first = due;
        }
    }
    if (!first) {
        return -1;
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(*first - Session::Clock::now()).count();
    return static_cast<int>(std::clamp<int64_t>(left, 0, INT32_MAX));
}

std::vector<Session::Report> Control::reports(uint32_t from, size_t count) {
    const std::lock_guard lock{mutex_};
    std::vector<Session::Report> result;
    for (const Session& session : sessions_) {
        if (session.id() >= from && result.size() < count) {
            result.push_back(session.report());
        }
    }
    return result;
}

void Control::serve(uint32_t events, void* source) {
    if (source == &signals_) {
        signalfd_siginfo signal{};
        (void)!::read(signals_.get(), &signal, sizeof(signal));
        begin_to_end();
    } else if (source == &listener_) {
        accept_sessions();
    } else {
        auto& session = *static_cast<Session*>(source);
        (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0 ? session.hang_up() : session.serve();
    }
}

/// The first signal lets drains come to their end, the second does not wait for it.
void Control::begin_to_end() {
    if (parts_.drains == nullptr || ending_) {
        FLUE_LOG(INFO, "asked to end");
        return parts_.stop->store(true, std::memory_order_relaxed);
    }
    FLUE_LOG(INFO, "asked to end: once no drain is under way");
    ending_ = true;
    parts_.drains->finish();
}

void Control::listen_or_wait() {
    // While an answer waits, requests stay in the socket; only its end is of interest.
    for (Session& session : sessions_) {
        if (session.socket() >= 0) {
            (void)watch(epoll_.get(),
                        EPOLL_CTL_MOD,
                        session.socket(),
                        session.listening() ? EPOLLIN : 0u,
                        &session);
        }
    }
}

void Control::accept_sessions() {
    for (uint32_t i = 0; i < accepts_per_turn; ++i) {
        UniqueFd socket{accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
        if (!socket.valid()) {
            return;
        }
        accept_session(std::move(socket));
    }
}

Control::Entry Control::may_enter(const queue::PeerCredentials& peer) const {
    if (!parts_.options->permissions.may_connect(peer)) {
        return {SessionStatus::not_permitted};
    }
    // One user alone does not shut the others out.
    const size_t most  = parts_.options->quotas.sessions;
    const size_t share = most - most / 4;
    const auto theirs = static_cast<size_t>(std::ranges::count(sessions_, peer.uid, &Session::uid));
    // A held session counts, and its next host must find a way in all the same.
    const auto held = static_cast<size_t>(std::ranges::count_if(sessions_, &Session::is_held));
    if (sessions_.size() >= most + held || theirs >= share + held) {
        return {SessionStatus::quota};
    }
    return {SessionStatus::ok, sessions_.size() >= most || theirs >= share};
}

void Control::accept_session(UniqueFd socket) {
    const auto peer = queue::peer_credentials(socket.get());
    if (!peer.ok()) {
        return;
    }
    // A drain mostly comes with its connection and needs no place among the sessions.
    if (is_drain(socket.get())) {
        if (auto received = queue::receive_message(socket.get()); received.ok()) {
            offer({std::move(received.value()), std::move(socket), peer.value()});
        }
        return;
    }
    const Entry entry = may_enter(peer.value());
    if (entry.status != SessionStatus::ok) {
        return refuse(std::move(socket), entry.status);
    }
    const Session::Parts parts{.id            = next_session_++,
                               .options       = parts_.options,
                               .dma           = &dma_,
                               .mail          = &mail_,
                               .worker_nodes  = parts_.worker_nodes,
                               .peer          = peer.value(),
                               .steering      = parts_.steering,
                               .network       = network_,
                               .only_reattach = entry.only_reattach,
                               .refusals      = &refusals_};
    Session& session = sessions_.emplace_back(parts, std::move(socket));
    if (!watch(epoll_.get(), EPOLL_CTL_ADD, session.socket(), EPOLLIN, &session)) {
        sessions_.pop_back();
    }
}

void Control::refuse(UniqueFd socket, SessionStatus status) {
    sessions_refused_.add(1);
    refusals_.count(status);
    // Said ever more rarely: a flood of sessions is no flood of lines.
    if (std::has_single_bit(sessions_refused_.get())) {
        FLUE_LOG(WARNING,
                 "a session was refused, %s: see --sessions and --allow-uid; %" PRIu64
                 " refused so far",
                 queue::to_string(status),
                 sessions_refused_.get());
    }
    queue::Message answer;
    answer.type   = static_cast<uint16_t>(queue::MessageType::hello);
    answer.status = static_cast<uint16_t>(status);
    (void)queue::send_message(socket.get(), answer);
    queue::hang_up(socket.get());
}

void Control::take_answers() {
    std::array<ControlMessage, 32> answers;
    for (uint32_t worker = 0; worker < mail_.worker_count(); ++worker) {
        const uint32_t count = mail_.take(worker, answers);
        for (const ControlMessage& answer : std::span{answers}.first(count)) {
            const auto session =
                std::ranges::find(sessions_, session_of_tag(answer.tag), &Session::id);
            // A fence of a session that has ended since may come late.
            if (session != sessions_.end()) {
                session->on_answer(answer);
            }
        }
    }
}

void Control::answer_guests() {
    for (Session& guest : sessions_) {
        if (!guest.is_guest()) {
            continue;
        }
        Session* named = nullptr;
        for (Session& session : sessions_) {
            named = session.knows(guest) ? &session : named;
        }
        if (named != nullptr) {
            named->let_in(guest);
        } else {
            wrong_tokens_.store(wrong_tokens_.load(std::memory_order_relaxed) + 1,
                                std::memory_order_relaxed);
            guest.turn_away();
        }
    }
}

void Control::offer(DrainRequest&& request) {
    if (!parts_.options->permissions.may_connect(request.peer)) {
        return refuse_drain(std::move(request), queue::SessionStatus::not_permitted);
    }
    offer_drain(parts_.drains, std::move(request));
}

void Control::end_finished() {
    for (Session& session : sessions_) {
        if (auto& drain = session.drain(); drain) {
            (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, drain->socket.get(), nullptr);
            offer(std::move(*drain));
            drain.reset();
        }
    }
    sessions_.remove_if([](const Session& session) { return session.finished(); });
}

void Control::publish_usage() {
    uint32_t queues  = 0;
    uint32_t regions = 0;
    for (const Session& session : sessions_) {
        queues += session.queue_count();
        regions += session.region_count();
    }
    session_count_.store(static_cast<uint32_t>(sessions_.size()), std::memory_order_relaxed);
    queue_count_.store(queues, std::memory_order_relaxed);
    region_count_.store(regions, std::memory_order_relaxed);
    const auto held = std::ranges::count_if(sessions_, &Session::is_held);
    held_count_.store(static_cast<uint32_t>(held), std::memory_order_relaxed);
}

}  // namespace flue::target
