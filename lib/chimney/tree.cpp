#include "chimney/impl.hpp"

namespace flue::chimney {

void Chimney::Impl::carry_out_on_object(Instant /*now*/, QueueIndex slot, const flue_wr& wr) {
    answer(slot, wr, FLUE_BAD_OPCODE);
}

}  // namespace flue::chimney
