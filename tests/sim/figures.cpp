#include "figures.hpp"

#include <cinttypes>
#include <cstdio>

#include "tcp/drops.hpp"

namespace flue::sim {

void Figures::add(chimney::Chimney& target) {
    const chimney::Chimney::Counters& c = target.counters();
    chimney.holds += c.holds;
    chimney.offloads += c.offloads;
    chimney.terminates += c.terminates;
    chimney.forwards += c.forwards;
    chimney.graceful_disconnects += c.graceful_disconnects;
    chimney.abortive_disconnects += c.abortive_disconnects;
    chimney.refused_requests += c.refused_requests;
    chimney.orphans += c.orphans;
    chimney.time_waits += c.time_waits;
    const tcp::Engine::Counters& e = target.engine().counters();
    engine.segments_in += e.segments_in;
    engine.segments_out += e.segments_out;
    engine.segments_retransmitted += e.segments_retransmitted;
    engine.bytes_in += e.bytes_in;
    engine.bytes_out += e.bytes_out;
    engine.resets_in += e.resets_in;
    engine.resets_out += e.resets_out;
    engine.timeouts += e.timeouts;
    engine.fast_retransmits += e.fast_retransmits;
    engine.challenge_acks += e.challenge_acks;
    engine.tail_probes += e.tail_probes;
    engine.spurious_recoveries += e.spurious_recoveries;
    engine.duplicates_reported += e.duplicates_reported;
    engine.sacks_refused += e.sacks_refused;
    engine.sacks_renounced += e.sacks_renounced;
    engine.congestion_marks += e.congestion_marks;
    engine.too_big_heeded += e.too_big_heeded;
    engine.black_holes += e.black_holes;
    for (uint32_t i = 0; i < tcp::drop_count; ++i) {
        engine.drops[i] += e.drops[i];
    }
}

void Figures::print() const {
    std::printf("%" PRIu64 " worlds, %" PRIu64 " connections, of which %" PRIu64
                " had to end well; %" PRIu64 " events in %.0f virtual seconds\n",
                worlds,
                connections,
                ended_well,
                events,
                static_cast<double>(virtual_us) / 1e6);
    std::printf("faults:");
    for (uint32_t i = 0; i < fault_count; ++i) {
        std::printf(" %s %" PRIu64, to_string(static_cast<Fault>(i)), faults[i]);
    }
    std::printf("\nchimney: holds %" PRIu64 " offloads %" PRIu64 " terminates %" PRIu64
                " graceful %" PRIu64 " abortive %" PRIu64 " refused %" PRIu64 " orphans %" PRIu64
                " time-waits %" PRIu64 "\n",
                chimney.holds,
                chimney.offloads,
                chimney.terminates,
                chimney.graceful_disconnects,
                chimney.abortive_disconnects,
                chimney.refused_requests,
                chimney.orphans,
                chimney.time_waits);
    std::printf("engine: segments in %" PRIu64 " out %" PRIu64 " again %" PRIu64
                ", bytes in %" PRIu64 " out %" PRIu64 ", resets in %" PRIu64 " out %" PRIu64
                ", timeouts %" PRIu64 ", fast retransmits %" PRIu64 ", challenge ACKs %" PRIu64
                "\nrecovery: tail probes %" PRIu64 ", spurious %" PRIu64 ", D-SACKs in %" PRIu64
                ", SACKs refused %" PRIu64 " renounced %" PRIu64 ", reactions to ECE %" PRIu64
                ", MTUs heeded %" PRIu64 ", black holes %" PRIu64 "\ndropped:",
                engine.segments_in,
                engine.segments_out,
                engine.segments_retransmitted,
                engine.bytes_in,
                engine.bytes_out,
                engine.resets_in,
                engine.resets_out,
                engine.timeouts,
                engine.fast_retransmits,
                engine.challenge_acks,
                engine.tail_probes,
                engine.spurious_recoveries,
                engine.duplicates_reported,
                engine.sacks_refused,
                engine.sacks_renounced,
                engine.congestion_marks,
                engine.too_big_heeded,
                engine.black_holes);
    for (uint32_t i = 1; i < tcp::drop_count; ++i) {
        std::printf(" %s %" PRIu64, tcp::to_string(static_cast<tcp::Drop>(i)), engine.drops[i]);
    }
    std::printf("\n");
}

}  // namespace flue::sim
