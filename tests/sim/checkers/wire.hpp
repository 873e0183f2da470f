#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "connection.hpp"
#include "findings.hpp"

namespace flue::sim {

/// WireChecker holds every segment that an end emits against what TCP allows, and notes what the
/// segment says for the checks of later ones.
class WireChecker {
  public:
    WireChecker(Connection& connection, uint32_t from, Findings& findings)
        : connection_(connection),
          me_(connection.ends[from]),
          other_(connection.ends[1 - from]),
          from_(from),
          findings_(findings) {}

    /// emitted checks a segment of a chimney.
    void emitted(const wire::Frame& frame, std::span<const std::byte> payload) {
        const wire::TcpFields& tcp = frame.tcp;
        const auto bytes           = static_cast<uint32_t>(payload.size());
        const bool fin             = (tcp.flags & wire::tcp_fin) != 0;
        const Seq end              = tcp.seq + bytes + (fin ? 1 : 0);
        check_flags(tcp);
        check_size(frame, bytes);
        check_content(tcp.seq, payload, fin);
        check_send_window(tcp.seq, end);
        check_ack_and_edge(tcp);
        check_timestamps(tcp);
        note(tcp, bytes);
    }

    /// note remembers what a segment of any end says.
    void note(const wire::TcpFields& tcp, uint32_t bytes) {
        const bool fin = (tcp.flags & wire::tcp_fin) != 0;
        me_.sent_end   = max(me_.sent_end, tcp.seq + bytes + (fin ? 1 : 0));
        me_.acked      = (tcp.flags & wire::tcp_ack) != 0 ? max(me_.acked, tcp.ack) : me_.acked;
        me_.edge       = max(me_.edge, edge_of(tcp));
        me_.reset_sent |= (tcp.flags & wire::tcp_rst) != 0;
        if (fin) {
            me_.fin_sent = true;
            me_.fin_seq  = tcp.seq + bytes;
        }
    }

    /// delivered notes the window that a segment of this end shows to the other.
    void delivered(const wire::TcpFields& tcp) { other_.limit = max(other_.limit, edge_of(tcp)); }

  private:
    [[nodiscard]] Seq edge_of(const wire::TcpFields& tcp) const {
        return tcp.ack + (uint32_t{tcp.window} << me_.options->wind_shift);
    }

    void check_flags(const wire::TcpFields& tcp) {
        if ((tcp.flags & wire::tcp_ack) == 0) {
            findings_.wrong("%u/%u: a segment without ACK", connection_.index, from_);
        }
        if ((tcp.flags & (wire::tcp_syn | wire::tcp_urg)) != 0) {
            findings_.wrong("%u/%u: SYN or URG", connection_.index, from_);
        }
        const bool rst = (tcp.flags & wire::tcp_rst) != 0;
        if (rst && !me_.reset_ordered) {
            findings_.wrong("%u/%u: R78: an RST that nobody ordered", connection_.index, from_);
        }
        if (me_.invalidated && !rst) {
            findings_.wrong("%u/%u: R33: a segment after INVALIDATE", connection_.index, from_);
        }
        if (!rst && me_.reset_sent) {
            findings_.wrong("%u/%u: R76: a segment after the RST", connection_.index, from_);
        }
    }

    void check_size(const wire::Frame& frame, uint32_t bytes) {
        const uint32_t ip = frame.l3_bytes + 20U + wire::option_bytes(frame.tcp) + bytes;
        if (ip > me_.mtu) {
            findings_.wrong("%u/%u: %u bytes in an IP packet, path MTU %u",
                            connection_.index,
                            from_,
                            ip,
                            me_.mtu);
        }
        if (bytes + wire::option_bytes(frame.tcp) > connection_.options->mss) {
            findings_.wrong("%u/%u: %u bytes of payload and %u of options, MSS %u",
                            connection_.index,
                            from_,
                            bytes,
                            wire::option_bytes(frame.tcp),
                            connection_.options->mss);
        }
    }

