// compare.cc - `weft compare` (compare.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/compare.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <string_view>
#include <utility>

#include "preload/cli/child.h"
#include "preload/cli/errors.h"
#include "preload/cli/measure.h"
#include "preload/cli/process_tree.h"
#include "preload/cli/report.h"
#include "preload/cli/text.h"

namespace weft::cli {
namespace {

constexpr int64_t kRoundsMax = 1000;
constexpr int64_t kSecondsMax = 86400;

// `3`, `0,2` or `0-3,6`, as taskset(1) reads it. Nothing for an empty text.
std::optional<cpu_set_t> parse_cpus(const std::string& option, const std::string& text) {
  if (text.empty()) return std::nullopt;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) CPU_ZERO(&allowed);
  for (const std::string_view range : split(text, ",")) {
    const auto ends = split(range, "-");
    const int64_t first = parse_number(option, std::string(ends.front()), 0, CPU_SETSIZE - 1);
    const int64_t last = parse_number(option, std::string(ends.back()), first, CPU_SETSIZE - 1);
    for (auto cpu = static_cast<size_t>(first); cpu <= static_cast<size_t>(last); cpu++) {
      if (!CPU_ISSET(cpu, &allowed)) {
        throw UsageError(option + "=" + text + ": this process may not use CPU " +
                         std::to_string(cpu));
      }
      CPU_SET(cpu, &cpus);
    }
  }
  return cpus;
}

std::chrono::seconds parse_seconds(const std::string& option, const std::string& text,
                                   int64_t min) {
  return std::chrono::seconds(parse_number(option, text, min, kSecondsMax));
}

MeasureOptions parse_measure_options(const CompareOptions& options) {
  MeasureOptions result;
  result.load = options.load;
  result.load_cpus = parse_cpus("--pin-load", options.load_cpus);
  result.server.cpus = parse_cpus("--pin-server", options.server_cpus);
  result.warmup = parse_seconds("--warmup-seconds", options.warmup_seconds, 0);
  result.load_limit = parse_seconds("--load-seconds", options.load_seconds, 1);
  result.server.ready_limit = parse_seconds("--ready-seconds", options.ready_seconds, 1);
  result.server.stop_limit = parse_seconds("--stop-seconds", options.stop_seconds, 1);
  if (trim(options.load).empty()) throw UsageError("--load: must be a command for /bin/sh");
  if (options.figure.empty()) return result;
  try {
    result.figure.emplace(options.figure);
  } catch (const std::regex_error& error) {
    throw UsageError("--figure=" + options.figure + ": not a regular expression: " + error.what());
  }
  return result;
}

void tell_progress(int round, int rounds, const char* side, const Figure& figure) {
  std::cerr << "weft: round " << round << " of " << rounds << ", " << side << ": "
            << format_value(figure.value, figure.unit) << " " << figure.label << "\n";
}

}  // namespace

void compare(const CompareOptions& options) {
  options.runtime.validate();
  const auto rounds = static_cast<int>(parse_number("--rounds", options.rounds, 1, kRoundsMax));
  const ReadyAddress address = ReadyAddress::parse(options.ready);
  const MeasureOptions measure_options = parse_measure_options(options);
  const Launch launch = plan_launch(options.server, options.runtime);
  if (launch.unserved) {
    throw Failure(launch.program + " " + *launch.unserved + "; there is nothing to compare");
  }
  const char* const preloaded = std::getenv("LD_PRELOAD");
  if (preloaded != nullptr && std::string_view(preloaded).find(kLibraryName) != std::string::npos) {
    throw Failure(
        "LD_PRELOAD holds libweft.so already, and would on the native side too: unset it");
  }
  // `WEFT=0` switches the library off: both sides would be native.
  unsetenv("WEFT");
  catch_interrupts();
  ProcessTree::adopt_orphans();

  Report report;
  report.server = command_line(options.server);
  report.load = options.load;
  report.rounds = rounds;
  if (getloadavg(report.load_average.data(), 3) != 3) report.load_average = {};
  for (int round = 1; round <= rounds; round++) {
    Measurement results[2];
    for (const bool second : {false, true}) {
      const bool under_weft = (round % 2 == 1) == second;
      const char* const side = under_weft ? "weft" : "native";
      Measurement& result = results[under_weft ? 1 : 0];
      try {
        result = measure(launch, under_weft, address, measure_options);
      } catch (const Failure& failure) {
        throw Failure("round " + std::to_string(round) + ", " + side + ": " + failure.what(),
                      failure.status());
      }
      tell_progress(round, rounds, side, result.figures.front());
      for (const std::string& note : result.notes) {
        const std::string full = std::string(side) + ": " + note;
        const bool known = std::count(report.notes.begin(), report.notes.end(), full) != 0;
        if (!known) report.notes.push_back(full);
      }
    }
    add_round(report, results[0].figures, results[1].figures);
  }
  if (options.json) {
    print_json(std::cout, report);
  } else {
    print_table(std::cout, report);
  }
}

}  // namespace weft::cli
