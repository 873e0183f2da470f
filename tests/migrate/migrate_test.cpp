#include <algorithm>
#include <deque>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <numeric>
#include <sys/socket.h>
#include <thread>
#include <vector>

#include "pattern.hpp"
#include "peer.hpp"
#include "rig.hpp"
#include "testbed/capture.hpp"
#include "testbed/telemetry_client.hpp"

/// Two targets on one wire, a kernel peer, and a host with a session at each: its connection moves
/// from one to the other and back while both ends send.  Every byte is compared.
namespace flue::e2e {

namespace {

constexpr uint64_t moves           = 100;
constexpr uint64_t step_bytes      = 24 * 1024;  ///< posted by the host between two moves
constexpr uint64_t heard_bytes     = 32 * 1024;  ///< heard by the host between two moves
constexpr uint64_t last_bytes      = 100'000;    ///< in the DISCONNECT
constexpr uint64_t host_bytes      = moves * step_bytes + last_bytes;
constexpr uint64_t peer_bytes      = (moves + 20) * heard_bytes;
constexpr uint32_t receive_bytes   = 16 * 1024;
constexpr uint32_t receive_count   = 16;
constexpr const char* time_wait_ms = "500";

// Of each session's region:
constexpr uint64_t give_offset    = 0;  ///< lent to moves: what comes out of its target
constexpr uint64_t give_bytes     = 1 << 20;
constexpr uint64_t take_offset    = give_offset + give_bytes;  ///< what goes into it
constexpr uint64_t take_bytes     = 8 << 20;
constexpr uint64_t send_offset    = take_offset + take_bytes;
constexpr uint64_t receive_offset = send_offset + host_bytes;
constexpr uint64_t region_bytes   = receive_offset + uint64_t{receive_count} * receive_bytes;

enum WrId : uint64_t { id_end = 1, id_receive = 100, id_send = 1000 };

struct Case {
    bool ipv6;
    bool lossy;
};

std::vector<uint64_t> all_slots() {
    std::vector<uint64_t> slots(receive_count);
    std::iota(slots.begin(), slots.end(), uint64_t{0});
    return slots;
}

/// The host's side of one of the two targets.
struct Side {
    explicit Side(const testbed::Flued& flued)
        : session(flued.options().socket_path, region_bytes) {}

    Session session;
    flue_conn conn = FLUE_NO_CONN;  ///< live or left behind
    std::deque<flue_wr> sends;      ///< outstanding
    uint32_t receives = 0;          ///< outstanding
};

testbed::FluedOptions second_options() {
    testbed::FluedOptions options;
    options.program       = flued_program;
    options.first_cpu     = 1;
    options.file_prefix   = "flue-b";
    options.socket_path   = "/run/flued-b.sock";
    options.tap           = "none";  // the kernel hears through the first one
    options.flued_options = {"--time-wait-ms", time_wait_ms};
    return options;
}

/// How often RST was on the wire, either way.
int64_t resets(testbed::Capture& wire) {
    const auto segments = wire.segments();
    return std::count_if(segments.begin(), segments.end(), [](const auto& segment) {
        return segment.has(wire::tcp_rst);
    });
}

}  // namespace

class Migrate : public testing::TestWithParam<Case> {
  protected:
    static void SetUpTestSuite() {
        testbed::FluedOptions first;
        first.flued_options = {"--time-wait-ms", time_wait_ms};
        rig_    = std::make_unique<Rig>(testbed::BottleOptions{.impairable = true}, first);
        second_ = std::make_unique<testbed::Flued>(rig_->bottle(), second_options());
    }

    static void TearDownTestSuite() {
        second_.reset();
        rig_.reset();
    }

    static nlohmann::json usage() {
        return {rig_->usage(), testbed::TelemetryClient("flue-b").ask("/flue/usage")};
    }

    /// What is in use once the workers know every queue that the targets have of their own.
    static nlohmann::json usage_at_rest() {
        const auto knows_all = [](const nlohmann::json& target) {
            return target.at("worker_queues") == target.at("queues");
        };
        for (int i = 0; i < 100 && !std::ranges::all_of(usage(), knows_all); ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds{50});
        }
        return usage();
    }

