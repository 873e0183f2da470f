#include "trace.hpp"

#include <cinttypes>
#include <cstdio>

namespace flue::sim {

namespace {

const char* name(Record record) {
    switch (record) {
        case Record::world:
            return "world";
        case Record::frame_out:
            return "out";
        case Record::frame_in:
            return "in";
        case Record::frame_lost:
            return "lost";
        case Record::request:
            return "request";
        case Record::completion:
            return "completion";
        case Record::event:
            return "event";
        case Record::fault:
            return "fault";
        case Record::phase:
            return "phase";
        case Record::turn:
            return "turn";
        case Record::state:
            return "state";
        case Record::frame_marked:
            return "marked";
        case Record::too_big:
            return "too-big";
    }
    return "?";
}

}  // namespace

void Trace::show(Instant now, Record record, std::initializer_list<uint64_t> words) {
    std::printf("%14" PRIu64 " %-10s", now.us, name(record));
    for (const uint64_t word : words) {
        std::printf(" %" PRIu64, word);
    }
    std::printf("\n");
}

}  // namespace flue::sim
