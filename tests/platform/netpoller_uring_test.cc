// netpoller_uring_test.cc - what only the io_uring netpoller promises: nothing visible to the
// program, its owner alone, few helper threads, a child's own ring after fork().
// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstddef>
#include <functional>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "tests/platform/test_platform.h"

namespace weft::platform_test {
namespace {

// Entries of a directory under /proc/self, and what those of fd/ point to.
std::vector<std::string> list(const char* path, bool targets) {
  std::vector<std::string> names;
  DIR* directory = opendir(path);
  if (directory == nullptr) return names;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    if (!targets) {
      names.emplace_back(entry->d_name);
      continue;
    }
    char target[256] = {};
    const std::string link = std::string(path) + "/" + entry->d_name;
    if (readlink(link.c_str(), target, sizeof target - 1) > 0) names.emplace_back(target);
  }
  closedir(directory);
  return names;
}

size_t count_ring_descriptors() {
  size_t count = 0;
  for (const std::string& target : list("/proc/self/fd", true)) {
    if (target.find("io_uring") != std::string::npos ||
        target.find("eventfd") != std::string::npos) {
      count++;
    }
  }
  return count;
}

// Runs the body in a forked child and returns its exit status.
int in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// From now on io_uring_enter() of this process meets `plain`, and with GETEVENTS `getting`.
bool filter_enter(uint32_t plain, uint32_t getting) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[3])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, IORING_ENTER_GETEVENTS, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, plain),
      BPF_STMT(BPF_RET | BPF_K, getting),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {7, filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// As this kernel has it, but for the registration.
class VisibleUringPlatform final : public UringPlatform {
 public:
  VisibleUringPlatform() : UringPlatform(options()) {}

 private:
  static platform::UringOptions options() {
    platform::UringOptions options;
    options.hide_descriptor = false;
    return options;
  }
};

}  // namespace

TEST_CASE("uring: no descriptor is visible to the program", "[uring]") {
  UringPlatform platform;
  if (platform.uring().visible_fd() != -1 || platform.uring().visible_wake_fd() != -1) {
    WARN("this kernel cannot hide the ring (before 5.18) or wake without an eventfd (before 6.7)");
    return;
  }
  REQUIRE(count_ring_descriptors() == 0);
  // The lowest free descriptor is the one that a program without us would get.
  const int lowest = dup(0);
  REQUIRE(lowest >= 0);
  ::close(lowest);
  {
    UringPlatform second;
    const int again = dup(0);
    REQUIRE(again == lowest);
    ::close(again);
  }
  REQUIRE(count_ring_descriptors() == 0);
}

TEST_CASE("uring: what cannot be hidden is out of the way", "[uring]") {
  const size_t before = count_ring_descriptors();
  {
    OldUringPlatform platform;
    REQUIRE(count_ring_descriptors() == before + 2);
    REQUIRE(platform.uring().visible_fd() >= 64);
    REQUIRE(platform.uring().visible_wake_fd() >= 64);
  }
  REQUIRE(count_ring_descriptors() == before);
}

template <typename Platform>
int use_from_another_thread() {
  return in_child([] {
    platform::set_uring_panic_hook(
        [](const char*, int64_t first, int64_t) { _exit(static_cast<int>(-first)); });
    Platform platform;
    std::thread([&] {
      char byte = 0;
      Request request(read_op(0, &byte, 0));
      platform.netpoller().submit(request);
      platform.netpoller().poll(kNow);
    }).join();
    return 0;
  });
}

TEST_CASE("uring: only the owner may use the ring", "[uring]") {
  UringPlatform probe;
  if ((probe.uring().ring().setup_flags() & IORING_SETUP_SINGLE_ISSUER) == 0) {
    WARN("this kernel does not check the owner (before 6.0)");
    return;
  }
  // io_uring_enter(2): EEXIST for another issuer; EINVAL where the ring is known by its
  // registration, which another kernel thread does not have.
  REQUIRE(use_from_another_thread<UringPlatform>() == EINVAL);
  REQUIRE(use_from_another_thread<VisibleUringPlatform>() == EEXIST);
}

TEST_CASE("uring: a panic prints one line and aborts", "[uring]") {
  int channel[2] = {-1, -1};
  REQUIRE(pipe(channel) == 0);
  const int status = in_child([&] {
    dup2(channel[1], 2);
    UringPlatform platform;
    char byte = 0;
    Request request(read_op(0, &byte, 0));
    platform.netpoller().submit(request);
    platform.uring().stop();
    return 0;
  });
  ::close(channel[1]);
  char line[200] = {};
  const ssize_t length = ::read(channel[0], line, sizeof line - 1);
  ::close(channel[0]);
  REQUIRE(status == -SIGABRT);
  REQUIRE(length > 0);
  REQUIRE(std::string(line) == "weft: panic: uring: stop() with operations in flight, 1, 0\n");
}

