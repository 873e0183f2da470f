#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/instant.hpp"
#include "flue/abi.h"
#include "tcp/segment.hpp"

namespace flue::chimney {

/// When a connection is said to be a bad candidate for the offload: one threshold for each optional
/// reason, 0 = never.  Contract 2.10
struct AdviceOptions {
    uint32_t low_activity_ms = 0;  ///< nothing was sent or received for so long
    uint32_t drop_rate       = 0;  ///< segments sent again, of 1000 sent
    uint32_t small_io_bytes  = 0;  ///< SENDs and RECVs are shorter than this on average
    uint32_t no_preposting   = 0;  ///< times in a row that data came and no RECV was posted
    uint32_t fragmentation   = 0;  ///< fragmented datagrams, of 1000 received
    uint32_t out_of_order    = 0;  ///< segments out of order, of 1000 received

    [[nodiscard]] bool any() const;
};

/// Advisor counts what the optional reasons depend on, per connection, in memory of its own that
/// exists and is touched only if a threshold is set.  Each call returns the reason that it makes
/// true, if any; it is for the caller to ask() and to stop asking.
/// Thread: the worker's.  Cost: O(1).
class Advisor {
  public:
    using Advice = std::optional<flue_upload_reason>;

    /// Rates are taken over so many segments, or a quarter of it of requests.
    static constexpr uint32_t window = 256;

    Advisor(const AdviceOptions& options, uint32_t connections);

    [[nodiscard]] bool is_on() const { return !activities_.empty(); }

    // Pre of all that follow: is_on().

    /// begin starts counting for a connection.
    void begin(Instant now, tcp::ConnIndex index);
    Advice received(Instant now, tcp::ConnIndex index, bool out_of_order);
    Advice received_fragment(tcp::ConnIndex index);
    Advice sent(Instant now, tcp::ConnIndex index, bool repeats);
    /// requested counts a SEND or RECV.
    Advice requested(tcp::ConnIndex index, uint64_t bytes);
    /// delivered says whether data found a RECV posted.
    Advice delivered(tcp::ConnIndex index, bool posted);
    /// idle looks whether the time of idle_due_ms has brought nothing; if something has come it
    /// moves on.
    Advice idle(Instant now, tcp::ConnIndex index);
    /// idle_due_ms: when to call idle; 0 = never.
    [[nodiscard]] uint32_t idle_due_ms(tcp::ConnIndex index) const;
    void stop_idle(tcp::ConnIndex index);

    /// ask returns whether the reason was not asked for yet, and notes that it is.
    [[nodiscard]] bool ask(tcp::ConnIndex index, flue_upload_reason reason);

  private:
    struct Activity {
        uint32_t last_ms       = 0;  ///< when something was sent or received
        uint32_t idle_due_ms   = 0;
        uint32_t request_bytes = 0;
        uint16_t requests      = 0;
        uint16_t received      = 0;
        uint16_t out_of_order  = 0;
        uint16_t datagrams     = 0;
        uint16_t fragments     = 0;
        uint16_t sent          = 0;
        uint16_t repeated      = 0;
        uint16_t unposted      = 0;  ///< in a row
        uint16_t asked         = 0;  ///< bit by reason
    };

    static_assert(sizeof(Activity) <= 32);

    AdviceOptions options_;
    std::vector<Activity> activities_;
};

}  // namespace flue::chimney
