// figures.cc - one reader per load generator (figures.h). Each recognises its tool by a line that
// only that tool prints, and takes the last value of a name: tools repeat interim values first.
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/figures.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <utility>

#include "preload/cli/text.h"

namespace weft::cli {
namespace {

using Lines = std::vector<std::string_view>;

constexpr double kMicrosPerMilli = 1e3;
constexpr double kMicrosPerSecond = 1e6;

// The number at the start of `text`, after blanks; the rest of the text behind it.
std::optional<std::pair<double, std::string_view>> leading_number(std::string_view text) {
  text = trim(text);
  // Bounded and terminated for strtod; no tool prints a longer number.
  const std::string digits(text.substr(0, 40));
  char* end = nullptr;
  const double number = std::strtod(digits.c_str(), &end);
  if (end == digits.c_str() || !std::isfinite(number)) return std::nullopt;
  return std::pair(number, text.substr(static_cast<size_t>(end - digits.c_str())));
}

// The number that follows `name` in the line: `name: 12.5`, `name=12.5`.
std::optional<double> number_after(std::string_view line, std::string_view name) {
  const size_t start = line.find(name);
  if (start == std::string_view::npos) return std::nullopt;
  const auto number = leading_number(line.substr(start + name.size()));
  return number ? std::optional(number->first) : std::nullopt;
}

// The last line in which `name` is followed by a number.
std::optional<double> last_number_after(const Lines& lines, std::string_view name) {
  std::optional<double> found;
  for (const std::string_view line : lines) {
    if (const auto number = number_after(line, name)) found = number;
  }
  return found;
}

bool contains(std::string_view output, std::string_view text) {
  return output.find(text) != std::string_view::npos;
}

void add(LoadFigures& found, std::string key, std::string label, Unit unit, Better better,
         std::optional<double> value) {
  if (!value) return;
  found.figures.push_back({std::move(key), std::move(label), unit, better, *value});
}

void add_rate(LoadFigures& found, std::optional<double> value) {
  add(found, "rps", "requests/s", Unit::per_second, Better::higher, value);
}

// name: `p99` or `average`.
void add_latency(LoadFigures& found, const std::string& name, std::optional<double> micros) {
  add(found, (name == "average" ? "avg" : name) + "_us", name + " latency", Unit::microseconds,
      Better::lower, micros);
}

std::optional<double> scaled(std::optional<double> value, double factor) {
  return value ? std::optional(*value * factor) : std::nullopt;
}

// wrk writes durations as 431.00us, 43.93ms, 1.02s, 1.50m and sizes as 21.67KB.
std::optional<double> wrk_micros(std::string_view text) {
  const auto number = leading_number(text);
  if (!number) return std::nullopt;
  const auto& [value, rest] = *number;
  if (rest.substr(0, 2) == "us") return value;
  if (rest.substr(0, 2) == "ms") return value * kMicrosPerMilli;
  if (rest.substr(0, 1) == "s") return value * kMicrosPerSecond;
  if (rest.substr(0, 1) == "m") return value * 60 * kMicrosPerSecond;
  return std::nullopt;
}

std::optional<double> wrk_bytes(std::string_view text) {
  const auto number = leading_number(text);
  if (!number) return std::nullopt;
  const std::string_view unit = number->second.substr(0, 1);
  const size_t power = std::string_view("BKMGT").find(unit);
  if (unit.empty() || power == std::string_view::npos) return std::nullopt;
  return number->first * std::pow(1024, power);
}

void read_wrk(std::string_view, const Lines& lines, LoadFigures& found) {
  add_rate(found, last_number_after(lines, "Requests/sec:"));
  for (const std::string_view line : lines) {
    const std::string_view text = trim(line);
    if (text.rfind("Latency ", 0) == 0 && !contains(text, "Distribution")) {
      add_latency(found, "average", wrk_micros(text.substr(8)));
    }
    if (text.rfind("50%", 0) == 0) add_latency(found, "p50", wrk_micros(text.substr(3)));
    if (text.rfind("99%", 0) == 0) add_latency(found, "p99", wrk_micros(text.substr(3)));
    if (contains(text, " requests in ")) found.requests = leading_number(text)->first;
    if (text.rfind("Transfer/sec:", 0) == 0) {
      add(found, "transfer_bytes_per_s", "transfer", Unit::bytes_per_second, Better::higher,
          wrk_bytes(text.substr(13)));
    }
  }
}

void read_hey(std::string_view, const Lines& lines, LoadFigures& found) {
  add_rate(found, last_number_after(lines, "Requests/sec:"));
  add_latency(found, "average", scaled(last_number_after(lines, "Average:"), kMicrosPerSecond));
  for (const char* const percentile : {"50", "95", "99"}) {
    const std::string name = std::string(percentile) + "% in ";
    add_latency(found, std::string("p") + percentile,
                scaled(last_number_after(lines, name), kMicrosPerSecond));
  }
  for (const std::string_view line : lines) {
    // `  [200]	200 responses`
    if (contains(line, " responses")) found.requests += number_after(line, "]").value_or(0);
  }
}

void read_ab(std::string_view, const Lines& lines, LoadFigures& found) {
  add_rate(found, last_number_after(lines, "Requests per second:"));
  for (const std::string_view line : lines) {
    const std::string_view text = trim(line);
    if (text.rfind("Time per request:", 0) == 0 && contains(text, "(mean)")) {
      add_latency(found, "average", scaled(number_after(text, ":"), kMicrosPerMilli));
    }
    for (const char* const percentile : {"50", "95", "99"}) {
      const std::string name = std::string(percentile) + "% ";
      if (text.rfind(name, 0) != 0) continue;
      add_latency(found, std::string("p") + percentile,
                  scaled(number_after(text, name), kMicrosPerMilli));
    }
  }
  add(found, "transfer_bytes_per_s", "transfer", Unit::bytes_per_second, Better::higher,
      scaled(last_number_after(lines, "Transfer rate:"), 1024));
  found.requests = last_number_after(lines, "Complete requests:").value_or(0);
}

// The value below which `share` of the counts lie, from `sysbench --histogram` lines
// (`      10.844 |****       17`).
std::optional<double> histogram_millis(const Lines& lines, double share) {
  std::vector<std::pair<double, double>> buckets;
  double total = 0;
  for (const std::string_view line : lines) {
    const size_t bar = line.find('|');
    const size_t count_start = line.find_last_of(" *");
    if (bar == std::string_view::npos || count_start < bar) continue;
    const auto value = leading_number(line);
    const auto count = leading_number(line.substr(count_start + 1));
    if (!value || !count) continue;
    buckets.emplace_back(value->first, count->first);
    total += count->first;
  }
  double below = 0;
  for (const auto& [value, count] : buckets) {
    below += count;
    if (below >= share * total) return value;
  }
  return std::nullopt;
}

void read_sysbench(std::string_view, const Lines& lines, LoadFigures& found) {
  // `    transactions:                        5348   (2670.88 per sec.)`; the memory test writes
  // `Total operations: 7208016 (7202663.58 per second)`.
  const auto per_second = [&lines](std::string_view name) -> std::optional<double> {
    for (const std::string_view line : lines) {
      if (trim(line).rfind(name, 0) == 0 && contains(line, " per sec")) {
        return number_after(line, "(");
      }
    }
    return std::nullopt;
  };
  add(found, "tps", "transactions/s", Unit::per_second, Better::higher,
      per_second("transactions:"));
  add(found, "qps", "queries/s", Unit::per_second, Better::higher, per_second("queries:"));
  // Tests without SQL: cpu, memory.
  if (found.figures.empty()) {
    const auto events = last_number_after(lines, "events per second:");
    add_rate(found, events ? events : per_second("Total operations:"));
  }
  add_latency(found, "average", scaled(last_number_after(lines, "avg:"), kMicrosPerMilli));
  const auto p50 = histogram_millis(lines, 0.5);
  add_latency(found, "p50", scaled(p50, kMicrosPerMilli));
  for (const char* const percentile : {"50", "95", "99"}) {
    if (p50 && std::string_view(percentile) == "50") continue;
    const std::string name = std::string(percentile) + "th percentile:";
    add_latency(found, std::string("p") + percentile,
                scaled(last_number_after(lines, name), kMicrosPerMilli));
  }
  found.requests = last_number_after(lines, "total number of events:").value_or(0);
}

// The full report; -q and --csv have their own readers below.
void read_redis(std::string_view, const Lines& lines, LoadFigures& found) {
  std::string test;
  bool columns_next = false;
  for (const std::string_view line : lines) {
    const std::string_view text = trim(line);
    if (text.rfind("====== ", 0) == 0) test = trim(text.substr(7, text.rfind(" ======") - 7));
    if (const auto rate = number_after(text, "throughput summary:")) {
      add(found, test + "_rps", test + " requests/s", Unit::per_second, Better::higher, rate);
    }
    if (contains(text, "requests completed in")) found.requests += leading_number(text)->first;
    if (columns_next) {
      // avg min p50 p95 p99 max
      std::vector<double> columns;
      auto rest = text;
      while (const auto number = leading_number(rest)) {
        columns.push_back(number->first);
        rest = number->second;
      }
      if (columns.size() == 6) {
        add(found, test + "_p50_us", test + " p50 latency", Unit::microseconds, Better::lower,
            columns[2] * kMicrosPerMilli);
        add(found, test + "_p99_us", test + " p99 latency", Unit::microseconds, Better::lower,
            columns[4] * kMicrosPerMilli);
      }
    }
    columns_next = text.rfind("avg ", 0) == 0;
  }
}

// `SET: 86956.52 requests per second, p50=0.071 msec`
void read_redis_quiet(std::string_view, const Lines& lines, LoadFigures& found) {
  for (const std::string_view line : lines) {
    const size_t colon = line.find(": ");
    if (colon == std::string_view::npos || !contains(line, " requests per second")) continue;
    const std::string test(trim(line.substr(0, colon)));
    add(found, test + "_rps", test + " requests/s", Unit::per_second, Better::higher,
        number_after(line, ": "));
    add(found, test + "_p50_us", test + " p50 latency", Unit::microseconds, Better::lower,
        scaled(number_after(line, "p50="), kMicrosPerMilli));
  }
}

// `"SET","80000.00","0.070",...` below a line that names the columns.
void read_redis_csv(std::string_view, const Lines& lines, LoadFigures& found) {
  const auto unquoted = [](std::string_view cell) {
    return cell.size() < 2 ? cell : cell.substr(1, cell.size() - 2);
  };
  for (const std::string_view line : lines) {
    const Lines cells = split(line, ",");
    if (cells.size() < 8 || unquoted(cells[0]) == "test") continue;
    const std::string test(unquoted(cells[0]));
    const auto number = [&](size_t column) -> std::optional<double> {
      const auto value = leading_number(unquoted(cells[column]));
      return value ? std::optional(value->first) : std::nullopt;
    };
    add(found, test + "_rps", test + " requests/s", Unit::per_second, Better::higher, number(1));
    add(found, test + "_p50_us", test + " p50 latency", Unit::microseconds, Better::lower,
        scaled(number(4), kMicrosPerMilli));
    add(found, test + "_p99_us", test + " p99 latency", Unit::microseconds, Better::lower,
        scaled(number(6), kMicrosPerMilli));
  }
}

// `[SUM] 0.0000-1.0008 sec  4.04 GBytes  34.7 Gbits/sec`; without -P there is one line, no SUM.
void read_iperf(std::string_view, const Lines& lines, LoadFigures& found) {
  std::optional<double> sum;
  std::optional<double> last;
  for (const std::string_view line : lines) {
    const size_t unit = line.find("bits/sec");
    if (unit == std::string_view::npos || unit < 1) continue;
    const size_t power = std::string_view(" KMGT").find(line[unit - 1]);
    if (power == std::string_view::npos) continue;
    const std::string_view before = trim(line.substr(0, unit - 1));
    const size_t start = before.find_last_of(' ');
    const auto number = leading_number(before.substr(start + 1));
    if (!number) continue;
    last = number->first * std::pow(1000, power);
    if (line.rfind("[SUM]", 0) == 0) sum = last;
  }
  add(found, "bits_per_s", "bandwidth", Unit::bits_per_second, Better::higher, sum ? sum : last);
}

void read_slap(std::string_view, const Lines& lines, LoadFigures& found) {
  add(found, "average_s", "average run", Unit::seconds, Better::lower,
      last_number_after(lines, "Average number of seconds to run all queries:"));
}

// The last line with `rps=`, as weft's own load generator prints it.
void read_key_values(std::string_view, const Lines& lines, LoadFigures& found) {
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    const std::string padded = " " + std::string(*line);
    const auto rate = number_after(padded, " rps=");
    if (!rate) continue;
    add_rate(found, rate);
    add_latency(found, "average", number_after(padded, " avg_us="));
    for (const char* const name : {"p50", "p95", "p99"}) {
      add_latency(found, name, number_after(padded, std::string(" ") + name + "_us="));
    }
    return;
  }
}

struct Reader {
  // A text that only this tool prints.
  std::string_view signature;
  void (*read)(std::string_view output, const Lines& lines, LoadFigures& found);
};

constexpr Reader kReaders[] = {
    {"Thread Stats ", read_wrk},
    {"Response time histogram:", read_hey},
    {"This is ApacheBench", read_ab},
    {"Threads fairness:", read_sysbench},
    {"throughput summary:", read_redis},
    {"\"test\",\"rps\",", read_redis_csv},
    {" requests per second, p50=", read_redis_quiet},
    {"bits/sec", read_iperf},
    {"Average number of seconds to run all queries:", read_slap},
    {"rps=", read_key_values},
};

}  // namespace

