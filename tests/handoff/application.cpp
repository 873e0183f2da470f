#include "application.hpp"

#include <cerrno>
#include <cstring>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>

#include "base/prng.hpp"
#include "testbed/process.hpp"

namespace flue::handoff {

namespace {

constexpr int patience_ms = 20'000;

void await_socket(int fd, short event) {
    pollfd waiting{.fd = fd, .events = event, .revents = 0};
    if (::poll(&waiting, 1, patience_ms) != 1) {
        throw std::runtime_error("a socket did nothing in 20 s");
    }
}

void expect_success(const flue_wc& wc) {
    if (wc.status != FLUE_SUCCESS) {
        throw std::runtime_error(std::string(flue_opcode_name(wc.opcode)) + " completed with " +
                                 flue_status_name(wc.status));
    }
}

}  // namespace

e2e::Rig& shared_rig() {
    static e2e::Rig rig;
    return rig;
}

void expect_no_more_than(const nlohmann::json& before) {
    const nlohmann::json now = shared_rig().usage_after_settling(before);
    for (const auto& [name, count] : now.items()) {
        EXPECT_LE(count, before.at(name)) << name;
    }
}

Bytes random_bytes(size_t count, uint64_t seed) {
    Prng prng(seed);
    Bytes bytes(count);
    for (uint8_t& byte : bytes) {
        byte = static_cast<uint8_t>(prng.next() >> 56);
    }
    return bytes;
}

Application::Application(UniqueFd socket)
    : session_(shared_rig(), lent_bytes + 2 * area_bytes), socket_(std::move(socket)) {
}

int Application::offload(uint64_t mr_bytes) {
    flue_socket_offload_options options{};
    options.mr         = session_.region();
    options.mr_bytes   = mr_bytes;
    options.send_wr_id = next_wr_id_++;
    if (flue_socket_offload(session_.queue(), socket_.get(), &options, &result_) != 0) {
        return errno;
    }
    static_cast<void>(socket_.release());
    conn_ = result_.conn;
    sends_.assign(result_.sends, result_.sends + result_.sends_posted);
    return 0;
}

int Application::upload(uint64_t mr_bytes, bool list_sends) {
    const std::vector<flue_wr> sends(sends_.begin(), sends_.end());
    flue_socket_upload_options options{};
    options.mr         = session_.region();
    options.mr_bytes   = mr_bytes;
    options.sends      = sends.data();
    options.send_count = list_sends ? static_cast<uint32_t>(sends.size()) : 0;
    // What the offload had lent for a SEND that is still outstanding is not free: lend memory
    // behind it.
    options.mr_offset = lent_bytes + 2 * area_bytes - mr_bytes;
    const int fd      = flue_socket_upload(session_.queue(), conn_, &options);
    if (fd < 0) {
        return errno;
    }
    socket_ = UniqueFd(fd);
    while (!sends_.empty()) {
        note(session_.wait());
    }
    return 0;
}

void Application::send(const Bytes& bytes) {
    if (send_used_ + bytes.size() > area_bytes) {
        throw std::runtime_error("the test sends more than its area");
    }
    const uint64_t at = lent_bytes + send_used_;
    std::memcpy(session_.data(at), bytes.data(), bytes.size());
    send_used_ += bytes.size();
    flue_wr wr{};
    wr.wr_id     = next_wr_id_++;
    wr.conn      = conn_;
    wr.opcode    = FLUE_OP_SEND;
    wr.sge_count = 1;
    wr.sge[0]    = session_.range(at, static_cast<uint32_t>(bytes.size()));
    session_.post(wr);
    sends_.push_back(wr);
}

void Application::disconnect() {
    flue_wr wr{};
    wr.wr_id  = next_wr_id_++;
    wr.conn   = conn_;
    wr.opcode = FLUE_OP_DISCONNECT;
    session_.post(wr);
    sends_.push_back(wr);
}

void Application::note(const flue_wc& wc) {
    if (wc.opcode == FLUE_OP_SEND || wc.opcode == FLUE_OP_DISCONNECT) {
        if (sends_.empty() || sends_.front().wr_id != wc.wr_id ||
            sends_.front().opcode != wc.opcode) {
            throw std::runtime_error("a completion out of order, or of nothing posted");
        }
        sends_.pop_front();
        if (wc.status != FLUE_UPLOAD_IN_PROGRESS) {
            expect_success(wc);
        }
    }
    peer_fin_ = peer_fin_ || wc.opcode == FLUE_EVENT_DISCONNECT;
}

flue_wc Application::await(uint8_t opcode) {
    while (true) {
        const flue_wc wc = session_.wait();
        note(wc);
        if (wc.opcode == opcode) {
            return wc;
        }
    }
}

void Application::finish_sends() {
    while (!sends_.empty()) {
        note(session_.wait());
    }
}

Bytes Application::receive(size_t count) {
    constexpr uint64_t at = lent_bytes + area_bytes;
    session_.post(FLUE_OP_RECV,
                  conn_,
                  next_wr_id_++,
                  session_.range(at, static_cast<uint32_t>(count)),
                  FLUE_WR_NO_PUSH);
    const flue_wc wc = await(FLUE_OP_RECV);
    expect_success(wc);
    return {session_.data(at), session_.data(at) + wc.bytes};
}

void Application::await_peer_fin() {
    while (!peer_fin_) {
        note(session_.wait());
    }
}

void Application::terminate() {
    session_.post(FLUE_OP_TERMINATE, conn_, next_wr_id_++, session_.range(0, sizeof(flue_state)));
    expect_success(await(FLUE_OP_TERMINATE));
}

flue_state Application::query() {
    constexpr uint64_t at = lent_bytes + 2 * area_bytes - sizeof(flue_state);
    session_.post(FLUE_OP_QUERY, conn_, next_wr_id_++, session_.range(at, sizeof(flue_state)));
    expect_success(await(FLUE_OP_QUERY));
    flue_state state{};
    std::memcpy(&state, session_.data(at), sizeof(state));
    return state;
}

void write_all(int fd, const Bytes& bytes) {
    for (size_t at = 0; at < bytes.size();) {
        await_socket(fd, POLLOUT);
        const ssize_t sent =
            ::send(fd, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            testbed::throw_errno("writing");
        }
        at += sent > 0 ? static_cast<size_t>(sent) : 0;
    }
}

Bytes read_exactly(int fd, size_t count) {
    Bytes bytes(count);
    size_t at = 0;
    while (at < count) {
        await_socket(fd, POLLIN);
        const ssize_t got = ::recv(fd, bytes.data() + at, count - at, 0);
        if (got < 0) {
            testbed::throw_errno("reading");
        }
        if (got == 0) {
            break;
        }
        at += static_cast<size_t>(got);
    }
    bytes.resize(at);
    return bytes;
}

bool at_end(int fd) {
    uint8_t more = 0;
    await_socket(fd, POLLIN);
    return ::recv(fd, &more, 1, 0) == 0;
}

Bytes write_until_full(int fd, size_t count_max, uint64_t seed) {
    Bytes bytes = random_bytes(count_max, seed);
    size_t at   = 0;
    while (at < count_max) {
        const ssize_t sent =
            ::send(fd, bytes.data() + at, count_max - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            break;
        }
        at += static_cast<size_t>(sent);
    }
    bytes.resize(at);
    return bytes;
}

void deafen(const testbed::Namespace& remote, bool deaf) {
    const testbed::NamespaceScope scope{remote};
    if (deaf) {
        testbed::run_tool({"nft",
                           "add table inet handoff; add chain inet handoff in { type filter hook "
                           "prerouting priority -300; }; add rule inet handoff in meta l4proto tcp "
                           "drop"});
    } else {
        testbed::run_tool({"nft", "delete table inet handoff"});
    }
}

}  // namespace flue::handoff
