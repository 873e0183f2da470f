#pragma once

#include <cerrno>
#include <optional>
#include <sys/socket.h>
#include <type_traits>

namespace flue::host {

/// HandoffError says why a call on a kernel socket failed: an errno value and a sentence for
/// people. Code 0: it did not.
struct HandoffError {
    int code         = 0;
    const char* text = "";

    [[nodiscard]] bool failed() const { return code != 0; }
};

/// last_error returns errno with a sentence of ours.
inline HandoffError last_error(const char* text) {
    return HandoffError{errno, text};
}

/// get_option returns a socket option's value, or nothing with errno set.  What an older kernel
/// does not fill is zero.
template <typename T>
[[nodiscard]] std::optional<T> get_option(int fd, int level, int name) {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    socklen_t length = sizeof(value);
    if (::getsockopt(fd, level, name, &value, &length) != 0) {
        return std::nullopt;
    }
    return value;
}

/// set_option returns whether the kernel took the value; errno says why not.
template <typename T>
bool set_option(int fd, int level, int name, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    return ::setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

}  // namespace flue::host
