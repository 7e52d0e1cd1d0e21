// blocking_pool_test.cc - kernel threads for calls that block: how many, how long, each job once.
// Jobs run on bare kernel threads: atomics and the words of platform/os.h only, no libc.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <sys/resource.h>

#include <atomic>
#include <vector>

#include "platform/os.h"
#include "scheduler/blocking_pool.h"
#include "tests/scheduler/child_process.h"
#include "tests/scheduler/real_scheduler.h"

namespace weft::scheduler_test {
namespace {

// Jobs wait here until the test opens it.
struct Gate {
  std::atomic<uint32_t> open{0};
  std::atomic<uint32_t> inside{0};
  std::atomic<uint32_t> most_inside{0};

  void pass() {
    const uint32_t now = inside.fetch_add(1) + 1;
    uint32_t most = most_inside.load();
    while (most < now && !most_inside.compare_exchange_weak(most, now)) {
    }
    while (open.load() == 0) platform::wait_on_word(&open, 0, INT64_MAX);
    inside.fetch_sub(1);
  }
  void release() {
    open.store(1);
    platform::wake_word(&open, INT32_MAX);
  }
};

struct GateJob : BlockingJob {
  explicit GateJob(Gate& its_gate) : gate(its_gate) {
    run = [](BlockingJob& self) { static_cast<GateJob&>(self).gate.pass(); };
  }
  Gate& gate;
};

struct CountJob : BlockingJob {
  explicit CountJob(std::atomic<int>& its_count) : count(its_count) {
    run = [](BlockingJob& self) { static_cast<CountJob&>(self).count.fetch_add(1); };
  }
  std::atomic<int>& count;
};

// The pool as it is at the start of a process, whatever ran before.
class FreshPool {
 public:
  FreshPool(RealScheduler& real, uint32_t max, int64_t idle_ns) {
    set_blocking_idle_ns(1'000'000);
    real.wait_for("the pool to end", [] { return blocking_thread_count() == 0; });
    set_blocking_max(max);
    set_blocking_idle_ns(idle_ns);
  }
  ~FreshPool() {
    set_blocking_max(kBlockingMaxDefault);
    set_blocking_idle_ns(kBlockingIdleNsDefault);
  }
};

}  // namespace

TEST_CASE("blocking pool: every job runs once and its fiber goes on", "[real][pool]") {
  RealScheduler real(2);
  FreshPool pool(real, 8, 20'000'000);
  constexpr size_t kFibers = 100;
  std::vector<std::atomic<int>> counts(kFibers);
  std::atomic<int> wrong{0};
  for (size_t i = 0; i < kFibers; i++) {
    real.spawn([&, i] {
      for (int round = 1; round <= 10; round++) {
        CountJob job(counts[i]);
        run_blocking(job);
        if (counts[i].load() != round) wrong.fetch_add(1);
      }
    });
  }
  real.wait_all();
  REQUIRE(wrong.load() == 0);
  REQUIRE(blocking_thread_count() <= 8);
}

TEST_CASE("blocking pool: grows to its limit and not beyond; a full pool queues", "[real][pool]") {
  const uint32_t limit = GENERATE(1U, 4U);
  RealScheduler real(2);
  FreshPool pool(real, limit, 20'000'000);
  Gate gate;
  std::atomic<uint32_t> over{0};
  constexpr uint32_t kJobs = 12;
  for (uint32_t i = 0; i < kJobs; i++) {
    real.spawn([&] {
      GateJob job(gate);
      run_blocking(job);
      over.fetch_add(1);
    });
  }
  real.wait_for("the pool to fill", [&] { return gate.inside.load() == limit; });
  // Workers are free all the while: a fiber that comes now runs, though every pool thread is stuck.
  std::atomic<bool> ran{false};
  real.spawn([&] { ran.store(true); });
  real.wait_for("a fiber to run", [&] { return ran.load(); });
  REQUIRE(blocking_thread_count() == limit);
  REQUIRE(over.load() == 0);
  gate.release();
  real.wait_all();
  REQUIRE(over.load() == kJobs);
  REQUIRE(gate.most_inside.load() == limit);
}

TEST_CASE("blocking pool: idle threads end, and the pool starts anew", "[real][pool]") {
  RealScheduler real(1);
  FreshPool pool(real, 8, 5'000'000);
  std::atomic<int> count{0};
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 8; i++) {
      real.spawn([&] {
        CountJob job(count);
        run_blocking(job);
      });
    }
    real.wait_all();
    real.wait_for("idle threads to end", [] { return blocking_thread_count() == 0; });
  }
  REQUIRE(count.load() == 24);
}

TEST_CASE("blocking pool: no job waits behind a running one while the pool may grow",
          "[real][pool]") {
  // One thread is busy for longer than the idle time of another. Then two jobs come that end only
  // together: a pool that takes the idle one for two would never run the second.
  RealScheduler real(1);
  FreshPool pool(real, 8, 50'000'000);
  for (int round = 0; round < 3; round++) {
    Gate both_started;
    for (int i = 0; i < 2; i++) {
      real.spawn([&] {
        GateJob job(both_started);
        run_blocking(job);
      });
    }
    real.wait_for("two threads", [&] { return both_started.inside.load() == 2; });
    both_started.release();
    real.wait_all();
    Gate busy;
    real.spawn([&] {
      GateJob job(busy);
      run_blocking(job);
    });
    real.wait_for("a busy thread", [&] { return busy.inside.load() == 1; });
    // Whichever of the two took the job, the other ends.
    real.wait_for("the idle thread to end", [] { return blocking_thread_count() == 1; });
    Gate together;
    for (int i = 0; i < 2; i++) {
      real.spawn([&] {
        GateJob job(together);
        run_blocking(job);
      });
    }
    real.wait_for("two jobs at once", [&] { return together.inside.load() == 2; });
    together.release();
    busy.release();
    real.wait_all();
  }
}

TEST_CASE("blocking pool: without memory for a thread the jobs run all the same", "[real][pool]") {
  const uint32_t limit = GENERATE(1U, 8U);
  const int status = status_in_child([limit] {
    // The parent's threads are not here.
    blocking_pool_forget();
    RealScheduler real(4);
    set_blocking_max(limit);
    std::atomic<int> count{0};
    std::atomic<uint32_t> gate{0};
    for (int i = 0; i < 64; i++) {
      real.spawn([&] {
        while (gate.load() == 0) yield();
        for (int round = 0; round < 20; round++) {
          CountJob job(count);
          run_blocking(job);
        }
      });
    }
    // From here on no mapping succeeds.
    const rlimit none = {0, 0};
    if (setrlimit(RLIMIT_AS, &none) != 0) return 1;
    gate.store(1);
    real.wait_all();
    if (blocking_thread_count() != 0) return 2;
    return count.load() == 64 * 20 ? 0 : 3;
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) return;
  REQUIRE(status == 0);
}

}  // namespace weft::scheduler_test
