#include <cstdlib>
#include <gtest/gtest.h>
#include <memory>
#include <queue>
#include <sstream>

#include "base/prng.hpp"
#include "engine_end.hpp"
#include "lwip_peer.hpp"

/// lwIP's TCP as peer of the engine, in this process and in no time: whole packets between them,
/// a clock that jumps, and losses, reordering and duplicates from a seed, which a failure names and
/// FLUE_LWIP_SEED repeats.
namespace flue::peers {

namespace {

enum class Flow : uint8_t { from_flue, from_lwip, both };
enum class Close : uint8_t { flue_first, lwip_first, together, flue_aborts, lwip_aborts };
enum class Road : uint8_t { perfect, lossy, rough, slow_readers };

constexpr std::array flow_names{"from_flue", "from_lwip", "both_ways"};
constexpr std::array close_names{
    "flue_closes_first", "lwip_closes_first", "both_close_at_once", "flue_aborts", "lwip_aborts"};
constexpr std::array road_names{"perfect", "lossy", "rough", "slow_readers"};

constexpr uint64_t stream_bytes = 600'000;
constexpr uint64_t way_us       = 5'000;
constexpr uint64_t patience_us  = 1'200'000'000;
constexpr uint64_t pause_us     = 7'000'000;
constexpr uint64_t flush_us     = 600'000'000;  ///< more than lwIP's 2MSL
constexpr uint64_t seeds        = 10;

struct Case {
    Flow flow;
    Close close;
    Road road;
    bool ipv6;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
    const Case& c = info.param;
    std::ostringstream out;
    out << flow_names[static_cast<size_t>(c.flow)] << "_"
        << close_names[static_cast<size_t>(c.close)] << "_"
        << road_names[static_cast<size_t>(c.road)] << (c.ipv6 ? "_ipv6" : "_ipv4");
    return out.str();
}

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    bool ipv6 = false;
    for (const Flow flow : {Flow::from_flue, Flow::from_lwip, Flow::both}) {
        for (const Close close : {Close::flue_first,
                                  Close::lwip_first,
                                  Close::together,
                                  Close::flue_aborts,
                                  Close::lwip_aborts}) {
            for (const Road road : {Road::perfect, Road::lossy, Road::rough, Road::slow_readers}) {
                const bool nothing_comes =
                    (close == Close::flue_aborts && flow == Flow::from_flue) ||
                    (close == Close::lwip_aborts && flow == Flow::from_lwip);
                if (!nothing_comes) {
                    cases.push_back({flow, close, road, ipv6});
                    ipv6 = !ipv6;
                }
            }
        }
    }
    return cases;
}

/// The clock goes on from test to test, as lwIP's does.
Instant now{1'000'000};

/// A world of two ends and the road between them.
class World {
  public:
    World(const Case& c, uint64_t seed);
    ~World();

    /// Both ends do what they have to until they are over.  Returns whether they were in time.
    bool run();
    void expect_all_well();

    /// Frames that were lost, late or doubled.
    [[nodiscard]] uint64_t harmed() const { return harmed_; }

  private:
    struct Flight {
        Instant at;
        uint64_t number = 0;
        bool to_flue    = false;
        std::vector<std::byte> frame;

        bool operator>(const Flight& other) const {
            return at != other.at ? at > other.at : number > other.number;
        }
    };

    void send(bool to_flue, std::vector<std::byte> frame);
    void put(bool to_flue, const std::vector<std::byte>& frame, uint64_t delay_us);
    void step(Instant limit);
    void deliver();
    void direct();

    [[nodiscard]] bool graceful() const { return case_.close < Close::flue_aborts; }

    [[nodiscard]] bool exchanged() const;
    [[nodiscard]] bool over() const;

