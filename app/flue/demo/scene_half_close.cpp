// Scene d: our FIN goes first; the receive half lives on.

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

constexpr size_t question_bytes = 10'000;
constexpr size_t answer_bytes   = 16 << 20;
constexpr size_t piece_bytes    = 1 << 20;
constexpr auto patience         = std::chrono::seconds{30};

/// Reads the question up to our FIN, and only then answers.
Child start_remote(Stage& stage, uint16_t port) {
    const testbed::NamespaceScope scope{stage.remote()};
    return Child::call([port](const testbed::Report&) {
        const auto socket   = connect_to(Bottle::host_ipv4, port);
        const auto question = receive_to_end(socket);
        expect(question == pattern(question_bytes, 'q'),
               "the question as it was sent",
               std::to_string(question.size()) + " bytes that differ");
        send_all(socket, pattern(answer_bytes, 'd'));
        ::shutdown(socket.get(), SHUT_WR);
    });
}

}  // namespace

std::string play_half_close(Stage& stage, Record& record) {
    record.host_port    = 8004;
    const auto listener = listen_on(Bottle::host_ipv4, record.host_port);
    Child remote        = start_remote(stage, record.host_port);
    auto accepted       = accept_one(listener);
    record.remote_port  = accepted.remote_port;

    Host host{stage.flued().options().socket_path, "flue demo d", answer_bytes + question_bytes};
    const Keep keep{host, record};
    const auto question = pattern(question_bytes, 'q');
    std::copy(question.begin(), question.end(), host.data().begin() + answer_bytes);
    host.offload(std::move(accepted.socket));
    for (size_t at = 0; at < answer_bytes; at += piece_bytes) {
        host.receive(at, piece_bytes, true);
    }
    host.disconnect(answer_bytes, question_bytes);
    const flue_wc closed = host.await(FLUE_OP_DISCONNECT);
    expect(closed.status == FLUE_SUCCESS, "DISCONNECT SUCCESS", flue_status_name(closed.status));

    for (size_t at = 0; at < answer_bytes; at += piece_bytes) {
        const flue_wc wc = host.await(FLUE_OP_RECV);
        expect(wc.status == FLUE_SUCCESS && wc.bytes == piece_bytes,
               "RECV SUCCESS " + human_bytes(piece_bytes),
               flue_status_name(wc.status) + (" " + human_bytes(wc.bytes)));
    }
    host.await(FLUE_EVENT_DISCONNECT);
    const auto answer = pattern(answer_bytes, 'd');
    expect(std::equal(answer.begin(), answer.end(), host.data().begin()),
           "the answer byte for byte",
           "other bytes");
    const auto exit = remote.wait(patience);
    expect(exit.ok(), "the remote to end in order", exit.output);
    host.terminate();
    expect_clean_close(stage.segments(record));
    return "our FIN first; then " + human_bytes(answer_bytes) +
           " received and compared, and the remote's FIN reported";
}

}  // namespace flue::demo
