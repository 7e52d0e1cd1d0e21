// process_tree.cc - reading /proc (process_tree.h). A process may end between two reads: what
// cannot be read any more counts as nothing.
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/process_tree.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>

#include "preload/cli/text.h"

namespace weft::cli {
namespace {

constexpr std::chrono::milliseconds kFindPeriod{500};

// Fields of /proc/PID/stat (proc(5)), counted from `state` = 0, which follows the name.
struct ProcessStat {
  pid_t parent;
  pid_t session;
  uint64_t cpu_ticks;
  int64_t threads;
  int64_t rss_pages;
};

std::optional<ProcessStat> read_stat(pid_t pid) {
  const std::string text = read_file("/proc/" + std::to_string(pid) + "/stat");
  // The name is in parentheses and may hold any byte, a parenthesis too.
  const size_t name_end = text.rfind(") ");
  if (name_end == std::string::npos) return std::nullopt;
  const auto fields = split(std::string_view(text).substr(name_end + 2), " ");
  if (fields.size() < 22) return std::nullopt;
  const auto number = [&fields](size_t index) { return std::atoll(fields[index].data()); };
  ProcessStat stat{};
  stat.parent = static_cast<pid_t>(number(1));
  stat.session = static_cast<pid_t>(number(3));
  stat.cpu_ticks = static_cast<uint64_t>(number(11) + number(12) + number(13) + number(14));
  stat.threads = number(17);
  stat.rss_pages = number(21);
  return stat;
}

// The numbers that name a folder's entries: processes in /proc, threads in /proc/PID/task.
std::vector<pid_t> numbered_entries(const std::string& folder) {
  std::vector<pid_t> numbers;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  while (!error && entry != std::filesystem::directory_iterator()) {
    const int number = std::atoi(entry->path().filename().c_str());
    if (number > 0) numbers.push_back(number);
    entry.increment(error);
  }
  return numbers;
}

}  // namespace

void ProcessTree::adopt_orphans() {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
}

const std::vector<pid_t>& ProcessTree::find() {
  std::map<pid_t, ProcessStat> processes;
  for (const pid_t pid : numbered_entries("/proc")) {
    if (const auto stat = read_stat(pid)) processes.emplace(pid, *stat);
  }
  members_.clear();
  for (const auto& [pid, stat] : processes) {
    if (excluded_session_ != 0 && stat.session == excluded_session_) continue;
    // Upwards to us or to the root. Bounded, as the snapshot is not atomic and might hold a cycle.
    auto ancestor = processes.find(stat.parent);
    bool descends = stat.parent == getpid();
    for (size_t step = 0; !descends && ancestor != processes.end() && step < 100; step++) {
      descends = ancestor->second.parent == getpid();
      ancestor = processes.find(ancestor->second.parent);
    }
    if (descends) members_.push_back(pid);
  }
  found_at_ = Clock::now();
  return members_;
}

TreeSample ProcessTree::sample() {
  static const double ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  static const int64_t page_kib = sysconf(_SC_PAGESIZE) / 1024;
  if (Clock::now() - found_at_ >= kFindPeriod) find();
  TreeSample sum;
  for (const pid_t pid : members_) {
    const auto stat = read_stat(pid);
    if (!stat) continue;
    sum.threads += stat->threads;
    sum.rss_kib += stat->rss_pages * page_kib;
    sum.cpu_seconds += static_cast<double>(stat->cpu_ticks) / ticks_per_second;
  }
  return sum;
}

int64_t ProcessTree::context_switches() {
  int64_t sum = 0;
  for (const pid_t pid : find()) {
    const std::string folder = "/proc/" + std::to_string(pid) + "/task";
    for (const pid_t tid : numbered_entries(folder)) {
      const std::string status = read_file(folder + "/" + std::to_string(tid) + "/status");
      for (const std::string_view line : lines_of(status)) {
        const size_t name = line.find("voluntary_ctxt_switches:");
        if (name == std::string_view::npos) continue;
        sum += std::atoll(line.data() + line.find(':') + 1);
      }
    }
  }
  return sum;
}

bool ProcessTree::may_map(const std::string& path) {
  bool all_readable = true;
  for (const pid_t pid : find()) {
    const std::string maps = read_file("/proc/" + std::to_string(pid) + "/maps");
    if (maps.find(path) != std::string::npos) return true;
    all_readable = all_readable && !maps.empty();
  }
  return !all_readable;
}

}  // namespace weft::cli
