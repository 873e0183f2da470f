#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>

namespace flue::sim {

/// What a run may find; the numbers are the program's exit codes.
enum class Kind : uint8_t { none = 0, crash = 127, no_progress = 128, wrong_result = 129 };

/// Findings keeps the first thing that was wrong: what follows is mostly its consequence.
class Findings {
  public:
    [[gnu::format(printf, 2, 3)]] void wrong(const char* format, ...) {
        va_list arguments;
        va_start(arguments, format);
        keep(Kind::wrong_result, format, arguments);
        va_end(arguments);
    }

    [[gnu::format(printf, 2, 3)]] void no_progress(const char* format, ...) {
        va_list arguments;
        va_start(arguments, format);
        keep(Kind::no_progress, format, arguments);
        va_end(arguments);
    }

    [[nodiscard]] Kind kind() const { return kind_; }

    [[nodiscard]] bool any() const { return kind_ != Kind::none; }

    [[nodiscard]] const std::string& text() const { return text_; }

  private:
    [[gnu::format(printf, 3, 0)]] void keep(Kind kind, const char* format, va_list arguments) {
        if (any()) {
            return;
        }
        char text[512];
        (void)std::vsnprintf(text, sizeof(text), format, arguments);
        kind_ = kind;
        text_ = text;
    }

    Kind kind_ = Kind::none;
    std::string text_;
};

}  // namespace flue::sim
