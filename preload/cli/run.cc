// run.cc - `weft run` (run.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/run.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "preload/cli/errors.h"
#include "preload/cli/target.h"
#include "preload/cli/text.h"

namespace weft::cli {
namespace {

// Names libweft.so elsewhere: for tests, and for an installation that keeps the two apart.
constexpr const char* kLibraryVariable = "WEFT_LIBRARY";

std::string find_library() {
  namespace fs = std::filesystem;
  std::error_code error;
  const char* const override_path = std::getenv(kLibraryVariable);
  if (override_path != nullptr && *override_path != '\0') {
    const fs::path path = fs::absolute(override_path, error);
    if (fs::is_regular_file(path, error)) return path;
    throw Failure(std::string(kLibraryVariable) + "=" + override_path + ": no such file",
                  kStatusOwnFailure);
  }
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& path :
       {folder / kLibraryName, folder.parent_path() / "lib" / kLibraryName}) {
    if (fs::is_regular_file(path, error)) return path;
  }
  throw Failure(std::string(kLibraryName) + " is neither in " + folder.string() + " nor in " +
                    (folder.parent_path() / "lib").string() + ": build it, or set " +
                    kLibraryVariable + " to its path",
                kStatusOwnFailure);
}

// ld.so splits LD_PRELOAD at colons and at spaces, and knows no quoting.
std::string preload_list(const std::string& library) {
  if (library.find_first_of(": ") != std::string::npos) {
    throw Failure(library + ": LD_PRELOAD cannot carry a path with a space or a colon; move it",
                  kStatusOwnFailure);
  }
  const char* const present = std::getenv("LD_PRELOAD");
  if (present == nullptr || *present == '\0') return library;
  for (const std::string_view entry : split(present, ": ")) {
    if (entry == library) return present;
  }
  return library + ":" + present;
}

}  // namespace

void RuntimeOptions::validate() const {
  if (!workers.empty()) parse_number("--workers", workers, 1, kWorkersMax);
  if (!stack_size.empty()) {
    parse_number("--stack-size", stack_size, kStackBytesMin, kStackBytesMax);
  }
  if (!intercept.empty() && intercept != "patch" && intercept != "audit" &&
      intercept != "dispatch") {
    throw UsageError("--intercept=" + intercept + ": must be patch, audit or dispatch");
  }
}

Launch plan_launch(const std::vector<std::string>& command, const RuntimeOptions& options) {
  Launch launch;
  launch.command = command;
  launch.program = find_program(command.front());
  launch.unserved = why_unserved(launch.program);
  if (launch.unserved) return launch;
  launch.library = find_library();
  launch.environment.emplace_back("LD_PRELOAD", preload_list(launch.library));
  const auto set = [&launch](const char* name, const std::string& value) {
    if (!value.empty()) launch.environment.emplace_back(name, value);
  };
  set("WEFT_WORKERS", options.workers);
  set("WEFT_STACK_SIZE", options.stack_size);
  set("WEFT_INTERCEPT", options.intercept);
  set("WEFT_STATS", options.stats ? "1" : "");
  return launch;
}

void exec_launch(const Launch& launch, bool under_weft) {
  // Ours alone: it must not reach the program.
  unsetenv(kLibraryVariable);
  if (under_weft) {
    for (const auto& [name, value] : launch.environment) setenv(name.c_str(), value.c_str(), 1);
  }
  std::vector<char*> words;
  for (const std::string& word : launch.command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  execvp(words[0], words.data());
  const int error = errno;
  throw Failure(launch.command.front() + ": " + std::strerror(error),
                error == ENOENT ? kStatusNotFound : kStatusCannotExecute);
}

void run(const std::vector<std::string>& command, const RuntimeOptions& options) {
  options.validate();
  const Launch launch = plan_launch(command, options);
  if (launch.unserved) {
    std::cerr << "weft: " << launch.program << " " << *launch.unserved << "; running it natively\n";
  }
  exec_launch(launch, !launch.unserved);
}

}  // namespace weft::cli
