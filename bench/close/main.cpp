// What closing a connection costs the engine and the frame builder, in TSC cycles, beside what it
// costs the kernel and beside copying the same header bytes, in the same run on the same core.
//
//   close-bench [--smoke] [Google Benchmark's options]
//
// Sketch, so that a surprise shows: an abort touches the connection's two hot lines and its cold
// one, the flow's line and the frame's two.  In cache that is some 100 instructions for the engine
// and 100 for the headers; with a million connections four lines come from memory.

#include <algorithm>
#include <benchmark/benchmark.h>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <map>
#include <sched.h>
#include <string>
#include <system_error>
#include <vector>
#include <x86intrin.h>

#include "kernel_pairs.hpp"
#include "population.hpp"

namespace flue::bench {

namespace {

/// The best cycles per connection of each case, for the comparison at the end.
std::map<std::string, double>& best_cycles() {
    static std::map<std::string, double> best;
    return best;
}

/// Stopwatch adds up time and TSC cycles of what lies between start and stop.
class Stopwatch {
  public:
    void start() {
        began_ = std::chrono::steady_clock::now();
        tsc_   = __rdtsc();
    }

    void stop(benchmark::State& state, uint32_t connections) {
        const uint64_t cycles                      = __rdtsc() - tsc_;
        const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - began_;
        state.SetIterationTime(passed.count());
        cycles_ += static_cast<double>(cycles);
        connections_ += connections;
        best_ = std::min(best_, static_cast<double>(cycles) / connections);
    }

    void report(benchmark::State& state, const std::string& name) const {
        state.counters["cycles"] = cycles_ / static_cast<double>(connections_);
        state.counters["closes"] =
            benchmark::Counter(static_cast<double>(connections_), benchmark::Counter::kIsRate);
        const auto [entry, added] = best_cycles().try_emplace(name, best_);
        entry->second             = std::min(entry->second, best_);
    }

  private:
    std::chrono::steady_clock::time_point began_;
    uint64_t tsc_         = 0;
    uint64_t connections_ = 0;
    double cycles_        = 0;
    double best_          = 1e300;
};

enum class Way { abortive, graceful, copy };

void run_engine(benchmark::State& state, const std::string& name, Way way, uint32_t connections) {
    Population population(connections);
    Stopwatch watch;
    uint64_t first_hash = 0;
    for ([[maybe_unused]] const auto _ : state) {
        population.adopt();
        watch.start();
        if (way == Way::abortive) {
            population.abort();
        } else if (way == Way::graceful) {
            population.close_gracefully();
        } else {
            population.copy_headers();
        }
        watch.stop(state, connections);
        if (way != Way::graceful) {
            population.forget();
        }
        first_hash = first_hash == 0 ? population.hash() : first_hash;
    }
    char hash[20];
    (void)std::snprintf(hash, sizeof hash, "%016lx", first_hash);
    state.SetLabel(std::string("work ") + hash);
    watch.report(state, name);
}

void run_kernel(benchmark::State& state, const std::string& name, Way way, uint32_t connections) {
    KernelPairs pairs;
    Stopwatch watch;
    for ([[maybe_unused]] const auto _ : state) {
        if (!pairs.connect(connections, way == Way::abortive)) {
            state.SkipWithError(std::generic_category().message(errno).c_str());
            return;
        }
        watch.start();
        pairs.close();
        watch.stop(state, 2 * connections);
    }
    state.SetLabel("both ends, cycles of one");
    watch.report(state, name);
}

double percentile_90(const std::vector<double>& values) {
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() * 9 / 10];
}

double minimum(const std::vector<double>& values) {
    return *std::min_element(values.begin(), values.end());
}

using Body = void (*)(benchmark::State&, const std::string&, Way, uint32_t);

void add(const std::string& name, Body body, Way way, uint32_t connections, bool smoke) {
    const auto run = [=](benchmark::State& state) { body(state, name, way, connections); };
    auto* added    = benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime();
    // The population is closed a million times in each repetition, as often as it takes.
    const uint32_t closes = body == &run_kernel ? 2'000 : 1'000'000;
    added->Iterations(smoke ? 1 : std::max(1U, closes / connections));
    if (!smoke) {
        added->Repetitions(35)->ReportAggregatesOnly()->ComputeStatistics("min", minimum);
        added->ComputeStatistics("p90", percentile_90);
    }
}

void add_all(bool smoke) {
    const std::vector<uint32_t> sizes =
        smoke ? std::vector<uint32_t>{64} : std::vector<uint32_t>{1'000, 1'000'000};
    for (const uint32_t size : sizes) {
        const std::string suffix = "/connections=" + std::to_string(size);
        add("close/abortive" + suffix, run_engine, Way::abortive, size, smoke);
        add("close/graceful" + suffix, run_engine, Way::graceful, size, smoke);
        add("close/copy" + suffix, run_engine, Way::copy, size, smoke);
    }
    const uint32_t pairs = smoke ? 4 : 500;
    add("close/abortive/kernel", run_kernel, Way::abortive, pairs, smoke);
    add("close/graceful/kernel", run_kernel, Way::graceful, pairs, smoke);
}

/// Prints how the engine's best compares with its references' best.  Returns false when one is
/// missing.
bool compare(bool smoke) {
    const auto& best         = best_cycles();
    const std::string suffix = smoke ? "/connections=64" : "/connections=1000";
    bool complete            = true;
    for (const std::string way : {"abortive", "graceful"}) {
        const std::string name = "close/" + way + suffix;
        for (const std::string& other : {"close/" + way + "/kernel", "close/copy" + suffix}) {
            if (!best.contains(name) || !best.contains(other)) {
                complete = false;
                continue;
            }
            std::printf("%s: %.0f cycles, %.3f of %s (%.0f cycles)\n",
                        name.c_str(),
                        best.at(name),
                        best.at(name) / best.at(other),
                        other.c_str(),
                        best.at(other));
        }
    }
    return complete;
}

void stay_on_this_core() {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(sched_getcpu()), &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        std::perror("close-bench: sched_setaffinity");
    }
}

}  // namespace

}  // namespace flue::bench

int main(int argc, char** argv) {
    const bool smoke = argc > 1 && std::string(argv[1]) == "--smoke";
    if (smoke) {
        argv[1] = argv[0];
        --argc;
        ++argv;
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 1;
    }
    flue::bench::stay_on_this_core();
    flue::bench::add_all(smoke);
    benchmark::AddCustomContext("compiler", __VERSION__);
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    const bool complete = flue::bench::compare(smoke);
    return smoke && !complete ? 1 : 0;
}
