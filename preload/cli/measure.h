// measure.h - one measurement: start the server, run the load against it, stop the server.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "preload/cli/figures.h"
#include "preload/cli/run.h"
#include "preload/cli/server.h"

namespace weft::cli {

struct MeasureOptions {
  std::string load;
  std::optional<std::regex> figure;
  std::optional<cpu_set_t> load_cpus;
  std::chrono::seconds warmup{0};
  std::chrono::seconds load_limit{0};
  ServerOptions server;
};

struct Measurement {
  // Those of the load first, then those of the server's processes.
  std::vector<Figure> figures;
  // What the user should know of this run, each a sentence.
  std::vector<std::string> notes;
};

// Throws Failure when the server or the load fails.
// Of the server: threads and memory are the highest of samples taken 20 times a second; CPU time is
// the difference over the load; context switches are those of its whole life less those that its
// threads had made before the load (sampling every thread's count would cost more than the load).
Measurement measure(const Launch& launch, bool under_weft, const ReadyAddress& address,
                    const MeasureOptions& options);

}  // namespace weft::cli
