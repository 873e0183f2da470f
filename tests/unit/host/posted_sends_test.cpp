#include "host/posted_sends.hpp"

#include <gtest/gtest.h>

namespace flue::host {

namespace {

flue_wr send(uint64_t wr_id, uint32_t first, uint32_t second = 0, uint8_t opcode = FLUE_OP_SEND) {
    flue_wr wr{};
    wr.wr_id     = wr_id;
    wr.opcode    = opcode;
    wr.sge_count = static_cast<uint8_t>((first > 0 ? 1 : 0) + (second > 0 ? 1 : 0));
    wr.sge[0]    = {.mr = 7, .length = first, .offset = 1000};
    wr.sge[1]    = {.mr = 8, .length = second, .offset = 2000};
    return wr;
}

}  // namespace

TEST(PostedSends, the_last_bytes_of_the_list_are_those_that_are_not_acknowledged) {
    const std::vector<flue_wr> listed = {send(1, 100), send(2, 10, 20), send(3, 5)};
    const auto left                   = unacknowledged_sends(listed, 12);
    ASSERT_TRUE(left.has_value());
    ASSERT_EQ(left->size(), 2u);
    EXPECT_EQ((*left)[0].wr_id, 2u);
    EXPECT_EQ((*left)[0].sge_count, 1u);
    EXPECT_EQ((*left)[0].sge[0].mr, 8u);
    EXPECT_EQ((*left)[0].sge[0].offset, 2013u);
    EXPECT_EQ((*left)[0].sge[0].length, 7u);
    EXPECT_EQ(bytes_of((*left)[1]), 5u);
}

TEST(PostedSends, a_disconnect_stays_when_all_its_bytes_are_acknowledged) {
    const std::vector<flue_wr> listed = {send(1, 100), send(2, 10, 0, FLUE_OP_DISCONNECT)};
    const auto left                   = unacknowledged_sends(listed, 0);
    ASSERT_TRUE(left.has_value());
    ASSERT_EQ(left->size(), 1u);
    EXPECT_EQ((*left)[0].wr_id, 2u);
    EXPECT_EQ((*left)[0].sge_count, 0u);
}

TEST(PostedSends, a_list_that_lacks_bytes_is_noticed) {
    const std::vector<flue_wr> listed = {send(1, 100)};
    EXPECT_FALSE(unacknowledged_sends(listed, 101).has_value());
}

TEST(PostedSends, only_sends_and_disconnects_of_the_connection_in_known_memory_are_legal) {
    EXPECT_TRUE(are_legal_sends({}, 5, {}));
    flue_wr wr = send(1, 0);
    wr.conn    = 5;
    EXPECT_TRUE(are_legal_sends({&wr, 1}, 5, {}));
    EXPECT_FALSE(are_legal_sends({&wr, 1}, 6, {}));
    wr.opcode = FLUE_OP_RECV;
    EXPECT_FALSE(are_legal_sends({&wr, 1}, 5, {}));
    wr      = send(1, 10);
    wr.conn = 5;
    EXPECT_FALSE(are_legal_sends({&wr, 1}, 5, {})) << "its region is not named";
    wr.sge_count = FLUE_SGE_MAX + 1;
    EXPECT_FALSE(are_legal_sends({&wr, 1}, 5, {}));
}

}  // namespace flue::host
