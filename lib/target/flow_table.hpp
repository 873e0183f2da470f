#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <rte_hash.h>
#include <rte_hash_crc.h>

#include "base/assert.hpp"
#include "tcp/segment.hpp"
#include "wire/fields.hpp"

namespace flue::target {

/// FlowTable says which connection of this worker a flow belongs to.
/// Thread: one worker.  Cost: O(1), no allocation after create.
class FlowTable {
  public:
    static constexpr uint32_t burst_max = RTE_HASH_LOOKUP_BULK_MAX;

    /// create returns a table for `flows` flows, or nothing when there is no memory.
    [[nodiscard]] static std::optional<FlowTable> create(const std::string& name,
                                                         uint32_t flows,
                                                         int socket) {
        rte_hash_parameters parameters{};
        parameters.name               = name.c_str();
        parameters.entries            = flows;
        parameters.key_len            = sizeof(wire::FlowKey);
        parameters.hash_func          = rte_hash_crc;
        parameters.hash_func_init_val = 0;
        parameters.socket_id          = socket;
        // Without it a full bucket pair refuses a key long before the table is full.
        parameters.extra_flag = RTE_HASH_EXTRA_FLAGS_EXT_TABLE;
        rte_hash* hash        = rte_hash_create(&parameters);
        return hash == nullptr ? std::nullopt : std::optional{FlowTable{hash}};
    }

    [[nodiscard]] std::optional<tcp::ConnIndex> find(const wire::FlowKey& key) const {
        void* value = nullptr;
        if (rte_hash_lookup_data(hash_.get(), &key, &value) < 0) {
            return std::nullopt;
        }
        return index_of(value);
    }

    /// find_burst looks up to burst_max keys up at once; bit i of the result says that keys[i] is
    /// known, and values[i] is then its index (see index_of).
    [[nodiscard]] uint64_t find_burst(std::span<const void*> keys, std::span<void*> values) const {
        FLUE_ASSERT(keys.size() <= burst_max && values.size() >= keys.size());
        if (keys.empty()) {
            return 0;
        }
        uint64_t hits   = 0;
        const int found = rte_hash_lookup_bulk_data(
            hash_.get(), keys.data(), static_cast<uint32_t>(keys.size()), &hits, values.data());
        return found > 0 ? hits : 0;
    }

    [[nodiscard]] static tcp::ConnIndex index_of(const void* value) {
        return static_cast<tcp::ConnIndex>(reinterpret_cast<uintptr_t>(value));
    }

    /// set enters a flow or points an entered one at another connection.  False: the table is full.
    [[nodiscard]] bool set(const wire::FlowKey& key, tcp::ConnIndex index) {
        return rte_hash_add_key_data(
                   hash_.get(), &key, reinterpret_cast<void*>(uintptr_t{index})) == 0;
    }

    /// erase removes a flow; an unknown one is no error.
    void erase(const wire::FlowKey& key) { (void)rte_hash_del_key(hash_.get(), &key); }

    [[nodiscard]] uint32_t count() const {
        return static_cast<uint32_t>(rte_hash_count(hash_.get()));
    }

  private:
    struct Free {
        void operator()(rte_hash* hash) const { rte_hash_free(hash); }
    };

    explicit FlowTable(rte_hash* hash) : hash_(hash) {}

    std::unique_ptr<rte_hash, Free> hash_;
};

}  // namespace flue::target
