#pragma once

#include <cstdio>
#include <cstdlib>

/// FLUE_ASSERT stops the process when a condition that only a bug of flue's own can break is false.
/// It stays on in release builds.  Never assert on wire bytes, shared memory or results of a NIC.
#define FLUE_ASSERT(condition)                                     \
    do {                                                           \
        if (!(condition)) [[unlikely]] {                           \
            ::flue::assert_failed(#condition, __FILE__, __LINE__); \
        }                                                          \
    } while (false)

/// FLUE_DEBUG_ASSERT is for checks that cost more than O(1): on in debug, sanitizer and fuzz
/// builds.
#ifdef FLUE_DEBUG
#define FLUE_DEBUG_ASSERT(condition) FLUE_ASSERT(condition)
#else
#define FLUE_DEBUG_ASSERT(condition) \
    do {                             \
    } while (false)
#endif

namespace flue {

[[noreturn, gnu::cold]] inline void assert_failed(const char* expression,
                                                  const char* file,
                                                  int line) {
    (void)std::fprintf(stderr, "flue: assertion failed: %s at %s:%d\n", expression, file, line);
    std::abort();
}

}  // namespace flue