    static void expect_usage(const nlohmann::json& baseline) {
        for (int i = 0; i < 100 && usage() != baseline; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds{50});
        }
        EXPECT_EQ(usage(), baseline);
    }

    [[nodiscard]] Side& here() { return *sides_[at_]; }

    [[nodiscard]] Side& there() { return *sides_[1 - at_]; }

    void hand_over(testbed::Descriptor socket);
    void post_send(uint8_t opcode, uint64_t bytes);
    void post_receives();
    void move();
    void handle(Side& side, const flue_wc& wc);
    void run_until(const std::function<bool()>& done);
    void end();

    static inline std::unique_ptr<Rig> rig_;
    static inline std::unique_ptr<testbed::Flued> second_;
    const Pattern from_host_{1};
    const Pattern from_peer_{2};
    std::array<std::unique_ptr<Side>, 2> sides_;
    unsigned at_       = 0;
    uint64_t posted_   = 0;
    uint64_t received_ = 0;
    uint64_t hearable_ = heard_bytes;  ///< received bytes up to which RECVs are posted
    std::vector<uint64_t> free_slots_ = all_slots();
    uint64_t next_id_                 = id_send;
    std::map<uint64_t, int> successes_;  ///< by wr_id of SENDs and the DISCONNECT
    bool bytes_right_ = true;
    bool peer_fin_    = false;
    bool ended_       = false;
};

void Migrate::hand_over(testbed::Descriptor socket) {
    flue_socket_offload_options options{};
    options.mr             = here().session.region();
    options.mr_offset      = take_offset;
    options.mr_bytes       = take_bytes;
    options.keep_time_wait = 1;
    flue_socket_offload_result result{};
    ASSERT_EQ(flue_socket_offload(here().session.queue(), socket.release(), &options, &result), 0)
        << flue_error_text();
    ASSERT_EQ(result.sends_posted, 0u);
    here().conn = result.conn;
    post_receives();
}

/// No more is asked for than hearable_: the peer has something left to send until the last move, so
/// that the connection cannot end before it.
void Migrate::post_receives() {
    while (!free_slots_.empty() && received_ + here().receives * receive_bytes < hearable_) {
        const uint64_t slot = free_slots_.back();
        free_slots_.pop_back();
        ++here().receives;
        here().session.post(
            FLUE_OP_RECV,
            here().conn,
            id_receive + slot,
            here().session.range(receive_offset + slot * receive_bytes, receive_bytes));
    }
}

void Migrate::post_send(uint8_t opcode, uint64_t bytes) {
    from_host_.write(posted_, {here().session.data(send_offset + posted_), bytes});
    flue_wr wr{};
    wr.wr_id     = next_id_++;
    wr.conn      = here().conn;
    wr.opcode    = opcode;
    wr.sge_count = 1;
    wr.sge[0]    = here().session.range(send_offset + posted_, static_cast<uint32_t>(bytes));
    posted_ += bytes;
    here().session.post(wr);
    here().sends.push_back(wr);
    successes_[wr.wr_id] = 0;
}

void Migrate::handle(Side& side, const flue_wc& wc) {
    EXPECT_EQ(wc.conn, side.conn);
    switch (wc.opcode) {
        case FLUE_OP_SEND:
        case FLUE_OP_DISCONNECT:
            ASSERT_FALSE(side.sends.empty());
            EXPECT_EQ(wc.wr_id, side.sends.front().wr_id) << "completions out of order";
            side.sends.pop_front();
            successes_[wc.wr_id] += wc.status == FLUE_SUCCESS ? 1 : 0;
            EXPECT_TRUE(wc.status == FLUE_SUCCESS ||
                        (wc.status == FLUE_UPLOAD_IN_PROGRESS && &side != &here()))
                << flue_status_name(wc.status);
            break;
        case FLUE_OP_RECV: {
            const uint64_t slot   = wc.wr_id - id_receive;
            const uint64_t offset = receive_offset + slot * receive_bytes;
            const std::span bytes{side.session.data(offset), wc.bytes};
            bytes_right_ = bytes_right_ && from_peer_.matches(received_, bytes);
            received_ += wc.bytes;
            --side.receives;
            free_slots_.push_back(slot);
            if (wc.status == FLUE_SUCCESS && received_ < peer_bytes && !peer_fin_ &&
                &side == &here()) {
                post_receives();
            }
            break;
        }
        case FLUE_EVENT_DISCONNECT:
            EXPECT_FALSE(peer_fin_) << "told twice";
            peer_fin_ = true;
            break;
        case FLUE_OP_TERMINATE:
        case FLUE_OP_RELEASE:
            EXPECT_EQ(wc.status, FLUE_SUCCESS);
            ended_ = true;
            break;
        case FLUE_EVENT_ABORT:
            FAIL() << "the peer has reset the connection";
        default:
            break;
    }
}

void Migrate::run_until(const std::function<bool()>& done) {
    while (!done() && !HasFatalFailure()) {
        handle(here(), here().session.wait());
    }
}

