// child.cc - starting, awaiting and ending a child process (child.h).
// SPDX-License-Identifier: Apache-2.0
#include "preload/cli/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>

#include "preload/cli/errors.h"

namespace weft::cli {
namespace {

volatile sig_atomic_t interrupts = 0;

void on_interrupt(int) {
  interrupts = interrupts + 1;
}

std::string system_error(const char* what) {
  return std::string(what) + ": " + strerror(errno);
}

[[noreturn]] void become(const ChildSetup& setup, pid_t parent) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  // The parent died before the line above: no signal will come.
  if (getppid() != parent) _exit(kStatusOwnFailure);
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  const int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null_fd, STDIN_FILENO);
  dup2(setup.output_fd, STDOUT_FILENO);
  dup2(setup.output_fd, STDERR_FILENO);
  int status = kStatusOwnFailure;
  try {
    if (setup.cpus && sched_setaffinity(0, sizeof *setup.cpus, &*setup.cpus) != 0) {
      throw Failure(system_error("sched_setaffinity"), kStatusOwnFailure);
    }
    setup.exec();
  } catch (const Failure& failure) {
    std::cerr << "weft: " << failure.what() << std::endl;
    status = failure.status();
  }
  _exit(status);
}

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  // No SA_RESTART: a wait must see it.
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int interrupt_count() {
  return interrupts;
}

void check_interrupt() {
  if (interrupts != 0) throw Failure("interrupted", kStatusInterrupted);
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.fd_;
    other.fd_ = -1;
  }
  return *this;
}

Child::Child(const ChildSetup& setup) {
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) throw Failure(system_error("fork"));
  if (pid_ == 0) become(setup, parent);
  // pidfd_open(2) has no wrapper in this glibc.
  pidfd_ = FileDescriptor(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  if (pidfd_.get() < 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    throw Failure(system_error("pidfd_open"));
  }
}

Child::~Child() {
  if (ended_) return;
  signal(SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool Child::wait(std::chrono::milliseconds limit, int fd) {
  if (ended_) return true;
  // poll(2) ignores a negative fd.
  pollfd events[] = {{pidfd_.get(), POLLIN, 0}, {fd, POLLIN, 0}};
  if (poll(events, 2, static_cast<int>(limit.count())) <= 0) return false;
  if ((events[0].revents & POLLIN) == 0) return false;
  if (wait4(pid_, &status_, 0, &usage_) != pid_) throw Failure(system_error("wait4"));
  ended_ = true;
  return true;
}

bool Child::succeeded() const {
  return WIFEXITED(status_) && WEXITSTATUS(status_) == 0;
}

int Child::killer() const {
  return WIFSIGNALED(status_) ? WTERMSIG(status_) : 0;
}

std::string Child::ending() const {
  const int number = killer();
  if (number == 0) return "exited with status " + std::to_string(WEXITSTATUS(status_));
  return "was killed by signal " + std::to_string(number) + " (" + strsignal(number) + ")";
}

void Child::signal(int number) const {
  // The group is there once the child has called setsid(); before that, the child alone.
  if (kill(-pid_, number) != 0) kill(pid_, number);
}

}  // namespace weft::cli
