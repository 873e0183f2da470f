#include "chimney/impl.hpp"

namespace flue::chimney {

void Chimney::Impl::update(Instant /*now*/, ConnIndex index, const flue_wr& wr) {
    answer(connections[index].queue, wr, FLUE_BAD_OPCODE);
}

void Chimney::Impl::invalidate(Instant /*now*/, ConnIndex index, const flue_wr& wr) {
    answer(connections[index].queue, wr, FLUE_BAD_OPCODE);
}

}  // namespace flue::chimney
