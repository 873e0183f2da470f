#include "chimney/impl.hpp"

namespace flue::chimney {

void Chimney::Impl::forward(Instant /*now*/, ConnIndex index, const flue_wr& wr) {
    answer(connections[index].queue, wr, FLUE_BAD_OPCODE);
}

}  // namespace flue::chimney
