#include "host/linux/target_requests.hpp"

#include <cstring>

#include "base/assert.hpp"

namespace flue::host {

namespace {

HandoffError target_is_gone() {
    return {ECONNRESET, "the target has gone"};
}

}  // namespace

HandoffError error_of(const flue_wc& wc) {
    switch (wc.status) {
        case FLUE_SUCCESS:
            return {};
        case FLUE_TUPLE_IN_USE:
            return {EADDRINUSE, "the target has a connection with these addresses and ports"};
        case FLUE_TCP_ENTRIES:
        case FLUE_RESOURCES:
        case FLUE_TCP_RCV_BUFFER:
            return {ENOMEM, "the target has no room for another connection"};
        case FLUE_QUOTA:
            return {EDQUOT, "the session has reached its limit in the target"};
        case FLUE_NOT_PERMITTED:
            return {EACCES, "the target does not let this session have the connection"};
        case FLUE_TCP_RCV_WINDOW:
            return {EMSGSIZE, "the connection's receive window is larger than the target allows"};
        case FLUE_UPLOAD_IN_PROGRESS:
            return {EAGAIN, "the target takes no connections now: it has asked for all it has"};
        case FLUE_BAD_CONNECTION:
            return {ENOENT, "the target has no such connection"};
        case FLUE_INVALID_STATE:
            return {ESHUTDOWN, "not possible in the state that the connection is in"};
        case FLUE_BAD_LENGTH:
            return {ENOBUFS, "more received data waits than there is room for"};
        default:
            return {EPROTO, flue_status_name(wc.status)};
    }
}

HandoffError request(HostQueue& queue, const flue_wr& wr, flue_wc& wc) {
    const auto done = queue.execute(wr, -1);
    if (!done) {
        return target_is_gone();
    }
    wc = *done;
    return error_of(wc);
}

HandoffError post_all(HostQueue& queue, std::span<const flue_wr> requests) {
    constexpr int retry_ms = 1;
    const auto nothing     = [](const flue_wc&) { return false; };
    while (!requests.empty()) {
        const uint32_t posted = queue.post(requests);
        requests              = requests.subspan(posted);
        if (posted == 0 && errno == ECONNRESET) {
            return target_is_gone();
        }
        if (posted == 0) {
            // Completions that lie in a full ring keep the target from taking requests: they go to
            // the stash.
            static_cast<void>(queue.wait_for(nothing, retry_ms));
        }
    }
    return {};
}

bool Room::valid() const {
    const uint64_t size = flue_mr_bytes(mr_);
    return offset_ <= size && bytes_ <= size - offset_;
}

Room::Piece Room::take(uint64_t bytes) {
    FLUE_ASSERT(bytes <= left());
    FLUE_ASSERT(bytes <= UINT32_MAX);
    const uint64_t at = offset_ + used_;
    used_ += bytes;
    return {.bytes = {static_cast<std::byte*>(flue_mr_data(mr_)) + at, bytes},
            .sge = {.mr = flue_mr_key(mr_), .length = static_cast<uint32_t>(bytes), .offset = at}};
}

bool take_back_fin(flue_state& state) {
    switch (state.tcp_state) {
        case FLUE_TCP_FIN_WAIT_1:
            state.tcp_state = FLUE_TCP_ESTABLISHED;
            break;
        case FLUE_TCP_CLOSING:
        case FLUE_TCP_LAST_ACK:
            state.tcp_state = FLUE_TCP_CLOSE_WAIT;
            break;
        default:
            return false;
    }
    state.snd_nxt -= state.snd_nxt == state.snd_max ? 1 : 0;
    state.snd_max -= 1;
    return true;
}

void put_state(const Room::Piece& piece, flue_state& state) {
    FLUE_ASSERT(piece.bytes.size() == sizeof(state));
    flue_state_seal(&state);
    std::memcpy(piece.bytes.data(), &state, sizeof(state));
}

flue_state get_state(const Room::Piece& piece) {
    flue_state state{};
    FLUE_ASSERT(piece.bytes.size() == sizeof(state));
    std::memcpy(&state, piece.bytes.data(), sizeof(state));
    return state;
}

}  // namespace flue::host
