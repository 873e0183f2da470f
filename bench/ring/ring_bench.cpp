// What a work request costs from post to completion: the host queue between two threads and two
// processes, next to the plain ways of doing the same, in one run.  An iteration is one burst there
// and back, echoed by a peer.
//
// Expected on a 2 to 3 GHz machine: a burst of 32 moves 32 + 16 cache lines between the cores, some
// 100 cycles each when nothing overlaps, hence 50 to 150 cycles a request and two orders of
// magnitude less than a system call each.

#include <algorithm>
#include <benchmark/benchmark.h>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <sched.h>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <rte_cycles.h>
#include <rte_pause.h>

#include "base/unique_fd.hpp"
#include "queue/host_rings.hpp"
#include "queue/queue_memory.hpp"

namespace {

using namespace flue;
using namespace flue::queue;

constexpr uint32_t burst_max       = 256;
constexpr uint64_t window_requests = 512;  ///< what a pipe takes without blocking, both ways
constexpr uint32_t bursts[]        = {1, 8, 32};
constexpr uint8_t stop_opcode      = 0xff;
constexpr int spins_per_yield      = 32;

/// Waiter spins, and lets others run now and then: there may be fewer cores than threads.
class Waiter {
  public:
    void wait() {
        if (++spins_ % spins_per_yield == 0) {
            ::sched_yield();
        } else {
            rte_pause();
        }
    }

  private:
    int spins_ = 0;
};

flue_wc answer_to(const flue_wr& wr) {
    flue_wc wc{};
    wc.wr_id  = wr.wr_id;
    wc.opcode = wr.opcode;
    return wc;
}

/// Each peer answers requests until one says stop.

void echo_queue(TargetQueue& queue) {
    flue_wr burst[burst_max];
    Waiter waiter;
    while (true) {
        const uint32_t count = queue.take(burst);
        for (const flue_wr& wr : std::span(burst, count)) {
            queue.complete(answer_to(wr));
        }
        queue.flush();
        if (count == 0) {
            waiter.wait();
        } else if (burst[count - 1].opcode == stop_opcode) {
            return;
        }
    }
}

/// MutexQueue is the way every program starts with: a deque, a mutex and a condition variable.
template <typename T>
class MutexQueue {
  public:
    void push(std::span<const T> elements) {
        {
            const std::lock_guard lock(mutex_);
            elements_.insert(elements_.end(), elements.begin(), elements.end());
        }
        filled_.notify_one();
    }

    uint32_t pop(std::span<T> out) {
        std::unique_lock lock(mutex_);
        filled_.wait(lock, [&] { return !elements_.empty(); });
        const auto count = static_cast<uint32_t>(std::min(out.size(), elements_.size()));
        std::copy_n(elements_.begin(), count, out.begin());
        elements_.erase(elements_.begin(), elements_.begin() + count);
        return count;
    }

  private:
    std::mutex mutex_;
    std::condition_variable filled_;
    std::deque<T> elements_;
};

/// read_elements reads at least one whole element and as many more as there are.
template <typename T>
uint32_t read_elements(int fd, std::span<T> out) {
    auto* bytes  = reinterpret_cast<char*>(out.data());
    ssize_t have = ::read(fd, bytes, out.size_bytes());
    while (have > 0 && static_cast<size_t>(have) % sizeof(T) != 0) {
        const ssize_t more =
            ::read(fd, bytes + have, sizeof(T) - static_cast<size_t>(have) % sizeof(T));
        have = more > 0 ? have + more : -1;
    }
    return have > 0 ? static_cast<uint32_t>(static_cast<size_t>(have) / sizeof(T)) : 0;
}

template <typename T>
bool write_elements(int fd, std::span<const T> elements) {
    return ::write(fd, elements.data(), elements.size_bytes()) ==
           static_cast<ssize_t>(elements.size_bytes());
}

void echo_pipe(int requests, int completions) {
    std::vector<flue_wr> in(burst_max);
    std::vector<flue_wc> out(burst_max);
    while (const uint32_t count = read_elements(requests, std::span(in))) {
        std::transform(in.begin(), in.begin() + count, out.begin(), answer_to);
        if (!write_elements(completions, std::span<const flue_wc>(out).first(count))) {
            return;
        }
    }
}

// ---------------------------------------------------------------- the host's side of each

class QueueLink {
  public:
    QueueLink() { target_ = std::make_unique<TargetQueue>(memory_.parts(0)); }

    uint32_t post(std::span<const flue_wr> wr) { return host_.submissions(0).enqueue(wr); }

