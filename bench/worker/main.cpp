// What the whole worker costs, from the host's ring to the NIC's and back, in TSC cycles.
//
//   worker-bench [--connections N,N,...] [--only NAME] [--rounds N] [--smoke]
//
// Everything runs on one core and nothing waits for anybody else; host and far end are not counted.
// With many connections a step finds nothing in the caches that the step before left there, since
// each step goes over half of the completion ring (32,768 requests) before the next.  Each figure
// stands beside that of a bare frame: 66 bytes copied into an mbuf and sent through the same port.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <rte_cycles.h>
#include <rte_eal.h>

#include "worker_rig.hpp"

namespace flue::bench {

namespace {

uint64_t failed = 0;

/// Cycles that the port and the mempool alone cost for a frame: the best of some rounds.
double measure_bare(WorkerRig& rig) {
    constexpr uint64_t frames = 32'768;
    uint64_t best             = UINT64_MAX;
    for (int round = 0; round < 8; ++round) {
        best = std::min(best, rig.transmit_bare(frames));
    }
    const double each = static_cast<double>(best) / frames;
    std::printf("%-32s %9u connections %8.0f cycles\n", "a bare frame", rig.connections(), each);
    return each;
}

void report(const WorkerRig& rig, const std::string& name, uint64_t operations, double bare) {
    const double each = static_cast<double>(rig.cycles) / static_cast<double>(operations);
    failed += rig.failed;
    std::printf(
        "%-32s %9u connections %8.0f cycles %8.2f M/s, %5.1f bare frames, %llu frames, %llu "
        "failed\n",
        name.c_str(),
        rig.connections(),
        each,
        static_cast<double>(rte_get_tsc_hz()) / each / 1e6,
        each / bare,
        static_cast<unsigned long long>(rig.frames),
        static_cast<unsigned long long>(rig.failed));
    std::fflush(stdout);
}

void clear(WorkerRig& rig) {
    rig.cycles = rig.frames = rig.failed = rig.bytes = 0;
}

void post_to_all(WorkerRig& rig, const std::function<flue_wr(uint32_t)>& make) {
    for (uint32_t i = 0; i < rig.connections(); ++i) {
        rig.post(make(i));
    }
}

void abort_all(WorkerRig& rig, bool with_terminate) {
    rig.peer              = PeerMode::sink;
    const uint64_t before = rig.completed;
    post_to_all(rig, [&](uint32_t i) { return rig.request(i, FLUE_OP_DISCONNECT, FLUE_WR_ABORT); });
    rig.settle(before + rig.connections());
    if (with_terminate) {
        rig.terminate();
    }
}

void close_all(WorkerRig& rig, uint32_t bytes) {
    rig.peer              = PeerMode::close;
    const uint64_t before = rig.completed;
    post_to_all(rig, [&](uint32_t i) {
        flue_wr wr = rig.request(i, FLUE_OP_DISCONNECT);
        if (bytes > 0) {
            wr.sge_count = 1;
            wr.sge[0]    = rig.payload(bytes);
        }
        return wr;
    });
    rig.settle(before + rig.connections());
    for (uint32_t i = 0; i < 64; ++i) {
        rig.turn();  // the last FINs
    }
    rig.terminate();
}

struct Case {
    const char* name;
    std::function<void(WorkerRig&)>
        run;  ///< every connection is established before, and none after
};

std::vector<Case> cases() {
    return {
        {"offload", nullptr},
        {"upload", [](WorkerRig& rig) { rig.terminate(); }},
        {"abort", [](WorkerRig& rig) { abort_all(rig, false); }},
        {"abort and terminate", [](WorkerRig& rig) { abort_all(rig, true); }},
        {"graceful close", [](WorkerRig& rig) { close_all(rig, 0); }},
        {"graceful close, 1 KiB", [](WorkerRig& rig) { close_all(rig, 1'024); }},
    };
}

/// The best of some rounds, the first of which also touches all memory.
void closes(uint32_t connections, const std::string& only, int rounds) {
    WorkerRig rig({.connections = connections, .payload_bytes = 1'024});
    const double bare = measure_bare(rig);
    for (const Case& each : cases()) {
        if (!only.empty() && only != each.name) {
            continue;
        }
        uint64_t best = UINT64_MAX;
        for (int round = 0; round < rounds; ++round) {
            clear(rig);
            rig.offload();
            if (each.run != nullptr) {
                clear(rig);
                each.run(rig);
            }
            best = std::min(best, round > 0 ? rig.cycles : best);
            if (std::strcmp(each.name, "offload") == 0 || std::strcmp(each.name, "abort") == 0) {
                const uint64_t frames = rig.frames;
                rig.terminate();
                rig.frames = frames;
            }
        }
        rig.cycles = best;
        report(rig, each.name, connections, bare);
    }
}

void drain(uint32_t connections, bool checksum_by_port) {
    constexpr uint32_t send_bytes = 256 * 1'460;
    WorkerRig rig({.connections      = connections,
                   .checksum_by_port = checksum_by_port,
                   .payload_bytes    = send_bytes});
    const double bare = measure_bare(rig);
    rig.offload();
    rig.peer              = PeerMode::ack;
    const uint32_t rounds = std::max(1U, 2'000 / connections);
    for (uint32_t round = 0; round < 1 + rounds; ++round) {
        if (round == 1) {
            clear(rig);
        }
        const uint64_t before = rig.completed;
        post_to_all(rig, [&](uint32_t i) {
            flue_wr wr   = rig.request(i, FLUE_OP_SEND);
            wr.sge_count = 1;
            wr.sge[0]    = rig.payload(send_bytes);
            return wr;
        });
        rig.settle(before + rig.connections());
    }
    report(rig,
           checksum_by_port ? "drain, segment" : "drain, segment, sums in software",
           rig.bytes / 1'448,
           bare);
    rig.terminate();
}

}  // namespace

}  // namespace flue::bench

int main(int argc, char** argv) {
    using namespace flue::bench;
    std::vector<uint32_t> sizes{1'000, 10'000, 100'000, 1'000'000};
    std::string only;
    int rounds = 4;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--smoke") == 0) {
            sizes = {500};
        } else if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
            rounds = std::atoi(argv[++i]);
        } else if (std::strcmp(argv[i], "--connections") == 0 && i + 1 < argc) {
            sizes.clear();
            for (char* word = std::strtok(argv[++i], ","); word != nullptr;
                 word       = std::strtok(nullptr, ",")) {
                sizes.push_back(static_cast<uint32_t>(std::strtoul(word, nullptr, 10)));
            }
        }
    }
    std::vector<std::string> words{"worker-bench",
                                   "--no-huge",
                                   "-m",
                                   "3072",
                                   "--no-pci",
                                   "--no-shconf",
                                   "-l",
                                   "0",
                                   "--log-level",
                                   "error"};
    std::vector<char*> eal;
    for (std::string& word : words) {
        eal.push_back(word.data());
    }
    if (rte_eal_init(static_cast<int>(eal.size()), eal.data()) < 0) {
        std::fprintf(stderr, "the EAL does not start\n");
        return 1;
    }
    for (const uint32_t connections : sizes) {
        closes(connections, only, rounds);
    }
    if (only.empty() || only == "drain") {
        drain(sizes.size() == 1 ? 8 : 64, true);
        drain(sizes.size() == 1 ? 8 : 64, false);
    }
    rte_eal_cleanup();
    return failed == 0 ? 0 : 1;
}
