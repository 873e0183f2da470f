#include <functional>
#include <gtest/gtest.h>
#include <sstream>
#include <sys/socket.h>

#include "pattern.hpp"
#include "peer.hpp"
#include "rig.hpp"

/// The connection matrix against the kernel: who closes first x graceful or abortive x data pending
/// or not x IPv4 or IPv6 x a perfect wire or 1 % loss and 1 % reordering.  Every byte is compared.
namespace flue::e2e {

namespace {

constexpr uint64_t host_bytes   = 3 << 20;
constexpr uint64_t peer_bytes   = 2 << 20;
constexpr uint64_t kernel_bytes = 200'000;  ///< written to the kernel's socket before the hand-over
constexpr uint32_t send_bytes   = 128 * 1024;
constexpr uint32_t receive_bytes  = 64 * 1024;
constexpr uint32_t receive_count  = 16;
constexpr uint64_t handoff_offset = 0;
constexpr uint64_t handoff_bytes  = 8 << 20;
constexpr uint64_t send_offset    = handoff_offset + handoff_bytes;
constexpr uint64_t receive_offset = send_offset + host_bytes;
constexpr uint64_t state_offset   = receive_offset + receive_count * receive_bytes;
constexpr uint64_t backlog_offset = state_offset + 4096;
constexpr uint32_t backlog_bytes  = 4 << 20;
constexpr uint64_t region_bytes   = backlog_offset + backlog_bytes;

enum WrId : uint64_t { id_handoff = 1, id_send, id_disconnect, id_terminate, id_receive = 100 };

struct Case {
    bool host_closes_first;
    bool abortive;
    bool data_pending;
    bool ipv6;
    bool lossy;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
    const Case& c = info.param;
    std::ostringstream out;
    out << (c.host_closes_first ? "host" : "peer") << (c.abortive ? "_aborts" : "_closes")
        << (c.data_pending ? "_data_pending" : "_idle") << (c.ipv6 ? "_ipv6" : "_ipv4")
        << (c.lossy ? "_lossy" : "_perfect");
    return out.str();
}

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (unsigned bits = 0; bits < 32; ++bits) {
        cases.push_back({.host_closes_first = (bits & 1) != 0,
                         .abortive          = (bits & 2) != 0,
                         .data_pending      = (bits & 4) != 0,
                         .ipv6              = (bits & 8) != 0,
                         .lossy             = (bits & 16) != 0});
    }
    return cases;
}

}  // namespace

class Matrix : public testing::TestWithParam<Case> {
  protected:
    static void SetUpTestSuite() {
        rig_ = std::make_unique<Rig>(testbed::BottleOptions{.impairable = true});
    }

    static void TearDownTestSuite() { rig_.reset(); }

    void hand_over();
    void post_receives();
    void post_sends_up_to(uint64_t end);
    void on_receive(const flue_wc& wc);
    void handle(const flue_wc& wc);
    void run_until(const std::function<bool()>& done);
    void wait_for_peers_rst();
    void terminate();

    [[nodiscard]] bool received_all() const { return received_ == peer_bytes; }

    static inline std::unique_ptr<Rig> rig_;
    const Pattern from_host_{1};
    const Pattern from_peer_{2};
    std::unique_ptr<Session> session_;
    testbed::Descriptor socket_;
    flue_conn conn_        = FLUE_NO_CONN;
    uint64_t posted_       = 0;  ///< of the host's stream
    uint64_t received_     = 0;  ///< of the peer's stream
    uint64_t sends_left_   = 0;
    flue_status last_send_ = FLUE_SUCCESS;
    bool bytes_right_      = true;
    bool peer_fin_         = false;
    bool peer_rst_         = false;
    bool disconnected_     = false;
    bool terminated_       = false;
    flue_wc disconnect_{};
};