    void check_content(Seq seq, std::span<const std::byte> payload, bool fin) {
        const uint32_t offset = me_.offset_of(seq);
        const auto bytes      = static_cast<uint32_t>(payload.size());
        if (bytes > 0 && (offset > me_.posted || bytes > me_.posted - offset)) {
            findings_.wrong("%u/%u: sends %u bytes from %u, of which %u are posted",
                            connection_.index,
                            from_,
                            bytes,
                            offset,
                            me_.posted);
            return;
        }
        if (const size_t at = me_.out.mismatch(offset, payload); at != payload.size()) {
            findings_.wrong("%u/%u: byte %zu of its stream is sent wrong",
                            connection_.index,
                            from_,
                            offset + at);
        }
        if (fin && me_.fin_sent && me_.fin_seq != seq + bytes) {
            findings_.wrong("%u/%u: the FIN has moved", connection_.index, from_);
        }
        if (fin && (!me_.fin_ordered && !me_.lost)) {
            findings_.wrong("%u/%u: a FIN that nobody ordered", connection_.index, from_);
        }
        if (fin && (!me_.lost || me_.drains) && offset + bytes != me_.posted) {
            findings_.wrong("%u/%u: R65: FIN at %u, %u bytes are posted",
                            connection_.index,
                            from_,
                            offset + bytes,
                            me_.posted);
        }
    }

    /// RFC 9293 §3.8.4, §3.8.6: only a probe of one byte may leave the window.
    void check_send_window(Seq seq, Seq end) {
        const bool is_probe = bytes_between(seq, end) <= 1;
        if (end > me_.limit && !is_probe) {
            findings_.wrong("%u/%u: sends up to %u, the window ends at %u",
                            connection_.index,
                            from_,
                            me_.offset_of(end),
                            me_.offset_of(me_.limit));
        }
        if (seq + 1 < me_.first() || seq > me_.limit + 1) {
            findings_.wrong("%u/%u: sequence number out of all bounds", connection_.index, from_);
        }
    }

    /// A window that the scale can not express may end up to one unit short of the true edge.
    void check_ack_and_edge(const wire::TcpFields& tcp) {
        const uint32_t unit = 1U << me_.options->wind_shift;
        if (tcp.ack < me_.acked) {
            findings_.wrong("%u/%u: ACK %u after %u",
                            connection_.index,
                            from_,
                            other_.offset_of(tcp.ack),
                            other_.offset_of(me_.acked));
        }
        if (tcp.ack > other_.sent_end) {
            findings_.wrong("%u/%u: acknowledges what was never sent", connection_.index, from_);
        }
        const bool all_came = other_.fin_sent && tcp.ack == other_.fin_seq + 1;
        if (!all_came && edge_of(tcp) + (unit - 1) < me_.edge) {
            findings_.wrong("%u/%u: the window's right edge moves left, from %u to %u",
                            connection_.index,
                            from_,
                            other_.offset_of(me_.edge),
                            other_.offset_of(edge_of(tcp)));
        }
    }

    void check_timestamps(const wire::TcpFields& tcp) {
        if (tcp.has_timestamps != connection_.options->timestamps) {
            findings_.wrong("%u/%u: timestamps %s",
                            connection_.index,
                            from_,
                            tcp.has_timestamps ? "were not negotiated" : "are missing");
        }
        if (!tcp.has_timestamps) {
            return;
        }
        if (me_.has_ts && static_cast<int32_t>(tcp.ts_val - me_.ts_val) < 0) {
            findings_.wrong("%u/%u: the timestamp goes back, from %u to %u",
                            connection_.index,
                            from_,
                            me_.ts_val,
                            tcp.ts_val);
        }
        me_.ts_val = tcp.ts_val;
        me_.has_ts = true;
    }

    Connection& connection_;
    End& me_;
    End& other_;
    uint32_t from_;
    Findings& findings_;
};

}  // namespace flue::sim
