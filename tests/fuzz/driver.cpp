// The main of a fuzzer in an ordinary build: the corpus, then mutations of it from a fixed seed.
//
//     fuzz-NAME [--runs N] [--first RUN] [--seed SEED] [--canary] FILE-OR-FOLDER...
//
// --first RUN --runs 1   repeats one mutation alone
// --canary               succeeds when the wrong thing that the fuzzer then does is found

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "base/prng.hpp"
#include "input.hpp"

extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace {

using flue::Prng;
using Bytes                = std::vector<uint8_t>;

constexpr size_t bytes_max = 2048;

struct Plan {
    uint64_t runs  = 2000;
    uint64_t first = 0;
    uint64_t seed  = 1;
    bool canary    = false;
    std::vector<std::string> paths;
};

volatile sig_atomic_t current_run = -1;  ///< -1: a file of the corpus
std::string current_file;

/// Says which input it was: all that is safe in a process that is about to end.
void say_where() {
    char line[128];
    const int size = current_run < 0
                         ? std::snprintf(line, sizeof(line), "in %.100s\n", current_file.c_str())
                         : std::snprintf(line,
                                         sizeof(line),
                                         "repeat with --first %d --runs 1\n",
                                         static_cast<int>(current_run));
    (void)!::write(STDERR_FILENO, line, static_cast<size_t>(size));
}

void on_fatal(int signal) {
    say_where();
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

/// A sanitizer has handlers of its own, and a place for this one.
void say_where_when_it_ends() {
    if (__sanitizer_set_death_callback != nullptr) {
        __sanitizer_set_death_callback(say_where);
        std::signal(SIGABRT, on_fatal);
        return;
    }
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) {
        std::signal(signal, on_fatal);
    }
}

void usage() {
    std::fputs("usage: fuzz-NAME [--runs N] [--first RUN] [--seed SEED] [--canary] PATH...\n",
               stderr);
    std::exit(2);
}

Plan parse(int argc, char** argv) {
    Plan plan;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        const auto number          = [&] {
            return ++i < argc ? std::strtoull(argv[i], nullptr, 10) : (usage(), 0);
        };
        if (argument == "--runs") {
            plan.runs = number();
        } else if (argument == "--first") {
            plan.first = number();
        } else if (argument == "--seed") {
            plan.seed = number();
        } else if (argument == "--canary") {
            plan.canary = true;
        } else if (argument.starts_with("-")) {
            usage();
        } else {
            plan.paths.push_back(argument);
        }
    }
    return plan;
}

/// The files of all paths, in the order of their names.
std::vector<std::filesystem::path> files_of(const Plan& plan) {
    std::vector<std::filesystem::path> files;
    for (const std::string& path : plan.paths) {
        if (!std::filesystem::is_directory(path)) {
            files.emplace_back(path);
            continue;
        }
        for (const auto& entry : std::filesystem::directory_iterator(path)) {
            files.push_back(entry.path());
        }
    }
    std::sort(files.begin(), files.end());
    return files;
}

Bytes read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        std::fprintf(stderr, "cannot read %s\n", path.c_str());
        std::exit(2);
    }
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void mutate_once(Prng& prng, const std::vector<Bytes>& corpus, Bytes& bytes) {
    static constexpr std::array<uint8_t, 8> edges{0, 1, 2, 4, 0x7f, 0x80, 0xfe, 0xff};
    const auto at    = [&](size_t size) { return prng.below(static_cast<uint32_t>(size)); };
    const Bytes& one = corpus[at(corpus.size())];
    const auto place = bytes.begin() + static_cast<ptrdiff_t>(at(bytes.size() + 1));
    const auto rest  = bytes.end() - place;
    const auto kind  = prng.below(6);
    if (rest == 0 || kind == 0) {  // some bytes from elsewhere
        const auto from = one.begin() + static_cast<ptrdiff_t>(at(one.size() + 1));
        const auto size = std::min<ptrdiff_t>(one.end() - from, 1 + prng.below(64));
        bytes.insert(place, from, from + size);
    } else if (kind == 1) {
        *place = static_cast<uint8_t>(*place ^ (1U << prng.below(8)));
    } else if (kind == 2) {
        *place = edges[prng.below(edges.size())];
    } else if (kind == 3) {
        *place = static_cast<uint8_t>(prng.next());
    } else if (kind == 4) {
        bytes.insert(place, static_cast<uint8_t>(prng.next()));
    } else {
        const auto size = std::min<ptrdiff_t>(rest, 1 + prng.below(16));
        bytes.erase(place, place + size);
    }
}

/// The input of one run depends on the seed, the run and the corpus alone.
Bytes mutation(const Plan& plan, uint64_t run, const std::vector<Bytes>& corpus) {
    Prng prng(plan.seed ^ run << 32);
    Bytes bytes          = corpus[prng.below(static_cast<uint32_t>(corpus.size()))];
    const uint32_t times = 1U << prng.below(6);
    for (uint32_t i = 0; i < times; ++i) {
        mutate_once(prng, corpus, bytes);
    }
    bytes.resize(std::min(bytes.size(), bytes_max));
    return bytes;
}

/// In memory of exactly its size, so that a sanitizer sees a read past its end.
void run_one(const Bytes& bytes) {
    const auto exact = std::make_unique<uint8_t[]>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), exact.get());
    LLVMFuzzerTestOneInput(exact.get(), bytes.size());
}

void run_all(const Plan& plan) {
    std::vector<Bytes> corpus;
    for (const auto& file : files_of(plan)) {
        corpus.push_back(read(file));
        current_file = file.string();
        if (plan.first == 0) {
            run_one(corpus.back());
        }
    }
    if (corpus.empty()) {
        std::fputs("there is no corpus\n", stderr);
        std::exit(2);
    }
    for (uint64_t run = plan.first; run < plan.first + plan.runs; ++run) {
        current_run = static_cast<sig_atomic_t>(run);
        run_one(mutation(plan, run, corpus));
    }
    std::printf("%zu files and %llu mutations\n",
                corpus.size(),
                static_cast<unsigned long long>(plan.runs));
}

/// Whether the fuzzer's canary is found: a failed assertion of whatever finds it ends the child.
bool finds_canary(const Plan& plan) {
    const pid_t child = fork();
    if (child == 0) {
        flue::fuzz::canary = true;
        std::fclose(stderr);
        run_all(plan);
        std::exit(0);
    }
    int status = 0;
    const bool caught =
        waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    std::puts(caught ? "the canary was found" : "the canary lives");
    return caught;
}

}  // namespace

int main(int argc, char** argv) {
    const Plan plan = parse(argc, argv);
    say_where_when_it_ends();
    if (plan.canary) {
        return finds_canary(plan) ? 0 : 1;
    }
    run_all(plan);
    return 0;
}
