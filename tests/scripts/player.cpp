#include "player.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "tcp/drops.hpp"

namespace flue::scripts {

namespace {

using tcp::Engine;

constexpr tcp::ConnIndex conn = 0;
constexpr uint64_t start_us   = 5'000'000'000'000;

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

uint64_t number(const std::string& word) {
    uint64_t value          = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc{} || end != word.data() + word.size()) {
        throw Failure("not a number: " + word);
    }
    return value;
}

uint32_t number32(const std::string& word) {
    const uint64_t value = number(word);
    if (value > UINT32_MAX) {
        throw Failure("too large: " + word);
    }
    return static_cast<uint32_t>(value);
}

/// "+0.25" -> 250000
uint64_t microseconds(const std::string& word) {
    if (word.empty() || word[0] != '+') {
        throw Failure("a line begins with +SECONDS");
    }
    const size_t dot       = word.find('.');
    const std::string full = word.substr(1, dot == std::string::npos ? dot : dot - 1);
    std::string part       = dot == std::string::npos ? "" : word.substr(dot + 1);
    part.resize(6, '0');
    return number(full) * 1'000'000 + number(part);
}

/// "key=value"
std::pair<std::string, std::string> split(const std::string& word) {
    const size_t equals = word.find('=');
    return equals == std::string::npos ? std::pair{word, std::string{}}
                                       : std::pair{word.substr(0, equals), word.substr(equals + 1)};
}

const std::map<std::string, tcp::State> state_names{{"established", tcp::State::established},
                                                    {"fin_wait_1", tcp::State::fin_wait_1},
                                                    {"fin_wait_2", tcp::State::fin_wait_2},
                                                    {"close_wait", tcp::State::close_wait},
                                                    {"closing", tcp::State::closing},
                                                    {"last_ack", tcp::State::last_ack},
                                                    {"time_wait", tcp::State::time_wait},
                                                    {"closed", tcp::State::closed}};

const std::map<std::string, tcp::CongestionControl> controls{
    {"cubic", tcp::CongestionControl::cubic},
    {"newreno", tcp::CongestionControl::newreno},
    {"dctcp", tcp::CongestionControl::dctcp}};

const std::map<std::string, uint8_t> notice_names{{"acked", tcp::notice_acked},
                                                  {"received", tcp::notice_received},
                                                  {"peer_fin", tcp::notice_peer_fin},
                                                  {"reset", tcp::notice_reset},
                                                  {"upload", tcp::notice_upload},
                                                  {"rst_sent", tcp::notice_rst_sent},
                                                  {"pushed", tcp::notice_pushed}};

/// What a segment looks like in a script.
struct Packet {
    uint8_t flags  = 0;
    uint32_t seq   = 0;
    uint32_t bytes = 0;
    uint32_t count = 1;  ///< one behind the other
    std::optional<uint32_t> ack;
    std::optional<uint32_t> window;
    std::optional<std::vector<std::pair<uint32_t, uint32_t>>> sack;
    std::optional<uint32_t> ts_val;
    std::optional<uint32_t> ts_ecr;
    bool ce  = false;
    bool ect = false;
    std::optional<bool> want_ect;
};

constexpr std::array<std::pair<char, uint8_t>, 8> flag_letters{{{'F', wire::tcp_fin},
                                                                {'S', wire::tcp_syn},
                                                                {'R', wire::tcp_rst},
                                                                {'P', wire::tcp_psh},
                                                                {'U', wire::tcp_urg},
                                                                {'E', wire::tcp_ece},
                                                                {'W', wire::tcp_cwr},
                                                                {'.', wire::tcp_ack}}};

uint8_t read_flags(const std::string& word) {
    uint32_t flags = 0;
    for (const char letter : word) {
        const auto* found = std::find_if(
            flag_letters.begin(), flag_letters.end(), [&](auto& f) { return f.first == letter; });
        if (found == flag_letters.end()) {
            throw Failure("no such flag: " + word);
        }
        flags |= found->second;
    }
    return static_cast<uint8_t>(flags);
}

std::string write_flags(uint8_t flags) {
    std::string out;
    for (const auto& [letter, flag] : flag_letters) {
        if ((flags & flag) != 0) {
            out += letter;
        }
    }
    return out;
}

/// "1:1001(1000)", "1:3001(3*1000)" for three one behind the other, or "1" for one without text
void read_range(const std::string& word, Packet& packet) {
    const size_t colon = word.find(':');
    packet.seq         = number32(word.substr(0, colon));
    if (colon == std::string::npos) {
        return;
    }
    const size_t open = word.find('(');
    const size_t end  = word.find(')');
    if (open == std::string::npos || end == std::string::npos) {
        throw Failure("a range is FIRST:END(BYTES): " + word);
    }
    const std::string size = word.substr(open + 1, end - open - 1);
    const size_t times     = size.find('*');
    packet.count           = times == std::string::npos ? 1 : number32(size.substr(0, times));
    packet.bytes           = number32(times == std::string::npos ? size : size.substr(times + 1));
    const uint32_t last    = number32(word.substr(colon + 1, open - colon - 1));
    if (last - packet.seq != packet.count * packet.bytes) {
        throw Failure("the range does not have that many bytes: " + word);
    }
}

Packet read_packet(const std::vector<std::string>& words, size_t at) {
    Packet packet;
    packet.flags = read_flags(words.at(at++));
    read_range(words.at(at++), packet);
    const auto value = [&](size_t i) { return number32(words.at(i)); };
    for (; at < words.size(); ++at) {
        const std::string& word = words[at];
        if (word == "ack") {
            packet.ack = value(++at);
        } else if (word == "win") {
            packet.window = value(++at);
        } else if (word == "ce") {
            packet.ce = true;
        } else if (word == "ect") {
            packet.want_ect = true;
        } else if (word == "noect") {
            packet.want_ect = false;
        } else if (word == "val") {
            packet.ts_val = value(++at);
        } else if (word == "ecr") {
            packet.ts_ecr = value(++at);
        } else if (word == "sack") {
            packet.sack.emplace();
            while (at + 1 < words.size() && words[at + 1].find(':') != std::string::npos) {
                const std::string& range = words[++at];
                const size_t colon       = range.find(':');
                packet.sack->emplace_back(number32(range.substr(0, colon)),
                                          number32(range.substr(colon + 1)));
            }
        } else if (word != "TS") {
            throw Failure("no such thing in a segment: " + word);
        }
    }
    return packet;
}

/// One run of a script.
class Play {
  public:
    Play(const Script& script, Isn isn) : script_(script), isn_(isn) {}

