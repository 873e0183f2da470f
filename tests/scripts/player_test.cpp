#include "player.hpp"

#include <gtest/gtest.h>

namespace flue::scripts {

namespace {

/// What the player says of a script, or "" if all went well.
std::string outcome(const std::string& text) {
    return play(Script::parse("here", text), {}).value_or("");
}

bool complains(const std::string& text, const std::string& of) {
    return outcome(text).find(of) != std::string::npos;
}

}  // namespace

TEST(Player, says_nothing_when_all_goes_as_written) {
    EXPECT_EQ(outcome("conn\n"
                      "+0 send 1000\n"
                      "+0 > P. 1:1001(1000) ack 1\n"
                      "+0.1 < . 1 ack 1001\n"
                      "+0 told acked\n"
                      "+1 nothing\n"),
              "");
}

TEST(Player, tells_where_a_segment_did_not_come) {
    EXPECT_TRUE(
        complains("conn\n\n+0.1 > . 1 ack 1\n", "here:3: +0.1 > . 1 ack 1\n  nothing came"));
}

TEST(Player, tells_of_a_segment_that_nobody_expected) {
    EXPECT_TRUE(
        complains("conn\n+0 send 10\n+0 nothing\n", "nothing was expected, but came: P. 1:11"));
    EXPECT_TRUE(complains("conn\n+0 send 10\n", "at the end nothing more was expected"));
}

TEST(Player, takes_a_train_apart) {
    const std::string begin = "conn\n+0 send 3500\n";
    EXPECT_EQ(outcome(begin + "+0 > . 1:3001(3*1000) ack 1\n+0 > P. 3001:3501(500) ack 1\n"), "");
    EXPECT_TRUE(complains(begin + "+0 > . 1:2001(2*1000) ack 1\n", "at the end"));
    EXPECT_TRUE(complains(begin + "+0 > . 1:4001(4*1000) ack 1\n", "came instead: P. 3001:3501"));
    EXPECT_EQ(outcome("conn\n+0 < . 1:3001(3*1000) ack 1\n+0 is readable=3000\n"
                      "+0 > . 1 ack 3001\n+0 read 3000\n"),
              "");
}

TEST(Player, tells_of_a_wrong_time) {
    EXPECT_TRUE(complains("conn\n+0 send 10\n+0.1 > P. 1:11(10) ack 1\n", "came at another time"));
}

TEST(Player, compares_flags_numbers_window_options_and_ecn) {
    const std::string begin = "conn ecn ts\n+0 send 10\n";
    EXPECT_TRUE(complains(begin + "+0 > . 1:11(10) ack 1\n", "came instead: P. 1:11(10)"));
    EXPECT_TRUE(complains(begin + "+0 > P. 2:12(10) ack 1\n", "came instead"));
    EXPECT_TRUE(complains(begin + "+0 > P. 1:11(10) ack 2\n", "came instead"));
    EXPECT_TRUE(complains(begin + "+0 > P. 1:11(10) ack 1 win 5\n", "came instead"));
    EXPECT_TRUE(complains(begin + "+0 > P. 1:11(10) ack 1 <sack 5:6>\n", "came instead"));
    EXPECT_TRUE(complains(begin + "+0 > P. 1:11(10) ack 1 <TS val 1 ecr 2>\n", "came instead"));
    EXPECT_TRUE(complains(begin + "+0 > P. 1:11(10) ack 1 noect\n", "came instead"));
    EXPECT_EQ(outcome(begin + "+0 > P. 1:11(10) ack 1 win 50000 <TS val 100000 ecr 1000> ect\n"),
              "");
}

TEST(Player, compares_figures_and_notices) {
    EXPECT_TRUE(complains("conn\n+0 is cwnd=7\n", "cwnd is 10000"));
    EXPECT_TRUE(complains("conn\n+0 is state=closed\n", "the state is"));
    EXPECT_TRUE(complains("conn\n+0 told reset\n", "was told"));
    EXPECT_TRUE(complains("conn\n+0 is paws=1\n", "paws is 0"));
}

TEST(Player, moves_what_can_be_moved) {
    const std::string begin = "conn\n+0 send 10\n+0 > P. 1:11(10) ack 1\n";
    EXPECT_EQ(outcome(begin + "+0 moves\n+0.2 > P. 1:11(10) ack 1\n"), "");
    EXPECT_TRUE(complains(begin + "+0 abort\n+0 > R. 11 ack 1\n+0 moves\n",
                          "the other engine does not take it"));
}

TEST(Player, tells_what_it_cannot_read) {
    EXPECT_TRUE(complains("+0 send 1\n", "the first line is conn"));
    EXPECT_TRUE(complains("conn colour=7\n", "conn knows no colour"));
    EXPECT_TRUE(complains("conn\n+0 dance\n", "no such verb"));
    EXPECT_TRUE(complains("conn\n+0 < X 1 ack 1\n", "no such flag"));
    EXPECT_TRUE(complains("conn\n+0 < . 1:5(9) ack 1\n", "does not have that many bytes"));
    EXPECT_TRUE(complains("conn\nsend 5\n", "a line begins with +SECONDS"));
    EXPECT_TRUE(complains("conn\n+0 < . 1:5(2*9) ack 1\n", "does not have that many bytes"));
    EXPECT_TRUE(complains("conn\n+0 send 5000000000\n", "too large"));
    EXPECT_TRUE(complains("conn\n+0 < .\n", "something is missing"));
}

TEST(Player, shows_everything_that_went_over_the_wire) {
    EXPECT_TRUE(
        complains("conn\n+0 send 10\n+0 > P. 1:11(10) ack 1\n+0.5 < . 1 ack 11\n+0 is cwnd=1\n",
                  "0.000 > P. 1:11(10) ack 1 win 50000"));
}

}  // namespace flue::scripts
