#include "host.hpp"

#include <arpa/inet.h>
#include <cstring>
#include <netinet/tcp.h>
#include <stdexcept>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace flue::killed {

namespace {

constexpr uint64_t journal_offset = 0;
constexpr uint64_t state_offset   = 4096;
constexpr uint64_t stream_offset  = 8192;
constexpr uint64_t receive_offset = stream_offset + uint64_t{pieces_max} * piece_bytes;
constexpr uint64_t lent_offset    = receive_offset + 2 * received_bytes;
constexpr uint64_t lent_bytes     = 1 << 20;
constexpr uint64_t region_bytes   = lent_offset + lent_bytes;
constexpr int patience_ms         = 20'000;

enum WrId : uint64_t { id_other = 1, id_send, id_receive, id_disconnect, id_terminate };

/// What outlives a host, at the start of its region.
struct Journal {
    uint32_t first_seq    = 0;  ///< sequence number of the stream's first byte
    uint32_t disconnected = 0;  ///< DISCONNECT was posted
    uint32_t receiving    = 0;  ///< a RECV was posted
};

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error(what + ": " + flue_error_text());
}

class Host {
  public:
    Host(flue_context* context, flue_hq* hq, flue_mr* mr) : context_(context), hq_(hq), mr_(mr) {
        if (context == nullptr || hq == nullptr || mr == nullptr) {
            fail("no session, queue or region");
        }
    }

    [[nodiscard]] uint8_t* at(uint64_t offset) const {
        return static_cast<uint8_t*>(flue_mr_data(mr_)) + offset;
    }

    [[nodiscard]] Journal& journal() const {
        return *reinterpret_cast<Journal*>(at(journal_offset));
    }

    [[nodiscard]] flue_state& state() const {
        return *reinterpret_cast<flue_state*>(at(state_offset));
    }

    [[nodiscard]] flue_sge range(uint64_t offset, uint32_t length) const {
        return {.mr = flue_mr_key(mr_), .length = length, .offset = offset};
    }

    flue_wr request(uint8_t opcode, uint64_t wr_id) const {
        flue_wr wr{};
        wr.opcode = opcode;
        wr.wr_id  = wr_id;
        wr.conn   = conn;
        return wr;
    }

    flue_wr request(uint8_t opcode, uint64_t wr_id, const flue_sge& sge) const {
        flue_wr wr   = request(opcode, wr_id);
        wr.sge_count = 1;
        wr.sge[0]    = sge;
        return wr;
    }

    /// Posts one request, as soon as there is room; takes no completions, which may be what keeps
    /// the room.
    void post(const flue_wr& wr) const {
        while (flue_post(hq_, &wr, 1) == 0) {
            if (errno != EAGAIN) {
                fail("flue_post");
            }
            std::this_thread::yield();
        }
    }

    void post_piece(uint64_t piece) const {
        post(request(
            FLUE_OP_SEND, id_send, range(stream_offset + piece * piece_bytes, piece_bytes)));
    }

    void post_disconnect(const flue_sge& sge) const {
        journal().disconnected = 1;
        post(request(FLUE_OP_DISCONNECT, id_disconnect, sge));
    }

    /// Takes completions until one is of this kind.
    flue_wc await(uint8_t opcode) {
        flue_wc wc{};
        while (flue_wait(hq_, &wc, 1, patience_ms) == 1) {
            seen_.push_back(wc);
            if (wc.opcode == opcode) {
                return wc;
            }
        }
        fail(std::string("no completion of ") + flue_opcode_name(opcode));
    }

    /// The same, of those that were taken before too.
    flue_wc find(uint8_t opcode) {
        for (const flue_wc& wc : seen_) {
            if (wc.opcode == opcode) {
                return wc;
            }
        }
        return await(opcode);
    }

    void poll() {
        flue_wc wc[32];
        (void)flue_poll(hq_, wc, 32);
    }

    /// Asks the target how far the connection is.
    void query() {
        post(request(FLUE_OP_QUERY, id_other, range(state_offset, sizeof(flue_state))));
        if (await(FLUE_OP_QUERY).status != FLUE_SUCCESS) {
            fail("QUERY");
        }
    }

    [[nodiscard]] flue_wr terminate(uint8_t flags) const {
        flue_wr wr =
            request(FLUE_OP_TERMINATE, id_terminate, range(state_offset, sizeof(flue_state)));
        wr.sge[1]    = range(lent_offset, lent_bytes);
        wr.sge_count = 2;
        wr.flags     = flags;
        return wr;
    }

