// report.h - the result of a comparison, as a table for people or as JSON for programs.
// Ratios are weft's value over native's of the same round, so that a drift of the machine cancels.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <ostream>
#include <string>
#include <vector>

#include "preload/cli/figures.h"

namespace weft::cli {

// One figure over all rounds. native[i] and weft[i] are of the same round.
struct Row {
  Figure figure;
  std::vector<double> native;
  std::vector<double> weft;

  // Of the rounds in which the native value is not 0; may be empty.
  std::vector<double> ratios() const;
};

struct Report {
  std::string server;
  std::string load;
  int rounds = 0;
  std::array<double, 3> load_average{};
  std::vector<Row> rows;
  std::vector<std::string> notes;
};

// Adds one round; a figure that only one of the two runs has is left out.
void add_round(Report& report, const std::vector<Figure>& native, const std::vector<Figure>& weft);

// values: not empty.
double median(std::vector<double> values);

// For people: `12,345`, `43.9 ms`, `18.2 MB`.
std::string format_value(double value, Unit unit);
// A picture of the ratio, on a logarithmic scale from 1/8 to 8; 1 is the bar in the middle.
std::string ratio_picture(double ratio, Better better);

void print_table(std::ostream& out, const Report& report);
void print_json(std::ostream& out, const Report& report);

}  // namespace weft::cli
