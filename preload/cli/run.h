// run.h - `weft run`: start a program with the runtime preloaded, or natively with one line why
// not. Guarantee: the program sees its own arguments and environment, plus LD_PRELOAD and the
// WEFT_* settings that were asked for; what LD_PRELOAD held before stays, behind ours.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace weft::cli {

inline constexpr const char* kLibraryName = "libweft.so";
inline constexpr int kWorkersMax = 64;
// As the library checks WEFT_STACK_SIZE: PTHREAD_STACK_MIN, and beyond what an address space holds
// for many threads.
inline constexpr int64_t kStackBytesMin = 16384;
inline constexpr int64_t kStackBytesMax = int64_t{1} << 40;

// The options as typed; empty ones are not passed on, so that WEFT_* variables keep their say.
struct RuntimeOptions {
  std::string workers;
  std::string stack_size;
  std::string intercept;
  bool stats = false;

  // Throws UsageError naming the option, its value and what is allowed.
  void validate() const;
};

// How to start a command under weft.
struct Launch {
  std::vector<std::string> command;
  std::string program;
  std::string library;
  // Set when the program must run natively: the end of the sentence `PROGRAM ...`.
  std::optional<std::string> unserved;
  // Variables to set before the exec; none when unserved.
  std::vector<std::pair<std::string, std::string>> environment;
};

// Finds the program and libweft.so (beside this executable, else in ../lib of it; WEFT_LIBRARY
// overrides) and decides. Throws Failure with the exit status of env(1).
Launch plan_launch(const std::vector<std::string>& command, const RuntimeOptions& options);

// Replaces this process by the command, under weft when `under_weft`. Throws Failure if exec fails.
[[noreturn]] void exec_launch(const Launch& launch, bool under_weft);

// `weft run`.
[[noreturn]] void run(const std::vector<std::string>& command, const RuntimeOptions& options);

}  // namespace weft::cli
