// report.cc - medians, ratios, the table and the JSON object (report.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iomanip>

#include "preload/cli/json.h"

namespace weft::cli {
namespace {

constexpr int kPictureHalf = 12;
constexpr double kPictureOctaves = 3;

// Two decimals below 10, one below 100, else none, with commas: three digits say what is known.
std::string format_number(double value) {
  const double size = std::fabs(value);
  // Whole numbers are counts.
  const int decimals = value == std::floor(value) || size >= 100 ? 0 : size >= 10 ? 1 : 2;
  char digits[64];
  std::snprintf(digits, sizeof digits, "%.*f", decimals, value);
  std::string text = digits;
  const size_t point = text.find('.');
  const size_t first = text[0] == '-' ? 1 : 0;
  for (size_t end = point == std::string::npos ? text.size() : point; end > first + 3; end -= 3) {
    text.insert(end - 3, ",");
  }
  return text;
}

std::string format_scaled(double value, double step, const std::vector<const char*>& units) {
  size_t index = 0;
  while (index + 1 < units.size() && std::fabs(value) >= step) {
    value /= step;
    index++;
  }
  return format_number(value) + " " + units[index];
}

std::string format_ratio(double ratio) {
  char digits[64];
  std::snprintf(digits, sizeof digits, "%.*f", ratio < 0.1 ? 3 : 2, ratio);
  return digits;
}

void write_values(JsonWriter& json, const char* name, const std::vector<double>& values) {
  json.key(name).begin_object().key("median").value(median(values)).key("values").begin_array();
  for (const double value : values) json.value(value);
  json.end_array().end_object();
}

const char* name_of(Better better) {
  switch (better) {
    case Better::higher:
      return "higher";
    case Better::lower:
      return "lower";
    case Better::neither:
      break;
  }
  return "neither";
}

}  // namespace

std::vector<double> Row::ratios() const {
  std::vector<double> result;
  for (size_t i = 0; i < native.size(); i++) {
    if (native[i] != 0) result.push_back(weft[i] / native[i]);
  }
  return result;
}

void add_round(Report& report, const std::vector<Figure>& native, const std::vector<Figure>& weft) {
  for (const Figure& figure : native) {
    const auto same = [&figure](const Figure& other) { return other.key == figure.key; };
    const auto partner = std::find_if(weft.begin(), weft.end(), same);
    if (partner == weft.end()) continue;
    auto row = std::find_if(report.rows.begin(), report.rows.end(),
                            [&same](const Row& candidate) { return same(candidate.figure); });
    if (row == report.rows.end()) row = report.rows.insert(row, Row{figure, {}, {}});
    row->native.push_back(figure.value);
    row->weft.push_back(partner->value);
  }
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

std::string format_value(double value, Unit unit) {
  switch (unit) {
    case Unit::microseconds:
      return format_scaled(value, 1000, {"us", "ms", "s"});
    case Unit::seconds:
      return format_number(value) + " s";
    case Unit::bytes_per_second:
      return format_scaled(value, 1024, {"B/s", "KB/s", "MB/s", "GB/s"});
    case Unit::bits_per_second:
      return format_scaled(value, 1000, {"bit/s", "kbit/s", "Mbit/s", "Gbit/s"});
    case Unit::kib:
      return format_scaled(value, 1024, {"KB", "MB", "GB"});
    case Unit::none:
    case Unit::per_second:
      break;
  }
  return format_number(value);
}

std::string ratio_picture(double ratio, Better better) {
  std::string left(kPictureHalf, ' ');
  std::string right(kPictureHalf, ' ');
  const double octaves = ratio > 0 ? std::log2(ratio) : -2 * kPictureOctaves;
  const bool more = octaves > 0;
  const bool good = more == (better == Better::higher);
  const char fill = better == Better::neither ? '=' : good ? '+' : '-';
  const double exact = std::fabs(octaves) / kPictureOctaves * kPictureHalf;
  const int length = static_cast<int>(std::lround(std::min<double>(exact, kPictureHalf)));
  for (int i = 0; i < length; i++) {
    if (more) right[static_cast<size_t>(i)] = fill;
    if (!more) left[static_cast<size_t>(kPictureHalf - 1 - i)] = fill;
  }
  if (exact > kPictureHalf) (more ? right.back() : left.front()) = more ? '>' : '<';
  return left + "|" + right;
}

void print_table(std::ostream& out, const Report& report) {
  out << "server  " << report.server << "\nload    " << report.load << "\nrounds  " << report.rounds
      << ", natively and under weft in turn; load average at the start" << std::fixed
      << std::setprecision(2);
  for (const double average : report.load_average) out << " " << average;
  out << "\n\n";
  size_t label_width = 6;
  for (const Row& row : report.rows) label_width = std::max(label_width, row.figure.label.size());
  const int first = static_cast<int>(label_width);
  const auto line = [&](const std::string& label, const std::string& native,
                        const std::string& weft, const std::string& ratio,
                        const std::string& spread, const std::string& picture) {
    out << std::left << std::setw(first) << label << std::right << std::setw(14) << native
        << std::setw(14) << weft << std::setw(8) << ratio << std::setw(14) << spread;
    if (!picture.empty()) out << "  " << picture.substr(0, picture.find_last_not_of(' ') + 1);
    out << "\n";
  };
  line("figure", "native", "weft", "ratio", "spread", "1/8        1         8");
  for (const Row& row : report.rows) {
    const std::vector<double> ratios = row.ratios();
    const std::string native = format_value(median(row.native), row.figure.unit);
    const std::string weft = format_value(median(row.weft), row.figure.unit);
    if (ratios.empty()) {
      line(row.figure.label, native, weft, "-", "-", "");
      continue;
    }
    const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
    line(row.figure.label, native, weft, format_ratio(median(ratios)),
         format_ratio(*low) + "-" + format_ratio(*high),
         ratio_picture(median(ratios), row.figure.better));
  }
  out << "\nMedians; ratio = weft / native, paired by round; + weft is better, - worse.\n";
  for (const std::string& note : report.notes) out << "note: " << note << "\n";
}

void print_json(std::ostream& out, const Report& report) {
  JsonWriter json;
  json.begin_object().key("server").value(report.server).key("load").value(report.load);
  json.key("rounds").value(static_cast<int64_t>(report.rounds));
  json.key("load_average").begin_array();
  for (const double average : report.load_average) json.value(average);
  json.end_array().key("figures").begin_array();
  for (const Row& row : report.rows) {
    json.begin_object().key("name").value(row.figure.key).key("label").value(row.figure.label);
    json.key("better").value(name_of(row.figure.better));
    write_values(json, "native", row.native);
    write_values(json, "weft", row.weft);
    const std::vector<double> ratios = row.ratios();
    if (!ratios.empty()) {
      const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
      json.key("ratio").begin_object().key("median").value(median(ratios));
      json.key("min").value(*low).key("max").value(*high).end_object();
    }
    json.end_object();
  }
  json.end_array().key("notes").begin_array();
  for (const std::string& note : report.notes) json.value(note);
  json.end_array().end_object();
  out << json.text() << "\n";
}

}  // namespace weft::cli