    uint32_t poll(std::span<flue_wc> wc) {
        const uint32_t count = host_.completions(0).dequeue(wc);
        if (count == 0) {
            waiter_.wait();
        }
        return count;
    }

  protected:
    void post_stop() {
        flue_wr stop{};
        stop.opcode = stop_opcode;
        while (post({&stop, 1}) == 0) {
            waiter_.wait();
        }
    }

    TargetQueueMemory memory_ =
        std::move(TargetQueueMemory::create(QueueGeometry{1, 1024, 2048}).value());
    QueueRings rings_ = std::move(
        map_queue_memory(memory_.memory_fd(), memory_.geometry(), memory_.bytes()).value());
    HostRings host_{rings_};
    std::unique_ptr<TargetQueue> target_;
    Waiter waiter_;
};

class QueueThreads : public QueueLink {
  public:
    QueueThreads() : peer_([this] { echo_queue(*target_); }) {}

    ~QueueThreads() { post_stop(); }

  private:
    std::jthread peer_;
};

class QueueProcesses : public QueueLink {
  public:
    QueueProcesses() : peer_(::fork()) {
        if (peer_ == 0) {
            echo_queue(*target_);
            ::_exit(0);
        }
    }

    ~QueueProcesses() {
        post_stop();
        ::waitpid(peer_, nullptr, 0);
    }

  private:
    pid_t peer_;
};

class MutexThreads {
  public:
    MutexThreads()
        : peer_([this] {
              std::vector<flue_wr> in(burst_max);
              std::vector<flue_wc> out(burst_max);
              uint32_t count = 0;
              do {
                  count = requests_.pop(in);
                  std::transform(in.begin(), in.begin() + count, out.begin(), answer_to);
                  completions_.push(std::span<const flue_wc>(out).first(count));
              } while (in[count - 1].opcode != stop_opcode);
          }) {}

    ~MutexThreads() {
        flue_wr stop{};
        stop.opcode = stop_opcode;
        post({&stop, 1});
    }

    uint32_t post(std::span<const flue_wr> wr) {
        requests_.push(wr);
        return static_cast<uint32_t>(wr.size());
    }

    uint32_t poll(std::span<flue_wc> wc) { return completions_.pop(wc); }

  private:
    MutexQueue<flue_wr> requests_;
    MutexQueue<flue_wc> completions_;
    std::jthread peer_;
};

class PipeProcesses {
  public:
    PipeProcesses() {
        int requests[2];
        int completions[2];
        if (::pipe(requests) != 0 || ::pipe(completions) != 0) {
            std::perror("pipe");
            std::abort();
        }
        peer_ = ::fork();
        if (peer_ == 0) {
            ::close(requests[1]);
            ::close(completions[0]);
            echo_pipe(requests[0], completions[1]);
            ::_exit(0);
        }
        ::close(requests[0]);
        ::close(completions[1]);
        requests_    = UniqueFd(requests[1]);
        completions_ = UniqueFd(completions[0]);
    }

    ~PipeProcesses() {
        requests_.reset();
        ::waitpid(peer_, nullptr, 0);
    }

    uint32_t post(std::span<const flue_wr> wr) {
        return write_elements(requests_.get(), wr) ? static_cast<uint32_t>(wr.size()) : 0;
    }

    uint32_t poll(std::span<flue_wc> wc) { return read_elements(completions_.get(), wc); }

