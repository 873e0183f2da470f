#include "host/posted_sends.hpp"

#include <algorithm>

namespace flue::host {

namespace {

/// trim takes the first `bytes` bytes off a request.
void trim(flue_wr& wr, uint64_t bytes) {
    while (bytes > 0) {
        const auto cut = static_cast<uint32_t>(std::min<uint64_t>(bytes, wr.sge[0].length));
        wr.sge[0].offset += cut;
        wr.sge[0].length -= cut;
        bytes -= cut;
        if (wr.sge[0].length == 0) {
            wr.sge[0] = wr.sge[1];
            wr.sge[1] = {};
            --wr.sge_count;
        }
    }
}

bool lies_in(const flue_sge& sge, std::span<flue_mr* const> regions) {
    const flue_mr* mr = find_region(regions, sge.mr);
    return mr != nullptr && sge.offset <= flue_mr_bytes(mr) &&
           sge.length <= flue_mr_bytes(mr) - sge.offset;
}

}  // namespace

uint64_t bytes_of(const flue_wr& wr) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < wr.sge_count; ++i) {
        bytes += wr.sge[i].length;
    }
    return bytes;
}

std::optional<std::vector<flue_wr>> unacknowledged_sends(std::span<const flue_wr> listed,
                                                         uint64_t backlog) {
    uint64_t total = 0;
    for (const flue_wr& wr : listed) {
        total += bytes_of(wr);
    }
    if (total < backlog) {
        return std::nullopt;
    }
    uint64_t acknowledged = total - backlog;
    std::vector<flue_wr> left;
    for (flue_wr wr : listed) {
        const uint64_t bytes = bytes_of(wr);
        const uint64_t cut   = std::min(bytes, acknowledged);
        acknowledged -= cut;
        if (cut < bytes || wr.opcode == FLUE_OP_DISCONNECT) {
            trim(wr, cut);
            left.push_back(wr);
        }
    }
    return left;
}

const flue_mr* find_region(std::span<flue_mr* const> regions, uint32_t key) {
    const auto found = std::find_if(regions.begin(), regions.end(), [key](const flue_mr* mr) {
        return flue_mr_key(mr) == key;
    });
    return found != regions.end() ? *found : nullptr;
}

bool are_legal_sends(std::span<const flue_wr> sends,
                     flue_conn conn,
                     std::span<flue_mr* const> regions) {
    return std::all_of(sends.begin(), sends.end(), [&](const flue_wr& wr) {
        const bool is_kind = wr.opcode == FLUE_OP_SEND || wr.opcode == FLUE_OP_DISCONNECT;
        if (!is_kind || wr.conn != conn || wr.sge_count > FLUE_SGE_MAX) {
            return false;
        }
        const std::span<const flue_sge> pieces(wr.sge, wr.sge_count);
        return std::all_of(pieces.begin(), pieces.end(), [&](const flue_sge& sge) {
            return lies_in(sge, regions);
        });
    });
}

}  // namespace flue::host
