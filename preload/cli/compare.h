// compare.h - `weft compare`: a server's performance under weft beside its native performance.
// Each round measures both, in alternating order, so that neither always meets the warmer machine.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "preload/cli/run.h"

namespace weft::cli {

// As typed; compare() checks them.
struct CompareOptions {
  std::vector<std::string> server;
  RuntimeOptions runtime;
  std::string ready;
  std::string load;
  std::string figure;
  std::string rounds = "5";
  std::string server_cpus;
  std::string load_cpus;
  std::string warmup_seconds = "0";
  std::string ready_seconds = "30";
  std::string load_seconds = "600";
  std::string stop_seconds = "20";
  bool json = false;
};

// Writes the table or JSON to standard output, a line per run to standard error.
// Throws UsageError for bad options, Failure when the server or the load fails.
void compare(const CompareOptions& options);

}  // namespace weft::cli