  private:
    pid_t peer_ = -1;
    UniqueFd requests_;
    UniqueFd completions_;
};

// ---------------------------------------------------------------- cases

/// exchange has up to window_requests under way; the answers' wr_ids prove that each request was
/// carried, in order.
template <typename Link>
void exchange(benchmark::State& state) {
    const auto burst = static_cast<uint32_t>(state.range(0));
    Link link;
    std::vector<flue_wr> wr(burst);
    std::vector<flue_wc> wc(burst_max);
    uint64_t posted           = 0;
    uint64_t completed        = 0;
    const uint64_t tsc_before = rte_rdtsc();
    for (auto _ : state) {
        for (flue_wr& request : wr) {
            request.wr_id = posted++;
        }
        std::span<const flue_wr> rest(wr);
        while (!rest.empty()) {
            rest = rest.subspan(link.post(rest));
        }
        while (posted - completed > window_requests) {
            const uint32_t count = link.poll(wc);
            for (uint32_t i = 0; i < count; ++i) {
                if (wc[i].wr_id != completed++) {
                    state.SkipWithError("a request was lost or came twice");
                    return;
                }
            }
        }
    }
    const uint64_t cycles = rte_rdtsc() - tsc_before;
    while (completed < posted) {
        completed += link.poll(wc);
    }
    state.SetItemsProcessed(static_cast<int64_t>(posted));
    state.counters["cycles/WR"] = static_cast<double>(cycles) / static_cast<double>(posted);
}

/// Both ends on one core: what the code itself costs, without moving cache lines.
void one_thread(benchmark::State& state) {
    const auto burst = static_cast<uint32_t>(state.range(0));
    auto memory      = std::move(TargetQueueMemory::create(QueueGeometry{1, 1024, 2048}).value());
    const auto rings =
        std::move(map_queue_memory(memory.memory_fd(), memory.geometry(), memory.bytes()).value());
    HostRings host(rings);
    TargetQueue target(memory.parts(0));
    std::vector<flue_wr> wr(burst);
    std::vector<flue_wc> wc(burst);
    uint64_t completed        = 0;
    const uint64_t tsc_before = rte_rdtsc();
    for (auto _ : state) {
        benchmark::DoNotOptimize(host.submissions(0).enqueue(wr));
        const uint32_t count = target.take(wr);
        for (const flue_wr& request : std::span(wr).first(count)) {
            target.complete(answer_to(request));
        }
        target.flush();
        completed += host.completions(0).dequeue(wc);
    }
    const uint64_t cycles = rte_rdtsc() - tsc_before;
    if (completed != static_cast<uint64_t>(state.iterations()) * burst) {
        state.SkipWithError("requests were lost");
    }
    state.SetItemsProcessed(static_cast<int64_t>(completed));
    state.counters["cycles/WR"] = static_cast<double>(cycles) / static_cast<double>(completed);
}

/// RatioReporter prints the usual table and then how the queue compares with the plain ways, burst
/// by burst.
class RatioReporter : public benchmark::ConsoleReporter {
  public:
    RatioReporter() : ConsoleReporter(::isatty(1) == 1 ? OO_ColorTabular : OO_Tabular) {}

    void ReportRuns(const std::vector<Run>& runs) override {
        ConsoleReporter::ReportRuns(runs);
        for (const Run& run : runs) {
            if (!run.error_occurred && run.run_type == Run::RT_Iteration) {
                rates_[run.run_name.function_name][run.run_name.args] =
                    std::max(rates_[run.run_name.function_name][run.run_name.args],
                             run.counters.at("items_per_second").value);
            } else if (run.error_occurred) {
                failed_ = true;
            }
        }
    }

    void print_ratios() {
        for (const uint32_t burst : bursts) {
            const std::string name = "burst:" + std::to_string(burst);
            const double queue     = rates_["queue/processes"][name];
            const double mutex     = rates_["mutex_and_deque/threads"][name];
            const double pipe      = rates_["pipe/processes"][name];
            if (queue > 0 && mutex > 0 && pipe > 0) {
                std::printf(
                    "%s: the queue between processes carries %.2f times the requests of a mutex "
                    "and a deque "
                    "between threads, %.2f times those of a pipe\n",
                    name.c_str(),
                    queue / mutex,
                    queue / pipe);
            }
        }
        double load = 0;
        if (::getloadavg(&load, 1) == 1 && load + 1 > std::thread::hardware_concurrency()) {
            std::puts(
                "The machine is busy: both ends of a polled queue want a core of their own, so "
                "these figures say little.");
        }
    }

    [[nodiscard]] bool failed() const { return failed_; }

  private:
    std::map<std::string, std::map<std::string, double>> rates_;
    bool failed_ = false;
};

void add_cases() {
    const auto each_burst = [](benchmark::internal::Benchmark* bench) {
        bench->ArgName("burst")->UseRealTime();
        for (const uint32_t burst : bursts) {
            bench->Arg(burst);
        }
    };
    each_burst(benchmark::RegisterBenchmark("queue/one_thread", one_thread));
    each_burst(benchmark::RegisterBenchmark("queue/threads", exchange<QueueThreads>));
    each_burst(benchmark::RegisterBenchmark("queue/processes", exchange<QueueProcesses>));
    each_burst(benchmark::RegisterBenchmark("mutex_and_deque/threads", exchange<MutexThreads>));
    each_burst(benchmark::RegisterBenchmark("pipe/processes", exchange<PipeProcesses>));
}

}  // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 2;
    }
    add_cases();
    RatioReporter reporter;
    benchmark::RunSpecifiedBenchmarks(&reporter);
    reporter.print_ratios();
    return reporter.failed() ? 1 : 0;
}
