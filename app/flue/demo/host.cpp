#include "flue/demo/host.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <tuple>

namespace flue::demo {
namespace {

using testbed::human_bytes;

constexpr size_t socket_room_bytes =
    32 << 20;  // what a kernel socket's two queues may hold, and a flue_state
constexpr size_t state_room_bytes = 4096;
constexpr int patience_ms         = 20'000;

[[noreturn]] void fail(const std::string& call) {
    throw std::runtime_error(call + ": " + std::strerror(errno) + ": " + flue_error_text());
}

std::string with_bytes(const std::string& text, uint64_t bytes) {
    return bytes == 0 ? text : text + " " + human_bytes(bytes);
}

std::string text_of(const flue_wc& wc) {
    const std::string name = std::string("<- ") + flue_opcode_name(wc.opcode) + " ";
    if (wc.opcode == FLUE_EVENT_UPLOAD_REQUEST) {
        return name + flue_upload_reason_name(wc.info);
    }
    const bool is_event = (wc.opcode & 0x80) != 0;
    return with_bytes(name + (is_event ? "" : flue_status_name(wc.status)), wc.bytes);
}

}  // namespace

Host::Host(const std::string& socket_path, const char* name, size_t data_bytes)
    : context_(socket_path.c_str(), {.name = name, .on_loss = FLUE_LOSS_DRAIN, .hold_ms = 0}),
      region_(context_, data_bytes + socket_room_bytes),
      queue_(context_),
      data_bytes_(data_bytes) {
}

std::span<std::byte> Host::data() const {
    return region_.bytes().first(data_bytes_);
}

void Host::note(const std::string& text, bool routine) {
    events_.push_back({.time_ns = testbed::now_ns(), .text = text, .routine = routine});
}

void Host::offload(testbed::Descriptor socket) {
    flue_socket_offload_options options{};
    options.mr             = region_.get();
    options.mr_offset      = data_bytes_;
    options.mr_bytes       = socket_room_bytes - state_room_bytes;
    options.send_wr_id     = next_wr_id_++;
    options.keep_time_wait = 1;
    flue_socket_offload_result result{};
    note("flue_socket_offload(fd)");
    if (flue_socket_offload(queue_.get(), socket.get(), &options, &result) != 0) {
        fail("flue_socket_offload");
    }
    std::ignore = socket.release();  // closed by the hand-over
    connection_ = result.conn;
    sends_open_.assign(result.sends, result.sends + result.sends_posted);
    moved_bytes_ = result.sends_posted > 0 ? result.sends[0].sge[0].length : 0;
    note("the target owns it, " + human_bytes(moved_bytes_) + " open");
}

testbed::Descriptor Host::upload() {
    flue_mr* regions[] = {region_.get()};
    flue_socket_upload_options options{};
    options.mr            = region_.get();
    options.mr_offset     = data_bytes_;
    options.mr_bytes      = socket_room_bytes;
    options.sends         = sends_open_.data();
    options.send_count    = static_cast<uint32_t>(sends_open_.size());
    options.send_mrs      = regions;
    options.send_mr_count = 1;
    note("flue_socket_upload");
    const int fd = flue_socket_upload(queue_.get(), connection_, &options);
    if (fd < 0) {
        fail("flue_socket_upload");
    }
    note("the kernel owns it again");
    return testbed::Descriptor{fd};
}

flue_wr Host::post(flue_wr wr, const std::string& text, bool routine) {
    wr.wr_id = next_wr_id_++;
    wr.conn  = connection_;
    note(text, routine);
    while (!queue_.post(wr)) {
        // No room for the request or for its completion: take completions first.
        if (errno != EAGAIN) {
            fail("flue_post");
        }
        collect();
    }
    return wr;
}

void Host::send(size_t offset, size_t length) {
    flue_wr wr{};
    wr.opcode    = FLUE_OP_SEND;
    wr.sge_count = 1;
    wr.sge[0]    = region_.sge(offset, static_cast<uint32_t>(length));
    sends_open_.push_back(post(wr, with_bytes("SEND", length), true));
}

void Host::send_pieces(size_t offset, size_t length, size_t piece) {
    for (const size_t end = offset + length; offset < end; offset += piece) {
        send(offset, std::min(piece, end - offset));
    }
}

void Host::receive(size_t offset, size_t length, bool only_full) {
    flue_wr wr{};
    wr.opcode    = FLUE_OP_RECV;
    wr.flags     = only_full ? FLUE_WR_NO_PUSH : 0;
    wr.sge_count = 1;
    wr.sge[0]    = region_.sge(offset, static_cast<uint32_t>(length));
    post(wr, with_bytes("RECV", length), true);
}

void Host::disconnect(size_t offset, size_t length) {
    flue_wr wr{};
    wr.opcode    = FLUE_OP_DISCONNECT;
    wr.sge_count = length > 0 ? 1 : 0;
    wr.sge[0]    = length > 0 ? region_.sge(offset, static_cast<uint32_t>(length)) : flue_sge{};
    post(wr, with_bytes("DISCONNECT", length));
}

void Host::abort() {
    flue_wr wr{};
    wr.opcode = FLUE_OP_DISCONNECT;
    wr.flags  = FLUE_WR_ABORT;
    post(wr, "DISCONNECT abort");
}

void Host::collect() {
    std::array<flue_wc, 64> batch{};
    const unsigned count = flue_wait(queue_.get(), batch.data(), batch.size(), patience_ms);
    if (count == 0) {
        fail("expected a completion within " + std::to_string(patience_ms / 1000) +
             " s, saw none; flue_wait");
    }
    for (const auto& wc : std::span(batch).first(count)) {
        const bool routine =
            (wc.opcode == FLUE_OP_SEND || wc.opcode == FLUE_OP_RECV) && wc.status == FLUE_SUCCESS;
        note(text_of(wc), routine);
        completions_.push_back(wc);
    }
}

flue_wc Host::await(uint8_t opcode) {
    for (;;) {
        const auto found =
            std::find_if(completions_.begin(), completions_.end(), [opcode](const flue_wc& wc) {
                return wc.opcode == opcode;
            });
        if (found != completions_.end()) {
            const flue_wc wc = *found;
            completions_.erase(found);
            return wc;
        }
        collect();
    }
}

uint64_t Host::finish_sends(enum flue_status last) {
    uint64_t bytes = 0;
    uint8_t status = FLUE_SUCCESS;
    for (; !sends_open_.empty(); sends_open_.erase(sends_open_.begin())) {
        const flue_wc wc = await(FLUE_OP_SEND);
        expect(wc.status == last || (wc.status == FLUE_SUCCESS && status == FLUE_SUCCESS),
               std::string("a SEND to complete ") + flue_status_name(last),
               flue_status_name(wc.status));
        status = wc.status;
        bytes += wc.bytes;
    }
    return bytes;
}

flue_state Host::terminate() {
    flue_wr wr{};
    wr.opcode    = FLUE_OP_TERMINATE;
    wr.sge_count = 1;
    wr.sge[0] = region_.sge(data_bytes_ + socket_room_bytes - state_room_bytes, state_room_bytes);
    post(wr, "TERMINATE");
    const flue_wc wc = await(FLUE_OP_TERMINATE);
    expect(wc.status == FLUE_SUCCESS, "TERMINATE to complete SUCCESS", flue_status_name(wc.status));
    flue_state state{};
    std::memcpy(&state, &region_.bytes()[wr.sge[0].offset], sizeof state);
    expect(flue_state_check(&state) == 0,
           "a valid flue_state from TERMINATE",
           "one that does not check");
    return state;
}

std::string to_line(const testbed::HostEvent& event) {
    return std::to_string(event.time_ns) + (event.routine ? " r " : " k ") + event.text;
}

testbed::HostEvent from_line(const std::string& line) {
    std::istringstream in(line);
    testbed::HostEvent event;
    char kind = 0;
    in >> event.time_ns >> kind;
    event.routine = kind == 'r';
    std::getline(in >> std::ws, event.text);
    return event;
}

}  // namespace flue::demo