    Case case_;
    Prng chance_;
    uint64_t to_lwip_bytes_;
    uint64_t to_flue_bytes_;
    const e2e::Pattern from_flue_{11};
    const e2e::Pattern from_lwip_{12};
    std::priority_queue<Flight, std::vector<Flight>, std::greater<>> flights_;
    uint64_t sent_   = 0;
    uint64_t harmed_ = 0;
    std::array<Instant, 2> last_arrival_{};
    std::array<Instant, 2> paused_since_{};
    bool flue_closed_ = false;
    bool lwip_closed_ = false;
    std::unique_ptr<EngineEnd> flue_;
    std::unique_ptr<lwip::Peer> lwip_;
};

World::World(const Case& c, uint64_t seed)
    : case_(c),
      chance_(seed),
      to_lwip_bytes_(c.flow == Flow::from_lwip ? 0 : stream_bytes),
      to_flue_bytes_(c.flow == Flow::from_flue ? 0 : stream_bytes) {
    const auto half_if = [](bool wanted) { return wanted ? stream_bytes / 2 : UINT64_MAX; };
    EngineEnd::Plan plan{.bytes_to_send     = to_lwip_bytes_,
                         .abort_after_bytes = half_if(c.close == Close::flue_aborts),
                         .pause_after_bytes = half_if(c.road == Road::slow_readers),
                         .seed              = seed};
    flue_ = std::make_unique<EngineEnd>(
        from_flue_, from_lwip_, plan, [this](std::vector<std::byte> frame) {
            send(false, std::move(frame));
        });
    lwip::start([this](lwip::Packet packet) {
        const bool ipv6 = (packet.front() & std::byte{0xf0}) == std::byte{0x60};
        std::vector<std::byte> frame(14);
        frame[12] = std::byte{ipv6 ? uint8_t{0x86} : uint8_t{0x08}};
        frame[13] = std::byte{ipv6 ? uint8_t{0xdd} : uint8_t{0x00}};
        frame.insert(frame.end(), packet.begin(), packet.end());
        send(true, std::move(frame));
    });
    lwip_ = std::make_unique<lwip::Peer>(
        c.ipv6,
        5001,
        from_lwip_,
        from_flue_,
        lwip::Plan{.bytes_to_send     = to_flue_bytes_,
                   .abort_after_bytes = half_if(c.close == Close::lwip_aborts),
                   .pause_after_bytes = plan.pause_after_bytes});
}

World::~World() {
    lwip_.reset();
    lwip::start([](const lwip::Packet&) {});
}

void World::send(bool to_flue, std::vector<std::byte> frame) {
    wire::Frame parsed;
    if (wire::parse_frame(frame, wire::Checksum::verify, parsed) != wire::ParseResult::tcp) {
        return;  // lwIP asks for routers and the like
    }
    // An RST is sent once; and the handshake is not what is tried here.
    const bool spared =
        !flue_->connected() || (parsed.tcp.flags & (wire::tcp_rst | wire::tcp_syn)) != 0;
    const bool rough     = case_.road == Road::rough && !spared;
    const uint32_t loss  = case_.road == Road::lossy ? 10 : case_.road == Road::rough ? 50 : 0;
    const bool lost      = chance_.chance(loss, 1000) && !spared;
    const bool late      = chance_.chance(50, 1000) && rough;
    const bool doubled   = chance_.chance(20, 1000) && rough;
    const uint32_t later = chance_.below(way_us * 4);
    harmed_ += lost || late || doubled;
    if (!lost) {
        put(to_flue, frame, late ? way_us + later : way_us);
    }
    if (doubled) {
        put(to_flue, frame, way_us + later);
    }
}

void World::put(bool to_flue, const std::vector<std::byte>& frame, uint64_t delay_us) {
    flights_.push({now + delay_us, ++sent_, to_flue, frame});
}

void World::deliver() {
    while (!flights_.empty() && flights_.top().at <= now) {
        const Flight flight = flights_.top();
        flights_.pop();
        if (flight.to_flue) {
            flue_->receive(now, flight.frame);
        } else {
            lwip::input(std::span(flight.frame).subspan(14));
        }
    }
}

/// step moves the clock to whatever comes first.
void World::step(Instant limit) {
    Instant next = std::min(limit, now + uint64_t{lwip::idle_ms()} * 1000 + 1000);
    if (!flights_.empty()) {
        next = std::min(next, flights_.top().at);
    }
    if (const Instant deadline = flue_->next_deadline(); deadline.is_set()) {
        next = std::min(next, deadline);
    }
    now = std::max(now, next);
    lwip::set_clock(now.us / 1000);
    deliver();
    flue_->on_time(now);
}

bool World::exchanged() const {
    return flue_->seen().bytes_received == to_flue_bytes_ &&
           lwip_->seen().bytes_received == to_lwip_bytes_ && flue_->connected();
}

/// direct has the ends close when it is their turn, and go on reading after a pause.
void World::direct() {
    const bool flue_may = case_.close == Close::flue_first ||
                          (case_.close == Close::lwip_first && flue_->seen().fin) ||
                          (case_.close == Close::together && exchanged());
    const bool lwip_may = case_.close == Close::lwip_first ||
                          (case_.close == Close::flue_first && lwip_->seen().fin) ||
                          (case_.close == Close::together && exchanged());
    const bool connected = flue_->connected();
    if (connected && lwip_may && !lwip_closed_) {
        lwip_closed_ = true;
        lwip_->close();
    }
    if (connected && flue_may && !flue_closed_) {
        flue_closed_ = true;
        flue_->close(now);
    }
    const std::array paused{flue_->paused(), lwip_->paused()};
    for (size_t end = 0; end < paused.size(); ++end) {
        if (!paused[end]) {
            paused_since_[end] = {};
        } else if (!paused_since_[end].is_set()) {
            paused_since_[end] = now;
        } else if (now - paused_since_[end] > static_cast<int64_t>(pause_us)) {
            end == 0 ? flue_->resume(now) : lwip_->resume();
        }
    }
}

bool World::over() const {
    if (!flue_->over()) {
        return false;
    }
    return graceful() ? lwip_->closed() && lwip_->seen().fin
                      : lwip_->seen().reset || lwip_->seen().aborted;
}

bool World::run() {
    const Instant limit = now + patience_us;
    while (!over() && now < limit) {
        step(limit);
        direct();
    }
    const bool in_time = over();
    // What is still under way, and lwIP's TIME-WAIT.
    for (const Instant end = now + flush_us; now < end;) {
        step(end);
    }
    return in_time;
}

void World::expect_all_well() {
    const auto& flue = flue_->seen();
    const auto& lwip = lwip_->seen();
    EXPECT_TRUE(flue.bytes_right);
    EXPECT_TRUE(lwip.bytes_right);
    EXPECT_FALSE(flue.uploaded);
    flue_->forget();
    if (graceful()) {
        EXPECT_EQ(lwip.bytes_received, to_lwip_bytes_);
        EXPECT_EQ(flue.bytes_received, to_flue_bytes_);
        EXPECT_EQ(flue.bytes_acked, to_lwip_bytes_);
        EXPECT_TRUE(flue.fin);
        EXPECT_TRUE(lwip.fin);
        EXPECT_FALSE(flue.reset || lwip.reset);
        EXPECT_TRUE(flue.fins_crossed || case_.close != Close::together ||
                    case_.road != Road::perfect);
    } else {
        EXPECT_EQ(flue.reset, case_.close == Close::lwip_aborts);
        EXPECT_EQ(lwip.reset, case_.close == Close::flue_aborts);
    }
    const auto usage = flue_->engine().usage();
    EXPECT_EQ(usage.connections, 0u);
    EXPECT_EQ(usage.send_items, 0u);
    EXPECT_EQ(usage.receive_chunks, 0u);
    EXPECT_EQ(usage.spans, 0u);
    EXPECT_EQ(lwip::connections(), 0u);
}

}  // namespace

class Lwip : public testing::TestWithParam<Case> {};

TEST_P(Lwip, every_byte_arrives_and_the_close_is_seen) {
    const char* wanted   = std::getenv("FLUE_LWIP_SEED");
    const uint64_t first = wanted != nullptr ? std::stoull(wanted) : 1;
    const uint64_t count = wanted != nullptr ? 1 : seeds;
    const bool harmless = GetParam().road == Road::perfect || GetParam().road == Road::slow_readers;
    uint64_t harmed     = 0;
    for (uint64_t seed = first; seed < first + count; ++seed) {
        SCOPED_TRACE("FLUE_LWIP_SEED=" + std::to_string(seed));
        World world(GetParam(), seed);
        EXPECT_TRUE(world.run());
        world.expect_all_well();
        harmed += world.harmed();
    }
    EXPECT_EQ(harmed == 0, harmless);
}

INSTANTIATE_TEST_SUITE_P(Peer, Lwip, testing::ValuesIn(all_cases()), name_of);

}  // namespace flue::peers
