#include "target/permissions.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <grp.h>
#include <unistd.h>

namespace flue::target {

namespace {

/// The pid of SO_PEERCRED is the kernel's word, so nobody else has ours.
bool is_own_process(const queue::PeerCredentials& peer) {
    return peer.pid == ::getpid();
}

template <typename T>
std::optional<T> parse_number(std::string_view text, uint64_t max) {
    uint64_t value         = 0;
    const auto* const end  = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || at != end || value > max) {
        return std::nullopt;
    }
    return static_cast<T>(value);
}

bool parse_ports(std::string_view text, chimney::LocalRange& out) {
    const size_t dash = text.find('-');
    const auto first  = parse_number<uint16_t>(text.substr(0, dash), UINT16_MAX);
    const auto last   = dash == std::string_view::npos
                            ? first
                            : parse_number<uint16_t>(text.substr(dash + 1), UINT16_MAX);
    if (!first || !last || *first > *last) {
        return false;
    }
    out.first_port = *first;
    out.last_port  = *last;
    return true;
}

bool parse_address(std::string_view text, bool ipv6, chimney::LocalRange& out) {
    const uint8_t bits = ipv6 ? 128 : 32;
    const size_t slash = text.find('/');
    const std::string address{text.substr(0, slash)};
    if (inet_pton(ipv6 ? AF_INET6 : AF_INET, address.c_str(), out.address.data()) != 1) {
        return false;
    }
    out.family        = ipv6 ? wire::Family::ipv6 : wire::Family::ipv4;
    const auto prefix = slash == std::string_view::npos
                            ? std::optional{bits}
                            : parse_number<uint8_t>(text.substr(slash + 1), bits);
    out.prefix_bits   = prefix.value_or(0);
    return prefix.has_value();
}

}  // namespace

bool Permissions::may_connect(const queue::PeerCredentials& peer) const {
    return allow_uids.empty() || std::ranges::find(allow_uids, peer.uid) != allow_uids.end() ||
           is_own_process(peer);
}

bool Permissions::is_raw(const queue::PeerCredentials& peer) const {
    if (raw_uids.empty()) {
        return peer.uid == 0 || peer.uid == ::geteuid();
    }
    return std::ranges::find(raw_uids, peer.uid) != raw_uids.end() || is_own_process(peer);
}

std::optional<chimney::LocalRange> parse_local_range(std::string_view text) {
    chimney::LocalRange range;
    const bool ipv6          = text.starts_with('[');
    std::string_view address = text;
    std::string_view rest;
    if (ipv6) {
        const size_t close = text.find(']');
        if (close == std::string_view::npos) {
            return std::nullopt;
        }
        address = text.substr(1, close - 1);
        rest    = text.substr(close + 1);
    } else if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
        address = text.substr(0, colon);
        rest    = text.substr(colon);
    }
    const bool ports_right =
        rest.empty() || (rest.starts_with(':') && parse_ports(rest.substr(1), range));
    return ports_right && parse_address(address, ipv6, range) ? std::optional{range} : std::nullopt;
}

std::optional<gid_t> find_group(const std::string& name) {
    if (const auto number = parse_number<gid_t>(name, UINT32_MAX - 1)) {
        return number;
    }
    group found{};
    group* result = nullptr;
    std::array<char, 16384> buffer;
    if (::getgrnam_r(name.c_str(), &found, buffer.data(), buffer.size(), &result) != 0 ||
        result == nullptr) {
        return std::nullopt;
    }
    return found.gr_gid;
}

}  // namespace flue::target
