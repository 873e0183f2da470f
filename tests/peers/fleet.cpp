#include "fleet.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <sys/socket.h>

namespace flue::peers {

namespace {

constexpr uint64_t pattern_bytes  = 1 << 20;
constexpr uint64_t handoff_bytes  = 1 << 20;
constexpr uint32_t receive_bytes  = 64 * 1024;
constexpr uint32_t receive_count  = 4;
constexpr uint64_t receive_offset = handoff_bytes;
constexpr uint64_t state_offset   = receive_offset + receive_count * receive_bytes;
constexpr uint64_t backlog_offset = state_offset + 4096;
constexpr uint32_t backlog_bytes  = 1 << 20;
constexpr uint64_t slot_bytes     = backlog_offset + backlog_bytes;

constexpr auto patience           = std::chrono::seconds{60};
// Of an RST behind a lost segment one challenge ACK is all that tells (R86): when that is lost,
// too, the blind reset check finds after five minutes that the peer is gone.
constexpr auto blind_patience = std::chrono::seconds{330};

enum WrId : uint64_t { id_send = 1, id_disconnect, id_terminate, id_receive = 100 };

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error(what + ": " + flue_error_text());
}

}  // namespace

static_assert(e2e::Pattern::period <= pattern_bytes);

testbed::FluedOptions modest_target() {
    testbed::FluedOptions options;
    options.pinned        = false;
    options.flued_options = {"--idle-sleep", "50"};
    return options;
}

Fleet::Fleet(const e2e::Rig& rig,
             const e2e::Pattern& sends,
             const e2e::Pattern& expects,
             uint32_t connections_max)
    : expects_(expects),
      ends_(connections_max),
      session_(rig, pattern_bytes + connections_max * slot_bytes) {
    sends.write(0, {session_.data(0), e2e::Pattern::period});
}

uint64_t Fleet::memory_of(uint32_t slot) const {
    return pattern_bytes + slot * slot_bytes;
}

Fleet::End* Fleet::find(flue_conn conn) {
    const auto found = std::ranges::find_if(
        ends_, [&](const End& end) { return end.in_use && !end.terminated && end.conn == conn; });
    return found == ends_.end() ? nullptr : &*found;
}

uint32_t Fleet::start(testbed::Descriptor socket, const HostPlan& plan) {
    const auto free = std::ranges::find(ends_, false, &End::in_use);
    if (free == ends_.end()) {
        throw std::logic_error("all connections of the fleet are in use");
    }
    const auto slot = static_cast<uint32_t>(free - ends_.begin());
    End end;
    end.in_use = true;
    end.plan   = plan;
    if (plan.kernel_bytes > 0) {
        const uint64_t at   = plan.send_from % e2e::Pattern::period;
        const uint64_t size = std::min(plan.kernel_bytes, e2e::Pattern::period - at);
        const ssize_t sent  = ::send(socket.get(), session_.data(at), size, MSG_DONTWAIT);
        end.posted          = sent > 0 ? static_cast<uint64_t>(sent) : 0;
    }
    flue_socket_offload_options options{};
    options.mr          = session_.region();
    options.mr_offset   = memory_of(slot);
    options.mr_bytes    = handoff_bytes;
    options.send_wr_id  = id_send;
    options.rcv_wnd_max = plan.rcv_wnd_max;
    flue_socket_offload_result handed{};
    if (flue_socket_offload(session_.queue(), socket.release(), &options, &handed) != 0) {
        fail("flue_socket_offload");
    }
    end.conn       = handed.conn;
    end.sends_left = handed.sends_posted;
    *free          = end;
    for (uint32_t buffer = 0; buffer < receive_count; ++buffer) {
        post_receive(slot, buffer);
    }
    post_sends(*free);
    go_on(slot);
    return slot;
}

void Fleet::post_receive(uint32_t slot, uint32_t buffer) {
    const uint64_t at = memory_of(slot) + receive_offset + uint64_t{buffer} * receive_bytes;
    ++ends_[slot].receives;
    session_.post(
        FLUE_OP_RECV, ends_[slot].conn, id_receive + buffer, session_.range(at, receive_bytes));
}

void Fleet::post_sends(End& end) {
    while (end.posted < end.plan.bytes_to_send) {
        const uint64_t at   = (end.plan.send_from + end.posted) % e2e::Pattern::period;
        const uint64_t left = end.plan.bytes_to_send - end.posted;
        const auto bytes    = static_cast<uint32_t>(std::min(left, e2e::Pattern::period - at));
        session_.post(FLUE_OP_SEND, end.conn, id_send, session_.range(at, bytes));
        end.posted += bytes;
        ++end.sends_left;
    }
}

void Fleet::disconnect(End& end, uint8_t flags) {
    end.disconnecting = true;
    session_.post(FLUE_OP_DISCONNECT, end.conn, id_disconnect, flags);
}

void Fleet::turn(int timeout_ms) {
    std::array<flue_wc, 64> completed;
    const unsigned count = flue_wait(session_.queue(), completed.data(), 64, timeout_ms);
    if (count == 0 && errno != ETIMEDOUT && errno != EINTR) {
        fail("flue_wait");
    }
    for (unsigned i = 0; i < count; ++i) {
        handle(completed[i]);
    }
}