TEST_CASE("uring: a forked child starts its own ring, the parent keeps its own", "[uring]") {
  UringPlatform platform;
  const auto [left, right] = platform.make_stream_pair();
  char byte = 0;
  Request parked(receive_op(left, &byte, 1));
  platform.netpoller().submit(parked);
  platform.netpoller().poll(kNow);
  const int status = in_child([&] {
    // In place of the copy, as the runtime does: the parent's rings are not mapped here.
    auto* own = new (&platform.uring()) platform::UringNetpoller();
    if (!own->start()) return 1;
    const auto pair = platform.make_stream_pair();
    char got = 0;
    if (run(platform, send_op(pair.first, "c", 1, MSG_NOSIGNAL)) != 1) return 2;
    if (run(platform, receive_op(pair.second, &got, 1)) != 1 || got != 'c') return 3;
    return 0;
  });
  REQUIRE(status == 0);
  REQUIRE(parked.deliveries == 0);
  REQUIRE(send_all(platform, right, "p"));
  REQUIRE(drive(platform, [&] { return parked.deliveries != 0; }));
  REQUIRE(parked.result == 1);
  REQUIRE(byte == 'p');
}

TEST_CASE("uring: the kernel's helper threads do not follow the number of operations", "[uring]") {
  UringPlatform platform;
  const size_t before = list("/proc/self/task", false).size();
  Op op;
  op.kind = OpKind::sync;
  op.fd = platform.make_file("data");
  // splice always runs on a helper, and waits there: half of these have no data to move.
  const auto [source, feed] = platform.make_pipe();
  const auto [drain, target] = platform.make_pipe();
  static_cast<void>(drain);
  std::vector<Request> requests(200);
  size_t total = 0;
  for (size_t i = 0; i < requests.size(); i++) {
    requests[i].op = op;
    if (i % 2 == 1) {
      requests[i].op.kind = OpKind::splice;
      requests[i].op.fd = target;
      requests[i].op.second_fd = source;
      requests[i].op.second = kFilePosition;
      requests[i].op.length = 1;
    }
    requests[i].then = [&](Request&) { total++; };
    platform.netpoller().submit(requests[i]);
  }
  REQUIRE(drive(platform, [&] { return total >= 100; }));
  // Two for files, two for the rest.
  REQUIRE(list("/proc/self/task", false).size() <= before + 4);
  platform.close(feed);
  REQUIRE(drive(platform, [&] { return total == requests.size(); }));
  REQUIRE(platform.netpoller().in_flight() == 0);
}

TEST_CASE("uring: O_NONBLOCK does not keep an operation from parking", "[uring]") {
  // Pinned because it surprises: a descriptor whose flag the caller does not know of must be asked
  // with MSG_DONTWAIT or RWF_NOWAIT, or it waits where the system call would not.
  UringPlatform platform;
  const auto [left, right] = platform.make_stream_pair();
  REQUIRE(fcntl(left, F_SETFL, O_NONBLOCK) == 0);
  char byte = 0;
  Request receiving(receive_op(left, &byte, 1));
  platform.netpoller().submit(receiving);
  platform.netpoller().poll(kNow);
  REQUIRE(receiving.deliveries == 0);
  REQUIRE(run(platform, receive_op(left, &byte, 1, MSG_DONTWAIT)) == -EAGAIN);
  REQUIRE(send_all(platform, right, "x"));
  REQUIRE(drive(platform, [&] { return receiving.deliveries == 1; }));
  REQUIRE(receiving.result == 1);
}

TEST_CASE("uring: an idle poll costs no system call", "[uring]") {
  // Method: a seccomp filter in a child kills at io_uring_enter; idle polls survive it, one with
  // something to hand over does not.
  const auto child = [](bool submits) {
    return in_child([submits] {
      UringPlatform platform;
      const auto [reader, writer] = platform.make_pipe();
      char byte = 0;
      Request parked(read_op(reader, &byte, 1));
      platform.netpoller().submit(parked);
      platform.netpoller().poll(kNow);
      if (!filter_enter(SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_PROCESS)) return 2;
      for (int i = 0; i < 10'000; i++) platform.netpoller().poll(kNow);
      Request more(read_op(reader, &byte, 1));
      if (submits) platform.netpoller().submit(more);
      platform.netpoller().poll(kNow);
      _exit(0);
    });
  };
  REQUIRE(child(false) == 0);
  REQUIRE(child(true) == -SIGSYS);
}

TEST_CASE("uring: a kernel that wants room first gets it, and nothing is lost", "[uring]") {
  // Kernels before 5.19 refuse submissions with EBUSY while completions wait for room, any kernel
  // may with EAGAIN for want of memory. Method: a seccomp filter in a child refuses every hand-over
  // that does not take completions too.
  for (const int error : {EBUSY, EAGAIN}) {
    const int status = in_child([error] {
      TinyUringPlatform platform;
      Netpoller& netpoller = platform.netpoller();
      if (!filter_enter(SECCOMP_RET_ERRNO | static_cast<uint32_t>(error), SECCOMP_RET_ALLOW)) {
        return 2;
      }
      char byte = 0;
      std::vector<Request> requests(1000);
      std::vector<size_t> order;
      for (size_t i = 0; i < requests.size(); i++) {
        requests[i].op = read_op(12345, &byte, 1);
        requests[i].then = [&order, i](Request&) { order.push_back(i); };
        netpoller.submit(requests[i]);
        if (i % 3 == 0) netpoller.cancel(requests[i]);
      }
      netpoller.flush();
      if (!order.empty()) return 3;  // done() is poll()'s to call
      if (!drive(platform, [&] { return netpoller.in_flight() == 0; })) return 4;
      if (order.size() != requests.size()) return 5;
      for (size_t i = 0; i < order.size(); i++) {
        if (order[i] != i || requests[i].result != -EBADF) return 6;
      }
      return 0;
    });
    REQUIRE(status == 0);
  }
}

}  // namespace weft::platform_test
