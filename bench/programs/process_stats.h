// process_stats.h - what another process costs: CPU time, memory, threads; how busy the rest is.
// Guarantee: CPU times are exact (the process's CPU clock, with threads that have ended and
// io_uring helpers); memory is as /proc says, in KiB. A process that is gone ends the program with
// one line.
// Included by loadgen.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

#include "bench/programs/socket.h"

namespace bench {

inline uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  if (clock_gettime(clock, &now) != 0) die("clock_gettime", errno);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}
inline uint64_t now_ns() {
  return clock_ns(CLOCK_MONOTONIC);
}

inline uint64_t process_cpu_ns(pid_t pid) {
  clockid_t clock{};
  const int error = clock_getcpuclockid(pid, &clock);
  if (error != 0) die("the server process", error);
  return clock_ns(clock);
}

// The number behind `name:` in a file like /proc/PID/status; 0 if there is none.
inline int64_t proc_field(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, name.size(), name) == 0 && line[name.size()] == ':') {
      return std::strtoll(line.c_str() + name.size() + 1, nullptr, 10);
    }
  }
  return 0;
}

struct Memory {
  static constexpr int64_t kSettledKib = 256;

  int64_t rss_kib = 0;
  int64_t page_table_kib = 0;
  int64_t threads = 0;
  // Of the whole system: the kernel does not account them to a process.
  int64_t kernel_stack_kib = 0;
  int64_t slab_kib = 0;

  static Memory of(pid_t pid) {
    const std::string status = "/proc/" + std::to_string(pid) + "/status";
    return Memory{proc_field(status, "VmRSS"), proc_field(status, "VmPTE"),
                  proc_field(status, "Threads"), proc_field("/proc/meminfo", "KernelStack"),
                  proc_field("/proc/meminfo", "SUnreclaim")};
  }
  // Nothing of the process changes any more, and next to nothing of the system: the kernel frees
  // what an earlier process had some time after its end.
  bool is_settled_since(const Memory& earlier) const {
    return rss_kib == earlier.rss_kib && threads == earlier.threads &&
           std::abs(kernel_stack_kib - earlier.kernel_stack_kib) < kSettledKib &&
           std::abs(slab_kib - earlier.slab_kib) < kSettledKib;
  }
};

// Time in which some core was not idle, summed over the cores; a clock tick is its resolution.
inline uint64_t system_busy_ns() {
  std::ifstream file("/proc/stat");
  std::string label;
  file >> label;
  uint64_t busy_ticks = 0;
  // user nice system idle iowait irq softirq steal
  for (int column = 0; column < 8; ++column) {
    uint64_t ticks = 0;
    file >> ticks;
    if (column != 3 && column != 4) busy_ticks += ticks;
  }
  return busy_ticks * (1'000'000'000 / static_cast<uint64_t>(sysconf(_SC_CLK_TCK)));
}

// One reading of every clock that a rate is made of.
struct Snapshot {
  uint64_t wall_ns = 0;
  uint64_t server_cpu_ns = 0;
  uint64_t own_cpu_ns = 0;
  uint64_t busy_ns = 0;

  // server: 0 if its process is not known.
  static Snapshot take(pid_t server) {
    return Snapshot{now_ns(), server == 0 ? 0 : process_cpu_ns(server),
                    clock_ns(CLOCK_PROCESS_CPUTIME_ID), system_busy_ns()};
  }
};

}  // namespace bench
