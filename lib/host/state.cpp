#include <cstddef>
#include <cstring>

#include "base/crc32c.hpp"
#include "flue/flue.h"

namespace {

uint32_t checksum_of(const flue_state& state) {
    flue_state copy;
    std::memcpy(&copy, &state, sizeof(copy));
    copy.checksum = 0;
    return flue::crc32c(std::as_bytes(std::span(&copy, 1)));
}

}  // namespace

void flue_state_seal(struct flue_state* state) {
    state->version  = FLUE_STATE_VERSION;
    state->size     = sizeof(*state);
    state->checksum = checksum_of(*state);
}

int flue_state_check(const struct flue_state* state) {
    const bool known = state->version == FLUE_STATE_VERSION && state->size == sizeof(*state);
    return known && state->checksum == checksum_of(*state) ? 0 : -1;
}
