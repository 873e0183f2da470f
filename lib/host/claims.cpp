#include "host/claims.hpp"

#include "base/assert.hpp"

namespace flue::host {

namespace {

/// A flow changes its owner only when the NIC's table does, so one more place to ask is nearly
/// always enough.
constexpr uint32_t reroutes_max = 4;

}  // namespace

Claims::Claims(uint32_t capacity, uint64_t salt)
    : salt_(salt & ~uint64_t{UINT32_MAX}), claims_(capacity) {
    free_.reserve(capacity);
    for (uint32_t index = capacity; index-- > 0;) {
        free_.push_back(index);
    }
}

std::optional<flue_wr> Claims::add(const flue_wr& wr) {
    if (free_.empty()) {
        return std::nullopt;
    }
    const uint32_t index = free_.back();
    free_.pop_back();
    claims_[index] = Claim{wr, 0, true};
    flue_wr tagged = wr;
    tagged.wr_id   = tag_of(index);
    return tagged;
}

void Claims::cancel(const flue_wr& tagged) {
    const auto index = static_cast<uint32_t>(tagged.wr_id);
    FLUE_ASSERT(index < claims_.size() && tagged.wr_id == tag_of(index));
    claims_[index].used = false;
    free_.push_back(index);
}

Claims::Answer Claims::answer(flue_wc& wc, uint32_t worker_count) {
    const auto index = static_cast<uint32_t>(wc.wr_id);
    if (wc.wr_id != tag_of(index) || index >= claims_.size() || !claims_[index].used) {
        return Answer::deliver;
    }
    Claim& claim           = claims_[index];
    const bool owner_known = wc.status == FLUE_NOT_OWNER && wc.info < worker_count;
    const bool may_move    = claim.wr.conn == FLUE_NO_CONN && claim.wr.object != FLUE_TREE;
    if (owner_known && may_move && claim.reroutes < reroutes_max) {
        ++claim.reroutes;
        flue_wr tagged = claim.wr;
        tagged.wr_id   = wc.wr_id;
        rerouted.push_back(Rerouted{tagged, wc.info});
        return Answer::reroute;
    }
    claim.used = false;
    wc.wr_id   = claim.wr.wr_id;
    free_.push_back(index);
    return Answer::deliver;
}

uint32_t Claims::outstanding() const {
    return static_cast<uint32_t>(claims_.size() - free_.size());
}

}  // namespace flue::host
