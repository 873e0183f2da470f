#pragma once

#include <cstdint>
#include <span>

#include "connection.hpp"
#include "findings.hpp"

namespace flue::sim {

/// SackChecker holds what a chimney reports, and what it sends again, against what arrived.
/// Spec: RFC 2018, RFC 2883
class SackChecker {
  public:
    SackChecker(Connection& connection, uint32_t from, Findings& findings)
        : connection_(connection),
          me_(connection.ends[from]),
          other_(connection.ends[1 - from]),
          from_(from),
          findings_(findings) {}

    /// arrived notes a segment of the other end.
    void arrived(const wire::TcpFields& tcp, uint32_t bytes) {
        const bool fin = (tcp.flags & wire::tcp_fin) != 0;
        if (tcp.seq >= other_.first()) {
            const uint32_t from = other_.offset_of(tcp.seq);
            me_.arrived.add(from, from + bytes + (fin ? 1 : 0));
        }
    }

    /// heard notes what the other end reports, and `me` has looked at.
    void heard(const wire::TcpFields& tcp) {
        if (!connection_.options->sack) {
            return;
        }
        me_.heard_ack = max(me_.heard_ack, tcp.ack);
        if (tcp.window == 0) {
            me_.reported.clear();  // what was in flight may be sent again as a probe
            return;
        }
        for (uint32_t i = 0; i < tcp.sack_count; ++i) {
            const wire::SackRange& block = tcp.sack[i];
            const bool sound =
                me_.heard_ack < block.start && block.start < block.end && block.end <= me_.sent_end;
            if (sound && !is_duplicate(tcp, i)) {
                me_.reported.add(me_.offset_of(block.start), me_.offset_of(block.end));
            }
        }
    }

    void emitted(const wire::TcpFields& tcp, uint32_t bytes) {
        check_report(tcp);
        const uint32_t from = me_.offset_of(tcp.seq);
        if (bytes > 0 && me_.reported.any(from, from + bytes)) {
            findings_.wrong("%u/%u: RFC 2018 §5: sends %u bytes from %u again, which were reported",
                            connection_.index,
                            from_,
                            bytes,
                            from);
        }
    }

  private:
    /// RFC 2883 §4: a first block below the ACK, or inside of the second one.
    static bool is_duplicate(const wire::TcpFields& tcp, uint32_t i) {
        const bool inside = tcp.sack_count > 1 && tcp.sack[1].start <= tcp.sack[0].start &&
                            tcp.sack[0].end <= tcp.sack[1].end;
        return i == 0 && (tcp.sack[0].end <= tcp.ack || inside);
    }

    void check_report(const wire::TcpFields& tcp) {
        if (tcp.sack_count > 0 && !connection_.options->sack) {
            findings_.wrong("%u/%u: SACK was not negotiated", connection_.index, from_);
        }
        for (uint32_t i = 0; i < tcp.sack_count; ++i) {
            const wire::SackRange& block = tcp.sack[i];
            if (block.start >= block.end || block.start < other_.first() ||
                block.end > other_.sent_end) {
                findings_.wrong("%u/%u: SACK of what was never sent", connection_.index, from_);
                return;
            }
            if (is_duplicate(tcp, i)) {
                check_duplicate(block);
            } else {
                check_block(tcp, i);
            }
        }
    }

    void check_block(const wire::TcpFields& tcp, uint32_t i) {
        const wire::SackRange& block = tcp.sack[i];
        const uint32_t start         = other_.offset_of(block.start);
        const uint32_t end           = other_.offset_of(block.end);
        if (block.start <= tcp.ack || !me_.arrived.all(start, end)) {
            findings_.wrong("%u/%u: SACK of [%u, %u), which never came, or is acknowledged",
                            connection_.index,
                            from_,
                            start,
                            end);
        }
        for (uint32_t j = is_duplicate(tcp, 0) ? 1 : 0; j < i; ++j) {
            if (block.start <= tcp.sack[j].end && tcp.sack[j].start <= block.end) {
                findings_.wrong("%u/%u: two SACK blocks meet", connection_.index, from_);
            }
        }
    }

    /// What came twice may be reported once.
    void check_duplicate(const wire::SackRange& block) {
        const uint32_t start = other_.offset_of(block.start);
        const uint32_t end   = other_.offset_of(block.end);
        me_.told_twice.add(start, end);
        for (uint32_t i = start; i < end; ++i) {
            const uint32_t came = me_.arrived.at(i);
            if (came < Arrivals::most && me_.told_twice.at(i) >= came) {
                findings_.wrong("%u/%u: D-SACK of [%u, %u): byte %u came %u times",
                                connection_.index,
                                from_,
                                start,
                                end,
                                i,
                                came);
                return;
            }
        }
    }

    Connection& connection_;
    End& me_;
    End& other_;
    uint32_t from_;
    Findings& findings_;
};

}  // namespace flue::sim
