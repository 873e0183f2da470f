#include <cerrno>
#include <unistd.h>

#include "target/log.hpp"
#include "target/session.hpp"
#include "target/socket_proof.hpp"

/// What a session may have, and the proof of what it claims.
///
///   host --claim, socket--> checked --grant--> worker keeps the flow's packets --> checked again
///
/// The second check is the one that counts.  From the grant on nobody can set up a connection with
/// this 4-tuple through the target, so a socket that still is connected has had it before.
namespace flue::target {

using queue::Message;
using queue::SessionStatus;

namespace {

SessionStatus session_status(flue_status status) {
    switch (static_cast<int>(status)) {
        case FLUE_QUOTA:
            return SessionStatus::quota;
        case FLUE_TCP_ENTRIES:
            return SessionStatus::no_memory;
        case FLUE_UPLOAD_IN_PROGRESS:
            return SessionStatus::busy;
        default:
            return SessionStatus::refused;
    }
}

}  // namespace

void Session::limit_shares() {
    const Quotas& quotas = parts_.options->quotas;
    for (queue::SessionShare& share : shares_) {
        share.session_id = parts_.id;
        share.raw        = parts_.options->permissions.is_raw(parts_.peer);
        share.held_max   = quotas.held;
        // What flued drains for others has limits of its own: --drains.
        const bool is_own       = parts_.peer.pid == ::getpid();
        share.connections.limit = is_own ? UINT32_MAX : quotas.connections;
        share.requests.limit    = is_own ? UINT32_MAX : quotas.requests;
    }
}

void Session::claim(const Message& request, UniqueFd socket) {
    const auto key =
        parts_.network ? prove_socket(socket.get(), *parts_.network) : SessionStatus::bad_socket;
    if (!key.ok()) {
        close_without_waiting(std::move(socket));
        return reply(request, key.error());
    }
    if (!parts_.options->permissions.claim_rules.allow(key.value())) {
        close_without_waiting(std::move(socket));
        return reply(request, SessionStatus::not_permitted);
    }
    const uint32_t worker = parts_.steering->owner(key.value());
    wait_.emplace(
        Wait{request, next_wait_++, 1, false, Claim{std::move(socket), key.value(), worker}});
    parts_.mail->post(worker,
                      {.kind  = ControlMessage::Kind::grant,
                       .tag   = message_tag(parts_.id, wait_->number),
                       .share = &shares_[worker],
                       .key   = key.value()});
}

void Session::finish_claim() {
    Claim claim    = std::move(*wait_->claim);
    Message answer = wait_->request;
    wait_.reset();
    const auto key       = prove_socket(claim.socket.get(), *parts_.network);
    const bool is_theirs = key.ok() && key.value() == claim.key;
    close_without_waiting(std::move(claim.socket));
    auto status = SessionStatus::ok;
    if (claim.status != FLUE_SUCCESS) {
        status       = session_status(claim.status);
        answer.error = status == SessionStatus::refused ? EADDRINUSE : 0;
    } else if (!is_theirs) {
        status = SessionStatus::bad_socket;
        parts_.mail->post(claim.worker,
                          {.kind  = ControlMessage::Kind::withdraw,
                           .tag   = message_tag(parts_.id, 0),
                           .share = &shares_[claim.worker],
                           .key   = claim.key});
    }
    reply(answer, status);
    serve();
}

Session::Report Session::report() const {
    Report report{.id           = parts_.id,
                  .peer         = parts_.peer,
                  .name         = name_,
                  .ending       = state_ == State::ending,
                  .raw          = shares_[0].raw,
                  .queues       = queue_count(),
                  .regions      = region_count(),
                  .region_bytes = region_bytes_};
    for (const queue::SessionShare& share : shares_) {
        report.connections += share.connections.used.get();
        report.held += share.held.get();
        report.requests += share.requests.used.get();
        report.waits += share.waits.get();
        for (size_t i = 0; i < report.refused_requests.size(); ++i) {
            report.refused_requests[i] += share.refusals[i].get();
        }
    }
    for (size_t i = 0; i < report.refused_messages.size(); ++i) {
        report.refused_messages[i] = refusals_.by_status[i].get();
    }
    return report;
}

void Session::withdraw_grants() {
    for (uint32_t worker = 0; worker < parts_.mail->worker_count(); ++worker) {
        parts_.mail->post(worker,
                          {.kind  = ControlMessage::Kind::withdraw_all,
                           .tag   = message_tag(parts_.id, 0),
                           .share = &shares_[worker]});
        ++withdrawals_unanswered_;
    }
}

}  // namespace flue::target
