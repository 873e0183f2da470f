#pragma once

#include <cerrno>

namespace flue {

/// SystemError says which system call failed and why.
struct SystemError {
    int code         = 0;   ///< errno
    const char* call = "";  ///< its name, a literal

    /// last takes the calling thread's errno.
    [[nodiscard]] static SystemError last(const char* call) { return SystemError{errno, call}; }
};

}  // namespace flue
