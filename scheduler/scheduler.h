// scheduler.h - all workers together: who wakes whom, and where a fiber goes when it becomes ready.
//
// The idle protocol. A worker sleeps only if no fiber that it could run is ready; whoever makes one
// ready wakes a worker if none is looking.
//   maker of work                             sleeper
//   1 push the fiber                          1 join the sleepers (set its bit), stop spinning
//   2 full barrier                            2 full barrier
//   3 if nobody spins and there are           3 look once more in every queue and in its mailbox;
//     sleepers: take one's bit, wake it         found: leave the sleepers, go on
//                                             4 sleep in the netpoller, whose wake() is sticky
// Each side's barrier stands between its own store and its load of the other's, so at least one of
// them sees the other. A spinning worker does steps 1-3 before it sleeps, so not waking is safe.
// Waking another core costs 50 us here: a fiber in a next slot alone does not wake anybody; the
// watchdog does, if it is still there after a tick.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "scheduler/global_queue.h"
#include "scheduler/worker.h"

namespace weft {

class Scheduler {
 public:
  // A worker has a bit in one word of sleepers. 64 is also where one lock-free word ends; more
  // cores than that want NUMA-aware stealing first.
  static constexpr uint32_t kMaxWorkers = 64;

  // Makes `worker` one of the scheduler's. Before any of them runs.
  void add(Worker& worker);
  // Those from `index` on could not be started after all. Before they were ever woken.
  void drop_from(uint32_t index) { worker_count_ = index; }
  // A worker outside the sets, for one bound fiber: it neither steals nor is stolen from.
  void add_bound(Worker& worker);

  uint32_t worker_count() const { return worker_count_; }
  Worker& worker(uint32_t index) { return *workers_[index]; }

  // Makes a fiber ready whose wait the caller has claimed (or that is new). Any kernel thread.
  void unpark(Fiber& fiber);
  // Makes a list ready (linked by Fiber::next). Any kernel thread.
  void unpark_all(Fiber* list);

  // Steps 2 and 3 of the maker of work.
  void wake_one();

  // Posts a message and makes sure that the worker runs it soon. Any kernel thread.
  void post(Worker& worker, Message& message);

  GlobalQueue global;

  // Whether some worker sleeps and nobody is on the way: the watchdog's question.
  bool has_idle_worker() const;
  std::atomic<uint32_t> spinning_count{0};
  // Set by the watchdog when it stops ticking because every worker sleeps.
  std::atomic<uint32_t> watchdog_asleep{0};

 private:
  friend class Worker;
  void join_sleepers(Worker& worker);
  // True: the bit was still there (nobody woke us).
  bool leave_sleepers(Worker& worker);
  bool any_ready() const;

  Worker* workers_[kMaxWorkers] = {};
  uint32_t worker_count_ = 0;  // const once fibers run
  std::atomic<uint64_t> sleepers_{0};
};

// Parks the running fiber whose wait is open. `after(argument)` publishes it (releases the lock
// under which a waker will find it) once its context is saved; null if whoever wakes it runs on
// this worker only. Returns how the wait came out.
WaitState park(Fiber& fiber, WaitReason reason, const volatile void* object,
               void (*after)(void*) = nullptr, void* argument = nullptr);

// Lets other ready fibers run first.
void yield();

// Ends the running fiber: `after(argument)` runs off its stack and may recycle it.
[[noreturn]] void end_fiber(void (*after)(void*), void* argument);

// Cuts an interruptible wait of `fiber` short, if there is one. The caller has set `attention`.
// Any kernel thread; part of the interrupter's recipe (fiber.h).
void interrupt_wait(Fiber& fiber);

}  // namespace weft