LoadFigures find_figures(std::string_view output, double load_seconds) {
  LoadFigures found;
  const Lines lines = lines_of(output);
  for (const Reader& reader : kReaders) {
    if (!contains(output, reader.signature)) continue;
    reader.read(output, lines, found);
    if (!found.figures.empty()) break;
  }
  const bool has_rate = !found.figures.empty() && found.figures.front().key == "rps";
  // A total in such a line would leave out the warm-up, during which the server works too: the
  // rate, over all the time that the load ran, fits the server's whole work better.
  if (found.requests == 0 && has_rate) found.requests = found.figures.front().value * load_seconds;
  return found;
}

bool add_custom_figure(std::string_view output, const std::regex& pattern, LoadFigures& found) {
  std::optional<double> last;
  // Line by line: std::regex recurses once for each character that it matches.
  for (const std::string_view line : lines_of(output)) {
    for (std::cregex_iterator match(line.data(), line.data() + line.size(), pattern), end;
         match != end; ++match) {
      const std::csub_match& group = match->size() > 1 ? (*match)[1] : (*match)[0];
      const std::string text = group.str();
      const size_t digit = text.find_first_of("0123456789");
      if (digit == std::string::npos) continue;
      const size_t start = digit > 0 && text[digit - 1] == '-' ? digit - 1 : digit;
      if (const auto number = leading_number(text.substr(start))) last = number->first;
    }
  }
  add(found, "figure", "figure", Unit::none, Better::neither, last);
  return last.has_value();
}

}  // namespace weft::cli