    [[nodiscard]] flue_context* context() const { return context_; }

    [[nodiscard]] flue_hq* hq() const { return hq_; }

    [[nodiscard]] flue_mr* mr() const { return mr_; }

    flue_conn conn = FLUE_NO_CONN;

  private:
    flue_context* context_;
    flue_hq* hq_;
    flue_mr* mr_;
    std::vector<flue_wc> seen_;
};

std::string hex(const uint8_t* token) {
    std::string text;
    for (int i = 0; token != nullptr && i < FLUE_TOKEN_BYTES; ++i) {
        static constexpr char digits[] = "0123456789abcdef";
        text += {digits[token[i] >> 4], digits[token[i] & 15]};
    }
    return text;
}

Host open_host(const Plan& plan) {
    const flue_open_options options{"killed", plan.policy, plan.hold_ms};
    flue_context* context = flue_open(plan.socket_path.c_str(), &options);
    if (context == nullptr) {
        fail("flue_open");
    }
    const flue_hq_options small{64, 8};
    const bool is_small = plan.step == Step::full_completion;
    flue_hq* hq         = flue_hq_create(context, is_small ? &small : nullptr);
    Host host(context, hq, flue_mr_create(context, region_bytes));
    const e2e::Pattern stream(host_seed);
    stream.write(0, {host.at(stream_offset), size_t{pieces_max} * piece_bytes});
    return host;
}

void read_address(const sockaddr_storage& address, uint8_t* bytes, uint16_t& port) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    std::memcpy(bytes, &in.sin_addr, sizeof(in.sin_addr));
    port = ntohs(in.sin_port);
}

/// Claims the socket's 4-tuple while the kernel still has the connection.
void hold(Host& host, int fd) {
    sockaddr_storage local{};
    sockaddr_storage remote{};
    socklen_t length = sizeof(local);
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length);
    length = sizeof(remote);
    ::getpeername(fd, reinterpret_cast<sockaddr*>(&remote), &length);
    flue_state& state = host.state();
    state             = {};
    state.family      = 4;
    read_address(local, state.local_addr, state.local_port);
    read_address(remote, state.remote_addr, state.remote_port);
    flue_state_seal(&state);
    host.post(host.request(FLUE_OP_HOLD, id_other, host.range(state_offset, sizeof(state))));
    if (host.await(FLUE_OP_HOLD).status != FLUE_SUCCESS) {
        fail("HOLD");
    }
}

void offload(Host& host, int fd) {
    flue_socket_offload_options options{};
    options.mr        = host.mr();
    options.mr_offset = lent_offset;
    options.mr_bytes  = lent_bytes;
    flue_socket_offload_result result{};
    if (flue_socket_offload(host.hq(), fd, &options, &result) != 0) {
        fail("flue_socket_offload");
    }
    host.conn = result.conn;
    host.query();
    host.journal().first_seq = host.state().snd_una + host.state().send_backlog_bytes;
}

void post_pieces(const Host& host, uint64_t bytes) {
    for (uint64_t piece = 0; piece < bytes / piece_bytes; ++piece) {
        host.post_piece(piece);
    }
}

void post_receive(Host& host, uint64_t offset, flue_mr* mr) {
    flue_wr wr   = host.request(FLUE_OP_RECV, id_receive, host.range(offset, received_bytes));
    wr.sge[0].mr = flue_mr_key(mr);
    wr.flags     = FLUE_WR_NO_PUSH;
    host.post(wr);
}

/// Has a thread wait for the end of a region that a RECV refers to.
std::thread destroy_region(Host& host) {
    flue_mr* other = flue_mr_create(host.context(), received_bytes);
    post_receive(host, 0, other);
    host.query();  // the RECV was taken
    std::thread waiting([other] { flue_mr_destroy(other); });
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    return waiting;
}

