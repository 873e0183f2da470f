#include "flue/views.hpp"

#include <gtest/gtest.h>

namespace flue::cli {
namespace {

using nlohmann::json;

json connection() {
    return {{"worker", 1},
            {"index", 7},
            {"offload", "draining"},
            {"state", "FIN-WAIT-1"},
            {"local", "10.9.0.1"},
            {"local_port", 8001},
            {"remote", "fd09::2"},
            {"remote_port", 40000},
            {"age_ms", 185'000},
            {"send_queue", 65536},
            {"receive_queue", 0},
            {"cwnd", 14480},
            {"srtt_us", 250},
            {"congestion", "dctcp"},
            {"ecn", 1}};
}

TEST(ConnsText, connection_is_one_line_under_its_headings) {
    EXPECT_EQ(conns_text(json::array({connection()})),
              "State       Offload   Recv-Q  Send-Q  Local          Remote           Cwnd   "
              "SRTT-us  Congestion  Worker  Age\n"
              "FIN-WAIT-1  draining  0       65536   10.9.0.1:8001  [fd09::2]:40000  14480  250    "
              "  dctcp+ecn   1       3min05s\n");
}

TEST(ConnsText, no_connection_leaves_the_headings) {
    const auto text = conns_text(json::array());
    EXPECT_EQ(text.find('\n'), text.size() - 1);
}

TEST(ConnsText, age_takes_the_unit_that_fits) {
    const auto age = [](uint64_t age_ms) {
        auto conn       = connection();
        conn["age_ms"]  = age_ms;
        const auto text = conns_text(json::array({conn}));
        return text.substr(text.rfind(' ') + 1);
    };
    EXPECT_EQ(age(38), "38ms\n");
    EXPECT_EQ(age(59'999), "59s\n");
    EXPECT_EQ(age(7'800'000), "2h10min\n");
}

TEST(StatsText, port_says_what_it_can) {
    const json stats = {
        {"ports", {{"net_tap0", {{"driver", "net_tap"}, {"mtu", 1500}, {"rss", 1}}}}},
        {"stats", json::object()},
        {"usage", json::object()},
        {"drops", json::object()}};
    const auto text = stats_text(stats, json::object());
    EXPECT_NE(text.find("net_tap0            net_tap           MTU 1500"), std::string::npos)
        << text;
    EXPECT_NE(text.find(", RSS, copying\n"), std::string::npos) << text;
}

TEST(StatsText, drop_that_occurred_is_explained_the_others_are_left_out) {
    const json stats = {{"ports", json::object()},
                        {"stats", {{"rx_frames", 1234567}}},
                        {"usage", {{"connections", 0}}},
                        {"drops", {{"bad_ack", 3}, {"old_data", 0}}}};
    const auto text  = stats_text(stats, {{"bad_ack", "acknowledges what was never sent"}});
    EXPECT_NE(text.find("1,234,567"), std::string::npos) << text;
    EXPECT_NE(text.find("acknowledges what was never sent"), std::string::npos) << text;
    EXPECT_EQ(text.find("old_data"), std::string::npos) << text;
}

}  // namespace
}  // namespace flue::cli
