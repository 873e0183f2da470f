#include "host/session.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <sys/socket.h>
#include <utility>

#include "host/error.hpp"
#include "queue/shm_layout.hpp"

namespace flue::host {

using queue::Message;
using queue::MessageType;
using queue::Received;
using queue::SessionStatus;
using queue::SocketError;

namespace {

void explain_connect(const char* path, const SystemError& error) {
    switch (error.code) {
        case ENOENT:
            fail(error.code,
                 "no target at %s: start flued with --socket %s, or give the path it was started "
                 "with",
                 path,
                 path);
            return;
        case ECONNREFUSED:
            fail(error.code,
                 "%s is there but no target listens: flued has stopped; start it again",
                 path);
            return;
        case EACCES:
        case EPERM:
            fail(error.code,
                 "no permission for %s: run as a user who may write to this socket file",
                 path);
            return;
        case EPROTOTYPE:
            fail(error.code,
                 "%s is another program's socket: give the path that flued was started with",
                 path);
            return;
        case ENAMETOOLONG:
            fail(
                error.code, "%s is too long for a socket path: use one of at most 107 bytes", path);
            return;
        default:
            fail(error.code,
                 "cannot connect to %s: %s: %s",
                 path,
                 error.call,
                 std::strerror(error.code));
            return;
    }
}

int errno_of(SessionStatus status) {
    switch (status) {
        case SessionStatus::ok:
            return 0;
        case SessionStatus::bad_version:
            return EPROTONOSUPPORT;
        case SessionStatus::bad_message:
            return EINVAL;
        case SessionStatus::quota:
            return EDQUOT;
        case SessionStatus::no_memory:
            return ENOMEM;
        case SessionStatus::not_sealed:
            return EPERM;
        case SessionStatus::bad_descriptor:
            return EBADF;
        case SessionStatus::bad_key:
            return ENOENT;
        case SessionStatus::not_permitted:
            return EACCES;
        case SessionStatus::bad_socket:
            return EOPNOTSUPP;
        case SessionStatus::bad_token:
            return ENOENT;
        case SessionStatus::busy:
            return EAGAIN;
        case SessionStatus::refused:
            return ECONNREFUSED;
        case SessionStatus::shutting_down:
            return ECONNRESET;
    }
    return EPROTO;
}

const char* advice(SessionStatus status) {
    switch (status) {
        case SessionStatus::bad_version:
            return "; use libflue and flued of the same release";
        case SessionStatus::quota:
            return "; free queues or regions, or raise the target's limits";
        case SessionStatus::no_memory:
            return "; ask for less, or give the target's machine more";
        case SessionStatus::shutting_down:
            return "; start it again, then open a new session";
        case SessionStatus::not_permitted:
            return "; flued's options say who may have what";
        case SessionStatus::busy:
            return "; try again";
        case SessionStatus::ok:
        case SessionStatus::bad_message:
        case SessionStatus::bad_socket:
        case SessionStatus::bad_token:
        case SessionStatus::refused:
        case SessionStatus::not_sealed:
        case SessionStatus::bad_descriptor:
        case SessionStatus::bad_key:
            return "";
    }
    return "";
}

void explain_refusal(const char* what, const Message& reply) {
    const auto status = static_cast<SessionStatus>(reply.status);
    const int error   = static_cast<int>(reply.error);
    if (status == SessionStatus::refused && error > 0) {
        fail(error, "%s: the target refused: %s", what, std::strerror(error));
        return;
    }
    fail(errno_of(status),
         "%s: the target refused: %s%s",
         what,
         queue::to_string(status),
         advice(status));
}

}  // namespace

std::shared_ptr<Session> Session::connect(const char* path) {
    auto connected = queue::connect_to(path);
    if (!connected.ok()) {
        explain_connect(path, connected.error());
        return nullptr;
    }
    return std::shared_ptr<Session>(new Session(std::move(connected.value())));
}

std::shared_ptr<Session> Session::open(const char* path, const flue_open_options& options) {
    auto session = connect(path);
    return session != nullptr && session->hello(path, options) ? session : nullptr;
}

std::shared_ptr<Session> Session::reattach(const char* path, const queue::Token& token) {
    auto session = connect(path);
    if (session == nullptr) {
        return nullptr;
    }
    Message message;
    message.type  = static_cast<uint16_t>(MessageType::reattach);
    message.token = token;
    if (session->greet("flue_reattach", path, message)) {
        return session;
    }
    if (errno == EAGAIN) {
        fail(EBUSY, "flue_reattach: the session has a host: its process is still there");
    }
    return nullptr;
}

Session::~Session() {
    close();
}

bool Session::hello(const char* path, const flue_open_options& options) {
    Message message;
    message.type      = static_cast<uint16_t>(MessageType::hello);
    message.host_loss = static_cast<uint32_t>(options.on_loss);
    message.hold_ms   = options.hold_ms;
    std::snprintf(
        message.name, sizeof(message.name), "%s", options.name != nullptr ? options.name : "");

    return greet("flue_open", path, message);
}

bool Session::greet(const char* what, const char* path, const Message& message) {
    const auto reply = request(what, message, {}, 0, hello_timeout_ms);
    if (!reply) {
        if (errno == ECONNRESET) {
            fail(ECONNRESET,
                 "the target at %s ended the session at once: it stops, or has no room for another "
                 "session, or is of another release; see its log",
                 path);
        }
        return false;
    }
    must_claim_ =
        (reply->message.flags & static_cast<uint32_t>(queue::SessionFlag::must_claim)) != 0;
    worker_count_ = reply->message.worker_count;
    memory_node_  = reply->message.memory_node;
    held_         = reply->message.hold_ms > 0;
    token_        = reply->message.token;
    if (worker_count_ == 0 || worker_count_ > queue::worker_count_max) {
        fail(
            EPROTO, "the target at %s says it has %u workers: is it a flued?", path, worker_count_);
        return false;
    }
    return true;
}

std::optional<Received> Session::request(const char* what,
                                         Message message,
                                         std::span<const int> fds,
                                         uint32_t fds_expected,
                                         int timeout_ms) {
    const std::lock_guard lock(mutex_);
    if (lost_) {
        fail(ECONNRESET, "%s: the session with the target has ended; open a new one", what);
        return std::nullopt;
    }
    message.tag     = next_tag_++;
    const auto sent = queue::send_message(socket_.get(), message, fds);
    // A target that refuses a session may have closed it before it read anything: its reply still
    // says why.
    if (!sent.ok() && sent.error() != SocketError::closed) {
        fail(errno, "%s: cannot send to the target: %s", what, std::strerror(errno));
        return std::nullopt;
    }
    auto reply = await_reply(what, message, timeout_ms);
    if (!reply) {
        lost_ = true;
        return std::nullopt;
    }
    const auto status = static_cast<SessionStatus>(reply->message.status);
    if (status != SessionStatus::ok) {
        explain_refusal(what, reply->message);
        return std::nullopt;
    }
    if (reply->fd_count != fds_expected) {
        fail(EPROTO,
             "%s: the target sent %u descriptors instead of %u",
             what,
             reply->fd_count,
             fds_expected);
        return std::nullopt;
    }
    return reply;
}

std::optional<Received> Session::await_reply(const char* what,
                                             const Message& request,
                                             int timeout_ms) {
    while (true) {
        if (!queue::wait_readable(socket_.get(), timeout_ms)) {
            fail(ETIMEDOUT, "%s: the target does not answer: is it stopped or overloaded?", what);
            return std::nullopt;
        }
        auto received = queue::receive_message(socket_.get());
        if (received.ok()) {
            const Message& reply = received.value().message;
            // A target that refuses the session says so before it has read anything: tag 0.
            const bool refused = reply.status != 0 && reply.tag == 0;
            if (reply.type != request.type || (reply.tag != request.tag && !refused)) {
                fail(EPROTO, "%s: the target answered something else", what);
                return std::nullopt;
            }
            return std::move(received.value());
        }
        switch (received.error()) {
            case SocketError::again:
                continue;
            case SocketError::closed:
                fail(ECONNRESET,
                     "%s: the target has gone: start it again, then open a new session",
                     what);
                return std::nullopt;
            case SocketError::malformed:
                fail(EPROTO,
                     "%s: the target's answer is malformed: use libflue and flued of the same "
                     "release",
                     what);
                return std::nullopt;
            case SocketError::system:
                fail(errno, "%s: %s", what, std::strerror(errno));
                return std::nullopt;
        }
    }
}

bool Session::claim(const char* what, int fd) {
    Message message;
    message.type         = static_cast<uint16_t>(MessageType::claim);
    const std::array fds = {fd};
    linger lingering{};
    socklen_t length = sizeof(lingering);
    ::getsockopt(fd, SOL_SOCKET, SO_LINGER, &lingering, &length);
    const bool claimed = request(what, message, fds, 0, reply_timeout_ms).has_value();
    // The target takes the time to linger off a socket that it is going to close.
    if (lingering.l_onoff != 0 && lingering.l_linger > 0) {
        const int error = errno;
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &lingering, sizeof(lingering));
        errno = error;
    }
    return claimed;
}