void Fleet::handle(const flue_wc& wc) {
    End* end = find(wc.conn);
    if (end == nullptr) {
        throw std::runtime_error("a completion of a connection that nobody has");
    }
    const bool aborted = end->plan.ending >= Ending::aborts;
    const auto slot    = static_cast<uint32_t>(end - ends_.data());
    switch (wc.opcode) {
        case FLUE_OP_SEND:
            --end->sends_left;
            end->result.wrong_statuses += wc.status != FLUE_SUCCESS && !aborted;
            break;
        case FLUE_OP_RECV:
            on_receive(slot, wc);
            break;
        case FLUE_OP_DISCONNECT:
            end->disconnected      = true;
            end->result.disconnect = wc.status;
            break;
        case FLUE_OP_TERMINATE:
            return take_back(slot, wc);
        case FLUE_EVENT_DISCONNECT:
            end->result.saw_fin = true;
            break;
        case FLUE_EVENT_ABORT:
            end->result.saw_rst = true;
            break;
        case FLUE_EVENT_UPLOAD_REQUEST:
            end->upload_wanted = true;
            break;
        default:
            break;
    }
    go_on(slot);
}

void Fleet::on_receive(uint32_t slot, const flue_wc& wc) {
    End& end = ends_[slot];
    --end.receives;
    end.last_receive  = wc.status;
    const auto buffer = static_cast<uint32_t>(wc.wr_id - id_receive);
    const uint64_t at = memory_of(slot) + receive_offset + uint64_t{buffer} * receive_bytes;
    compare(end, at, wc.bytes);
    if (wc.status == FLUE_SUCCESS && wc.bytes > 0 && !end.result.saw_fin && !end.terminating) {
        post_receive(slot, buffer);
    }
}

void Fleet::compare(End& end, uint64_t at, uint32_t bytes) {
    HostResult& result   = end.result;
    const uint64_t place = end.plan.expect_from + result.bytes_received;
    result.bytes_right = result.bytes_right && expects_.matches(place, {session_.data(at), bytes});
    result.bytes_received += bytes;
}

/// Both FINs may have been acknowledged before all data was taken: the rest comes with the state.
void Fleet::take_back(uint32_t slot, const flue_wc& wc) {
    End& end       = ends_[slot];
    end.terminated = true;
    end.result.wrong_statuses += wc.status != FLUE_SUCCESS;
    flue_state state{};
    std::memcpy(&state, session_.data(memory_of(slot) + state_offset), sizeof state);
    if (end.plan.ending < Ending::aborts && !end.result.saw_rst) {
        compare(end,
                memory_of(slot) + backlog_offset,
                std::min(state.receive_backlog_bytes, backlog_bytes));
        end.result.saw_fin = end.result.saw_fin || end.upload_wanted;
    }
}

/// What the plan wants next, as far as it is time for it.
void Fleet::go_on(uint32_t slot) {
    End& end           = ends_[slot];
    const bool its_fin = end.result.saw_fin;
    if (!end.disconnecting) {
        switch (end.plan.ending) {
            case Ending::closes_first:
                disconnect(end, 0);
                break;
            case Ending::closes_last:
                if (its_fin) {
                    disconnect(end, 0);
                }
                break;
            case Ending::aborts:
                if (end.result.bytes_received >= end.plan.abort_after_bytes || its_fin) {
                    disconnect(end, FLUE_WR_ABORT);
                }
                break;
            case Ending::is_aborted:
                break;
        }
    }
    const bool over = end.result.saw_rst ||
                      (end.disconnected && end.plan.ending == Ending::aborts) ||
                      (end.disconnected && its_fin) || end.upload_wanted;
    if (over && !end.terminating) {
        end.terminating = true;
        flue_wr wr{};
        wr.wr_id     = id_terminate;
        wr.conn      = end.conn;
        wr.opcode    = FLUE_OP_TERMINATE;
        wr.sge_count = 2;
        wr.sge[0]    = session_.range(memory_of(slot) + state_offset, sizeof(flue_state));
        wr.sge[1]    = session_.range(memory_of(slot) + backlog_offset, backlog_bytes);
        session_.post(wr);
    }
}

std::string Fleet::progress(uint32_t slot) const {
    const End& end = ends_[slot];
    std::ostringstream out;
    out << "connection " << end.conn << " has " << end.sends_left << " SENDs and " << end.receives
        << " RECVs outstanding, the last RECV " << flue_status_name(end.last_receive) << ", "
        << end.result.bytes_received << " bytes received"
        << (end.result.saw_fin ? ", the peer's FIN" : "") << (end.result.saw_rst ? ", its RST" : "")
        << (end.disconnecting ? ", a DISCONNECT" : "") << (end.disconnected ? " completed" : "")
        << (end.terminating ? ", a TERMINATE" : "");
    return out.str();
}

HostResult Fleet::finish(uint32_t slot) {
    const bool blind    = ends_[slot].plan.ending == Ending::is_aborted;
    const auto deadline = std::chrono::steady_clock::now() + (blind ? blind_patience : patience);
    while (!ends_[slot].terminated) {
        if (std::chrono::steady_clock::now() > deadline) {
            throw std::runtime_error("it does not end: " + progress(slot));
        }
        turn(100);
    }
    ends_[slot].in_use = false;
    return ends_[slot].result;
}

}  // namespace flue::peers
