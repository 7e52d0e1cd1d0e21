// watchdog.cc - the watchdog's kernel thread (watchdog.h).
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/watchdog.h"

#include "platform/os.h"
#include "platform/thread_pointer.h"
#include "scheduler/scheduler.h"

namespace weft {
namespace {

// Bytes of its stack: it calls nothing deep.
constexpr size_t kStackBytes = 64 * 1024;
// Ticks without a busy worker after which it sleeps until one wakes.
constexpr uint32_t kQuietTicks = 20;

struct Watchdog {
  Scheduler* scheduler = nullptr;
  void (*preempt)(Worker& worker) = nullptr;
  uint64_t turns[Scheduler::kMaxWorkers] = {};
  uint32_t stuck_ticks[Scheduler::kMaxWorkers] = {};
};

Watchdog g_watchdog;  // watchdog thread only, after start

// Whether something could run if the worker's fiber made room.
bool others_wait(Worker& worker) {
  return worker.next_slot.load(std::memory_order_relaxed) != nullptr || worker.ready.size() != 0 ||
         !worker.scheduler->global.empty() || !worker.timers.empty() ||
         worker.netpoller->in_flight() != 0;
}

// Returns whether any worker is busy.
bool look(Watchdog& watchdog) {
  Scheduler& scheduler = *watchdog.scheduler;
  bool busy = false;
  bool left_over = !scheduler.global.empty();
  for (uint32_t i = 0; i < scheduler.worker_count(); i++) {
    Worker& worker = scheduler.worker(i);
    const uint64_t turn = worker.turn.load(std::memory_order_relaxed);
    // A racy read of the pointer: only whether it is null matters, and only as a hint.
    const bool running = __atomic_load_n(&worker.running, __ATOMIC_RELAXED) != nullptr;
    busy = busy || running;
    if (!running || turn != watchdog.turns[i]) {
      watchdog.turns[i] = turn;
      watchdog.stuck_ticks[i] = 0;
      continue;
    }
    worker.stale.store(true, std::memory_order_relaxed);
    watchdog.stuck_ticks[i]++;
    if (worker.next_slot.load(std::memory_order_relaxed) != nullptr || worker.ready.size() != 0) {
      left_over = true;
    }
    if (watchdog.stuck_ticks[i] * kWatchdogTickNs >= kPreemptAfterNs && others_wait(worker)) {
      watchdog.stuck_ticks[i] = 0;
      if (watchdog.preempt != nullptr) watchdog.preempt(worker);
    }
  }
  if (left_over && scheduler.has_idle_worker()) scheduler.wake_one();
  return busy;
}

void watch(void* argument) {
  auto& watchdog = *static_cast<Watchdog*>(argument);
  platform::write_worker_pointer(reinterpret_cast<uintptr_t>(&foreign_worker()));
  uint32_t quiet = 0;
  for (;;) {
    quiet = look(watchdog) ? 0 : quiet + 1;
    if (quiet < kQuietTicks) {
      static const uint32_t never = 0;
      platform::wait_on_word(&never, 0, platform::monotonic_ns() + kWatchdogTickNs);
      continue;
    }
    // 1 announce the sleep, 2 barrier, 3 look once more; a worker that becomes busy: 1 leaves the
    // sleepers, 2 reads the announcement. A miss costs no more than the bound of this sleep.
    auto& asleep = watchdog.scheduler->watchdog_asleep;
    asleep.store(1, std::memory_order_seq_cst);
    if (!look(watchdog)) {
      // Bounded by a second all the same: the protocol above is a hint on the worker's side.
      platform::wait_on_word(&asleep, 1, platform::monotonic_ns() + 1'000'000'000);
    }
    asleep.store(0, std::memory_order_relaxed);
    quiet = 0;
  }
}

}  // namespace

long start_watchdog(Scheduler& scheduler, void (*preempt)(Worker& worker), uintptr_t model) {
  g_watchdog = Watchdog{};
  g_watchdog.scheduler = &scheduler;
  g_watchdog.preempt = preempt;
  char* memory = static_cast<char*>(platform::map_memory(kStackBytes + platform::kThreadBlockBytes));
  if (memory == nullptr) return -12 /* ENOMEM */;
  const uintptr_t block = platform::make_thread_block(memory + kStackBytes, model);
  return platform::start_kernel_thread(watch, &g_watchdog, memory + kStackBytes, block, nullptr);
}

void wake_watchdog(Scheduler& scheduler) {
  scheduler.watchdog_asleep.store(0, std::memory_order_relaxed);
  platform::wake_word(&scheduler.watchdog_asleep, 1);
}

}  // namespace weft
