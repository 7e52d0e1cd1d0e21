// text.cc - string helpers (text.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/text.h"

#include <charconv>
#include <fstream>
#include <sstream>

#include "preload/cli/errors.h"

namespace weft::cli {

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> pieces;
  while (true) {
    const size_t end = text.find_first_of(separators);
    pieces.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return pieces;
    text.remove_prefix(end + 1);
  }
}

std::vector<std::string_view> lines_of(std::string_view text) {
  return split(text, "\n\r");
}

std::string last_lines(std::string_view text, size_t count) {
  std::vector<std::string_view> lines;
  for (const std::string_view line : lines_of(text)) {
    if (!trim(line).empty()) lines.push_back(line);
  }
  std::string result;
  for (size_t i = lines.size() > count ? lines.size() - count : 0; i < lines.size(); i++) {
    if (!result.empty()) result += '\n';
    result.append("  ").append(lines[i]);
  }
  return result.empty() ? "  (no output)" : result;
}

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string command_line(const std::vector<std::string>& words) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (file) content << file.rdbuf();
  return content.str();
}

int64_t parse_number(const std::string& what, const std::string& value, int64_t min, int64_t max) {
  int64_t number = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc() || stop != end || number < min || number > max) {
    throw UsageError(what + "=" + value + ": must be a number from " + std::to_string(min) +
                     " to " + std::to_string(max));
  }
  return number;
}

}  // namespace weft::cli
