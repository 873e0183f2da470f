#include "rig.hpp"

#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>

#include "testbed/telemetry_client.hpp"

namespace flue::e2e {

namespace {

testbed::FluedOptions with_program(testbed::FluedOptions options) {
    options.program = flued_program;
    return options;
}

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error(what + ": " + flue_error_text());
}

}  // namespace

std::string flued_program;
std::string flue_program;

Rig::Rig(const testbed::BottleOptions& bottle_options, testbed::FluedOptions flued_options)
    : bottle_(bottle_options), flued_(bottle_, with_program(std::move(flued_options))) {
}

nlohmann::json Rig::ask(const std::string& command) const {
    return testbed::TelemetryClient(file_prefix()).ask(command);
}

/// Two looks that agree: a frame on its way through the target is no leak, nor a baseline.
nlohmann::json Rig::usage() const {
    nlohmann::json seen = ask("/flue/usage");
    for (int look = 0; look < 20; ++look) {
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
        nlohmann::json again = ask("/flue/usage");
        if (again == seen) {
            break;
        }
        seen = std::move(again);
    }
    return seen;
}

nlohmann::json Rig::usage_after_settling(const nlohmann::json& baseline) const {
    using namespace std::chrono_literals;
    nlohmann::json now = usage();
    for (int i = 0; i < 100 && now != baseline; ++i) {
        std::this_thread::sleep_for(50ms);
        now = usage();
    }
    return now;
}

Session::Session(const Rig& rig, size_t region_bytes, flue_host_loss on_loss)
    : Session(rig.flued().options().socket_path, region_bytes, on_loss) {
}

Session::Session(const std::string& socket_path, size_t region_bytes, flue_host_loss on_loss) {
    const flue_open_options open_options{.name = "e2e", .on_loss = on_loss, .hold_ms = 0};
    context_ = flue_open(socket_path.c_str(), &open_options);
    if (context_ == nullptr) {
        fail("flue_open");
    }
    queue_ = flue_hq_create(context_, nullptr);
    if (queue_ == nullptr) {
        fail("flue_hq_create");
    }
    region_ = flue_mr_create(context_, region_bytes);
    if (region_ == nullptr) {
        fail("flue_mr_create");
    }
}

// The session ends first: a region that is still in use would have its destruction wait.
Session::~Session() {
    flue_close(context_);
    if (region_ != nullptr) {
        flue_mr_destroy(region_);
    }
    if (queue_ != nullptr) {
        flue_hq_destroy(queue_);
    }
}

void Session::post(const flue_wr& wr) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{10};
    while (flue_post(queue_, &wr, 1) == 0) {
        if (std::chrono::steady_clock::now() > deadline) {
            fail("flue_post: the ring stays full");
        }
        std::this_thread::yield();
    }
}

void Session::post(
    uint8_t opcode, flue_conn conn, uint64_t wr_id, const flue_sge& sge, uint8_t flags) {
    flue_wr wr{};
    wr.wr_id     = wr_id;
    wr.conn      = conn;
    wr.opcode    = opcode;
    wr.flags     = flags;
    wr.sge_count = 1;
    wr.sge[0]    = sge;
    post(wr);
}

void Session::post(uint8_t opcode, flue_conn conn, uint64_t wr_id, uint8_t flags) {
    flue_wr wr{};
    wr.wr_id  = wr_id;
    wr.conn   = conn;
    wr.opcode = opcode;
    wr.flags  = flags;
    post(wr);
}

flue_wc Session::wait(int timeout_ms) {
    flue_wc wc{};
    do {
        if (flue_wait(queue_, &wc, 1, timeout_ms) != 1) {
            fail("no completion within " + std::to_string(timeout_ms) + " ms");
        }
    } while (wc.opcode == FLUE_EVENT_SEND_BACKLOG);
    return wc;
}

}  // namespace flue::e2e
