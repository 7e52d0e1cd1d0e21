// report_test.cc - medians, paired ratios, number formats, the table and the JSON object.
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/report.h"

#include <catch2/catch.hpp>

#include <limits>
#include <sstream>

#include "preload/cli/errors.h"
#include "preload/cli/json.h"
#include "preload/cli/text.h"

namespace {

using namespace weft::cli;

Figure rate(double value) {
  return {"rps", "requests/s", Unit::per_second, Better::higher, value};
}

Figure latency(double value) {
  return {"p99_us", "p99 latency", Unit::microseconds, Better::lower, value};
}

Report three_rounds() {
  Report report;
  report.server = "./server 80";
  report.load = "load \"x\"";
  report.rounds = 3;
  add_round(report, {rate(1000), latency(500)}, {rate(1500), latency(250)});
  add_round(report, {rate(2000), latency(400)}, {rate(6000), latency(400)});
  add_round(report, {rate(1200), latency(0)}, {rate(2400), latency(100)});
  return report;
}

}  // namespace

TEST_CASE("median: the middle, or the mean of the two in the middle", "[cli][report]") {
  CHECK(median({3}) == 3);
  CHECK(median({9, 1, 5}) == 5);
  CHECK(median({4, 1, 2, 9}) == 3);
}

TEST_CASE("ratios are paired by round and skip a native zero", "[cli][report]") {
  const Report report = three_rounds();
  REQUIRE(report.rows.size() == 2);
  CHECK(report.rows[0].ratios() == std::vector<double>{1.5, 3, 2});
  CHECK(report.rows[1].ratios() == std::vector<double>{0.5, 1});
}

TEST_CASE("add_round: a figure of one side only is left out", "[cli][report]") {
  Report report;
  add_round(report, {rate(1)}, {latency(1)});
  CHECK(report.rows.empty());
}

TEST_CASE("format_value: three digits, commas, the unit that fits", "[cli][report]") {
  CHECK(format_value(1234567, Unit::per_second) == "1,234,567");
  CHECK(format_value(999, Unit::none) == "999");
  CHECK(format_value(1000, Unit::none) == "1,000");
  CHECK(format_value(-1234, Unit::none) == "-1,234");
  CHECK(format_value(12.345, Unit::microseconds) == "12.3 us");
  CHECK(format_value(43930, Unit::microseconds) == "43.9 ms");
  CHECK(format_value(1.5e6, Unit::microseconds) == "1.50 s");
  CHECK(format_value(18600, Unit::kib) == "18.2 MB");
  CHECK(format_value(22.2e9, Unit::bits_per_second) == "22.2 Gbit/s");
  CHECK(format_value(0.012, Unit::seconds) == "0.01 s");
}

TEST_CASE("ratio_picture: grows with the logarithm, shows the better side", "[cli][report]") {
  CHECK(ratio_picture(1, Better::higher) == "            |            ");
  CHECK(ratio_picture(2, Better::higher) == "            |++++        ");
  CHECK(ratio_picture(2, Better::lower) == "            |----        ");
  CHECK(ratio_picture(0.5, Better::lower) == "        ++++|            ");
  CHECK(ratio_picture(0.5, Better::neither) == "        ====|            ");
  CHECK(ratio_picture(100, Better::higher) == "            |+++++++++++>");
  CHECK(ratio_picture(0, Better::higher) == "<-----------|            ");
}

TEST_CASE("print_table: medians, ratio, spread and picture of each figure", "[cli][report]") {
  Report report = three_rounds();
  report.notes = {"weft: something"};
  std::ostringstream out;
  print_table(out, report);
  const std::string text = out.str();
  CHECK(text.find("server  ./server 80\nload    load \"x\"\nrounds  3,") == 0);
  CHECK(text.find("requests/s          1,200         2,400    2.00     1.50-3.00"
                  "              |++++\n") != std::string::npos);
  CHECK(text.find("p99 latency        400 us        250 us    0.75     0.50-1.00"
                  "            ++|\n") != std::string::npos);
  CHECK(text.find("\nnote: weft: something\n") != std::string::npos);
}

TEST_CASE("print_json: one object with every value", "[cli][report]") {
  std::ostringstream out;
  print_json(out, three_rounds());
  const std::string text = out.str();
  CHECK(text.find("\"load\": \"load \\\"x\\\"\", \"rounds\": 3") != std::string::npos);
  CHECK(text.find("{\"name\": \"rps\", \"label\": \"requests/s\", \"better\": \"higher\", "
                  "\"native\": {\"median\": 1200, \"values\": [1000, 2000, 1200]}, "
                  "\"weft\": {\"median\": 2400, \"values\": [1500, 6000, 2400]}, "
                  "\"ratio\": {\"median\": 2, \"min\": 1.5, \"max\": 3}}") != std::string::npos);
  CHECK(text.back() == '\n');
}

TEST_CASE("JsonWriter: escapes what JSON forbids", "[cli][json]") {
  JsonWriter json;
  json.begin_array().value("a\"b\\c\n\x01").value(std::numeric_limits<double>::infinity());
  json.value(int64_t{-5}).begin_object().end_object().end_array();
  CHECK(json.text() == "[\"a\\\"b\\\\c\\u000a\\u0001\", null, -5, {}]");
}

TEST_CASE("command_line: quotes for the shell only where needed", "[cli][text]") {
  CHECK(command_line({"/bin/a", "-x=1", "two words", "it's", ""}) ==
        "/bin/a -x=1 'two words' 'it'\\''s' ''");
}

TEST_CASE("parse_number: the message names option, value and range", "[cli][text]") {
  CHECK(parse_number("--workers", "256", 1, 256) == 256);
  for (const char* const text : {"0", "257", "", "3x", "-1", " 3", "99999999999999999999"}) {
    INFO(text);
    CHECK_THROWS_WITH(parse_number("--workers", text, 1, 256),
                      std::string("--workers=") + text + ": must be a number from 1 to 256");
  }
}

TEST_CASE("last_lines: the last ones that say something", "[cli][text]") {
  CHECK(last_lines("one\n\ntwo\rthree\n", 2) == "  two\n  three");
  CHECK(last_lines("\n \n", 2) == "  (no output)");
}