    ~Play() {
        if (adopted_) {
            engine_->forget(conn);
        }
    }

    Play(const Play&)            = delete;
    Play& operator=(const Play&) = delete;

    std::optional<std::string> run() {
        for (const Line& line : script_.lines) {
            line_ = &line;
            try {
                step(line);
            } catch (const Failure& failure) {
                return complaint(failure.what());
            } catch (const std::out_of_range&) {
                return complaint("something is missing in this line");
            }
        }
        collect();
        if (!out_.empty()) {
            return complaint("at the end nothing more was expected, but came: " +
                             describe(out_.front().segment));
        }
        return std::nullopt;
    }

  private:
    struct Sent {
        uint64_t at_us;
        tcp::TxSegment segment;
    };

    [[nodiscard]] std::string complaint(const std::string& what) const {
        std::ostringstream text;
        text << script_.file << ":" << line_->number << ": " << line_->text << "\n  " << what
             << "\n  so far:\n";
        for (const std::string& event : ladder_) {
            text << "    " << event << "\n";
        }
        return text.str();
    }

    void step(const Line& line) {
        const std::vector<std::string>& words = line.words;
        if (words[0] == "conn") {
            adopt(words);
            return;
        }
        if (!adopted_) {
            throw Failure("the first line is conn");
        }
        const uint64_t wait_us  = microseconds(words.at(0));
        const std::string& verb = words.at(1);
        if (verb == ">") {
            expect_train(read_packet(words, 2), wait_us);
            return;
        }
        advance(wait_us, verb == "<" || verb == "nothing");
        if (verb == "<") {
            inject_train(read_packet(words, 2));
        } else if (verb == "nothing") {
            quiet();
        } else {
            host(verb, words);
        }
        if (adopted_) {
            engine_->check_invariants(conn);
        }
    }

    // ------------------------------------------------ the beginning

