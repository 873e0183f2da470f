// Scene e: the same conversation, first with flue on the host's side, then with a plain socket
// again.

#include <algorithm>
#include <sys/socket.h>

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

constexpr size_t part_bytes = 1 << 20;
constexpr size_t open_bytes = 50'000;  // of a SEND that is still open at the upload
constexpr auto patience     = std::chrono::seconds{30};

/// Says a part and hears a part, twice, and then the end.
Child start_remote(Stage& stage, uint16_t port) {
    const testbed::NamespaceScope scope{stage.remote()};
    return Child::call([port](const testbed::Report&) {
        const auto socket = connect_to(Bottle::host_ipv4, port);
        for (uint64_t part = 1; part <= 2; ++part) {
            send_all(socket, pattern(part_bytes, part));
            expect(receive_exactly(socket, part_bytes) == pattern(part_bytes, 10 + part),
                   "part " + std::to_string(part) + " as the host sent it",
                   "other bytes");
        }
        ::shutdown(socket.get(), SHUT_WR);
        expect(receive_to_end(socket).empty(), "the end of the stream", "more bytes");
    });
}

void converse_offloaded(Host& host) {
    const auto own = pattern(part_bytes, 11);
    std::copy(own.begin(), own.end(), host.data().begin());
    host.receive(part_bytes, part_bytes, true);
    const flue_wc wc = host.await(FLUE_OP_RECV);
    expect(wc.status == FLUE_SUCCESS && wc.bytes == part_bytes,
           "RECV SUCCESS " + human_bytes(part_bytes),
           flue_status_name(wc.status) + (" " + human_bytes(wc.bytes)));
    const auto heard = pattern(part_bytes, 1);
    expect(std::equal(heard.begin(), heard.end(), host.data().begin() + part_bytes),
           "part 1 as the remote sent it",
           "other bytes");
    host.send(0, part_bytes - open_bytes);
    host.finish_sends(FLUE_SUCCESS);
    host.send(part_bytes - open_bytes, open_bytes);
}

void converse_in_the_kernel(const Descriptor& socket) {
    expect(receive_exactly(socket, part_bytes) == pattern(part_bytes, 2),
           "part 2 as the remote sent it",
           "other bytes");
    send_all(socket, pattern(part_bytes, 12));
    expect(receive_to_end(socket).empty(), "the remote's FIN", "more bytes");
}

}  // namespace

std::string play_upload(Stage& stage, Record& record) {
    record.host_port    = 8005;
    const auto listener = listen_on(Bottle::host_ipv4, record.host_port);
    Child remote        = start_remote(stage, record.host_port);
    auto accepted       = accept_one(listener);
    record.remote_port  = accepted.remote_port;

    int64_t uploaded_ns = 0;
    {
        Host host{stage.flued().options().socket_path, "flue demo e", 2 * part_bytes};
        const Keep keep{host, record};
        host.offload(std::move(accepted.socket));
        converse_offloaded(host);
        Descriptor socket = host.upload();
        uploaded_ns       = testbed::now_ns();
        host.finish_sends(FLUE_UPLOAD_IN_PROGRESS);
        converse_in_the_kernel(socket);
        host.note("close(fd)");
        socket          = Descriptor{};
        const auto exit = remote.wait(patience);
        expect(exit.ok(), "the remote to end in order", exit.output);
    }
    const auto segments = stage.segments(record);
    expect_silent_until(segments, uploaded_ns);
    expect_clean_close(segments);
    return human_bytes(part_bytes) +
           " each way through flue, as much again between plain sockets, every byte compared";
}

}  // namespace flue::demo
