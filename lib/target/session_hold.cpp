#include <algorithm>
#include <poll.h>
#include <sys/random.h>

#include "base/assert.hpp"
#include "flue/flue.h"
#include "target/log.hpp"
#include "target/session.hpp"

/// Host loss with the policy hold: the session outlives its host for a while, as it is, and a next
/// host takes it up.
///
///   guest: reattach(token) -> its socket becomes that of the session it names
///   next host: recover_queue, recover_region, one at a time, until there are no more
namespace flue::target {

using queue::Message;
using queue::SessionStatus;

namespace {

/// Who guesses tokens waits for each answer.
constexpr auto wrong_token_delay = std::chrono::milliseconds{500};

/// same compares in a time that does not tell where the first difference is.
bool same(const queue::Token& a, const queue::Token& b) {
    volatile uint8_t difference = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        difference = difference | (a[i] ^ b[i]);
    }
    return difference == 0;
}

}  // namespace

bool Session::start_hold(const Message& request) {
    const uint32_t limit = parts_.options->hold_ms;
    hold_ms_             = request.hold_ms == 0 ? limit : std::min(request.hold_ms, limit);
    return ::getrandom(token_.data(), token_.size(), 0) == static_cast<ssize_t>(token_.size());
}

void Session::lose_host(const char* why) {
    if (state_ != State::open || !may_be_held()) {
        return leave(why);
    }
    FLUE_LOG(INFO, "session %u: %s; it waits %u ms for another", parts_.id, why, hold_ms_);
    if (wait_ && wait_->for_region) {
        // Requests of this region may be outstanding for as long as nobody takes them up.
        regions_.reopen(wait_->request.region_key);
    }
    wait_.reset();
    state_ = State::held;
    socket_.reset();
    deadline_ = Clock::now() + std::chrono::milliseconds{hold_ms_};
}

void Session::on_time(Clock::time_point now) {
    if (!deadline_ || now < *deadline_) {
        return;
    }
    if (state_ == State::guest) {
        return refuse(SessionStatus::bad_token);
    }
    if (state_ == State::fresh) {
        return end("no hello");
    }
    FLUE_ASSERT(state_ == State::held);
    leave("nobody took it up in time");
}

void Session::look_for_host() {
    pollfd item{socket_.get(), POLLRDHUP, 0};
    if (::poll(&item, 1, 0) > 0) {
        hang_up();
    }
}

void Session::knock(const Message& request) {
    state_ = State::guest;
    deadline_.reset();
    knock_ = request;
    if (request.version != queue::session_protocol_version) {
        refuse(SessionStatus::bad_version);
    }
}

bool Session::knows(const Session& guest) const {
    const bool has_token = may_be_held() && (state_ == State::open || state_ == State::held);
    return same(token_, guest.knock_.token) & has_token;
}

void Session::let_in(Session& guest) {
    FLUE_ASSERT(guest.state_ == State::guest);
    if (guest.parts_.peer.uid != parts_.peer.uid && guest.parts_.peer.uid != 0) {
        return guest.refuse(SessionStatus::not_permitted);
    }
    if (state_ == State::open) {
        look_for_host();
    }
    if (state_ != State::held) {
        return guest.refuse(SessionStatus::busy);
    }
    socket_         = std::move(guest.socket_);
    parts_.peer.pid = guest.parts_.peer.pid;
    state_          = State::open;
    deadline_.reset();
    guest.state_   = State::ending;
    Message answer = guest.knock_;
    welcome(answer);
    send(answer);
    FLUE_LOG(INFO,
             "session %u: '%s' goes on as process %d",
             parts_.id,
             name_.c_str(),
             static_cast<int>(parts_.peer.pid));
}

void Session::turn_away() {
    FLUE_ASSERT(state_ == State::guest);
    FLUE_LOG(WARNING,
             "process %d, user %u, showed a token that no session has",
             static_cast<int>(parts_.peer.pid),
             static_cast<unsigned>(parts_.peer.uid));
    deadline_ = Clock::now() + wrong_token_delay;
}

void Session::refuse(SessionStatus status) {
    reply(knock_, status);
    leave(queue::to_string(status));
}

void Session::recover_queue(const Message& request) {
    auto next = queues_.upper_bound(request.queue_id);
    while (next != queues_.end() && next->second.lost) {
        ++next;
    }
    if (next == queues_.end()) {
        return reply(request, SessionStatus::bad_key);
    }
    auto& [id, queue] = *next;
    if (const auto renewed = queue.memory.renew_wake(); !renewed.ok()) {
        return reply(request, SessionStatus::no_memory);
    }
    for (uint32_t worker = 0; worker < parts_.mail->worker_count(); ++worker) {
        parts_.mail->post(worker,
                          {ControlMessage::Kind::reattach,
                           policy_,
                           &queue.ends[worker],
                           message_tag(parts_.id, id)});
    }
    // The reply waits for the workers, so that a host cannot ask faster than they listen.
    Message answer  = request;
    answer.queue_id = id;
    fence(answer, false);
}

void Session::recover_region(const Message& request) {
    const auto next = mapped_.upper_bound(request.region_key);
    if (next == mapped_.end() || !next->second.memfd.valid()) {
        return reply(request, SessionStatus::bad_key);
    }
    const int memfd   = next->second.memfd.get();
    Message answer    = request;
    answer.status     = static_cast<uint16_t>(SessionStatus::ok);
    answer.region_key = next->first;
    answer.bytes      = next->second.bytes;
    send(answer, {&memfd, 1});
}

}  // namespace flue::target
