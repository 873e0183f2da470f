#pragma once

#include <cstdint>

#include "codepoint.hpp"
#include "connection.hpp"
#include "findings.hpp"

namespace flue::sim {

/// EcnChecker holds the ECN bits of a chimney's segments against what it has heard.
/// Spec: RFC 3168 §6.1
class EcnChecker {
  public:
    EcnChecker(Connection& connection, uint32_t from, Findings& findings)
        : connection_(connection), me_(connection.ends[from]), from_(from), findings_(findings) {}

    /// arrived notes a segment of the other end.
    void arrived(const wire::TcpFields& tcp, uint32_t bytes) {
        me_.marked |= tcp.congestion_experienced && bytes > 0;
        me_.may_reduce |= (tcp.flags & wire::tcp_ece) != 0;
    }

    void emitted(const wire::TcpFields& tcp, uint32_t bytes, Codepoint codepoint) {
        const bool ece     = (tcp.flags & wire::tcp_ece) != 0;
        const bool cwr     = (tcp.flags & wire::tcp_cwr) != 0;
        const bool capable = codepoint != Codepoint::not_ect;
        const bool is_new  = bytes > 0 && tcp.seq >= me_.sent_end;
        if (!connection_.options->ecn && (ece || cwr || capable)) {
            wrong("ECN was not negotiated");
        }
        if (codepoint == Codepoint::ce) {
            wrong("sends a packet that is marked already");
        }
        if (capable && !is_new) {
            wrong("RFC 3168 §6.1.4, §6.1.5: ECT on what is no new data");
        }
        if (ece && !me_.marked) {
            wrong("ECE, and nothing was marked");
        }
        if (cwr && (!is_new || !me_.may_reduce)) {
            wrong("RFC 3168 §6.1.2: CWR on what is no new data, or without ECE or loss before");
        }
        // That a probe of the tail has repaired a loss shows later than by its going out.
        me_.sent_again |= bytes > 0 && !is_new;
        me_.may_reduce = me_.sent_again || (me_.may_reduce && !cwr);
    }

  private:
    void wrong(const char* what) { findings_.wrong("%u/%u: %s", connection_.index, from_, what); }

    Connection& connection_;
    End& me_;
    uint32_t from_;
    Findings& findings_;
};

}  // namespace flue::sim
