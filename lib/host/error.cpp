#include "host/error.hpp"

#include <cerrno>
#include <cstdarg>
#include <cstdio>

#include "flue/flue.h"

namespace flue::host {

namespace {

thread_local char text[512] = "";

}  // namespace

int fail(int code, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    errno = code;
    return -1;
}

const char* error_text() {
    return text;
}

}  // namespace flue::host

const char* flue_error_text() {
    return flue::host::error_text();
}
