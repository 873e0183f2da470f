#pragma once

#include <cstdint>

namespace flue::tcp {

enum class Drop : uint8_t {
#define FLUE_DROP(name, specification, text) name,
#include "tcp/drops.def"
#undef FLUE_DROP
};

constexpr uint32_t drop_count = 0
#define FLUE_DROP(name, specification, text) +1
#include "tcp/drops.def"
#undef FLUE_DROP
    ;

const char* to_string(Drop drop);
/// The RFC section or rule that a drop follows, and a sentence for people.
const char* specification_of(Drop drop);
const char* text_of(Drop drop);

}  // namespace flue::tcp
