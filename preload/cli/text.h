// text.h - the few string helpers that the command needs and std lacks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft::cli {

// Splits at every byte of `separators`; empty pieces are kept.
std::vector<std::string_view> split(std::string_view text, std::string_view separators);

// The lines of a tool's output. Carriage returns end a line too: progress meters rewrite theirs.
std::vector<std::string_view> lines_of(std::string_view text);

// The last `count` lines that are not blank, each indented by two spaces, without a final newline.
std::string last_lines(std::string_view text, size_t count);

std::string_view trim(std::string_view text);

// The words joined by spaces, quoted for the shell where that is needed.
std::string command_line(const std::vector<std::string>& words);

// Whole file, or empty when it cannot be read (a process that ended, a file of another user).
std::string read_file(const std::string& path);

// A decimal number in [min, max]. Throws UsageError that names `what` (`--workers`), value and
// range.
int64_t parse_number(const std::string& what, const std::string& value, int64_t min, int64_t max);

}  // namespace weft::cli
