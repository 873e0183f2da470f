#include "testbed/ladder.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <optional>
#include <string_view>
#include <time.h>

namespace flue::testbed {
namespace {

constexpr size_t host_columns    = 36;
constexpr size_t wire_columns    = 62;
constexpr size_t summary_columns = wire_columns - 12;

namespace ansi {
constexpr std::string_view host   = "\033[36m";
constexpr std::string_view data   = "\033[32m";
constexpr std::string_view close  = "\033[1;33m";
constexpr std::string_view reset  = "\033[1;31m";
constexpr std::string_view faint  = "\033[2m";
constexpr std::string_view normal = "\033[0m";
}  // namespace ansi

/// One line of the drawing before it is drawn: either a host event or a segment.
struct Row {
    int64_t time_ns                = 0;
    const HostEvent* event         = nullptr;
    const CapturedSegment* segment = nullptr;
    bool again                     = false;

    [[nodiscard]] bool routine() const {
        if (event != nullptr) {
            return event->routine;
        }
        return (segment->tcp.flags & (wire::tcp_syn | wire::tcp_fin | wire::tcp_rst)) == 0;
    }
};

/// What one side has sent so far.  Positions are relative to its first segment, up to 4 GiB of
/// them.
class Side {
  public:
    /// Takes the next segment and tells whether all it carries was seen before.  One that fills a
    /// gap is merely late.
    bool sent_again(const CapturedSegment& segment) {
        if (!first_) {
            first_ = segment.has(wire::tcp_syn) ? segment.tcp.seq : segment.tcp.seq - 1;
        }
        const uint32_t begin = relative(segment.tcp.seq);
        const uint32_t end   = begin + segment.payload_bytes +
                             (segment.has(wire::tcp_syn) ? 1U : 0U) +
                             (segment.has(wire::tcp_fin) ? 1U : 0U);
        if (begin >= next_) {
            if (begin > next_) {
                gaps_[next_] = begin;
            }
            next_ = end;
            return false;
        }
        return end > begin && !fill_gap(begin, end);
    }

    [[nodiscard]] uint32_t relative(Seq seq) const {
        return first_ ? bytes_between(*first_, seq) : seq.value;
    }

  private:
    bool fill_gap(uint32_t begin, uint32_t end) {
        auto gap = gaps_.upper_bound(begin);
        if (gap == gaps_.begin() || begin >= (--gap)->second) {
            return false;
        }
        const auto [gap_begin, gap_end] = *gap;
        gaps_.erase(gap);
        if (gap_begin < begin) {
            gaps_[gap_begin] = begin;
        }
        if (end < gap_end) {
            gaps_[end] = gap_end;
        }
        return true;
    }

    std::optional<Seq> first_;
    uint32_t next_ = 0;
    std::map<uint32_t, uint32_t> gaps_;  ///< begin -> end
};

struct Sides {
    Side host;
    Side remote;
};

std::string padded(std::string text, size_t columns) {
    text.resize(std::max(text.size(), columns), ' ');
    return text;
}

std::string flag_names(uint8_t flags) {
    constexpr std::array<std::pair<wire::TcpFlags, std::string_view>, 8> names{
        {{wire::tcp_syn, "SYN"},
         {wire::tcp_fin, "FIN"},
         {wire::tcp_rst, "RST"},
         {wire::tcp_psh, "PSH"},
         {wire::tcp_ack, "ACK"},
         {wire::tcp_urg, "URG"},
         {wire::tcp_ece, "ECE"},
         {wire::tcp_cwr, "CWR"}}};
    std::string text;
    for (const auto& [flag, name] : names) {
        if ((flags & flag) != 0) {
            text.append(text.empty() ? "" : " ").append(name);
        }
    }
    return text;
}

std::string segment_text(const Row& row, const Sides& sides) {
    const auto& segment    = *row.segment;
    const bool from_remote = segment.direction == Direction::from_remote;
    const auto& own        = from_remote ? sides.remote : sides.host;
    const auto& other      = from_remote ? sides.host : sides.remote;
    std::string text =
        flag_names(segment.tcp.flags) + " seq " + std::to_string(own.relative(segment.tcp.seq));
    if (segment.has(wire::tcp_ack)) {
        text += " ack " + std::to_string(other.relative(segment.tcp.ack));
    }
    if (segment.payload_bytes > 0) {
        text += " len " + std::to_string(segment.payload_bytes);
    }
    return row.again ? text + " (again)" : text;
}

std::string arrow(Direction direction, const std::string& text) {
    const std::string label = " " + text + " ";
    const size_t used       = label.size() + 5;
    const std::string shaft(used < wire_columns ? wire_columns - used : 1, '-');
    return direction == Direction::to_remote ? "|--" + label + shaft + ">|"
                                             : "|<" + shaft + label + "--|";
}

/// What the middle of a run amounts to, for the two columns.
struct Sum {
    uint64_t events = 0;
    std::array<uint64_t, 2> segments{};  ///< by Direction
    std::array<uint64_t, 2> bytes{};
    std::array<uint64_t, 2> again{};

    void add(const Row& row) {
        if (row.event != nullptr) {
            ++events;
            return;
        }
        const auto way = static_cast<size_t>(row.segment->direction);
        ++segments[way];
        bytes[way] += row.segment->payload_bytes;
        again[way] += row.again ? 1 : 0;
    }

    [[nodiscard]] std::string host() const {
        return events == 0 ? "" : "... " + human_count(events) + " more ...";
    }