/// Make before break, by flue_move; then what the first target completed on the way.
void Migrate::move() {
    Side& from = here();
    Side& to   = there();
    const std::vector<flue_wr> sends(from.sends.begin(), from.sends.end());
    std::vector<flue_wr> posted(sends.size());
    flue_mr* const region = from.session.region();
    flue_move_options options{};
    options.from_mr        = region;
    options.from_offset    = give_offset;
    options.from_bytes     = give_bytes;
    options.to_mr          = to.session.region();
    options.to_offset      = take_offset;
    options.to_bytes       = take_bytes;
    options.sends          = sends.data();
    options.send_count     = static_cast<uint32_t>(sends.size());
    options.send_mrs       = &region;
    options.send_mr_count  = 1;
    options.posted         = posted.data();
    options.held           = to.conn;
    options.shared_wire    = 1;
    options.keep_time_wait = 1;
    flue_move_result result{};
    ASSERT_EQ(flue_move(from.session.queue(), from.conn, to.session.queue(), &options, &result), 0)
        << flue_error_text();
    EXPECT_EQ(result.left, from.conn);
    to.conn = result.conn;
    posted.resize(result.sends_posted);
    to.sends.assign(posted.begin(), posted.end());
    at_ = 1 - at_;
    while ((!from.sends.empty() || from.receives > 0) && !HasFatalFailure()) {
        handle(from, from.session.wait());
    }
    if (!peer_fin_) {
        post_receives();
    }
}

void Migrate::end() {
    here().session.post(FLUE_OP_TERMINATE,
                        here().conn,
                        id_end,
                        here().session.range(give_offset, sizeof(flue_state)));
    run_until([&] { return ended_; });
    ended_ = false;
    at_    = 1 - at_;
    here().session.post(FLUE_OP_RELEASE, here().conn, id_end, FLUE_WR_DISCARD);
    run_until([&] { return ended_; });
}

TEST_P(Migrate, R20_R21_R106_R107_a_hundred_moves_under_traffic_lose_nothing) {
    const nlohmann::json base = usage_at_rest();
    rig_->bottle().set_impairment({.loss_permille = GetParam().lossy ? 10u : 0u});
    testbed::Capture wire(rig_->bottle().remote(), testbed::Bottle::far_end);
    sides_          = {std::make_unique<Side>(rig_->flued()), std::make_unique<Side>(*second_)};
    SocketPair pair = connect_pair(rig_->bottle().host(), rig_->bottle().remote(), GetParam().ipv6);
    KernelPeer peer(std::move(pair.remote), from_peer_, from_host_, {.bytes_to_send = peer_bytes});
    ASSERT_NO_FATAL_FAILURE(hand_over(std::move(pair.host)));

    for (uint64_t i = 1; i <= moves; ++i) {
        hearable_ = i * heard_bytes;
        post_receives();
        post_send(FLUE_OP_SEND, step_bytes / 2);
        post_send(FLUE_OP_SEND, step_bytes / 2);
        ASSERT_NO_FATAL_FAILURE(run_until([&] { return received_ >= i * heard_bytes; }));
        ASSERT_NO_FATAL_FAILURE(move()) << "move " << i;
    }
    post_send(FLUE_OP_DISCONNECT, last_bytes);
    ASSERT_NO_FATAL_FAILURE(move()) << "with the close under way";
    hearable_ = UINT64_MAX;
    post_receives();
    run_until([&] { return here().sends.empty() && peer_fin_; });

    const KernelPeer::Result seen = peer.finish();
    EXPECT_EQ(seen.bytes_received, host_bytes);
    EXPECT_TRUE(seen.bytes_right);
    EXPECT_TRUE(seen.saw_fin);
    EXPECT_EQ(seen.error, 0);
    EXPECT_EQ(received_, peer_bytes);
    EXPECT_TRUE(bytes_right_);
    for (const auto& [wr_id, count] : successes_) {
        EXPECT_EQ(count, 1) << "request " << wr_id;
    }
    end();
    EXPECT_EQ(resets(wire), 0);
    sides_ = {};
    rig_->bottle().set_impairment({});
    expect_usage(base);
}

INSTANTIATE_TEST_SUITE_P(Targets,
                         Migrate,
                         testing::Values(Case{.ipv6 = false, .lossy = false},
                                         Case{.ipv6 = true, .lossy = false},
                                         Case{.ipv6 = false, .lossy = true},
                                         Case{.ipv6 = true, .lossy = true}),
                         [](const auto& each) {
                             return std::string(each.param.ipv6 ? "ipv6" : "ipv4") +
                                    (each.param.lossy ? "_lossy" : "_perfect");
                         });

}  // namespace flue::e2e
