// uring_platform.cc - the contract suite's access to io_uring and the real kernel.
// Where the kernel refuses io_uring the whole run is skipped: exit status 77, the reason printed.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>

#include "tests/platform/test_platform.h"
#include "tests/platform/test_seed.h"

namespace weft::platform_test {
namespace {

platform::UringOptions cooperative_options() {
  platform::UringOptions options;
  options.setup_flags_allowed =
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
  return options;
}

platform::UringOptions old_options() {
  platform::UringOptions options;
  options.setup_flags_allowed = 0;
  options.hide_descriptor = false;
  options.wake_by_futex = false;
  return options;
}

platform::UringOptions tiny_options() {
  platform::UringOptions options;
  options.submission_entries = 4;
  options.completion_entries = 8;
  return options;
}

sockaddr_in loopback() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

UringPlatform::UringPlatform(const platform::UringOptions& options) : netpoller_(options) {
  if (netpoller_.start()) return;
  std::printf("skipped: no io_uring here: %s\n",
              std::strerror(static_cast<int>(-netpoller_.start_error())));
  std::fflush(stdout);
  std::_Exit(77);
}

CooperativeUringPlatform::CooperativeUringPlatform() : UringPlatform(cooperative_options()) {}
OldUringPlatform::OldUringPlatform() : UringPlatform(old_options()) {}
TinyUringPlatform::TinyUringPlatform() : UringPlatform(tiny_options()) {}

UringPlatform::~UringPlatform() {
  if (netpoller_.in_flight() != 0) {
    // A failed test unwinds over memory that the kernel may still write: end here, told already.
    std::cout << "operations left in flight, WEFT_SEED=" << test_seed() << std::endl;
    std::_Exit(1);
  }
  for (const int fd : open_) ::close(fd);
  netpoller_.stop();
}

bool UringPlatform::step(int64_t deadline_ns) {
  netpoller_.poll(std::min(deadline_ns, netpoller_.now_ns() + 1'000'000'000));
  return true;
}

int UringPlatform::keep(int fd) {
  if (fd < 0) throw std::runtime_error(std::strerror(errno));
  open_.push_back(fd);
  return fd;
}

std::pair<int, int> UringPlatform::make_pipe() {
  int fds[2] = {-1, -1};
  if (pipe2(fds, O_CLOEXEC) != 0) throw std::runtime_error(std::strerror(errno));
  return {keep(fds[0]), keep(fds[1])};
}

std::pair<int, int> UringPlatform::make_stream_pair() {
  int fds[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    throw std::runtime_error(std::strerror(errno));
  }
  return {keep(fds[0]), keep(fds[1])};
}

int UringPlatform::make_socket() {
  return keep(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

int UringPlatform::make_listener(sockaddr_in& address) {
  const int fd = make_socket();
  address = loopback();
  socklen_t length = sizeof address;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(fd, 16) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw std::runtime_error(std::strerror(errno));
  }
  return fd;
}

sockaddr_in UringPlatform::dead_address() {
  // Bound and not listening: the port is ours, so nobody else can come to listen on it.
  sockaddr_in address = loopback();
  socklen_t length = sizeof address;
  const int fd = make_socket();
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw std::runtime_error(std::strerror(errno));
  }
  return address;
}

int UringPlatform::make_file(const std::string& contents) {
  const int fd = keep(memfd_create("weft-test", MFD_CLOEXEC));
  if (pwrite(fd, contents.data(), contents.size(), 0) != static_cast<ssize_t>(contents.size())) {
    throw std::runtime_error(std::strerror(errno));
  }
  return fd;
}

void UringPlatform::close(int fd) {
  std::erase(open_, fd);
  ::close(fd);
}

void UringPlatform::shutdown_write(int fd) {
  shutdown(fd, SHUT_WR);
}

int UringPlatform::wake_futex(uint32_t& word, int count) {
  return static_cast<int>(syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count));
}

}  // namespace weft::platform_test
