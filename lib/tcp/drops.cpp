#include "tcp/drops.hpp"

#include <array>

namespace flue::tcp {

namespace {

struct Description {
    const char* name;
    const char* specification;
    const char* text;
};

constexpr std::array<Description, drop_count> descriptions{{
#define FLUE_DROP(name, specification, text) {#name, specification, text},
#include "tcp/drops.def"
#undef FLUE_DROP
}};

const Description& describe(Drop drop) {
    return descriptions[static_cast<uint32_t>(drop)];
}

}  // namespace

const char* to_string(Drop drop) {
    return describe(drop).name;
}

const char* specification_of(Drop drop) {
    return describe(drop).specification;
}

const char* text_of(Drop drop) {
    return describe(drop).text;
}

}  // namespace flue::tcp