    void adopt(const std::vector<std::string>& words) {
        state_.rcv_nxt = remote(1);
        state_.rcv_wnd = 50'000;
        state_.snd_una = state_.snd_nxt = state_.snd_max = local(1);
        state_.snd_wnd = state_.max_snd_wnd = 60'000;
        state_.snd_wl1                      = remote(1);
        state_.cwnd                         = 10'000;
        state_.srtt_us_x8                   = 100'000 * 8;
        state_.rttvar_us_x4                 = 10'000 * 4;
        state_.recover                      = local(0);
        state_.ts_time                      = 100'000;
        state_.ts_recent                    = 1'000;
        parameters_.mss                     = 1'000;
        parameters_.rcv_wnd_max             = 50'000;
        parameters_.congestion              = tcp::CongestionControl::newreno;
        for (size_t i = 1; i < words.size(); ++i) {
            set(words[i]);
        }
        engine_ = std::make_unique<Engine>(options_);
        if (engine_->adopt(now_, conn, parameters_, state_) != Engine::Refusal::none) {
            throw Failure("the engine does not take it");
        }
        adopted_     = true;
        peer_window_ = state_.snd_wnd;
        engine_->check_invariants(conn);
    }

    /// "sack", "sack=0"
    bool set_flag(const std::string& key, const std::string& value) {
        const std::map<std::string, bool*> flags{{"sack", &parameters_.sack},
                                                 {"ts", &parameters_.timestamps},
                                                 {"ecn", &parameters_.ecn},
                                                 {"nagle", &parameters_.nagle},
                                                 {"keepalive", &parameters_.keep_alive},
                                                 {"pacing", &options_.pacing},
                                                 {"recovery", &state_.recovery}};
        const auto found = flags.find(key);
        if (found == flags.end()) {
            return false;
        }
        *found->second = value.empty() || value == "1";
        return true;
    }

