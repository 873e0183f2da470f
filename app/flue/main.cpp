// flue: what runs in a target, and a demonstration of what it does.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <unistd.h>

#include "flue/demo/demo.hpp"
#include "flue/drain.hpp"
#include "flue/views.hpp"

namespace flue::cli {
namespace {

struct Options {
    std::string file_prefix = "rte";  // DPDK's own default
    bool json               = false;
    bool clear_tcp          = false;
    std::string scenes      = "abcde";
    std::string flued;
    DrainOptions drain;
};

/// flued as it is installed, or as it lies in the build directory.
std::string find_flued() {
    const auto own = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    for (const auto& place : {own / "flued",
                              own.parent_path() / "sbin" / "flued",
                              own.parent_path() / "flued" / "flued"}) {
        if (std::filesystem::is_regular_file(place)) {
            return place;
        }
    }
    throw std::runtime_error(
        "flued is neither installed beside flue nor in its build directory; name it with --flued "
        "PATH");
}

void show_stats(const Options& options) {
    testbed::TelemetryClient client{options.file_prefix};
    const auto stats = fetch_stats(client);
    std::cout << (options.json ? stats.dump(2) + "\n"
                               : stats_text(stats, client.ask("/flue/drop_text")));
    if (options.clear_tcp) {
        (void)command(client, "tcp_stats_clear");
    }
}

void show_conns(const Options& options) {
    testbed::TelemetryClient client{options.file_prefix};
    const auto conns = fetch_conns(client);
    std::cout << (options.json ? conns.dump(2) + "\n" : conns_text(conns));
}

void tell(const Options& options, const std::string& name) {
    testbed::TelemetryClient client{options.file_prefix};
    std::cout << command(client, name);
}

int play_demo(const Options& options) {
    demo::DemoOptions wanted;
    wanted.scenes = options.scenes;
    wanted.colour = ::isatty(STDOUT_FILENO) != 0;
    wanted.flued.program =
        options.flued.empty() ? find_flued() : std::filesystem::absolute(options.flued).string();
    return demo::run_demo(wanted) == 0 ? 0 : 1;
}

CLI::App* add_drain(CLI::App& app, DrainOptions& options) {
    auto* drain = app.add_subcommand(
        "drain", "has a target drain and close a connected socket of this or another process");
    const std::map<std::string, uint32_t> units{
        {"ms", 1}, {"s", 1000}, {"min", 60'000}, {"h", 3'600'000}};
    const std::map<std::string, bool> policies{{"abort", true}, {"wait", false}};
    drain->add_option("--socket", options.socket_path, "the target's socket")
        ->capture_default_str();
    drain->add_option("--pid", options.pid, "the process whose socket it is; default: inherited");
    drain->add_option("--fd", options.fd, "the socket's descriptor")->required();
    drain->add_option("--deadline", options.drain_ms, "time for draining, such as 5s or 250ms")
        ->transform(CLI::AsNumberWithUnit(units, CLI::AsNumberWithUnit::CASE_SENSITIVE));
    drain->add_option("--at-deadline", options.abort_at_limit, "what then: abort or wait")
        ->transform(CLI::CheckedTransformer(policies));
    return drain;
}

int run(int argc, char** argv) {
    Options options;
    CLI::App app{
        "Looks into a running flue target, or shows in a network of its own what one does."};
    app.require_subcommand(1);
    app.add_option("--file-prefix",
                   options.file_prefix,
                   "the EAL option --file-prefix that flued was started with")
        ->capture_default_str();

    auto* stats = app.add_subcommand("stats", "counters, drop reasons and what is in use");
    stats->add_flag("--clear-tcp",
                    options.clear_tcp,
                    "then set the TCP and IP figures of offloaded connections to zero");
    auto* conns =
        app.add_subcommand("conns", "the offloaded connections, as ss shows the kernel's");
    for (auto* view : {stats, conns}) {
        view->add_flag("--json", options.json, "as JSON");
        view->fallthrough();
    }
    auto* pause = app.add_subcommand(
        "pause", "no new connections: hand-overs wait until `resume`, the others go on");
    auto* upload_all = app.add_subcommand(
        "upload-all", "asks every host to take its connections back, until `resume`");
    auto* resume = app.add_subcommand("resume", "new connections are taken again");
    for (auto* order : {pause, upload_all, resume}) {
        order->fallthrough();
    }
    auto* demo = app.add_subcommand(
        "demo", "plays and verifies five ways to hand over and close a connection");
    demo->add_option("--scene", options.scenes, "letters of the scenes to play")
        ->capture_default_str();
    demo->add_option(
        "--flued", options.flued, "the target to run; default: the one beside this program");

    const auto* drain_socket = add_drain(app, options.drain);

    CLI11_PARSE(app, argc, argv);
    if (drain_socket->parsed()) {
        return drain(options.drain);
    }
    if (stats->parsed()) {
        show_stats(options);
    }
    if (conns->parsed()) {
        show_conns(options);
    }
    if (pause->parsed()) {
        tell(options, "pause");
    }
    if (upload_all->parsed()) {
        tell(options, "upload_all");
    }
    if (resume->parsed()) {
        tell(options, "resume");
    }
    return demo->parsed() ? play_demo(options) : 0;
}

}  // namespace
}  // namespace flue::cli

int main(int argc, char** argv) {
    try {
        return flue::cli::run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "flue: %s\n", error.what());
        return 1;
    }
}
