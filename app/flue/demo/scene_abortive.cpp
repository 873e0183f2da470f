// Scene c: the remote does not read, so that its window closes and most of what the host sends
// stays queued.

#include "flue/demo/host.hpp"
#include "flue/demo/scenes.hpp"
#include "flue/demo/sockets.hpp"
#include "flue/demo/wire_checks.hpp"
#include "testbed/process.hpp"

namespace flue::demo {
namespace {

using testbed::Bottle;
using testbed::Child;
using testbed::human_bytes;

constexpr size_t queued_bytes = 32 << 20;
constexpr size_t piece_bytes  = 4 << 20;
constexpr int64_t at_once_ns  = 1'000'000'000;  // scheduling on a busy machine, nothing else
constexpr auto patience = std::chrono::seconds{30};

Child start_remote(Stage& stage, uint16_t port) {
    const testbed::NamespaceScope scope{stage.remote()};
    return Child::call([port](const testbed::Report& report) {
        const auto socket = connect_to(Bottle::host_ipv4, port);
        report.line(std::to_string(await_reset(socket)));
    });
}

/// Waits for the remote's window to be full: a segment from the remote that offers nothing.
void await_closed_window(Stage& stage, const Record& record) {
    for (int attempt = 0; attempt < 200; ++attempt) {
        for (const auto& segment : stage.segments(record)) {
            if (segment.direction == testbed::Direction::from_remote && segment.tcp.window == 0) {
                return;
            }
        }
    }
    expect(false, "the remote's window to close", "it stayed open");
}

}  // namespace

std::string play_abortive(Stage& stage, Record& record) {
    record.host_port    = 8003;
    const auto listener = listen_on(Bottle::host_ipv4, record.host_port);
    Child remote        = start_remote(stage, record.host_port);
    auto accepted       = accept_one(listener);
    record.remote_port  = accepted.remote_port;

    Host host{stage.flued().options().socket_path, "flue demo c", queued_bytes + piece_bytes};
    const Keep keep{host, record};
    host.offload(std::move(accepted.socket));
    host.receive(queued_bytes, piece_bytes, false);
    host.send_pieces(0, queued_bytes, piece_bytes);
    await_closed_window(stage, record);

    const int64_t aborted_ns = testbed::now_ns();
    host.abort();
    const uint64_t delivered = host.finish_sends(FLUE_REQUEST_ABORTED);
    expect(delivered < queued_bytes,
           "less than all acknowledged before the abort",
           human_bytes(delivered));
    const flue_wc received = host.await(FLUE_OP_RECV);
    expect(received.status == FLUE_REQUEST_ABORTED,
           "RECV REQUEST_ABORTED",
           flue_status_name(received.status));
    const flue_wc closed = host.await(FLUE_OP_DISCONNECT);
    expect(closed.status == FLUE_SUCCESS, "DISCONNECT SUCCESS", flue_status_name(closed.status));

    const auto exit = remote.wait(patience);
    expect(exit.ok(), "the remote to see ECONNRESET", exit.output);
    const int64_t latency_ns = std::stoll(exit.output) - aborted_ns;
    expect(latency_ns < at_once_ns,
           "the reset at once",
           std::to_string(latency_ns / 1'000'000) + " ms later");
    host.terminate();
    expect_reset_only(stage.segments(record));
    return "ECONNRESET at the remote " + std::to_string(latency_ns / 1000) +
           " us after the request; " + human_bytes(queued_bytes - delivered) +
           " of SENDs reported REQUEST_ABORTED";
}

}  // namespace flue::demo
