// child_process.h - runs a piece of a test in a child of fork(), for what the process itself could
// not survive or undo: faults, limits, threads that never end. The child has an alarm.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>

namespace weft::scheduler_test {

// The wait status of the child, whose exit status is what body() returns.
template <typename Body>
int status_in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    // Catch's handlers would report the child's fault as the test's.
    for (const int number : {SIGSEGV, SIGABRT, SIGBUS}) std::signal(number, SIG_DFL);
    alarm(120);
    _exit(body());
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return status;
}

// Whether touching the byte faults. (A sanitizer may turn the fault into an exit.)
inline bool faults(void* address, bool write) {
  const int status = status_in_child([=] {
    volatile char* byte = static_cast<char*>(address);
    if (write) {
      *byte = 1;
    } else {
      static_cast<void>(*byte);
    }
    return 0;
  });
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

}  // namespace weft::scheduler_test
