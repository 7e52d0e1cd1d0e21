// target.h - the program that a command line names: where it is, and whether weft can serve it.
// Only the command can tell: for most of these programs the loader ignores LD_PRELOAD silently, so
// the library never runs there. Guarantee: a program that cannot be served is named with the
// reason. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace weft::cli {

// The file that execvp(3) would run for `command`. Throws Failure as env(1) exits: 127 when there
// is no such file, 126 when it is there but not executable.
std::string find_program(const std::string& command);

// Why weft cannot serve the program, as the end of the sentence `PROGRAM ...`; nothing if it can.
// For a script the answer is its interpreter's.
std::optional<std::string> why_unserved(const std::string& path);

}  // namespace weft::cli
