#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "flue/demo/stage.hpp"
#include "flue/flue.hpp"
#include "testbed/descriptor.hpp"
#include "testbed/ladder.hpp"

namespace flue::demo {

/// Host is what a program does that uses flue, by include/flue/flue.h alone: a session, one host
/// queue, one memory region.  It notes each request and each completion for the ladder.
class Host {
  public:
    /// The region has `data_bytes` for data, at offset 0, and behind them room for the queues of a
    /// socket.
    Host(const std::string& socket_path, const char* name, size_t data_bytes);

    [[nodiscard]] std::span<std::byte> data() const;

    /// Hands the socket over; the completions of what was in its send queue are awaited by
    /// finish_sends too.
    void offload(testbed::Descriptor socket);
    /// Takes the connection back, with what the sends posted so far have not delivered.
    testbed::Descriptor upload();

    /// Requests about the bytes [offset, offset + length) of the region.
    void send(size_t offset, size_t length);
    void send_pieces(size_t offset, size_t length, size_t piece);
    void receive(size_t offset, size_t length, bool only_full);
    void disconnect(size_t offset, size_t length);
    void abort();

    /// Waits for the completion of the oldest request with this opcode, or for an event; others
    /// that come before are kept.  Errors: std::runtime_error that names what was expected and what
    /// came.
    flue_wc await(uint8_t opcode);
    /// Waits until all sends posted so far have completed and returns the bytes acknowledged.
    /// `last`: how those end that do not end SUCCESS; behind one of these no SUCCESS may follow.
    uint64_t finish_sends(enum flue_status last);
    /// Ends the offload and returns the state that the target gave back.
    flue_state terminate();

    /// What a hand-over moved out of the kernel's send queue.
    [[nodiscard]] uint64_t moved_bytes() const { return moved_bytes_; }

    [[nodiscard]] const std::vector<testbed::HostEvent>& events() const { return events_; }

    void note(const std::string& text, bool routine = false);

  private:
    /// Posts the request and returns it as posted.
    flue_wr post(flue_wr wr, const std::string& text, bool routine = false);
    void collect();

    Context context_;
    MemoryRegion region_;
    HostQueue queue_;
    size_t data_bytes_;
    flue_conn connection_ = FLUE_NO_CONN;
    uint64_t next_wr_id_  = 1;
    uint64_t moved_bytes_ = 0;
    std::vector<flue_wr> sends_open_;   ///< not completed, in posting order
    std::vector<flue_wc> completions_;  ///< arrived, not awaited yet
    std::vector<testbed::HostEvent> events_;
};

/// Keep puts the host's events into the record at the end of a scene, however it ends.
class Keep {
  public:
    Keep(const Host& host, Record& record) : host_(host), record_(record) {}

    ~Keep() { record_.host = host_.events(); }

    Keep(const Keep&)            = delete;
    Keep& operator=(const Keep&) = delete;

  private:
    const Host& host_;
    Record& record_;
};

/// The events of a host in another process, through a pipe: one line each.
std::string to_line(const testbed::HostEvent& event);
testbed::HostEvent from_line(const std::string& line);

}  // namespace flue::demo