    [[nodiscard]] std::string way(Direction direction) const {
        const auto i = static_cast<size_t>(direction);
        return human_count(segments[i]) +
               (bytes[i] > 0 ? " segments, " + human_bytes(bytes[i]) : " ACKs") +
               (again[i] > 0 ? ", " + human_count(again[i]) + " again" : "");
    }

    /// One line, or one for each direction when they do not fit beside each other.
    [[nodiscard]] std::vector<std::string> wire() const {
        std::vector<std::string> ways;
        if (segments[0] > 0) {
            ways.push_back(way(Direction::to_remote) + " -->");
        }
        if (segments[1] > 0) {
            ways.push_back("<-- " + way(Direction::from_remote));
        }
        if (ways.size() == 2 && ways[0].size() + ways[1].size() + 3 <= summary_columns) {
            return {ways[0] + "   " + ways[1]};
        }
        return ways.empty() ? std::vector<std::string>{""} : ways;
    }
};

class Drawing {
  public:
    Drawing(const LadderStyle& style, int64_t start_ns) : style_(style), start_ns_(start_ns) {
        out_ = padded("        ms  host", 12 + host_columns) + padded("target", wire_columns - 6) +
               "remote\n";
    }

    void row(const Row& row, const Sides& sides) {
        out_ += time_text(row.time_ns);
        if (row.event != nullptr) {
            out_ += painted(padded(row.event->text, host_columns), ansi::host) + empty_wire();
        } else {
            out_ += std::string(host_columns, ' ') +
                    painted(arrow(row.segment->direction, segment_text(row, sides)),
                            colour_of(*row.segment));
        }
        out_ += '\n';
    }

    void summary(const Sum& sum) {
        std::string host = sum.host();
        for (const auto& wire : sum.wire()) {
            const std::string text =
                padded(wire.empty() ? "" : "... " + wire + " ...", wire_columns - 4);
            out_ += painted(std::string(12, ' ') + padded(host, host_columns) + ":  " + text + ":",
                            ansi::faint) +
                    '\n';
            host.clear();
        }
    }

    std::string take() { return std::move(out_); }

  private:
    [[nodiscard]] std::string time_text(int64_t time_ns) const {
        std::array<char, 32> text{};
        std::snprintf(
            text.data(), text.size(), "%10.3f  ", static_cast<double>(time_ns - start_ns_) / 1e6);
        return text.data();
    }

    [[nodiscard]] std::string painted(const std::string& text, std::string_view colour) const {
        return style_.colour ? std::string(colour) + text + std::string(ansi::normal) : text;
    }

    [[nodiscard]] static std::string empty_wire() { return padded("|", wire_columns - 1) + "|"; }

    [[nodiscard]] static std::string_view colour_of(const CapturedSegment& segment) {
        if (segment.has(wire::tcp_rst)) {
            return ansi::reset;
        }
        if (segment.has(wire::tcp_fin) || segment.has(wire::tcp_syn)) {
            return ansi::close;
        }
        return segment.payload_bytes > 0 ? ansi::data : ansi::normal;
    }

    LadderStyle style_;
    int64_t start_ns_;
    std::string out_;
};

std::vector<Row> merged(const std::vector<HostEvent>& host,
                        const std::vector<CapturedSegment>& segments) {
    std::vector<Row> rows;
    rows.reserve(host.size() + segments.size());
    for (const auto& event : host) {
        rows.push_back({.time_ns = event.time_ns, .event = &event});
    }
    for (const auto& segment : segments) {
        rows.push_back({.time_ns = segment.time_ns, .segment = &segment});
    }
    std::stable_sort(
        rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.time_ns < b.time_ns; });
    return rows;
}

Sides follow(std::vector<Row>& rows) {
    Sides sides;
    for (auto& row : rows) {
        if (row.segment != nullptr) {
            auto& side =
                row.segment->direction == Direction::from_remote ? sides.remote : sides.host;
            row.again = side.sent_again(*row.segment);
        }
    }
    return sides;
}

}  // namespace

int64_t now_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::string draw_ladder(const std::vector<HostEvent>& host,
                        const std::vector<CapturedSegment>& segments,
                        const LadderStyle& style) {
    auto rows         = merged(host, segments);
    const Sides sides = follow(rows);
    Drawing drawing{style, rows.empty() ? 0 : rows.front().time_ns};
    for (auto at = rows.begin(); at != rows.end();) {
        const auto run_end =
            std::find_if(at, rows.end(), [](const Row& row) { return !row.routine(); });
        const auto length  = static_cast<size_t>(run_end - at);
        const bool shorten = length > 2 * style.kept_rows + 1;
        Sum sum;
        for (size_t i = 0; i < length; ++i, ++at) {
            if (!shorten || i < style.kept_rows || i >= length - style.kept_rows) {
                drawing.row(*at, sides);
                continue;
            }
            sum.add(*at);
            if (i + 1 == length - style.kept_rows) {
                drawing.summary(sum);
            }
        }
        if (at != rows.end()) {
            drawing.row(*at++, sides);
        }
    }
    return drawing.take();
}

std::string human_bytes(uint64_t bytes) {
    constexpr std::array<const char*, 4> units{"B", "KiB", "MiB", "GiB"};
    auto value  = static_cast<double>(bytes);
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < units.size(); ++unit) {
        value /= 1024;
    }
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text.data();
}

std::string human_count(uint64_t count) {
    std::string text = std::to_string(count);
    for (size_t at = text.size(); at > 3; at -= 3) {
        text.insert(at - 3, ",");
    }
    return text;
}

}  // namespace flue::testbed
