// watchdog_test.cc - fibers that compute do not keep others from running.
// Method: in a child process, since the watchdog's kernel thread never ends; real workers.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <atomic>

#include "platform/os.h"
#include "scheduler/watchdog.h"
#include "tests/scheduler/child_process.h"
#include "tests/scheduler/real_scheduler.h"

namespace weft::scheduler_test {
namespace {

std::atomic<int> g_preemptions{0};

// On the watchdog's bare kernel thread.
void count_preemption(Worker&) {
  g_preemptions.fetch_add(1);
}

// Computes until the condition holds. False: it did not within the bound.
template <typename Condition>
bool compute_until(Condition condition) {
  const int64_t bound_ns = platform::monotonic_ns() + 20'000'000'000;
  while (!condition()) {
    if (platform::monotonic_ns() > bound_ns) return false;
  }
  return true;
}

bool is_skip(int status) {
  return WIFEXITED(status) && WEXITSTATUS(status) == 77;
}

}  // namespace

TEST_CASE("watchdog: what a computing fiber woke runs on a sleeping worker", "[real][watchdog]") {
  const int status = status_in_child([] {
    RealScheduler real(2);
    if (start_watchdog(real.scheduler(), count_preemption, 0) <= 0) return 1;
    std::atomic<int> failed{0};
    for (int round = 0; round < 20; round++) {
      real.spawn([&] {
        std::atomic<bool> ran{false};
        // Into the next slot, which alone wakes nobody.
        real.spawn([&] { ran.store(true); });
        if (!compute_until([&] { return ran.load(); })) failed.fetch_add(1);
      });
      real.wait_all();
    }
    return failed.load() == 0 ? 0 : 2;
  });
  if (is_skip(status)) return;
  REQUIRE(status == 0);
}

TEST_CASE("watchdog: asks for preemption when others wait, and only then", "[real][watchdog]") {
  const bool others = GENERATE(true, false);
  const int status = status_in_child([others] {
    RealScheduler real(1);
    if (start_watchdog(real.scheduler(), count_preemption, 0) <= 0) return 1;
    std::atomic<int> failed{0};
    real.spawn([&] {
      if (others) {
        real.spawn([] {});
        if (!compute_until([] { return g_preemptions.load() >= 2; })) failed.fetch_add(1);
      } else {
        // Ten times as long as it would take.
        const int64_t end_ns = platform::monotonic_ns() + 10 * kPreemptAfterNs;
        compute_until([&] { return platform::monotonic_ns() > end_ns; });
        if (g_preemptions.load() != 0) failed.fetch_add(1);
      }
    });
    real.wait_all();
    return failed.load() == 0 ? 0 : 2;
  });
  if (is_skip(status)) return;
  REQUIRE(status == 0);
}

}  // namespace weft::scheduler_test
