// errors.h - how the command fails: an exception that carries the exit status, printed in one
// place. Everything below main() throws these; main() writes `weft: MESSAGE` and returns the
// status. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

namespace weft::cli {

// The statuses of env(1), which scripts already know how to read.
inline constexpr int kStatusFailed = 1;
inline constexpr int kStatusUsage = 2;
inline constexpr int kStatusOwnFailure = 125;
inline constexpr int kStatusCannotExecute = 126;
inline constexpr int kStatusNotFound = 127;
inline constexpr int kStatusInterrupted = 130;

class Failure : public std::runtime_error {
 public:
  explicit Failure(const std::string& message, int status = kStatusFailed)
      : std::runtime_error(message), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

class UsageError : public Failure {
 public:
  explicit UsageError(const std::string& message) : Failure(message, kStatusUsage) {}
};

}  // namespace weft::cli
