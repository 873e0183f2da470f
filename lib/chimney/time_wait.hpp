#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/index_pool.hpp"
#include "base/instant.hpp"
#include "base/seq.hpp"
#include "tcp/engine.hpp"
#include "wire/fields.hpp"

namespace flue::chimney {

/// What is left of a connection in TIME_WAIT: enough to acknowledge the peer's FIN again.  RFC 9293
/// §3.10.7.8
struct TimeWaitRecord {
    Seq rcv_nxt;
    Seq snd_nxt;
    uint32_t ts_recent  = 0;
    uint32_t ts_offset  = 0;  ///< our timestamp = milliseconds of now + ts_offset
    uint32_t expires_ms = 0;
    uint32_t next       = no_index;
    bool timestamps     = false;
    bool restarted =
        false;            ///< expires_ms was moved on: its place in the queue is too far in front
    bool silent = false;  ///< answers nothing
    uint8_t reserved[5]{};
};

static_assert(sizeof(TimeWaitRecord) == 32);

/// TimeWaitTable keeps the records in order of expiry; every record lives equally long (2MSL), so a
/// queue is enough. Thread: the worker's.
class TimeWaitTable {
  public:
    TimeWaitTable(uint32_t records, uint32_t lifetime_us);

    /// add makes a record of a connection in TIME_WAIT and returns its index, or nothing when the
    /// table is full.
    [[nodiscard]] std::optional<uint32_t> add(Instant now,
                                              const wire::FlowKey& key,
                                              const tcp::Delegated& state,
                                              bool timestamps);

    /// add_silent makes a record that drops everything but a SYN until nothing has come for 2MSL:
    /// of a connection that lives at another target.
    [[nodiscard]] std::optional<uint32_t> add_silent(Instant now, const wire::FlowKey& key);

    [[nodiscard]] bool is_silent(uint32_t index) const { return records_[index].silent; }

    enum class Action : uint8_t {
        drop,
        acknowledge,  ///< send `reply`
        reuse  ///< a new connection's SYN: remove the record, give the segment to the host.  R88,
               ///< RFC 6191
    };
    /// on_segment follows RFC 9293 §3.10.7.4 for TIME_WAIT, RFC 1337 (RSTs are ignored) and RFC
    /// 6191.
    Action on_segment(Instant now,
                      uint32_t index,
                      const wire::TcpFields& segment,
                      wire::TcpFields& reply);

    /// expired returns the record whose time is over, or nothing; the caller unclaims its key and
    /// removes it.
    [[nodiscard]] std::optional<uint32_t> expired(Instant now);

    [[nodiscard]] bool full() const { return records_.free_count() == 0; }

    /// oldest returns the record that gives way to a new one when the table is full, or nothing:
    /// one of a segment that came late may have been restarted since.
    [[nodiscard]] std::optional<uint32_t> oldest();
    void remove(uint32_t index);

    [[nodiscard]] const wire::FlowKey& key(uint32_t index) const { return keys_[index]; }

    [[nodiscard]] uint32_t used_count() const { return records_.used_count() - removed_count_; }

  private:
    void append(uint32_t index);
    void pop_front();

    IndexPool<TimeWaitRecord, &TimeWaitRecord::next> records_;
    std::vector<wire::FlowKey> keys_;  ///< family none: removed, still in the queue
    uint32_t lifetime_ms_;
    uint32_t removed_count_ = 0;
    uint32_t front_         = no_index;
    uint32_t back_          = no_index;
};

}  // namespace flue::chimney
