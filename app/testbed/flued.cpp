#include "testbed/flued.hpp"

#include <fstream>
#include <net/if.h>
#include <sstream>
#include <stdexcept>
#include <sys/stat.h>
#include <unistd.h>

namespace flue::testbed {
namespace {

using Clock                     = std::chrono::steady_clock;

constexpr size_t log_tail_bytes = 4000;
constexpr auto start_limit      = std::chrono::seconds{20};

std::string core_list(const FluedOptions& options) {
    const auto online     = static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_ONLN));
    const std::string any = "(0-" + std::to_string(online - 1) + ")";
    std::string map;
    // EAL names lcores; several may share a CPU when there are more workers than CPUs.
    for (unsigned lcore = 0; lcore < options.worker_count; ++lcore) {
        map += (lcore == 0 ? "" : ",") + std::to_string(lcore) + "@" +
               (options.pinned ? std::to_string((options.first_cpu + lcore) % online) : any);
    }
    return map;
}

std::vector<std::string> command_line(const FluedOptions& options) {
    std::vector<std::string> argv{options.program,
                                  "--lcores",
                                  core_list(options),
                                  "--no-huge",
                                  "-m",
                                  std::to_string(options.memory_mib),
                                  "--no-pci",
                                  "--no-shconf",
                                  "--file-prefix=" + options.file_prefix,
                                  std::string("--vdev=net_af_packet0,iface=") + Bottle::wire +
                                      ",qpairs=" + std::to_string(options.worker_count)};
    argv.insert(argv.end(), options.eal_options.begin(), options.eal_options.end());
    argv.insert(argv.end(),
                {"--",
                 "--port",
                 "net_af_packet0",
                 "--exception-tap",
                 options.tap,
                 "--socket",
                 options.socket_path});
    argv.insert(argv.end(), options.flued_options.begin(), options.flued_options.end());
    return argv;
}

bool is_socket(const std::string& path) {
    struct stat status {};

    return ::stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
}

bool remote_answers(const char* address) {
    return Child::execute({"ping", "-c", "1", "-W", "1", "-q", address}).wait().ok();
}

}  // namespace

Flued::Flued(const Bottle& bottle, const FluedOptions& options)
    : options_(options),
      log_path_("/run/" + options.file_prefix + ".log"),
      child_(Child::execute(command_line(options), log_path_)) {
    await("its socket " + options_.socket_path, [&] { return is_socket(options_.socket_path); });
    if (options_.tap == "none") {
        return;
    }
    await("its TAP " + options_.tap, [&] { return ::if_nametoindex(options_.tap.c_str()) != 0; });
    bottle.attach_tap(options_.tap);
    await("an answer from the remote over IPv4",
          [] { return remote_answers(Bottle::remote_ipv4); });
    await("an answer from the remote over IPv6",
          [] { return remote_answers(Bottle::remote_ipv6); });
}

void Flued::await(const std::string& what, const std::function<bool()>& reached) const {
    const auto deadline = Clock::now() + start_limit;
    while (!reached()) {
        const bool ended = child_.ended();
        if (ended || Clock::now() > deadline) {
            throw std::runtime_error("flued " + std::string(ended ? "ended" : "did not come") +
                                     " before " + what + "; the end of its log:\n" + log_tail());
        }
        ::usleep(10'000);
    }
}

ChildExit Flued::stop(int signal_number, std::chrono::milliseconds timeout) {
    child_.signal(signal_number);
    return child_.wait(timeout);
}

std::string Flued::log() const {
    std::ostringstream text;
    text << std::ifstream(log_path_).rdbuf();
    return text.str();
}

std::string Flued::log_tail() const {
    const std::string text = log();
    return text.substr(text.size() > log_tail_bytes ? text.size() - log_tail_bytes : 0);
}

}  // namespace flue::testbed
