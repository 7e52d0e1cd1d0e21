// process_tree.h - what a server and all processes that it made use: threads, memory, CPU time.
// The tree is every descendant of this process but for the load's session: this process adopts
// orphans (PR_SET_CHILD_SUBREAPER), so a server that turns into a daemon is still found, and ended.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "preload/cli/child.h"

namespace weft::cli {

struct TreeSample {
  int64_t threads = 0;
  int64_t rss_kib = 0;
  // Including ended children that were waited for.
  double cpu_seconds = 0;
};

class ProcessTree {
 public:
  // Once, before the first child.
  static void adopt_orphans();

  // Processes of this session (the load's) are left out. 0: none.
  void exclude_session(pid_t session) { excluded_session_ = session; }
  // The sums over the tree now; looks for new processes at most twice a second.
  TreeSample sample();
  // Finds the processes anew and returns their ids.
  const std::vector<pid_t>& find();
  // Context switches, voluntary or not, of the threads alive now.
  int64_t context_switches();
  // Whether a process of the tree has this file mapped, or hides its maps from us.
  bool may_map(const std::string& path);

 private:
  std::vector<pid_t> members_;
  pid_t excluded_session_ = 0;
  Clock::time_point found_at_{};
};

}  // namespace weft::cli
