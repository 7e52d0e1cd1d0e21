// real_scheduler.h - workers on kernel threads with io_uring, for what the simulation cannot show.
// Every wait of the tests is bounded: past the bound the states of all fibers and workers are
// printed and the process aborts, since a lost wake-up cannot be undone.
// Workers and fibers are never freed: a pool thread may still be about to wake a worker when the
// last fiber has ended.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "platform/linux/netpoller_uring.h"
#include "scheduler/scheduler.h"
#include "tests/scheduler/test_fiber.h"

namespace weft::scheduler_test {

inline constexpr int64_t kBoundNs = 60'000'000'000;

class RealScheduler {
 public:
  // Ends the process with status 77 if this kernel refuses io_uring.
  explicit RealScheduler(uint32_t workers);
  // Every fiber has ended. Stops the workers' kernel threads.
  ~RealScheduler();
  RealScheduler(const RealScheduler&) = delete;
  RealScheduler& operator=(const RealScheduler&) = delete;

  Fiber& spawn(std::function<void()> body);
  // Waits until every fiber has ended.
  void wait_all();
  // Waits until the condition holds, which it does by the work of other kernel threads.
  void wait_for(const char* what, const std::function<bool()>& condition);

  Scheduler& scheduler() { return state_->scheduler; }
  Worker& worker(uint32_t index) { return state_->scheduler.worker(index); }
  uint64_t sum(std::atomic<uint64_t> WorkerStats::*counter);

 private:
  struct RealWorker {
    Worker worker;
    platform::UringNetpoller netpoller;
  };
  struct State {
    Scheduler scheduler;
    std::vector<RealWorker*> workers;
    std::atomic<uint32_t> started{0};
    std::atomic<uint32_t> live{0};
    std::atomic<bool> stop{false};
    // All fibers ever made here, for the dump. Only the test's own thread and fibers add to it.
    std::atomic<TestFiber*> fibers[16384] = {};
    std::atomic<uint32_t> fiber_count{0};
  };
  static void work(State& state, RealWorker& self);
  [[noreturn]] void dump(const char* what);

  State* state_;
  std::vector<std::thread> threads_;
};

}  // namespace weft::scheduler_test