    void set(const std::string& word) {
        const auto [key, value] = split(word);
        if (set_flag(key, value)) {
            return;
        }
        if (key == "state") {
            state_.state = state_names.at(value);
            return;
        }
        if (key == "cc") {
            parameters_.congestion = controls.at(value);
            return;
        }
        if (key == "ipv6") {
            parameters_.family = wire::Family::ipv6;
            return;
        }
        const auto n = number32(value);
        const std::map<std::string, std::function<void()>> numbers{
            {"mss", [&] { parameters_.mss = static_cast<uint16_t>(n); }},
            {"rcv", [&] { parameters_.rcv_wnd_max = state_.rcv_wnd = n; }},
            {"wnd", [&] { state_.snd_wnd = state_.max_snd_wnd = n; }},
            {"cwnd", [&] { state_.cwnd = n; }},
            {"ssthresh", [&] { state_.ssthresh = n; }},
            {"srtt", [&] { state_.srtt_us_x8 = n * 8'000; }},
            {"rttvar", [&] { state_.rttvar_us_x4 = n * 4'000; }},
            {"snd_scale", [&] { parameters_.snd_wind_shift = static_cast<uint8_t>(n); }},
            {"rcv_scale", [&] { parameters_.rcv_wind_shift = static_cast<uint8_t>(n); }},
            {"ka_idle", [&] { parameters_.ka_timeout_ms = n; }},
            {"ka_interval", [&] { parameters_.ka_interval_ms = n; }},
            {"ka_probes", [&] { parameters_.ka_probe_count = static_cast<uint8_t>(n); }},
            {"max_rt", [&] { parameters_.max_rt_ms = n; }},
            {"retransmits", [&] { options_.retransmits_max = n; }},
            {"probes", [&] { options_.window_probes_max = n; }},
            {"sent", [&] { state_.snd_nxt = state_.snd_max = local(1) + n; }},
            {"nxt", [&] { state_.snd_nxt = local(n); }},
            {"recover", [&] { state_.recover = local(n); }},
            {"chunks", [&] { options_.limits.reassembly_blocks_per_connection = n; }},
            {"ts_recent", [&] { state_.ts_recent = n; }}};
        const auto found = numbers.find(key);
        if (found == numbers.end()) {
            throw Failure("conn knows no " + key);
        }
        found->second();
    }

    // ------------------------------------------------ the clock and the wire

    [[nodiscard]] Seq local(uint32_t offset) const { return Seq{isn_.local} + offset; }

    [[nodiscard]] Seq remote(uint32_t offset) const { return Seq{isn_.remote} + offset; }

    [[nodiscard]] double seconds(uint64_t at_us) const {
        return static_cast<double>(at_us - start_us) / 1e6;
    }

    void note(uint64_t at_us, const std::string& what) {
        std::array<char, 32> time{};
        (void)std::snprintf(time.data(), time.size(), "%9.3f ", seconds(at_us));
        ladder_.push_back(time.data() + what);
    }

    /// Takes what the engine has to send.
    void collect() {
        std::array<tcp::TxSegment, 64> batch;
        uint32_t count = 0;
        do {
            count = engine_->transmit(now_, batch);
            for (uint32_t i = 0; i < count; ++i) {
                out_.push_back({now_.us, batch[i]});
                note(now_.us, "> " + describe(batch[i]));
            }
        } while (count > 0);
        engine_->check_invariants(conn);
    }

    /// Lets time pass with every timer at its time.  `gather`: what is sent before counts, too.
    void advance(uint64_t by_us, bool gather) {
        const Instant end = now_ + by_us;
        if (gather || by_us > 0) {
            collect();
        }
        for (Instant next = engine_->next_deadline(); next.is_set() && next <= end && by_us > 0;
             next         = engine_->next_deadline()) {
            now_ = next;
            engine_->on_time(now_);
            collect();
        }
        now_ = end;
        engine_->on_time(now_);
    }

    void quiet() {
        collect();
        if (!out_.empty()) {
            throw Failure("nothing was expected, but came: " + describe(out_.front().segment));
        }
    }

    void expect_train(Packet wanted, uint64_t wait_us) {
        for (uint32_t i = 0; i < wanted.count; ++i) {
            expect(wanted, i == 0 ? wait_us : 0);
            wanted.seq += wanted.bytes;
        }
    }

    void expect(const Packet& wanted, uint64_t wait_us) {
        const uint64_t at_us = now_.us + wait_us;
        advance(wait_us, true);
        collect();
        if (out_.empty()) {
            throw Failure("nothing came");
        }
        const Sent sent = out_.front();
        out_.pop_front();
        if (sent.at_us != at_us) {
            throw Failure("came at another time: " + describe(sent.segment));
        }
        if (!matches(wanted, sent.segment)) {
            throw Failure("came instead: " + describe(sent.segment));
        }
    }

    [[nodiscard]] bool matches(const Packet& wanted, const tcp::TxSegment& sent) const {
        const wire::TcpFields& tcp = sent.tcp;
        const auto ranges_match    = [&] {
            if (!wanted.sack) {
                return true;
            }
            bool same = wanted.sack->size() == tcp.sack_count;
            for (uint32_t i = 0; same && i < tcp.sack_count; ++i) {
                same = tcp.sack.at(i) == wire::SackRange{remote((*wanted.sack)[i].first),
                                                         remote((*wanted.sack)[i].second)};
            }
            return same;
        };
        return wanted.flags == tcp.flags && local(wanted.seq) == tcp.seq &&
               wanted.bytes == sent.payload_bytes &&
               (!wanted.ack || remote(*wanted.ack) == tcp.ack) &&
               (!wanted.window || *wanted.window == tcp.window) &&
               (!wanted.ts_val || *wanted.ts_val == tcp.ts_val) &&
               (!wanted.ts_ecr || *wanted.ts_ecr == tcp.ts_ecr) &&
               (!wanted.want_ect || *wanted.want_ect == tcp.ecn_capable) && ranges_match();
    }

    [[nodiscard]] std::string describe(const tcp::TxSegment& sent) const {
        const wire::TcpFields& tcp = sent.tcp;
        const uint32_t seq         = tcp.seq.value - isn_.local;
        std::ostringstream text;
        text << write_flags(tcp.flags) << " " << seq << ":" << seq + sent.payload_bytes << "("
             << sent.payload_bytes << ") ack " << tcp.ack.value - isn_.remote << " win "
             << tcp.window;
        for (uint32_t i = 0; i < tcp.sack_count; ++i) {
            text << (i == 0 ? " sack " : " ") << tcp.sack.at(i).start.value - isn_.remote << ":"
                 << tcp.sack.at(i).end.value - isn_.remote;
        }
        if (tcp.has_timestamps) {
            text << " TS val " << tcp.ts_val << " ecr " << tcp.ts_ecr;
        }
        text << (tcp.ecn_capable ? " ect" : "");
        return text.str();
    }

    void inject_train(Packet packet) {
        for (uint32_t i = 0; i < packet.count; ++i) {
            inject(packet);
            packet.seq += packet.bytes;
        }
    }

    void inject(const Packet& packet) {
        tcp::Segment segment;
        wire::TcpFields& tcp = segment.tcp;
        tcp.seq              = remote(packet.seq);
        tcp.ack              = packet.ack ? local(*packet.ack) : Seq{};
        tcp.flags            = packet.flags;
        peer_window_         = packet.window.value_or(peer_window_ >> parameters_.snd_wind_shift)
                       << parameters_.snd_wind_shift;
        tcp.window = static_cast<uint16_t>(peer_window_ >> parameters_.snd_wind_shift);
        tcp.congestion_experienced = packet.ce;
        tcp.has_timestamps         = packet.ts_val.has_value();
        tcp.ts_val                 = packet.ts_val.value_or(0);
        tcp.ts_ecr                 = packet.ts_ecr.value_or(0);
        if (packet.sack) {
            for (const auto& [first, end] : *packet.sack) {
                tcp.sack.at(tcp.sack_count++) = {.start = local(first), .end = local(end)};
            }
        }
        segment.payload = {.region = ++region_, .offset = 0, .length = packet.bytes};
        note(now_.us, "< " + line_->text);
        engine_->on_segment(now_, conn, segment);
        std::array<tcp::ByteRef, 64> released;
        while (engine_->take_released(released) > 0) {
        }
    }

    // ------------------------------------------------ the host

    void host(const std::string& verb, const std::vector<std::string>& words) {
        if (verb == "send" || verb == "close") {
            const uint32_t bytes = verb == "send" ? number32(words.at(2)) : 0;
            const bool fin       = verb == "close" || (words.size() > 3 && words[3] == "fin");
            if (engine_->post_send(now_, conn, {1, posted_, bytes}, fin) == tcp::no_item) {
                throw Failure("the engine does not take it");
            }
            posted_ += bytes;
            fin_posted_ = fin_posted_ || fin;
        } else if (verb == "abort") {
            engine_->abort(now_, conn);
        } else if (verb == "stop") {
            engine_->stop(conn);
        } else if (verb == "moves") {
            move();
        } else if (verb == "too_big") {
            const auto mss = static_cast<uint16_t>(number32(words.at(3)));
            engine_->packet_too_big(now_, conn, local(number32(words.at(2))), mss);
        } else if (verb == "read") {
            engine_->consume(now_, conn, number32(words.at(2)));
            std::array<tcp::ByteRef, 64> released;
            while (engine_->take_released(released) > 0) {
            }
        } else if (verb == "set") {
            for (size_t i = 2; i < words.size(); ++i) {
                set(words[i]);
            }
            engine_->update(now_, conn, parameters_, 0);
        } else if (verb == "told") {
            told(words);
        } else if (verb == "is") {
            for (size_t i = 2; i < words.size(); ++i) {
                is(words[i]);
            }
        } else {
            throw Failure("no such verb: " + verb);
        }
    }

    /// Another engine takes the connection over, and its host posts what is not acknowledged.
    void move() {
        collect();
        tcp::Delegated state;
        engine_->snapshot(now_, conn, state);
        const tcp::Parameters parameters = engine_->parameters(conn);
        engine_->forget(conn);
        engine_ = std::make_unique<Engine>(options_);
        if (engine_->adopt(now_, conn, parameters, state) != Engine::Refusal::none) {
            adopted_ = false;
            throw Failure("the other engine does not take it");
        }
        const uint32_t acked = std::min(bytes_between(local(1), state.snd_una), posted_);
        const bool fin       = fin_posted_ && !tcp::fin_was_sent(state.state);
        if (acked < posted_ || fin) {
            engine_->post_send(now_, conn, {1, acked, posted_ - acked}, fin);
        }
    }

    void told(const std::vector<std::string>& words) {
        uint32_t wanted = 0;
        for (size_t i = 2; i < words.size(); ++i) {
            wanted |= notice_names.at(words[i]);
        }
        std::array<Engine::Notified, 4> batch;
        uint32_t notices = 0;
        while (engine_->take_notified(batch) > 0) {
            notices |= batch[0].notices;
        }
        if (notices != wanted) {
            std::string names;
            for (const auto& [name, bit] : notice_names) {
                names += (notices & bit) != 0 ? name + " " : "";
            }
            throw Failure("was told: " + names);
        }
    }

    void is(const std::string& word) {
        const auto [key, value] = split(word);
        collect();
        const Engine::Info info         = engine_->info(conn);
        const Engine::Counters counters = engine_->counters();
        if (key == "state") {
            if (info.state != state_names.at(value)) {
                throw Failure("the state is " + std::string(tcp::to_string(info.state)));
            }
            return;
        }
        const std::map<std::string, uint64_t> figures{
            {"cwnd", info.cwnd},
            {"ssthresh", info.ssthresh},
            {"srtt_ms", info.srtt_us / 1000},
            {"rto_ms", info.rto_us / 1000},
            {"flight", info.unacked},
            {"backlog", info.backlog},
            {"readable", info.readable},
            {"mss", info.mss},
            {"sacked", info.sacked},
            {"lost", info.lost},
            {"recovering", info.recovering ? 1 : 0},
            {"upload", static_cast<uint64_t>(engine_->upload_reason(conn))},
            {"timeouts", counters.timeouts},
            {"fast_retransmits", counters.fast_retransmits},
            {"tail_probes", counters.tail_probes},
            {"spurious", counters.spurious_recoveries},
            {"duplicates", counters.duplicates_reported},
            {"sacks_refused", counters.sacks_refused},
            {"marks", counters.congestion_marks},
            {"resets_in", counters.resets_in},
            {"resets_out", counters.resets_out},
            {"challenges", counters.challenge_acks},
            {"too_big_heeded", counters.too_big_heeded},
            {"too_big_known", counters.too_big_known},
            {"too_big_refused", counters.too_big_refused},
            {"black_holes", counters.black_holes},
            {"again", counters.segments_retransmitted}};
        if (const auto found = figures.find(key); found != figures.end()) {
            compare(key, found->second, number(value));
            return;
        }
        for (uint32_t i = 0; i < tcp::drop_count; ++i) {
            if (key == tcp::to_string(static_cast<tcp::Drop>(i))) {
                compare(key, counters.drops[i], number(value));
                return;
            }
        }
        throw Failure("there is no figure " + key);
    }

    static void compare(const std::string& key, uint64_t is, uint64_t wanted) {
        if (is != wanted) {
            throw Failure(key + " is " + std::to_string(is));
        }
    }

    const Script& script_;
    Isn isn_;
    const Line* line_ = nullptr;
    tcp::Options options_{.limits = {.connections = 1}};
    tcp::Parameters parameters_;
    tcp::Delegated state_;
    std::unique_ptr<Engine> engine_;
    Instant now_{start_us};
    std::deque<Sent> out_;
    std::vector<std::string> ladder_;
    uint32_t peer_window_ = 0;
    uint32_t posted_      = 0;
    uint64_t region_      = 0;
    bool fin_posted_      = false;
    bool adopted_         = false;
};

}  // namespace

Script Script::parse(const std::string& file, const std::string& text) {
    Script script{file, {}};
    std::istringstream lines(text);
    std::string line;
    for (uint32_t count = 1; std::getline(lines, line); ++count) {
        Line cut{count, line, {}};
        std::string plain = line.substr(0, line.find("//"));
        std::replace_if(
            plain.begin(),
            plain.end(),
            [](char c) { return c == '<' || c == '>' || c == ','; },
            ' ');
        // The direction stands alone; brackets around options are only for the eye.
        const size_t verb = line.find_first_of("<>");
        if (verb != std::string::npos && verb < plain.size() && line[0] == '+') {
            plain[verb] = line[verb];
        }
        std::istringstream words(plain);
        for (std::string word; words >> word;) {
            cut.words.push_back(word);
        }
        if (!cut.words.empty()) {
            script.lines.push_back(cut);
        }
    }
    return script;
}

std::optional<std::string> play(const Script& script, Isn isn) {
    return Play(script, isn).run();
}

}  // namespace flue::scripts
