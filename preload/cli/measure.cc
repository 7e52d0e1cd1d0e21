// measure.cc - one measurement (measure.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/measure.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <utility>

#include "preload/cli/child.h"
#include "preload/cli/errors.h"
#include "preload/cli/process_tree.h"
#include "preload/cli/text.h"

namespace weft::cli {
namespace {

constexpr std::chrono::milliseconds kSamplePeriod{50};
constexpr size_t kOutputMax = 4 << 20;
constexpr size_t kLinesShown = 8;
constexpr std::chrono::seconds kLoadStopLimit{5};

// The load command as a child of /bin/sh, and what it wrote.
class Load {
 public:
  explicit Load(const MeasureOptions& options) : started_(Clock::now()) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw Failure(std::string("pipe2: ") + std::strerror(errno));
    read_end_ = FileDescriptor(ends[0]);
    const FileDescriptor write_end(ends[1]);
    // Only our end: the load may expect a pipe that blocks.
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    ChildSetup setup;
    setup.output_fd = write_end.get();
    setup.cpus = options.load_cpus;
    setup.exec = [&options] {
      execl("/bin/sh", "sh", "-c", options.load.c_str(), static_cast<char*>(nullptr));
      throw Failure(std::string("/bin/sh: ") + std::strerror(errno), kStatusCannotExecute);
    };
    child_ = std::make_unique<Child>(setup);
  }

  Child& child() { return *child_; }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }
  const std::string& output() const { return output_; }

  // Waits a moment; true once the load has ended, with all of its output read.
  bool wait(std::chrono::milliseconds limit) {
    const bool ended = child_->wait(limit, read_end_.get());
    read_output();
    return ended;
  }

  // Asks it to end, then kills it. Its other processes, if any, get the same signals.
  void stop() {
    child_->signal(SIGTERM);
    const auto deadline = Clock::now() + kLoadStopLimit;
    while (!wait(kSamplePeriod) && Clock::now() < deadline) continue;
    child_->signal(SIGKILL);
  }

 private:
  void read_output() {
    char block[65536];
    ssize_t bytes = 0;
    while ((bytes = read(read_end_.get(), block, sizeof block)) > 0) {
      output_.append(block, static_cast<size_t>(bytes));
      // The end matters: tools print their summary there.
      if (output_.size() > 2 * kOutputMax) output_.erase(0, output_.size() - kOutputMax);
    }
  }

  Clock::time_point started_;
  FileDescriptor read_end_;
  std::unique_ptr<Child> child_;
  std::string output_;
};

void warm_up(Server& server, const MeasureOptions& options) {
  if (options.warmup.count() == 0) return;
  Load load(options);
  server.tree().exclude_session(load.child().pid());
  const auto deadline = Clock::now() + options.warmup;
  while (Clock::now() < deadline && !load.wait(kSamplePeriod)) {
    check_interrupt();
    server.check_alive();
  }
  if (!load.child().ended()) load.stop();
}

struct LoadRun {
  std::string output;
  double seconds = 0;
  TreeSample peak;
  double cpu_seconds = 0;
};

LoadRun run_load(Server& server, const MeasureOptions& options) {
  LoadRun run;
  const TreeSample before = server.tree().sample();
  Load load(options);
  server.tree().exclude_session(load.child().pid());
  auto next_sample = Clock::now();
  TreeSample now;
  bool ended = false;
  while (!ended) {
    ended = load.wait(kSamplePeriod);
    run.seconds = load.seconds();
    check_interrupt();
    if (!ended && Clock::now() < next_sample) continue;
    next_sample = Clock::now() + kSamplePeriod;
    now = server.tree().sample();
    run.peak.threads = std::max(run.peak.threads, now.threads);
    run.peak.rss_kib = std::max(run.peak.rss_kib, now.rss_kib);
    // A load's failure is the lesser news when its server died.
    server.check_alive();
    if (!ended && run.seconds > static_cast<double>(options.load_limit.count())) {
      throw Failure("the load command still runs after " +
                    std::to_string(options.load_limit.count()) + " s; its last lines:\n" +
                    last_lines(load.output(), kLinesShown));
    }
  }
  if (!load.child().succeeded()) {
    throw Failure("the load command " + load.child().ending() + "; its last lines:\n" +
                  last_lines(load.output(), kLinesShown));
  }
  run.output = load.output();
  run.cpu_seconds = now.cpu_seconds - before.cpu_seconds;
  return run;
}

void add_server_figures(const LoadRun& run, double requests, int64_t switches,
                        std::vector<Figure>& figures) {
  if (requests > 0) {
    figures.push_back({"cpu_us_per_request", "CPU per request", Unit::microseconds, Better::lower,
                       run.cpu_seconds * 1e6 / requests});
  }
  figures.push_back({"cpu_s", "CPU time", Unit::seconds, Better::neither, run.cpu_seconds});
  figures.push_back({"threads", "kernel threads", Unit::none, Better::lower,
                     static_cast<double>(run.peak.threads)});
  figures.push_back({"rss_kb", "resident memory", Unit::kib, Better::lower,
                     static_cast<double>(run.peak.rss_kib)});
  figures.push_back({"context_switches", "context switches", Unit::none, Better::lower,
                     static_cast<double>(switches)});
}

}  // namespace

Measurement measure(const Launch& launch, bool under_weft, const ReadyAddress& address,
                    const MeasureOptions& options) {
  if (address.answers()) {
    throw Failure(address.text() +
                  " already answers: stop the server there, or use another address");
  }
  Server server(launch, under_weft, options.server);
  server.wait_ready(address);
  if (under_weft && !server.tree().may_map(launch.library)) {
    throw Failure("the server runs without " + launch.library + "; its last lines:\n" +
                  last_lines(server.output(), kLinesShown));
  }
  warm_up(server, options);
  const int64_t switches_before = server.tree().context_switches();
  const LoadRun run = run_load(server, options);

  Measurement result;
  LoadFigures found = find_figures(run.output, run.seconds);
  if (options.figure && !add_custom_figure(run.output, *options.figure, found)) {
    throw Failure("--figure matches no number in the load's output; its last lines:\n" +
                  last_lines(run.output, kLinesShown));
  }
  if (found.figures.empty()) {
    found.figures.push_back({"load_s", "load command", Unit::seconds, Better::lower, run.seconds});
  }
  if (!server.stop()) result.notes.push_back("the server had to be killed: SIGTERM did not end it");
  if (!server.crash().empty()) result.notes.push_back("the server " + server.crash());
  const std::string said = server.output();
  for (const std::string_view line : lines_of(said)) {
    if (line.rfind("weft: ", 0) == 0) result.notes.emplace_back(line.substr(6));
  }
  result.figures = std::move(found.figures);
  const int64_t switches = std::max<int64_t>(0, server.context_switches() - switches_before);
  add_server_figures(run, found.requests, switches, result.figures);
  return result;
}

}  // namespace weft::cli
