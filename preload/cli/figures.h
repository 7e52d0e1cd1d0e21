// figures.h - what a load generator measured, found in its own output.
// Known tools: wrk, hey, ab, sysbench, redis-benchmark, iperf 2, mariadb-slap, and any tool that
// prints `rps=N p50_us=N p99_us=N` on a line (weft's own load generator does). Units become one:
// microseconds, bytes per second. What a tool did not print is absent, never guessed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <regex>
#include <string>
#include <string_view>
#include <vector>

namespace weft::cli {

enum class Unit { none, per_second, microseconds, seconds, bytes_per_second, bits_per_second, kib };
enum class Better { higher, lower, neither };

struct Figure {
  // Stable name for programs, such as `p99_us`.
  std::string key;
  // Name for people, such as `p99 latency`.
  std::string label;
  Unit unit = Unit::none;
  Better better = Better::neither;
  double value = 0;
};

struct LoadFigures {
  std::vector<Figure> figures;
  // Requests answered in the whole load; 0 when the tool says neither a total nor a rate.
  double requests = 0;
};

// load_seconds: how long the load command ran; turns a rate into a total where the tool gives none.
LoadFigures find_figures(std::string_view output, double load_seconds);

// Adds the last number matched by `pattern`: its first group, else the whole match. False if no
// line matches a number.
bool add_custom_figure(std::string_view output, const std::regex& pattern, LoadFigures& found);

}  // namespace weft::cli
