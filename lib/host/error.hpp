#pragma once

namespace flue::host {

/// fail sets errno to `code` and the calling thread's error text, and returns -1.
[[gnu::format(printf, 2, 3)]] int fail(int code, const char* format, ...);

/// error_text returns the calling thread's last error text; "" before the first.
const char* error_text();

}  // namespace flue::host
