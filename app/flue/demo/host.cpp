#include "flue/demo/host.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <stdexcept>

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

template <typename Pointer>
Pointer checked(Pointer pointer, const std::string& call) {
    if (pointer == nullptr) {
        fail(call);
    }
    return pointer;
}

std::string with_bytes(const std::string& text, uint64_t bytes) {
    return bytes == 0 ? text : text + " " + human_bytes(bytes);
}

bool is_event(uint8_t opcode) {
    return (opcode & 0x80) != 0;
}

std::string text_of(const flue_wc& wc) {
    const std::string name = flue_opcode_name(wc.opcode);
    return with_bytes(
        is_event(wc.opcode) ? "<- event " + name : "<- " + name + " " + flue_status_name(wc.status),
        wc.bytes);
}

}  // namespace

Host::Host(const std::string& socket_path, const char* name, size_t data_bytes)
    : data_bytes_(data_bytes) {
    const flue_open_options options{.name = name, .on_loss = FLUE_LOSS_DRAIN};
    context_.reset(checked(flue_open(socket_path.c_str(), &options), "flue_open"));
    region_.reset(
        checked(flue_mr_create(context_.get(), data_bytes + socket_room_bytes), "flue_mr_create"));
    queue_.reset(checked(flue_hq_create(context_.get(), nullptr), "flue_hq_create"));
}

std::span<std::byte> Host::data() const {
    return {static_cast<std::byte*>(flue_mr_data(region_.get())), data_bytes_};
}

void Host::note(const std::string& text, bool routine) {
    events_.push_back({.time_ns = testbed::now_ns(), .text = text, .routine = routine});
}

void Host::offload(testbed::Descriptor socket) {
    const flue_socket_offload_options options{.host_handle = 1,
                                              .mr          = region_.get(),
                                              .mr_offset   = data_bytes_,
                                              .mr_bytes    = socket_room_bytes - state_room_bytes,
                                              .send_wr_id  = next_wr_id_++,
                                              .keep_time_wait = 1};
    flue_socket_offload_result result{};
    note("flue_socket_offload(fd)");
    if (flue_socket_offload(queue_.get(), socket.get(), &options, &result) != 0) {
        fail("flue_socket_offload");
    }
    std::ignore = socket.release();  // closed by the hand-over
    connection_ = result.conn;
    sends_open_ += result.sends_posted;
    moved_bytes_ = result.sends_posted > 0 ? result.mr_bytes_used : 0;
    note(with_bytes("the target owns it", moved_bytes_));
}

testbed::Descriptor Host::upload() {
    const flue_socket_upload_options options{
        .mr = region_.get(), .mr_offset = data_bytes_, .mr_bytes = socket_room_bytes};
    note("flue_socket_upload");
    const int fd = flue_socket_upload(queue_.get(), connection_, &options);
    if (fd < 0) {
        fail("flue_socket_upload");
    }
    note("the kernel owns it again");
    return testbed::Descriptor{fd};
}

flue_sge Host::piece_of_region(size_t offset, size_t length) const {
    return {.mr     = flue_mr_key(region_.get()),
            .length = static_cast<uint32_t>(length),
            .offset = offset};
}

void Host::post(flue_wr wr, const std::string& text, bool routine) {
    wr.wr_id = next_wr_id_++;
    wr.conn  = connection_;
    note(text, routine);
    while (flue_post(queue_.get(), &wr, 1) == 0) {
        // No room for the request or for its completion: take completions first.
        if (errno != EAGAIN) {
            fail("flue_post");
        }
        collect();
    }
}

void Host::send(size_t offset, size_t length) {
    flue_wr wr{};
    wr.opcode    = FLUE_OP_SEND;
    wr.sge_count = 1;
    wr.sge[0]    = piece_of_region(offset, length);
    post(wr, with_bytes("SEND", length), true);
    ++sends_open_;
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
    wr.sge[0]    = piece_of_region(offset, length);
    post(wr, with_bytes("RECV", length), true);
}

void Host::disconnect(size_t offset, size_t length) {
    flue_wr wr{};
    wr.opcode    = FLUE_OP_DISCONNECT;
    wr.sge_count = length > 0 ? 1 : 0;
    wr.sge[0]    = length > 0 ? piece_of_region(offset, length) : flue_sge{};
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

uint64_t Host::finish_sends() {
    uint64_t bytes = 0;
    for (; sends_open_ > 0; --sends_open_) {
        const flue_wc wc = await(FLUE_OP_SEND);
        expect(
            wc.status == FLUE_SUCCESS, "a SEND to complete SUCCESS", flue_status_name(wc.status));
        bytes += wc.bytes;
    }
    return bytes;
}

uint64_t Host::finish_sends_aborted() {
    uint64_t bytes = 0;
    uint8_t status = FLUE_SUCCESS;
    for (; sends_open_ > 0; --sends_open_) {
        const flue_wc wc = await(FLUE_OP_SEND);
        expect(wc.status == FLUE_REQUEST_ABORTED ||
                   (wc.status == FLUE_SUCCESS && status == FLUE_SUCCESS),
               "a SEND to complete REQUEST_ABORTED",
               flue_status_name(wc.status));
        status = wc.status;
        bytes += wc.bytes;
    }
    expect(status == FLUE_REQUEST_ABORTED,
           "the last SEND to complete REQUEST_ABORTED",
           flue_status_name(status));
    return bytes;
}

flue_state Host::terminate() {
    flue_wr wr{};
    wr.opcode    = FLUE_OP_TERMINATE;
    wr.sge_count = 1;
    wr.sge[0] =
        piece_of_region(data_bytes_ + socket_room_bytes - state_room_bytes, state_room_bytes);
    post(wr, "TERMINATE");
    const flue_wc wc = await(FLUE_OP_TERMINATE);
    expect(wc.status == FLUE_SUCCESS, "TERMINATE to complete SUCCESS", flue_status_name(wc.status));
    flue_state state{};
    std::memcpy(&state,
                static_cast<std::byte*>(flue_mr_data(region_.get())) + wr.sge[0].offset,
                sizeof state);
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
