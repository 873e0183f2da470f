#include <gtest/gtest.h>
#include <set>
#include <string>

#include "flue/flue.h"

namespace {

/// known_names collects the names of all values that have one, and checks that no two values share
/// one.
template <typename Name>
std::set<std::string> known_names(Name name, unsigned limit) {
    std::set<std::string> names;
    for (unsigned value = 0; value < limit; ++value) {
        const std::string text = name(value);
        if (text != "UNKNOWN") {
            EXPECT_TRUE(names.insert(text).second) << text;
        }
    }
    return names;
}

TEST(Strings, each_value_of_the_abi_has_a_name_of_its_own) {
    EXPECT_EQ(known_names([](unsigned v) { return flue_opcode_name(static_cast<uint8_t>(v)); }, 256)
                  .size(),
              11u + 11u);
    EXPECT_EQ(known_names([](unsigned v) { return flue_status_name(static_cast<uint8_t>(v)); }, 256)
                  .size(),
              15u + 10u);
    EXPECT_EQ(
        known_names([](unsigned v) { return flue_upload_reason_name(static_cast<uint16_t>(v)); },
                    1000)
            .size(),
        11u);
    EXPECT_EQ(
        known_names([](unsigned v) { return flue_tcp_state_name(static_cast<uint8_t>(v)); }, 256)
            .size(),
        8u);
}

TEST(Strings, names_are_those_of_the_header) {
    EXPECT_STREQ(flue_opcode_name(FLUE_OP_DISCONNECT), "DISCONNECT");
    EXPECT_STREQ(flue_opcode_name(FLUE_EVENT_ABORT), "EVENT_ABORT");
    EXPECT_STREQ(flue_status_name(FLUE_REQUEST_ABORTED), "REQUEST_ABORTED");
    EXPECT_STREQ(flue_tcp_state_name(FLUE_TCP_FIN_WAIT_2), "FIN-WAIT-2");
}

}  // namespace
