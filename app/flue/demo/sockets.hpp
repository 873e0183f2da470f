#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "testbed/descriptor.hpp"

namespace flue::demo {

using testbed::Descriptor;

/// Plain kernel TCP over IPv4.  Each call gives up after some seconds; errors are std::system_error
/// that say what failed.

/// listen_on accepts connections to a port of the host's address.
Descriptor listen_on(const char* address, uint16_t port);

struct Accepted {
    Descriptor socket;
    uint16_t remote_port = 0;
};

Accepted accept_one(const Descriptor& listener);

/// connect_to tries again while nobody listens.
Descriptor connect_to(const char* address, uint16_t port);

/// fill_send_queue writes until the kernel takes no more (or all is taken) and returns how much it
/// took.
size_t fill_send_queue(const Descriptor& socket, std::span<const std::byte> bytes);

void send_all(const Descriptor& socket, std::span<const std::byte> bytes);

/// receive_exactly reads `bytes` bytes.  Errors: also when the stream ends before.
std::vector<std::byte> receive_exactly(const Descriptor& socket, size_t bytes);

/// receive_to_end reads until the peer's FIN.
std::vector<std::byte> receive_to_end(const Descriptor& socket);

/// receive_request reads an HTTP request's header.
std::string receive_request(const Descriptor& socket);

/// await_reset waits, without reading, until the connection is reset, and returns the time of that
/// (testbed::now_ns).
int64_t await_reset(const Descriptor& socket);

/// pattern returns bytes that follow from the seed alone.
std::vector<std::byte> pattern(size_t bytes, uint64_t seed);

}  // namespace flue::demo
