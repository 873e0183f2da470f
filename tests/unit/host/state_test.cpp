#include <cstring>
#include <gtest/gtest.h>

#include "flue/flue.h"

namespace {

flue_state sealed() {
    flue_state state{};
    state.family  = 4;
    state.snd_una = 0x12345678;
    flue_state_seal(&state);
    return state;
}

TEST(State, sealed_block_checks) {
    const flue_state state = sealed();
    EXPECT_EQ(state.version, FLUE_STATE_VERSION);
    EXPECT_EQ(state.size, sizeof(flue_state));
    EXPECT_EQ(flue_state_check(&state), 0);
}

TEST(State, any_changed_byte_is_noticed) {
    for (size_t i = 0; i < sizeof(flue_state); ++i) {
        flue_state state = sealed();
        unsigned char bytes[sizeof(flue_state)];
        std::memcpy(bytes, &state, sizeof(state));
        bytes[i] ^= 0x40;
        std::memcpy(&state, bytes, sizeof(state));
        EXPECT_EQ(flue_state_check(&state), -1) << "byte " << i;
    }
}

TEST(State, sealing_again_after_a_change_checks) {
    flue_state state = sealed();
    state.snd_nxt    = 5;
    EXPECT_EQ(flue_state_check(&state), -1);
    flue_state_seal(&state);
    EXPECT_EQ(flue_state_check(&state), 0);
}

}  // namespace
