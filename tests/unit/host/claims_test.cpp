#include "host/claims.hpp"

#include <gtest/gtest.h>
#include <vector>

namespace flue::host {
namespace {

constexpr uint32_t worker_count = 4;

flue_wr hold(uint64_t wr_id) {
    flue_wr wr{};
    wr.opcode      = FLUE_OP_HOLD;
    wr.wr_id       = wr_id;
    wr.host_handle = wr_id + 1000;
    return wr;
}

flue_wc completion_of(const flue_wr& posted, uint8_t status, uint16_t info = 0) {
    flue_wc wc{};
    wc.opcode = posted.opcode;
    wc.wr_id  = posted.wr_id;
    wc.status = status;
    wc.info   = info;
    return wc;
}

TEST(Claims, completed_claim_is_delivered_with_the_wr_id_it_was_posted_with) {
    Claims claims(8);
    const flue_wr first  = claims.add(hold(0xdead)).value();
    const flue_wr second = claims.add(hold(0xbeef)).value();
    flue_wc wc           = completion_of(second, FLUE_SUCCESS);
    EXPECT_EQ(claims.answer(wc, worker_count), Claims::Answer::deliver);
    EXPECT_EQ(wc.wr_id, 0xbeefu);
    wc = completion_of(first, FLUE_TUPLE_IN_USE);
    EXPECT_EQ(claims.answer(wc, worker_count), Claims::Answer::deliver);
    EXPECT_EQ(wc.wr_id, 0xdeadu);
    EXPECT_EQ(claims.outstanding(), 0u);
}

TEST(Claims, claim_of_another_workers_flow_waits_to_be_posted_there) {
    Claims claims(8);
    const flue_wr posted = claims.add(hold(7)).value();
    flue_wc wc           = completion_of(posted, FLUE_NOT_OWNER, 3);
    EXPECT_EQ(claims.answer(wc, worker_count), Claims::Answer::reroute);
    ASSERT_EQ(claims.rerouted.size(), 1u);
    EXPECT_EQ(claims.rerouted[0].worker, 3u);
    EXPECT_EQ(claims.rerouted[0].wr.wr_id, posted.wr_id);
    EXPECT_EQ(claims.rerouted[0].wr.host_handle, 1007u);
    EXPECT_EQ(claims.outstanding(), 1u);
}

TEST(Claims, tree_stays_with_its_worker) {
    Claims claims(8);
    flue_wr tree         = hold(7);
    tree.opcode          = FLUE_OP_OFFLOAD;
    tree.object          = FLUE_TREE;
    tree.conn            = FLUE_ON_WORKER(0);
    const flue_wr posted = claims.add(tree).value();
    flue_wc wc           = completion_of(posted, FLUE_NOT_OWNER, 3);
    EXPECT_EQ(claims.answer(wc, worker_count), Claims::Answer::deliver);
    EXPECT_EQ(wc.wr_id, 7u);
    EXPECT_EQ(claims.outstanding(), 0u);
}

TEST(Claims, owner_that_is_no_worker_is_the_callers_business) {
    Claims claims(8);
    const flue_wr posted = claims.add(hold(7)).value();
    flue_wc wc           = completion_of(posted, FLUE_NOT_OWNER, worker_count);
    EXPECT_EQ(claims.answer(wc, worker_count), Claims::Answer::deliver);
    EXPECT_EQ(wc.status, FLUE_NOT_OWNER);
    EXPECT_EQ(wc.wr_id, 7u);
}

TEST(Claims, claim_that_no_worker_owns_is_delivered_after_a_few_reroutes) {
    Claims claims(8);
    const flue_wr posted = claims.add(hold(7)).value();
    flue_wc wc           = completion_of(posted, FLUE_NOT_OWNER, 1);
    int reroutes         = 0;
    while (claims.answer(wc, worker_count) == Claims::Answer::reroute) {
        ASSERT_LT(++reroutes, 100);
        claims.rerouted.clear();
    }
    EXPECT_GE(reroutes, 1);
    EXPECT_EQ(wc.wr_id, 7u);
    EXPECT_EQ(claims.outstanding(), 0u);
}

TEST(Claims, offload_of_a_held_connection_is_never_rerouted) {
    Claims claims(8);
    flue_wr wr           = hold(7);
    wr.opcode            = FLUE_OP_OFFLOAD;
    wr.conn              = 123;
    const flue_wr posted = claims.add(wr).value();
    flue_wc wc           = completion_of(posted, FLUE_NOT_OWNER, 1);
    EXPECT_EQ(claims.answer(wc, worker_count), Claims::Answer::deliver);
}

TEST(Claims, full_table_takes_no_more_until_one_completes_or_is_cancelled) {
    Claims claims(2);
    const flue_wr first  = claims.add(hold(1)).value();
    const flue_wr second = claims.add(hold(2)).value();
    EXPECT_FALSE(claims.add(hold(3)));
    claims.cancel(second);
    EXPECT_TRUE(claims.add(hold(3)));
    flue_wc wc = completion_of(first, FLUE_SUCCESS);
    (void)claims.answer(wc, worker_count);
    EXPECT_TRUE(claims.add(hold(4)));
    EXPECT_FALSE(claims.add(hold(5)));
}

TEST(Claims, completion_nobody_posted_changes_nothing) {
    Claims claims(2);
    const flue_wr posted = claims.add(hold(1)).value();
    for (const uint64_t wr_id : {posted.wr_id + 1, uint64_t{2}, UINT64_MAX}) {
        flue_wc wc = completion_of(posted, FLUE_SUCCESS);
        wc.wr_id   = wr_id;
        EXPECT_EQ(claims.answer(wc, worker_count), Claims::Answer::deliver);
        EXPECT_EQ(wc.wr_id, wr_id);
        EXPECT_EQ(claims.outstanding(), 1u);
    }
}

TEST(Claims, completion_of_a_host_before_is_not_taken_for_ours) {
    Claims before(8, 0x1234'5678'0000'0000);
    const flue_wr theirs = before.add(hold(7)).value();
    Claims ours(8, 0x9abc'def0'1111'1111);
    const flue_wr posted = ours.add(hold(8)).value();
    flue_wc wc           = completion_of(theirs, FLUE_NOT_OWNER, 3);
    EXPECT_EQ(ours.answer(wc, worker_count), Claims::Answer::deliver);
    EXPECT_EQ(wc.wr_id, theirs.wr_id);
    EXPECT_TRUE(ours.rerouted.empty());
    wc = completion_of(posted, FLUE_SUCCESS);
    EXPECT_EQ(ours.answer(wc, worker_count), Claims::Answer::deliver);
    EXPECT_EQ(wc.wr_id, 8u);
    EXPECT_EQ(ours.outstanding(), 0u);
}

}  // namespace
}  // namespace flue::host
