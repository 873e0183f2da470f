#include <algorithm>
#include <array>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <flue/abi.h>
#include <fstream>
#include <string>
#include <unistd.h>

#include "options.hpp"
#include "trace.hpp"
#include "world.hpp"

namespace flue::sim {

namespace {

/// What to do to see the same again, for a handler that may not allocate.
std::array<char, 256> repeat{};

void on_crash(int /*signal*/) {
    const ssize_t written = write(STDOUT_FILENO, repeat.data(), std::strlen(repeat.data()));
    _exit(written < 0 ? 1 : static_cast<int>(Kind::crash));
}

void catch_crashes() {
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
        (void)std::signal(signal, on_crash);
    }
}

struct Result {
    Kind kind     = Kind::none;
    uint64_t hash = 0;
};

Result run_once(uint64_t seed, const CommandLine& line, Figures& figures) {
    (void)std::snprintf(repeat.data(),
                        repeat.size(),
                        "repeat: sim --replay %s%" PRIu64 "\n",
                        describe(line.drawing).c_str(),
                        seed);
    const bool prints          = line.replay;
    const WorldOptions options = draw(seed, line.drawing);
    if (prints) {
        print(options);
    }
    Trace trace(prints);
    World world(options, trace);
    world.run();
    world.add_to(figures);
    const Findings& findings = world.result();
    if (findings.any()) {
        std::printf("seed %" PRIu64 ", %.6f s: %s\n",
                    seed,
                    static_cast<double>(world.elapsed_us()) / 1e6,
                    findings.text().c_str());
    }
    if (findings.any() && !line.goes_on) {
        print(options);
        world.show();
        std::fputs(repeat.data(), stdout);
    }
    return {findings.kind(), trace.hash()};
}

/// Runs one seed, twice if asked; returns the exit code.
int run_seed(uint64_t seed, const CommandLine& line, uint64_t& sum, Figures& figures) {
    const Result first = run_once(seed, line, figures);
    if (line.hashes) {
        std::printf("%" PRIu64 " %016" PRIx64 "\n", seed, first.hash);
    }
    sum = sum * 0x100000001b3 ^ first.hash;
    if (first.kind != Kind::none) {
        return static_cast<int>(first.kind);
    }
    if (line.twice && run_once(seed, line, figures).hash != first.hash) {
        std::printf("seed %" PRIu64 ": two runs differ\n%s", seed, repeat.data());
        return static_cast<int>(Kind::wrong_result);
    }
    return 0;
}

int run_seeds(const CommandLine& line) {
    Figures figures;
    uint64_t sum      = 0;
    uint64_t findings = 0;
    int worst         = 0;
    for (uint64_t i = 0; i < line.count; ++i) {
        if (const int code = run_seed(line.seed + i, line, sum, figures); code != 0) {
            ++findings;
            worst = std::max(worst, code);
            if (!line.goes_on) {
                return code;
            }
        }
        if (i % 10'000 == 9'999) {
            std::printf("%" PRIu64 " seeds, hash %016" PRIx64 "\n", i + 1, sum);
            std::fflush(stdout);
        }
    }
    std::printf("%" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " findings, hash %016" PRIx64 "\n",
                line.count,
                line.seed,
                findings,
                sum);
    if (line.figures) {
        figures.print();
    }
    return worst;
}

/// A line of the file is a seed, and what it once found.
int run_file(const CommandLine& line) {
    std::ifstream file(line.file);
    Figures figures;
    uint64_t sum   = 0;
    uint64_t count = 0;
    for (std::string text; std::getline(file, text);) {
        const std::string word = text.substr(0, text.find(' '));
        if (word.empty() || word.front() == '#') {
            continue;
        }
        const auto seed = parse_seed(word);
        if (!seed) {
            std::printf("%s: not a seed: %s\n", line.file.c_str(), text.c_str());
            return 1;
        }
        if (const int code = run_seed(*seed, line, sum, figures); code != 0) {
            return code;
        }
        ++count;
    }
    std::printf("%" PRIu64 " seeds of %s without a finding, hash %016" PRIx64 "\n",
                count,
                line.file.c_str(),
                sum);
    return file.eof() ? 0 : 1;
}

/// The canary is caught when a seed out of a hundred finds it.
int run_canary(const CommandLine& line) {
    Figures figures;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 100; ++i) {
        if (run_seed(line.seed + i, line, sum, figures) != 0) {
            std::printf("the canary is caught by seed %" PRIu64 "\n", line.seed + i);
            return 0;
        }
    }
    std::printf("100 seeds do not catch the canary\n");
    return static_cast<int>(Kind::wrong_result);
}

/// Goodput of one connection in virtual time, loss by receive buffer: the same figures on every
/// machine.
Kind print_goodput(uint8_t congestion, const char* name) {
    constexpr std::array<uint32_t, 5> buffers{8'192, 32'768, 131'072, 524'288, 2'097'152};
    constexpr std::array<uint32_t, 6> losses_ppm{0, 100, 1'000, 10'000, 30'000, 100'000};
    std::printf(
        "kB/s of a target that sends %u bytes, 20 ms round trip, %s\nloss ppm", perf_bytes, name);
    for (const uint32_t buffer : buffers) {
        std::printf(" %8u", buffer);
    }
    for (const uint32_t loss_ppm : losses_ppm) {
        std::printf("\n%8u", loss_ppm);
        for (const uint32_t buffer : buffers) {
            const WorldOptions options = perf_world(congestion, loss_ppm, buffer);
            Trace trace(false);
            World world(options, trace);
            const uint64_t us = world.transfer();
            if (world.result().any()) {
                std::printf("\n%s\n", world.result().text().c_str());
                return world.result().kind();
            }
            std::printf(" %8" PRIu64, uint64_t{perf_bytes} * 1'000 / us);
        }
    }
    std::printf("\n");
    return Kind::none;
}

int run_perf() {
    Kind kind = print_goodput(FLUE_CONGESTION_CUBIC, "CUBIC");
    if (kind == Kind::none) {
        kind = print_goodput(FLUE_CONGESTION_NEWRENO, "NewReno");
    }
    return static_cast<int>(kind);
}

int run(int argc, char** argv) {
    const auto line = parse_command_line(argc, argv);
    if (!line) {
        return 2;
    }
    catch_crashes();
    if (line->drawing.mode == Mode::perf) {
        return run_perf();
    }
    if (!line->file.empty()) {
        return run_file(*line);
    }
    const bool replays = line->replay;
    return line->drawing.canary != Canary::none && !replays ? run_canary(*line) : run_seeds(*line);
}

}  // namespace

}  // namespace flue::sim

int main(int argc, char** argv) {
    return flue::sim::run(argc, argv);
}
