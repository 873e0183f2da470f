#include "drain_memory.hpp"

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "base/assert.hpp"

namespace flue {

namespace {

constexpr uint64_t region_bytes = 16 << 20;
constexpr uint64_t unit         = 64;

constexpr uint64_t round_up(uint64_t bytes) {
    return (bytes + unit - 1) / unit * unit;
}

}  // namespace

FreeSpace::FreeSpace(uint64_t bytes) : free_{{0, bytes}} {
}

std::optional<uint64_t> FreeSpace::take(uint64_t bytes) {
    FLUE_ASSERT(bytes > 0);
    const auto found =
        std::ranges::find_if(free_, [&](const auto& range) { return range.second >= bytes; });
    if (found == free_.end()) {
        return std::nullopt;
    }
    const auto [offset, length] = *found;
    free_.erase(found);
    if (length > bytes) {
        free_.emplace(offset + bytes, length - bytes);
    }
    return offset;
}

void FreeSpace::give(uint64_t offset, uint64_t bytes) {
    if (bytes == 0) {
        return;
    }
    auto behind = free_.lower_bound(offset);
    FLUE_ASSERT(behind == free_.end() || offset + bytes <= behind->first);
    if (behind != free_.end() && behind->first == offset + bytes) {
        bytes += behind->second;
        behind = free_.erase(behind);
    }
    if (behind != free_.begin()) {
        const auto before = std::prev(behind);
        FLUE_ASSERT(before->first + before->second <= offset);
        if (before->first + before->second == offset) {
            before->second += bytes;
            return;
        }
    }
    free_.emplace(offset, bytes);
}

DrainMemory::DrainMemory(flue_context* session, uint64_t bytes_max)
    : session_(session), bytes_left_(bytes_max), bytes_max_(bytes_max) {
}

DrainMemory::~DrainMemory() {
    for (const Region& region : regions_) {
        flue_mr_destroy(region.mr);
    }
}

std::optional<DrainMemory::Piece> DrainMemory::take(uint64_t bytes, int& error) {
    bytes = round_up(bytes);
    for (int attempt = 0; attempt < 2; ++attempt) {
        for (size_t i = 0; i < regions_.size(); ++i) {
            if (const auto offset = regions_[i].space.take(bytes)) {
                return Piece{i, regions_[i].mr, flue_mr_key(regions_[i].mr), *offset, bytes};
            }
        }
        if (!add_region(std::max(bytes, region_bytes))) {
            break;
        }
    }
    error = bytes > bytes_max_ || regions_.empty() ? ENOBUFS : EAGAIN;
    return std::nullopt;
}

bool DrainMemory::add_region(uint64_t bytes) {
    if (bytes > bytes_left_) {
        return false;
    }
    flue_mr* mr = flue_mr_create(session_, bytes);
    if (mr == nullptr) {
        return false;
    }
    bytes_left_ -= bytes;
    regions_.push_back({mr, FreeSpace{bytes}});
    return true;
}

void DrainMemory::give(const Piece& piece) {
    regions_[piece.region].space.give(piece.offset, piece.bytes);
}

void DrainMemory::trim(Piece& piece, uint64_t bytes) {
    bytes = round_up(bytes);
    FLUE_ASSERT(bytes <= piece.bytes);
    regions_[piece.region].space.give(piece.offset + bytes, piece.bytes - bytes);
    piece.bytes = bytes;
}

}  // namespace flue
