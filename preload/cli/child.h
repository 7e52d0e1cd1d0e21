// child.h - a process started by us: awaited by pidfd, always reaped, killed if its owner goes
// away. Also the one place that knows whether the user asked to stop (Ctrl-C).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace weft::cli {

using Clock = std::chrono::steady_clock;

// Makes Ctrl-C and SIGTERM a note that check_interrupt() raises as a Failure. Once, from main.
void catch_interrupts();
void check_interrupt();
// How often the user asked to stop: a second time means at once.
int interrupt_count();

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  int get() const { return fd_; }

 private:
  int fd_;
};

struct ChildSetup {
  // Where standard output and standard error go.
  int output_fd = -1;
  std::optional<cpu_set_t> cpus;
  // Replaces the child by a program; a Failure that it throws is printed to the output.
  std::function<void()> exec;
};

class Child {
 public:
  // Starts a child in a session of its own (the terminal's Ctrl-C is ours to handle), its input
  // empty. It gets SIGTERM if we die first.
  explicit Child(const ChildSetup& setup);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  // Waits at most `limit` for the end of the child or, if given, for `fd` to become readable.
  // Returns whether the child has ended, and reaps it then.
  bool wait(std::chrono::milliseconds limit, int fd = -1);
  bool ended() const { return ended_; }
  // Those below: only once it has ended.
  bool succeeded() const;
  // `exited with status 3`, `was killed by signal 11 (Segmentation fault)`.
  std::string ending() const;
  // The signal that killed it, or 0.
  int killer() const;
  const rusage& usage() const { return usage_; }
  // Signals the child's process group.
  void signal(int number) const;

 private:
  pid_t pid_ = -1;
  FileDescriptor pidfd_;
  bool ended_ = false;
  int status_ = 0;
  rusage usage_{};
};

}  // namespace weft::cli
