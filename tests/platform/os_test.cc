// os_test.cc - platform/os.h: memory and guards, kernel threads, time, waiting on a word.
// SPDX-License-Identifier: Apache-2.0
#include "platform/os.h"

#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "platform/linux/system_call.h"
#include "platform/thread_pointer.h"

namespace weft::platform_test {
namespace {

using platform::kPageBytes;

// The signal that ended a forked child, or minus its exit status.
int ends_by(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);  // not Catch's handler, which would print a report
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

bool faults(volatile char* address) {
  return ends_by([address] { *address = 1; }) == SIGSEGV;
}

size_t count_mappings() {
  std::ifstream maps("/proc/self/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) count++;
  return count;
}

// Whether a kernel thread of this process sleeps (proc(5), /proc/PID/stat).
bool sleeps(long tid) {
  std::ifstream stat("/proc/self/task/" + std::to_string(tid) + "/stat");
  std::string line;
  std::getline(stat, line);
  const size_t name_end = line.rfind(") ");
  return name_end != std::string::npos && line.compare(name_end, 3, ") S") == 0;
}

// Many guards in one mapping leave it one, where the kernel can do that.
void expect_light_guards() {
  constexpr size_t kPages = 200;
  auto* memory = static_cast<char*>(platform::map_memory(kPages * kPageBytes));
  // MADV_GUARD_INSTALL, Linux 6.13.
  const bool has_guards = madvise(memory, kPageBytes, 102) == 0;
  const size_t before = count_mappings();
  for (size_t i = 0; i < kPages; i += 2) {
    REQUIRE(platform::install_guard(memory + i * kPageBytes, kPageBytes) == 0);
  }
  const size_t added = count_mappings() - before;
  if (has_guards) {
    REQUIRE(added <= 2);
  } else {
    REQUIRE(added >= kPages / 2);
  }
  platform::unmap_memory(memory, kPages * kPageBytes);
}

// What a raw kernel thread reports; it may use no libc and no thread-local variable.
struct Report {
  std::atomic<long> tid{0};
  std::atomic<uintptr_t> thread_pointer{0};
  std::atomic<uint64_t> blocked_signals{0};
  std::atomic<bool> has_own_stack{false};
  const char* stack = nullptr;
  std::atomic<bool> stay{true};
};

constexpr size_t kStackBytes = 64 * 1024;

void thread_entry(void* argument) {
  auto& report = *static_cast<Report*>(argument);
  uint64_t mask = 0;
  platform::system_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, platform::address_of(&mask), 8);
  report.blocked_signals = mask;
  report.thread_pointer = platform::read_thread_pointer();
  const char* local = reinterpret_cast<const char*>(&mask);
  report.has_own_stack = local >= report.stack && local < report.stack + kStackBytes;
  report.tid = platform::kernel_thread_id();
  while (report.stay) platform::cpu_relax();
  platform::exit_kernel_thread();
}

}  // namespace

TEST_CASE("os: memory is zeroed, aligned, and zero again after release", "[os]") {
  constexpr size_t kBytes = 16 * kPageBytes;
  auto* memory = static_cast<char*>(platform::map_memory(kBytes));
  REQUIRE(memory != nullptr);
  REQUIRE(reinterpret_cast<uintptr_t>(memory) % kPageBytes == 0);
  for (size_t i = 0; i < kBytes; i += 512) REQUIRE(memory[i] == 0);
  std::memset(memory, 7, kBytes);
  platform::release_pages(memory + kPageBytes, kPageBytes);
  REQUIRE(memory[kPageBytes - 1] == 7);
  REQUIRE(memory[kPageBytes] == 0);
  REQUIRE(memory[2 * kPageBytes - 1] == 0);
  REQUIRE(memory[2 * kPageBytes] == 7);
  platform::unmap_memory(memory, kBytes);
  REQUIRE(faults(memory));
  // More than the address space holds is "no memory", not an address.
  REQUIRE(platform::map_memory(size_t{1} << 62) == nullptr);
}

TEST_CASE("os: a guard faults, its neighbours do not, and it can be removed", "[os]") {
  constexpr size_t kBytes = 4 * kPageBytes;
  auto* memory = static_cast<char*>(platform::map_memory(kBytes));
  REQUIRE(platform::install_guard(memory + kPageBytes, kPageBytes) == 0);
  REQUIRE_FALSE(faults(memory + kPageBytes - 1));
  REQUIRE(faults(memory + kPageBytes));
  REQUIRE(faults(memory + 2 * kPageBytes - 1));
  REQUIRE_FALSE(faults(memory + 2 * kPageBytes));
  REQUIRE(platform::remove_guard(memory + kPageBytes, kPageBytes) == 0);
  REQUIRE_FALSE(faults(memory + kPageBytes));
  REQUIRE(memory[kPageBytes] == 0);
  platform::unmap_memory(memory, kBytes);
}

TEST_CASE("os: a guard that cannot be installed says so, and the next one is as light", "[os]") {
  auto* memory = static_cast<char*>(platform::map_memory(kPageBytes));
  platform::unmap_memory(memory, kPageBytes);
  REQUIRE(platform::install_guard(memory, kPageBytes) == -ENOMEM);
  expect_light_guards();
}

TEST_CASE("os: guards do not split the mapping where the kernel has light ones", "[os]") {
  expect_light_guards();
}

TEST_CASE("os: a kernel thread starts on its stack with every signal blocked, and ends", "[os]") {
  auto* stack = static_cast<char*>(platform::map_memory(kStackBytes));
  void* block = platform::map_memory(platform::kThreadBlockBytes);
  Report report;
  report.stack = stack;
  uint64_t mask_before = 0;
  platform::system_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, platform::address_of(&mask_before), 8);
  const uintptr_t pointer = platform::make_thread_block(block, platform::read_thread_pointer());
  int exit_word = 1;
  const long tid = platform::start_kernel_thread(thread_entry, &report, stack + kStackBytes,
                                                 pointer, &exit_word);
  REQUIRE(tid > 0);
  while (report.tid == 0) std::this_thread::yield();
  REQUIRE(report.tid == tid);
  REQUIRE(report.tid != platform::kernel_thread_id());
  REQUIRE(report.thread_pointer == pointer);
  REQUIRE(report.has_own_stack);
  // All but SIGKILL (9) and SIGSTOP (19), which nobody can block.
  REQUIRE(report.blocked_signals == ~((uint64_t{1} << 8) | (uint64_t{1} << 18)));
  uint64_t mask_after = ~mask_before;
  platform::system_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, platform::address_of(&mask_after), 8);
  REQUIRE(mask_after == mask_before);
  // The block's head is what compiled code expects: its own address, and the stack guard.
  const auto* head = reinterpret_cast<const uint64_t*>(pointer);
  const auto* own_head = reinterpret_cast<const uint64_t*>(platform::read_thread_pointer());
  REQUIRE(head[0] == pointer);
  REQUIRE(head[2] == pointer);
  REQUIRE(head[5] == own_head[5]);
  REQUIRE(__atomic_load_n(&exit_word, __ATOMIC_ACQUIRE) == 1);
  // The end is a futex-wake of the word: one sleep, begun before it, is enough to see it.
  const long own_tid = platform::kernel_thread_id();
  std::thread releaser([&] {
    while (!sleeps(own_tid)) std::this_thread::yield();
    report.stay = false;
  });
  const int64_t limit = platform::monotonic_ns() + 10'000'000'000;
  const long waited = platform::wait_on_word(&exit_word, 1, limit);
  releaser.join();
  REQUIRE(waited == 0);
  REQUIRE(__atomic_load_n(&exit_word, __ATOMIC_ACQUIRE) == 0);
  platform::unmap_memory(stack, kStackBytes);
  platform::unmap_memory(block, platform::kThreadBlockBytes);
}

