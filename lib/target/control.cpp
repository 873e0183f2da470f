#include "target/control.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.hpp"
#include "target/log.hpp"
#include "target/socket_proof.hpp"

namespace flue::target {

namespace {

constexpr int poll_interval_ms = 2;

bool watch(int epoll, int operation, int fd, uint32_t events, void* source) {
    epoll_event event{};
    event.events   = events | EPOLLRDHUP;
    event.data.ptr = source;
    return epoll_ctl(epoll, operation, fd, &event) == 0;
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
    FLUE_ASSERT(!thread_.joinable());
    if (listener_.valid()) {
        ::unlink(parts_.options->socket_path.c_str());
    }
}

bool Control::start() {
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
    thread_ = std::thread{[this] { run(); }};
    pthread_setname_np(thread_.native_handle(), "flue-control");
    FLUE_LOG(INFO, "sessions at %s", path.c_str());
    return true;
}

void Control::join() {
    if (thread_.joinable()) {
        thread_.join();
    }
}

Control::Usage Control::usage() const {
    return {session_count_.load(std::memory_order_relaxed),
            queue_count_.load(std::memory_order_relaxed),
            region_count_.load(std::memory_order_relaxed)};
}

void Control::run() {
    std::array<epoll_event, 16> events;
    while (!parts_.stop->load(std::memory_order_relaxed)) {
        const int count =
            epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), wait_ms());
        for (int i = 0; i < count; ++i) {
            const epoll_event& event = events[static_cast<size_t>(i)];
            serve(event.events, event.data.ptr);
        }
        mail_.flush();
        take_answers();
        for (Session& session : sessions_) {
            session.check();
        }
        mail_.flush();
        end_finished();
        listen_or_wait();
        publish_usage();
    }
}

int Control::wait_ms() const {
    return mail_.unanswered() > 0 || std::ranges::any_of(sessions_, &Session::waiting)
               ? poll_interval_ms
               : -1;
}

void Control::serve(uint32_t events, void* source) {
    if (source == &signals_) {
        signalfd_siginfo signal{};
        (void)!::read(signals_.get(), &signal, sizeof(signal));
        FLUE_LOG(INFO, "asked to end");
        parts_.stop->store(true, std::memory_order_relaxed);
    } else if (source == &listener_) {
        accept_sessions();
    } else {
        auto& session = *static_cast<Session*>(source);
        (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0 ? session.hang_up() : session.serve();
    }
}

void Control::listen_or_wait() {
    // While a reply waits, requests stay in the socket; only its end is of interest.
    for (Session& session : sessions_) {
        if (session.socket() >= 0) {
            (void)watch(epoll_.get(),
                        EPOLL_CTL_MOD,
                        session.socket(),
                        session.waiting() ? 0u : EPOLLIN,
                        &session);
        }
    }
}

void Control::accept_sessions() {
    while (true) {
        UniqueFd socket{accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
        if (!socket.valid()) {
            return;
        }
        const auto peer = queue::peer_credentials(socket.get());
        if (!peer.ok() || sessions_.size() >= parts_.options->quotas.sessions) {
            FLUE_LOG(WARNING,
                     "a session was refused: there are %zu; raise --sessions",
                     sessions_.size());
            continue;
        }
        const Session::Parts parts{.id           = next_session_++,
                                   .options      = parts_.options,
                                   .dma          = &dma_,
                                   .mail         = &mail_,
                                   .worker_nodes = parts_.worker_nodes,
                                   .peer         = peer.value(),
                                   .steering     = parts_.steering,
                                   .network      = network_};
        Session& session = sessions_.emplace_back(parts, std::move(socket));
        if (!watch(epoll_.get(), EPOLL_CTL_ADD, session.socket(), EPOLLIN, &session)) {
            sessions_.pop_back();
        }
    }
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

void Control::end_finished() {
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
}

}  // namespace flue::target
