#include "host/mr.hpp"

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "host/error.hpp"

namespace flue::host {

namespace {

std::optional<uint32_t> register_region(Session& session, const queue::HostRegion& region) {
    queue::Message message;
    message.type     = static_cast<uint16_t>(queue::MessageType::register_region);
    message.bytes    = region.mapping.bytes();
    const int fd     = region.fd.get();
    const auto reply = session.request("flue_mr_create", message, {&fd, 1}, 0, reply_timeout_ms);
    return reply ? std::optional(reply->message.region_key) : std::nullopt;
}

}  // namespace

}  // namespace flue::host

using flue::host::fail;

struct flue_mr* flue_mr_create(struct flue_context* context, size_t bytes) {
    const auto& session = context->session;
    // Huge pages cannot be mapped again once the target has them.
    using Pages       = flue::queue::HostRegion::Pages;
    const Pages pages = session->token() != nullptr ? Pages::ordinary : Pages::any;
    auto region       = flue::queue::HostRegion::create(bytes, session->memory_node(), pages);
    if (!region.ok()) {
        const flue::SystemError error = region.error();
        fail(error.code,
             "flue_mr_create: no memory of %zu bytes: %s: %s",
             bytes,
             error.call,
             std::strerror(error.code));
        return nullptr;
    }
    const auto key = flue::host::register_region(*session, region.value());
    if (!key) {
        return nullptr;
    }
    return new (std::nothrow) flue_mr{session, std::move(region.value()), *key};
}

struct flue_mr* flue_mr_recover(struct flue_context* context) {
    flue::queue::Message message;
    message.type       = static_cast<uint16_t>(flue::queue::MessageType::recover_region);
    message.region_key = context->last_region_key;
    auto reply =
        context->session->request("flue_mr_recover", message, {}, 1, flue::host::reply_timeout_ms);
    if (!reply) {
        return nullptr;
    }
    context->last_region_key = reply->message.region_key;
    auto region = flue::queue::HostRegion::map(std::move(reply->fds[0]), reply->message.bytes);
    if (!region.ok()) {
        const flue::SystemError error = region.error();
        fail(error.code,
             "flue_mr_recover: cannot map the region: %s: %s",
             error.call,
             std::strerror(error.code));
        return nullptr;
    }
    return new (std::nothrow)
        flue_mr{context->session, std::move(region.value()), reply->message.region_key};
}

int flue_mr_destroy(struct flue_mr* mr) {
    if (mr == nullptr) {
        return 0;
    }
    flue::queue::Message message;
    message.type       = static_cast<uint16_t>(flue::queue::MessageType::deregister_region);
    message.region_key = mr->key;
    const bool done    = mr->session->request("flue_mr_destroy", message, {}, 0, -1).has_value();
    delete mr;
    return done ? 0 : -1;
}

void* flue_mr_data(const struct flue_mr* mr) {
    return mr->region.mapping.data();
}

size_t flue_mr_bytes(const struct flue_mr* mr) {
    return mr->region.mapping.bytes();
}

uint32_t flue_mr_key(const struct flue_mr* mr) {
    return mr->key;
}
