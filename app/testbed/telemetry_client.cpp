#include "testbed/telemetry_client.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace flue::testbed {
namespace {

std::string runtime_directory() {
    for (const char* name : {"RUNTIME_DIRECTORY", ::getuid() == 0 ? nullptr : "XDG_RUNTIME_DIR"}) {
        const char* value = name != nullptr ? std::getenv(name) : nullptr;
        if (value != nullptr) {
            return value;
        }
    }
    return ::getuid() == 0 ? "/var/run" : "/tmp";
}

[[noreturn]] void nobody_there(const std::string& path, const std::string& file_prefix) {
    throw std::runtime_error(
        "no flued answers at " + path + " (" + std::strerror(errno) +
        ").\nIf none is running, start one: flued --file-prefix=" + file_prefix +
        " ... -- --port NAME --exception-tap IFNAME, see flued -- --help.\n"
        "If it runs with another prefix: flue --file-prefix NAME ...; if as another user: run "
        "flue as that user.");
}

}  // namespace

std::string telemetry_path(const std::string& file_prefix) {
    return runtime_directory() + "/dpdk/" + file_prefix + "/dpdk_telemetry.v2";
}

TelemetryClient::TelemetryClient(const std::string& file_prefix)
    : socket_(owned(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "opening a Unix socket")) {
    const std::string path = telemetry_path(file_prefix);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        throw std::runtime_error("the telemetry socket's path is too long: " + path);
    }
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
        0) {
        nobody_there(path, file_prefix);
    }
    const timeval limit{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    answer_bytes_max_ = nlohmann::json::parse(receive()).at("max_output_len").get<size_t>();
}

std::string TelemetryClient::receive() {
    std::string answer(answer_bytes_max_, '\0');
    const ssize_t got = ::recv(socket_.get(), answer.data(), answer.size(), 0);
    if (got <= 0) {
        throw std::runtime_error(
            "flued does not answer on its telemetry socket; it has ended or hangs");
    }
    answer.resize(static_cast<size_t>(got));
    return answer;
}

nlohmann::json TelemetryClient::ask(const std::string& command, const std::string& parameters) {
    const std::string question = parameters.empty() ? command : command + "," + parameters;
    if (::send(socket_.get(), question.data(), question.size(), MSG_NOSIGNAL) < 0) {
        throw std::runtime_error("flued has closed its telemetry socket");
    }
    return nlohmann::json::parse(receive()).at(command);
}

}  // namespace flue::testbed