void Matrix::hand_over() {
    std::vector<uint8_t> first(kernel_bytes);
    from_host_.write(0, first);
    const ssize_t sent = ::send(socket_.get(), first.data(), first.size(), MSG_DONTWAIT);
    ASSERT_GT(sent, 0);
    posted_ = static_cast<uint64_t>(sent);
    flue_socket_offload_options options{};
    options.mr             = session_->region();
    options.mr_offset      = handoff_offset;
    options.mr_bytes       = handoff_bytes;
    options.send_wr_id     = id_handoff;
    options.keep_time_wait = 0;
    flue_socket_offload_result result{};
    ASSERT_EQ(flue_socket_offload(session_->queue(), socket_.release(), &options, &result), 0)
        << flue_error_text();
    conn_       = result.conn;
    sends_left_ = result.sends_posted;
    post_receives();
}

void Matrix::post_receives() {
    for (uint32_t i = 0; i < receive_count; ++i) {
        session_->post(
            FLUE_OP_RECV,
            conn_,
            id_receive + i,
            session_->range(receive_offset + uint64_t{i} * receive_bytes, receive_bytes));
    }
}

void Matrix::post_sends_up_to(uint64_t end) {
    while (posted_ < end) {
        const auto bytes = static_cast<uint32_t>(std::min<uint64_t>(send_bytes, end - posted_));
        from_host_.write(posted_, {session_->data(send_offset + posted_), bytes});
        session_->post(FLUE_OP_SEND, conn_, id_send, session_->range(send_offset + posted_, bytes));
        posted_ += bytes;
        ++sends_left_;
    }
}

void Matrix::on_receive(const flue_wc& wc) {
    const uint64_t offset = receive_offset + (wc.wr_id - id_receive) * receive_bytes;
    bytes_right_ =
        bytes_right_ && from_peer_.matches(received_, {session_->data(offset), wc.bytes});
    received_ += wc.bytes;
    if (wc.status == FLUE_SUCCESS && !peer_fin_ && received_ < peer_bytes) {
        session_->post(FLUE_OP_RECV, conn_, wc.wr_id, session_->range(offset, receive_bytes));
    }
}

void Matrix::handle(const flue_wc& wc) {
    EXPECT_EQ(wc.conn, conn_);
    switch (wc.opcode) {
        case FLUE_OP_SEND:
            --sends_left_;
            last_send_ = static_cast<flue_status>(wc.status);
            break;
        case FLUE_OP_RECV:
            on_receive(wc);
            break;
        case FLUE_OP_DISCONNECT:
            disconnected_ = true;
            disconnect_   = wc;
            break;
        case FLUE_OP_TERMINATE:
            terminated_ = true;
            EXPECT_EQ(wc.status, FLUE_SUCCESS);
            break;
        case FLUE_EVENT_DISCONNECT:
            peer_fin_ = true;
            break;
        case FLUE_EVENT_ABORT:
            peer_rst_ = true;
            break;
        default:
            break;
    }
}

void Matrix::run_until(const std::function<bool()>& done) {
    while (!done()) {
        try {
            handle(session_->wait());
        } catch (const std::runtime_error& error) {
            std::ostringstream out;
            out << error.what() << "; of the host's stream " << posted_ << " bytes posted, "
                << sends_left_ << " sends outstanding; of the peer's " << received_
                << " received; the target says " << rig_->ask("/flue/conns").dump();
            throw std::runtime_error(out.str());
        }
    }
}

/// An RST may be lost, and then it takes another segment to draw the next one.
void Matrix::wait_for_peers_rst() {
    for (int quiet_seconds = 0; !peer_rst_ && quiet_seconds < 30;) {
        flue_wc wc{};
        if (flue_wait(session_->queue(), &wc, 1, 1000) == 1) {
            handle(wc);
        } else {
            ++quiet_seconds;
            post_sends_up_to(std::min(posted_ + 100, host_bytes));
        }
    }
    EXPECT_TRUE(peer_rst_);
}