std::optional<std::thread> reach(Step step, Host& host, const testbed::Report& report) {
    switch (step) {
        case Step::held:
        case Step::frozen:
        case Step::offloaded:
        case Step::posting:
            break;
        case Step::sending:
            post_pieces(host, sending_bytes);
            host.query();
            break;
        case Step::full_completion:
            post_pieces(host, full_bytes);
            break;
        case Step::receiving:
            host.journal().receiving = 1;
            post_receive(host, receive_offset, host.mr());
            report.line("receiving");
            while (*host.at(receive_offset) == 0) {
                std::this_thread::yield();
            }
            break;
        case Step::deregistering:
            return destroy_region(host);
        case Step::disconnecting:
            post_pieces(host, sending_bytes);
            host.post_disconnect(host.range(0, 0));
            host.query();
            break;
        case Step::fin_wait_2:
            host.post_disconnect(host.range(stream_offset, piece_bytes));
            host.await(FLUE_OP_DISCONNECT);
            break;
        case Step::close_wait:
            report.line("close");
            host.await(FLUE_EVENT_DISCONNECT);
            break;
        case Step::terminating:
            post_pieces(host, sending_bytes);
            host.post(host.terminate(0));
            break;
        case Step::kept_held:
            host.post(host.terminate(FLUE_WR_KEEP_HELD));
            host.await(FLUE_OP_TERMINATE);
            break;
    }
    return std::nullopt;
}

uint64_t posted_bytes(Host& host) {
    host.query();
    const flue_state& state = host.state();
    return state.snd_una + state.send_backlog_bytes - host.journal().first_seq;
}

void finish(Host& host, uint64_t bytes) {
    if (host.journal().receiving != 0) {
        const flue_wc received = host.find(FLUE_OP_RECV);
        const e2e::Pattern expected(peer_seed);
        if (received.wr_id != id_receive || received.bytes != received_bytes ||
            !expected.matches(0, {host.at(receive_offset), received_bytes})) {
            fail("the RECV of the host before has other bytes");
        }
    }
    if (host.journal().disconnected == 0) {
        const uint64_t posted = posted_bytes(host);
        if (posted > bytes || posted % piece_bytes != 0) {
            fail("posted " + std::to_string(posted) + " bytes, at most " + std::to_string(bytes));
        }
        host.post_disconnect(
            host.range(stream_offset + posted, static_cast<uint32_t>(bytes - posted)));
    }
    host.query();  // FIN-WAIT-2: its completion went with the host before
    if (host.state().tcp_state != FLUE_TCP_FIN_WAIT_2 &&
        host.state().tcp_state != FLUE_TCP_TIME_WAIT &&
        host.find(FLUE_OP_DISCONNECT).status != FLUE_SUCCESS) {
        fail("DISCONNECT");
    }
    host.find(FLUE_EVENT_DISCONNECT);
    host.post(host.terminate(0));
    if (host.find(FLUE_OP_TERMINATE).status != FLUE_SUCCESS) {
        fail("TERMINATE");
    }
}

}  // namespace

void live_until_killed(const Plan& plan, int fd, const testbed::Report& report) {
    Host host = open_host(plan);
    report.line("token " + hex(flue_token(host.context())));
    std::optional<std::thread> waiting;
    if (plan.step == Step::held || plan.step == Step::frozen) {
        hold(host, fd);
        const int on = 1;
        if (plan.step == Step::frozen &&
            ::setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) != 0) {
            fail("TCP_REPAIR");
        }
    } else {
        offload(host, fd);
        waiting = reach(plan.step, host, report);
    }
    report.line("ready");
    for (uint64_t piece = 0; plan.step == Step::posting && piece < pieces_max; ++piece) {
        host.post_piece(piece);
        host.poll();
    }
    while (true) {
        ::pause();
    }
}

void take_up(const Plan& plan,
             const std::string& token,
             uint64_t bytes,
             const testbed::Report& report) {
    std::array<uint8_t, FLUE_TOKEN_BYTES> shown{};
    for (size_t i = 0; i < shown.size(); ++i) {
        shown[i] = static_cast<uint8_t>(std::stoul(token.substr(2 * i, 2), nullptr, 16));
    }
    flue_context* context = flue_reattach(plan.socket_path.c_str(), shown.data());
    if (context == nullptr) {
        fail("flue_reattach");
    }
    flue_mr* first      = flue_mr_recover(context);
    const size_t others = plan.step == Step::deregistering ? 1 : 0;
    for (size_t i = 0; i < others; ++i) {
        if (flue_mr_recover(context) == nullptr) {
            fail("the region whose destruction was not done");
        }
    }
    if (flue_mr_recover(context) != nullptr || errno != ENOENT) {
        fail("a region too many");
    }
    Host host(context, flue_hq_recover(context), first);
    const flue_wc found = host.await(FLUE_EVENT_REATTACHED);
    host.conn           = found.conn;
    if (found.info == FLUE_TCP_CLOSED) {
        host.post(host.request(FLUE_OP_RELEASE, id_other));
        host.await(FLUE_OP_RELEASE);
    } else {
        finish(host, bytes);
    }
    flue_close(context);
    report.line("done");
}

}  // namespace flue::killed
