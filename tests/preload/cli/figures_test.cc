// figures_test.cc - the figures found in the output of each load generator that `weft compare`
// knows. Goal: every tool's own numbers, in one unit. Method: outputs recorded from Debian 12's
// tools lie in samples/; the expected numbers are read off them by eye.
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/figures.h"

#include <catch2/catch.hpp>

#include <map>
#include <string>

#include "preload/cli/text.h"

namespace {

using weft::cli::Figure;
using weft::cli::LoadFigures;

constexpr double kLoadSeconds = 2;

LoadFigures figures_of_sample(const std::string& name) {
  const std::string text = weft::cli::read_file(std::string(WEFT_SAMPLES) + "/" + name + ".txt");
  REQUIRE_FALSE(text.empty());
  return weft::cli::find_figures(text, kLoadSeconds);
}

// Exactly these figures, no other.
void check_figures(const LoadFigures& found, const std::map<std::string, double>& expected) {
  std::map<std::string, double> values;
  for (const Figure& figure : found.figures) {
    INFO(figure.key);
    CHECK(values.emplace(figure.key, figure.value).second);
  }
  for (const auto& [key, value] : expected) {
    INFO(key);
    REQUIRE(values.count(key) == 1);
    CHECK(values[key] == Approx(value));
  }
  CHECK(values.size() == expected.size());
}

}  // namespace

TEST_CASE("find_figures: wrk's rate, latencies and transfer", "[cli][figures]") {
  const LoadFigures found = figures_of_sample("wrk");
  check_figures(found, {{"rps", 183.69},
                        {"avg_us", 42150},
                        {"p50_us", 43930},
                        {"p99_us", 47810},
                        {"transfer_bytes_per_s", 21.67 * 1024}});
  CHECK(found.requests == 184);
}

TEST_CASE("find_figures: wrk's units", "[cli][figures]") {
  const std::string head = "  Thread Stats   Avg\n    Latency   431.00us\n";
  check_figures(weft::cli::find_figures(head + "     50%    1.50s\n     99%    1.20m\n"
                                               "Requests/sec:  12.5\nTransfer/sec:    1.50MB\n",
                                        1),
                {{"rps", 12.5},
                 {"avg_us", 431},
                 {"p50_us", 1.5e6},
                 {"p99_us", 72e6},
                 {"transfer_bytes_per_s", 1.5 * 1024 * 1024}});
}

TEST_CASE("find_figures: hey's rate and latencies", "[cli][figures]") {
  const LoadFigures found = figures_of_sample("hey");
  check_figures(found, {{"rps", 92.1320},
                        {"avg_us", 43400},
                        {"p50_us", 44000},
                        {"p95_us", 47900},
                        {"p99_us", 48200}});
  CHECK(found.requests == 200);
}

TEST_CASE("find_figures: ab's rate, latencies and transfer", "[cli][figures]") {
  const LoadFigures found = figures_of_sample("ab");
  check_figures(found, {{"rps", 2110.50},
                        {"avg_us", 1895},
                        {"p50_us", 2000},
                        {"p95_us", 3000},
                        {"p99_us", 4000},
                        {"transfer_bytes_per_s", 239.08 * 1024}});
  CHECK(found.requests == 500);
}

TEST_CASE("find_figures: sysbench's transactions, queries and its one percentile",
          "[cli][figures]") {
  const LoadFigures found = figures_of_sample("sysbench");
  check_figures(found, {{"tps", 2670.88}, {"qps", 42734.08}, {"avg_us", 1490}, {"p95_us", 2710}});
  CHECK(found.requests == 5348);
}

TEST_CASE("find_figures: sysbench's median from its histogram", "[cli][figures]") {
  const LoadFigures found = figures_of_sample("sysbench-histogram");
  // 529 transactions: the 265th lies in the bucket that ends at 204.114 ms.
  check_figures(found, {{"tps", 247.19},
                        {"qps", 10906.12},
                        {"avg_us", 251080},
                        {"p50_us", 204114},
                        {"p99_us", 773680}});
}

TEST_CASE("find_figures: sysbench without SQL", "[cli][figures]") {
  check_figures(figures_of_sample("sysbench-memory"),
                {{"rps", 7202663.58}, {"avg_us", 0}, {"p95_us", 0}});
}

TEST_CASE("find_figures: redis-benchmark's tests each have their figures", "[cli][figures]") {
  const LoadFigures found = figures_of_sample("redis-benchmark");
  check_figures(found, {{"SET_rps", 66666.67},
                        {"SET_p50_us", 87},
                        {"SET_p99_us", 207},
                        {"GET_rps", 86956.52},
                        {"GET_p50_us", 63},
                        {"GET_p99_us", 143}});
  CHECK(found.requests == 4000);
}

TEST_CASE("find_figures: redis-benchmark -q and --csv", "[cli][figures]") {
  check_figures(
      figures_of_sample("redis-benchmark-quiet"),
      {{"SET_rps", 86956.52}, {"SET_p50_us", 63}, {"GET_rps", 83333.34}, {"GET_p50_us", 63}});
  check_figures(figures_of_sample("redis-benchmark-csv"), {{"SET_rps", 80000},
                                                           {"SET_p50_us", 71},
                                                           {"SET_p99_us", 183},
                                                           {"GET_rps", 90909.09},
                                                           {"GET_p50_us", 63},
                                                           {"GET_p99_us", 143}});
}

TEST_CASE("find_figures: iperf's bandwidth, the sum when there are streams", "[cli][figures]") {
  check_figures(figures_of_sample("iperf"), {{"bits_per_s", 22.2e9}});
  check_figures(figures_of_sample("iperf-parallel"), {{"bits_per_s", 34.7e9}});
}

TEST_CASE("find_figures: mariadb-slap's average run", "[cli][figures]") {
  check_figures(figures_of_sample("mariadb-slap"), {{"average_s", 0.010}});
}

TEST_CASE("find_figures: the last line with rps= counts, whatever else it says", "[cli][figures]") {
  const LoadFigures found = weft::cli::find_figures(
      "rps=1 p50_us=1\nreqs=300 errors=0 rps=150 p50_us=12.5 p99_us=80.1 p999_us=99\ndone\n",
      kLoadSeconds);
  check_figures(found, {{"rps", 150}, {"p50_us", 12.5}, {"p99_us", 80.1}});
  // The rate over the whole load, as its warm-up keeps the server busy too.
  CHECK(found.requests == 300);
}

TEST_CASE("find_figures: nothing is found where nothing is said", "[cli][figures]") {
  CHECK(weft::cli::find_figures("", 1).figures.empty());
  CHECK(weft::cli::find_figures("all went well\nrps=fast\n", 1).figures.empty());
  CHECK(weft::cli::find_figures("Thread Stats \nRequests/sec: none\n", 1).figures.empty());
}

TEST_CASE("add_custom_figure: the first group of the last match", "[cli][figures]") {
  LoadFigures found;
  const std::string output = "run 1: score=12\nrun 2: score=-7.5e1 of 100\n";
  CHECK(weft::cli::add_custom_figure(output, std::regex("score=([-0-9.e]+)"), found));
  check_figures(found, {{"figure", -75}});

  LoadFigures whole;
  CHECK(weft::cli::add_custom_figure(output, std::regex("run [0-9]+"), whole));
  check_figures(whole, {{"figure", 2}});

  LoadFigures none;
  CHECK_FALSE(weft::cli::add_custom_figure(output, std::regex("speed=[0-9]+"), none));
  CHECK(none.figures.empty());
}