void Matrix::terminate() {
    flue_wr wr{};
    wr.wr_id     = id_terminate;
    wr.conn      = conn_;
    wr.opcode    = FLUE_OP_TERMINATE;
    wr.sge_count = 2;
    wr.sge[0]    = session_->range(state_offset, sizeof(flue_state));
    wr.sge[1]    = session_->range(backlog_offset, backlog_bytes);
    session_->post(wr);
    run_until([&] { return terminated_; });
}

TEST_P(Matrix, every_byte_arrives_and_the_close_is_seen) {
    const Case c              = GetParam();
    const nlohmann::json base = rig_->usage();
    rig_->bottle().set_impairment(
        {.loss_permille = c.lossy ? 10u : 0u, .late_permille = c.lossy ? 10u : 0u});
    session_        = std::make_unique<Session>(*rig_, region_bytes);
    SocketPair pair = connect_pair(rig_->bottle().host(), rig_->bottle().remote(), c.ipv6);
    socket_         = std::move(pair.host);
    PeerPlan plan{.bytes_to_send     = peer_bytes,
                  .close_first       = !c.host_closes_first,
                  .abort             = c.abortive && !c.host_closes_first,
                  .abort_after_bytes = c.data_pending ? kernel_bytes : host_bytes - send_bytes};
    KernelPeer peer(std::move(pair.remote), from_peer_, from_host_, plan);
    ASSERT_NO_FATAL_FAILURE(hand_over());

    if (c.abortive && c.host_closes_first) {
        post_sends_up_to(host_bytes);
        run_until([&] { return received_all() && (c.data_pending || sends_left_ == 0); });
        session_->post(FLUE_OP_DISCONNECT, conn_, id_disconnect, FLUE_WR_ABORT);
        run_until([&] { return disconnected_; });
        EXPECT_EQ(disconnect_.status, FLUE_SUCCESS);
        EXPECT_EQ(sends_left_, 0u);
        const KernelPeer::Result seen = peer.finish();
        EXPECT_EQ(seen.error, ECONNRESET);
        EXPECT_TRUE(seen.bytes_right);
    } else if (c.abortive) {
        post_sends_up_to(host_bytes - send_bytes);
        wait_for_peers_rst();
        EXPECT_TRUE(peer.finish().bytes_right);
        EXPECT_EQ(sends_left_, 0u);
    } else {
        const bool early = c.host_closes_first && c.data_pending;
        post_sends_up_to(host_bytes - send_bytes);
        run_until([&] { return early || (c.host_closes_first ? sends_left_ == 0 : peer_fin_); });
        from_host_.write(posted_, {session_->data(send_offset + posted_), send_bytes});
        session_->post(FLUE_OP_DISCONNECT,
                       conn_,
                       id_disconnect,
                       session_->range(send_offset + posted_, send_bytes));
        run_until([&] { return disconnected_ && peer_fin_; });
        EXPECT_EQ(disconnect_.status, FLUE_SUCCESS);
        EXPECT_EQ(disconnect_.bytes, send_bytes);
        EXPECT_EQ(sends_left_, 0u);
        EXPECT_EQ(last_send_, FLUE_SUCCESS);
        EXPECT_TRUE(received_all()) << received_;
        const KernelPeer::Result seen = peer.finish();
        EXPECT_EQ(seen.bytes_received, host_bytes);
        EXPECT_TRUE(seen.bytes_right);
        EXPECT_TRUE(seen.saw_fin);
        EXPECT_EQ(seen.error, 0);
    }
    EXPECT_TRUE(bytes_right_);
    terminate();
    session_.reset();
    rig_->bottle().set_impairment({});
    EXPECT_EQ(rig_->usage_after_settling(base), base);
}

INSTANTIATE_TEST_SUITE_P(Kernel, Matrix, testing::ValuesIn(all_cases()), name_of);

}  // namespace flue::e2e