void Session::close() {
    const std::lock_guard lock(mutex_);
    if (!lost_) {
        Message goodbye;
        goodbye.type     = static_cast<uint16_t>(MessageType::goodbye);
        goodbye.tag      = next_tag_++;
        const int reason = errno;  // of a failed open, which ends here too
        // Closing the socket says the same; the message only says that it was meant.
        [[maybe_unused]] const auto sent = queue::send_message(socket_.get(), goodbye);
        errno                            = reason;
        lost_                            = true;
    }
    socket_.reset();
}

}  // namespace flue::host

struct flue_context* flue_open(const char* socket_path, const struct flue_open_options* options) {
    if (socket_path == nullptr) {
        flue::host::fail(EINVAL, "flue_open: no socket path");
        return nullptr;
    }
    const flue_open_options defaults{};
    auto session = flue::host::Session::open(socket_path, options != nullptr ? *options : defaults);
    return session != nullptr ? new (std::nothrow) flue_context{std::move(session)} : nullptr;
}

int flue_claim(struct flue_context* context, int fd) {
    return context->session->claim("flue_claim", fd) ? 0 : -1;
}

struct flue_context* flue_reattach(const char* socket_path, const uint8_t token[FLUE_TOKEN_BYTES]) {
    if (socket_path == nullptr || token == nullptr) {
        flue::host::fail(
            EINVAL, "flue_reattach: no %s", token == nullptr ? "token" : "socket path");
        return nullptr;
    }
    flue::queue::Token shown;
    static_assert(sizeof(shown) == FLUE_TOKEN_BYTES);
    std::memcpy(shown.data(), token, sizeof(shown));
    auto session = flue::host::Session::reattach(socket_path, shown);
    return session != nullptr ? new (std::nothrow) flue_context{std::move(session)} : nullptr;
}

const uint8_t* flue_token(const struct flue_context* context) {
    const flue::queue::Token* token = context->session->token();
    return token != nullptr ? token->data() : nullptr;
}

void flue_close(struct flue_context* context) {
    if (context != nullptr) {
        context->session->close();
        delete context;
    }
}

unsigned flue_worker_count(const struct flue_context* context) {
    return context->session->worker_count();
}
