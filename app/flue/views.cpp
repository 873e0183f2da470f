#include "flue/views.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "testbed/ladder.hpp"

namespace flue::cli {
namespace {

using nlohmann::json;
using testbed::human_count;

std::runtime_error no_answer(const std::string& command) {
    return std::runtime_error("flued gave no answer to " + command +
                              ": a worker is stuck, or flue and flued are of different versions");
}

json answer_of(testbed::TelemetryClient& client, const std::string& command) {
    json answer = client.ask(command);
    if (answer.is_null()) {
        throw no_answer(command);
    }
    return answer;
}

std::string padded(std::string text, size_t columns) {
    text.resize(std::max(text.size() + 1, columns), ' ');
    return text;
}

void add_figures(std::string& text, const std::string& title, const json& figures) {
    text += title + "\n";
    for (const auto& [name, value] : figures.items()) {
        text += "  " + padded(name, 34) + human_count(value.get<uint64_t>()) + "\n";
    }
}

void add_refusals(std::string& text, const json& refusals) {
    json seen = json::object();
    for (const auto& [name, count] : refusals.items()) {
        if (count.get<uint64_t>() != 0) {
            seen[name] = count;
        }
    }
    if (!seen.empty()) {
        add_figures(text, "refused to hosts", seen);
    }
}

void add_ports(std::string& text, const json& ports) {
    text += "ports\n";
    for (const auto& [name, port] : ports.items()) {
        const auto yes = [&port = port](const char* feature) {
            return port.value(feature, uint64_t{0}) != 0;
        };
        text += "  " + padded(name, 20) + padded(port.value("driver", "?"), 18) + "MTU " +
                std::to_string(port.value("mtu", 0)) + ", " +
                std::to_string(port.value("rx_queues", 0)) + " rx and " +
                std::to_string(port.value("tx_queues", 0)) + " tx queues" +
                (yes("rss") ? ", RSS" : "") + (yes("tx_checksum") ? ", TX checksum" : "") +
                (yes("rx_checksum") ? ", RX checksum" : "") +
                (yes("zero_copy") ? ", zero-copy" : ", copying") + "\n";
    }
}

std::string endpoint(const json& conn, const char* address, const char* port) {
    const auto text = conn.value(address, "?");
    const bool ipv6 = text.find(':') != std::string::npos;
    return (ipv6 ? "[" + text + "]" : text) + ":" + std::to_string(conn.value(port, 0));
}

/// "38ms", "12s", "3min05s", "2h10min".
std::string age_text(uint64_t age_ms) {
    std::array<char, 32> text{};
    const uint64_t seconds = age_ms / 1000;
    if (seconds == 0) {
        std::snprintf(text.data(), text.size(), "%ums", static_cast<unsigned>(age_ms));
    } else if (seconds < 60) {
        std::snprintf(text.data(), text.size(), "%us", static_cast<unsigned>(seconds));
    } else if (seconds < 3600) {
        std::snprintf(text.data(),
                      text.size(),
                      "%umin%02us",
                      static_cast<unsigned>(seconds / 60),
                      static_cast<unsigned>(seconds % 60));
    } else {
        std::snprintf(text.data(),
                      text.size(),
                      "%uh%02umin",
                      static_cast<unsigned>(seconds / 3600),
                      static_cast<unsigned>(seconds / 60 % 60));
    }
    return text.data();
}

using Line = std::array<std::string, 11>;

Line line_of(const json& conn) {
    const auto number = [&conn](const char* name) {
        return std::to_string(conn.value(name, uint64_t{0}));
    };
    return {conn.value("state", "?"),
            conn.value("offload", "?"),
            number("receive_queue"),
            number("send_queue"),
            endpoint(conn, "local", "local_port"),
            endpoint(conn, "remote", "remote_port"),
            number("cwnd"),
            number("srtt_us"),
            conn.value("congestion", "?") + (conn.value("ecn", uint64_t{0}) != 0 ? "+ecn" : ""),
            number("worker"),
            age_text(conn.value("age_ms", uint64_t{0}))};
}

}  // namespace

json fetch_stats(testbed::TelemetryClient& client) {
    json stats;
    for (const char* part : {"ports", "stats", "drops", "usage", "tcp_stats", "refusals"}) {
        stats[part] = answer_of(client, std::string("/flue/") + part);
    }
    // A target that drains nothing (--drains 0) has nothing to say about it.
    const json drains = client.ask("/flue/drains");
    stats["drains"]   = drains.is_object() ? drains : json::object();
    return stats;
}

json fetch_conns(testbed::TelemetryClient& client) {
    json conns = json::array();
    for (unsigned worker = 0;; ++worker) {
        for (uint64_t from = 0;;) {
            const json page =
                client.ask("/flue/conns", std::to_string(worker) + "," + std::to_string(from));
            if (page.is_null() && worker == 0) {
                throw no_answer("/flue/conns");
            }
            if (page.is_null()) {
                return conns;  // there is no such worker
            }
            if (page.empty()) {
                break;
            }
            for (const auto& conn : page) {
                from = std::max(from, conn.at("index").get<uint64_t>() + 1);
                conns.push_back(conn);
            }
        }
    }
}

std::string command(testbed::TelemetryClient& client, const std::string& name) {
    const auto workers = answer_of(client, "/flue/" + name).at("workers").get<uint64_t>();
    return name + ": " + std::to_string(workers) + (workers == 1 ? " worker\n" : " workers\n");
}

std::string stats_text(const json& stats, const json& texts) {
    std::string text;
    add_ports(text, stats.at("ports"));
    add_figures(text, "counters", stats.at("stats"));
    add_figures(text, "in use", stats.at("usage"));
    if (const auto drains = stats.value("drains", json::object()); !drains.empty()) {
        add_figures(text, "drains", drains);
    }
    const json tcp = stats.value("tcp_stats", json::object());
    for (const auto& [name, figures] : tcp.items()) {
        uint64_t sum = 0;
        for (const auto& figure : figures) {
            sum += figure.get<uint64_t>();
        }
        if (sum != 0) {
            add_figures(text, "offloaded connections, " + name, figures);
        }
    }
    add_refusals(text, stats.value("refusals", json::object()));
    text += "segments not processed\n";
    for (const auto& [name, count] : stats.at("drops").items()) {
        if (count != 0) {
            text += "  " + padded(name, 34) + padded(human_count(count.get<uint64_t>()), 12) +
                    texts.value(name, "") + "\n";
        }
    }
    return text;
}

std::string conns_text(const json& conns) {
    std::vector<Line> lines{{"State",
                             "Offload",
                             "Recv-Q",
                             "Send-Q",
                             "Local",
                             "Remote",
                             "Cwnd",
                             "SRTT-us",
                             "Congestion",
                             "Worker",
                             "Age"}};
    std::transform(conns.begin(), conns.end(), std::back_inserter(lines), line_of);
    std::string text;
    for (const auto& line : lines) {
        for (size_t column = 0; column < line.size(); ++column) {
            size_t width = 0;
            for (const auto& other : lines) {
                width = std::max(width, other[column].size());
            }
            text += column + 1 < line.size() ? padded(line[column], width + 2) : line[column];
        }
        text += "\n";
    }
    return text;
}

}  // namespace flue::cli