TEST_CASE("os: clocks are the system's, by call and by vDSO", "[os]") {
  const auto system_ns = [](clockid_t clock) {
    timespec now = {};
    clock_gettime(clock, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  };
  for (const bool by_vdso : {false, true}) {
    if (by_vdso) platform::set_vdso(getauxval(AT_SYSINFO_EHDR));
    for (int i = 0; i < 1000; i++) {
      const int64_t before = system_ns(CLOCK_MONOTONIC);
      const int64_t now = platform::monotonic_ns();
      const int64_t after = system_ns(CLOCK_MONOTONIC);
      REQUIRE(before <= now);
      REQUIRE(now <= after);
    }
    for (const clockid_t clock : {CLOCK_REALTIME, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID}) {
      const int64_t before = system_ns(clock);
      REQUIRE(platform::clock_ns(clock) >= before);
    }
  }
}

TEST_CASE("os: waiting on a word ends by value, by time and by wake", "[os]") {
  std::atomic<uint32_t> word{1};
  REQUIRE(platform::wait_on_word(&word, 2, INT64_MAX) == -EAGAIN);
  const int64_t deadline = platform::monotonic_ns() + 3'000'000;
  REQUIRE(platform::wait_on_word(&word, 1, deadline) == -ETIMEDOUT);
  REQUIRE(platform::monotonic_ns() >= deadline);
  std::atomic<bool> woken{false};
  long result = 1;
  std::thread waiter([&] {
    result = platform::wait_on_word(&word, 1, platform::monotonic_ns() + 20'000'000'000);
    woken = true;
  });
  while (platform::wake_word(&word, 1) == 0) std::this_thread::yield();
  waiter.join();
  REQUIRE(result == 0);
}

TEST_CASE("os: the usable CPUs are those of the affinity mask", "[os]") {
  REQUIRE(platform::usable_cpus() >= 1);
  cpu_set_t all;
  REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
  REQUIRE(platform::usable_cpus() == static_cast<unsigned>(CPU_COUNT(&all)));
  REQUIRE(ends_by([&] {
            cpu_set_t one;
            CPU_ZERO(&one);
            for (int i = 0; i < CPU_SETSIZE; i++) {
              if (CPU_ISSET(i, &all)) {
                CPU_SET(i, &one);
                break;
              }
            }
            sched_setaffinity(0, sizeof one, &one);
            _exit(platform::usable_cpus() == 1 ? 5 : 6);
          }) == -5);
}

TEST_CASE("os: die() aborts whatever the program did to SIGABRT", "[os]") {
  REQUIRE(ends_by([] {
            signal(SIGABRT, SIG_IGN);
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGABRT);
            sigprocmask(SIG_BLOCK, &set, nullptr);
            platform::die();
          }) == SIGABRT);
  int channel[2] = {-1, -1};
  REQUIRE(pipe(channel) == 0);
  REQUIRE(ends_by([&] {
            dup2(channel[1], 2);
            platform::write_error("weft: test\n", 11);
          }) == 0);
  char text[32] = {};
  REQUIRE(::read(channel[0], text, sizeof text) == 11);
  REQUIRE(std::string(text) == "weft: test\n");
  ::close(channel[0]);
  ::close(channel[1]);
}

}  // namespace weft::platform_test
