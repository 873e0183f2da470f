/// flue/flue.hpp: flue.h with ownership.  Each class owns one object of flue.h and ends it; flue.h
/// is the manual. A constructor that fails throws std::system_error with errno and
/// flue_error_text().
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <system_error>

#include "flue/flue.h"

namespace flue {

namespace detail {

template <typename T>
T* checked(T* object) {
    if (object == nullptr) {
        throw std::system_error(errno, std::generic_category(), flue_error_text());
    }
    return object;
}

template <auto end>
struct Ender {
    template <typename T>
    void operator()(T* object) const {
        end(object);
    }
};

}  // namespace detail

/// Context is a session with a target.
class Context {
  public:
    explicit Context(const char* socket_path, const flue_open_options& options = {})
        : context_(detail::checked(flue_open(socket_path, &options))) {}

    [[nodiscard]] flue_context* get() const { return context_.get(); }

    [[nodiscard]] unsigned worker_count() const { return flue_worker_count(get()); }

  private:
    std::unique_ptr<flue_context, detail::Ender<flue_close>> context_;
};

/// MemoryRegion is memory that requests can name.  Its end waits until the target refers to it no
/// more.
class MemoryRegion {
  public:
    MemoryRegion(const Context& context, size_t bytes)
        : mr_(detail::checked(flue_mr_create(context.get(), bytes))) {}

    [[nodiscard]] flue_mr* get() const { return mr_.get(); }

    [[nodiscard]] uint32_t key() const { return flue_mr_key(get()); }

    [[nodiscard]] std::span<std::byte> bytes() const {
        return {static_cast<std::byte*>(flue_mr_data(get())), flue_mr_bytes(get())};
    }

    /// sge names [offset, offset + length) of the region.
    [[nodiscard]] flue_sge sge(uint64_t offset, uint32_t length) const {
        return {key(), length, offset};
    }

  private:
    std::unique_ptr<flue_mr, detail::Ender<flue_mr_destroy>> mr_;
};

/// HostQueue is a host queue.  Thread: one at a time.
class HostQueue {
  public:
    explicit HostQueue(const Context& context, const flue_hq_options& options = {})
        : hq_(detail::checked(flue_hq_create(context.get(), &options))) {}

    [[nodiscard]] flue_hq* get() const { return hq_.get(); }

    [[nodiscard]] unsigned post(std::span<const flue_wr> wr) {
        return flue_post(get(), wr.data(), static_cast<unsigned>(wr.size()));
    }

    [[nodiscard]] bool post(const flue_wr& wr) { return post({&wr, 1}) == 1; }

    /// poll and wait return the part of `wc` that was filled.
    [[nodiscard]] std::span<flue_wc> poll(std::span<flue_wc> wc) {
        return wc.first(flue_poll(get(), wc.data(), static_cast<unsigned>(wc.size())));
    }

    [[nodiscard]] std::span<flue_wc> wait(std::span<flue_wc> wc, int timeout_ms) {
        return wc.first(flue_wait(get(), wc.data(), static_cast<unsigned>(wc.size()), timeout_ms));
    }

    [[nodiscard]] int fd() const { return flue_hq_fd(get()); }

    [[nodiscard]] int arm() { return flue_hq_arm(get()); }

  private:
    std::unique_ptr<flue_hq, detail::Ender<flue_hq_destroy>> hq_;
};

}  // namespace flue
