// Scenes a and b: an HTTP server hands its connection over in the middle of a body.  The length of
// the body is not in the header, so that for curl only the FIN ends it; a reset or a lost tail is
// an error.

#include <algorithm>
#include <fstream>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

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
using testbed::run_tool;

constexpr size_t body_bytes     = 64 << 20;
constexpr size_t piece_bytes    = 1 << 20;
constexpr size_t last_bytes     = 100'000;   // sent with the DISCONNECT itself
constexpr size_t written_max    = 48 << 20;  // by the kernel's TCP at most
constexpr const char* sent_path = "/run/body";
constexpr const char* got_path  = "/run/body.got";
constexpr auto patience         = std::chrono::seconds{60};
constexpr std::string_view header =
    "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n";

std::vector<std::byte> write_body(uint64_t seed) {
    auto body = pattern(body_bytes, seed);
    std::ofstream(sent_path, std::ios::binary)
        .write(reinterpret_cast<const char*>(body.data()),
               static_cast<std::streamsize>(body.size()));
    return body;
}

Child start_curl(Stage& stage, uint16_t port) {
    const testbed::NamespaceScope scope{stage.remote()};
    const std::string url =
        std::string("http://") + Bottle::host_ipv4 + ":" + std::to_string(port) + "/body";
    return Child::execute({"curl",
                           "--silent",
                           "--show-error",
                           "--fail",
                           "--noproxy",
                           "*",
                           "--output",
                           got_path,
                           url});
}

std::string sha256(const char* path) {
    return run_tool({"sha256sum", path}).substr(0, 64);
}

/// curl has ended without complaint and its file has the hash of ours.
void expect_body(Child& curl) {
    const auto exit = curl.wait(patience);
    expect(exit.ok(), "curl to end with exit status 0", to_string(exit) + ": " + exit.output);
    const auto expected = sha256(sent_path);
    const auto seen     = sha256(got_path);
    expect(seen == expected, "SHA-256 " + expected, seen);
}

int queue_size(const Descriptor& socket, unsigned long request) {
    int bytes = 0;
    ::ioctl(socket.get(), request, &bytes);
    return bytes;
}

/// The server's part up to the hand-over: answers the request with as much of the body as the
/// kernel takes, and leaves the connection to the target.  curl stands still meanwhile, so that the
/// kernel cannot have sent everything.  Returns how much of the body the kernel took.
size_t serve_first_part(Host& host,
                        Descriptor socket,
                        std::span<const std::byte> body,
                        pid_t curl) {
    receive_request(socket);
    ::kill(curl, SIGSTOP);
    send_all(socket, std::as_bytes(std::span(header)));
    const size_t written = fill_send_queue(socket, body.first(written_max));
    const int queued     = queue_size(socket, SIOCOUTQ);
    const int unsent     = queue_size(socket, SIOCOUTQNSD);
    host.note("kernel TCP took " + human_bytes(written));
    host.note(human_bytes(static_cast<uint64_t>(queued - unsent)) + " in flight, " +
              human_bytes(static_cast<uint64_t>(unsent)) + " unsent");
    host.offload(std::move(socket));
    ::kill(curl, SIGCONT);
    expect(host.moved_bytes() > 0, "data that is not acknowledged at the hand-over", "none");
    return written;
}

void post_rest(Host& host, size_t written) {
    host.send_pieces(written, body_bytes - last_bytes - written, piece_bytes);
    host.disconnect(body_bytes - last_bytes, last_bytes);
}

void remove_bodies() {
    ::unlink(sent_path);
    ::unlink(got_path);
}

/// The host process of scene b: posts everything and is gone.
void serve_and_exit(const std::string& socket_path,
                    Descriptor socket,
                    pid_t curl,
                    const testbed::Report& report) {
    Host host{socket_path, "flue demo b", body_bytes};
    const auto body = pattern(body_bytes, 'b');
    std::copy(body.begin(), body.end(), host.data().begin());
    post_rest(host, serve_first_part(host, std::move(socket), body, curl));
    host.note("_exit(0)");
    for (const auto& event : host.events()) {
        report.line(to_line(event));
    }
    ::_exit(0);
}

}  // namespace

std::string play_graceful(Stage& stage, Record& record) {
    record.host_port     = 8001;
    const auto body      = write_body('a');
    const auto listener  = listen_on(Bottle::host_ipv4, record.host_port);
    Child curl           = start_curl(stage, record.host_port);
    auto accepted        = accept_one(listener);
    record.remote_port   = accepted.remote_port;

    uint64_t moved_bytes = 0;
    {
        Host host{stage.flued().options().socket_path, "flue demo a", body_bytes};
        const Keep keep{host, record};
        std::copy(body.begin(), body.end(), host.data().begin());
        const size_t written = serve_first_part(host, std::move(accepted.socket), body, curl.pid());
        moved_bytes          = host.moved_bytes();
        post_rest(host, written);
        const uint64_t acknowledged = host.finish_sends(FLUE_SUCCESS);
        expect(acknowledged == moved_bytes + body_bytes - last_bytes - written,
               "every byte of the SENDs reported acknowledged",
               std::to_string(acknowledged) + " bytes");
        const flue_wc closed = host.await(FLUE_OP_DISCONNECT);
        expect(closed.status == FLUE_SUCCESS && closed.bytes == last_bytes,
               "DISCONNECT SUCCESS " + std::to_string(last_bytes),
               flue_status_name(closed.status) + (" " + std::to_string(closed.bytes)));
        host.await(FLUE_EVENT_DISCONNECT);
        expect_body(curl);
        host.terminate();
    }
    expect_clean_close(stage.segments(record));
    remove_bodies();
    return human_bytes(moved_bytes) + " not acknowledged at the hand-over; SHA-256 of " +
           human_bytes(body_bytes) + " right; FIN both ways, no reset";
}

std::string play_host_exit(Stage& stage, Record& record) {
    record.host_port = 8002;
    write_body('b');
    const auto listener           = listen_on(Bottle::host_ipv4, record.host_port);
    Child curl                    = start_curl(stage, record.host_port);
    auto accepted                 = accept_one(listener);
    record.remote_port            = accepted.remote_port;

    const std::string socket_path = stage.flued().options().socket_path;
    Child host                    = Child::call([&](const testbed::Report& report) {
        serve_and_exit(socket_path, std::move(accepted.socket), curl.pid(), report);
    });
    accepted.socket               = Descriptor{};  // the host process has the only one now
    const auto exit               = host.wait(patience);
    const auto exit_ns            = testbed::now_ns();
    expect(exit.ok(),
           "the host process to post everything and end",
           to_string(exit) + ": " + exit.output);
    std::istringstream lines(exit.output);
    for (std::string line; std::getline(lines, line);) {
        record.host.push_back(from_line(line));
    }
    expect_body(curl);
    const auto segments = stage.segments(record);
    expect_clean_close(segments);
    uint64_t drained = 0;
    for (const auto& segment : segments) {
        const bool after =
            segment.time_ns > exit_ns && segment.direction == testbed::Direction::to_remote;
        drained += after ? segment.payload_bytes : 0;
    }
    expect(drained > 0, "data on the wire after the host's end", "none");
    remove_bodies();
    return human_bytes(drained) + " drained after the host was gone; SHA-256 of " +
           human_bytes(body_bytes) + " right; FIN both ways, no reset";
}

}  // namespace flue::demo
