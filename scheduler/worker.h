// worker.h - a kernel thread that runs fibers: its queues, its netpoller, its timers, its turn.
//
// Finding work, in this order: the next slot (what the last fiber woke, with a budget), the own
// queue, the global queue (first when 61 turns have passed), completions and timers, other workers' queues;
// then sleep in the netpoller (scheduler.h).
//
// The worker is found through GS, the fiber through the worker: no TLS. current_worker() must be
// read anew after anything that may switch: the fiber may be on another worker then.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "platform/context.h"
#include "platform/netpoller.h"
#include "scheduler/fiber.h"
#include "scheduler/mailbox.h"
#include "scheduler/ready_queue.h"
#include "scheduler/timer_wheel.h"

namespace weft {

class Scheduler;

// Counters of one worker; written by it alone, read by anyone (relaxed).
struct WorkerStats {
  std::atomic<uint64_t> switches{0};
  std::atomic<uint64_t> polls{0};
  std::atomic<uint64_t> sleeps{0};
  std::atomic<uint64_t> steals{0};
  std::atomic<uint64_t> preemptions{0};
};

inline void count(std::atomic<uint64_t>& counter) {
  // Relaxed load and store: one writer.
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

class Worker {
 public:
  // --- Known to the assembly by offset: keep first, see kWorker*Offset below. ---
  Worker* self = this;            // %gs:0
  Fiber* running = nullptr;       // %gs:8; null while the worker runs its own loop
  // %gs:16. One: calls are intercepted on this kernel thread. Zero: they go straight to the kernel
  // (a vfork child, a child of fork without a runtime). Syscall User Dispatch's selector (1: block)
  // reads the same byte.
  uint8_t intercepting = 0;
  // %gs:17. One while the runtime's own code runs on this kernel thread (written by the gate): a
  // signal that finds it set is only noted.
  uint8_t in_runtime = 1;

  Scheduler* scheduler = nullptr;
  uint32_t index = 0;
  int kernel_tid = 0;             // const after start
  platform::Context loop_context;
  uintptr_t loop_thread_pointer = 0;
  void* loop_stack_top = nullptr;
  bool bound = false;             // runs one fiber only, and nobody steals it
  // That fiber, when it is ready. Release by who unparks it, acquire by the worker.
  std::atomic<Fiber*> bound_ready{nullptr};

  platform::Netpoller* netpoller = nullptr;
  TimerWheel timers;
  ReadyQueue ready;
  // What the running fiber woke last: runs next, cheap in cache. Exchanged by the owner and by
  // thieves, so that a fiber here is not stuck behind a long computation.
  std::atomic<Fiber*> next_slot{nullptr};
  Mailbox mailbox;
  // Set by the watchdog when the running fiber did not leave for a whole tick: its next slot may be
  // stolen. Relaxed: a hint.
  std::atomic<bool> stale{false};
  WorkerStats stats;
  // The call floor's: signals noted while the runtime ran here.
  void* signal_notes = nullptr;
  // Turns taken; the watchdog sees from it whether the worker moves. One writer.
  std::atomic<uint64_t> turn{0};

  // Runs fibers for ever. Called once on the worker's own stack and kernel thread.
  [[noreturn]] void loop();
  // One scheduling turn: runs a fiber until it leaves, or sleeps in the netpoller. False if no fiber
  // ran. (Tests drive simulated workers by this; their netpoller never blocks.)
  bool take_turn();

  // Leaves the running fiber, whose continuation is saved, for the next ready one or the loop.
  // `after(argument)` runs as soon as the fiber's context is saved: it publishes the fiber.
  // Returns when the fiber is resumed, maybe on another worker.
  // publish: the fiber has a preparing wait, which becomes claimable then, before `after`.
  static void leave(Fiber& fiber, bool publish, void (*after)(void*), void* argument);
  // The first thing a fiber does on a stack that it was switched to.
  static void finish_switch();

  // Puts a ready fiber where this worker will find it. Executed only by the owner.
  void push_ready(Fiber& fiber, bool as_next);

 private:
  friend class Scheduler;
  // The next fiber from the next slot or the own queue; null: go to the loop.
  Fiber* pick_local();
  Fiber* pick_global();
  // Flushes, delivers completions, fires timers, reads the mailbox; waits until the deadline.
  void poll(int64_t deadline_ns);
  void sleep();
  Fiber* steal();
  void run_mailbox();
  void run(Fiber& fiber);
  void stop_spinning();

  void (*after_)(void*) = nullptr;
  void* after_argument_ = nullptr;
  Fiber* to_publish_ = nullptr;  // its wait becomes pending once its context is saved
  bool spinning_ = false;        // counted in Scheduler::spinning_count
  uint32_t next_budget_ = 0;
  uint64_t global_turn_ = 0;     // the turn at which the global queue last went first
  uint32_t since_poll_ = 0;
  uint32_t random_ = 1;
};

inline constexpr int kWorkerRunningOffset = 8;
inline constexpr int kWorkerInterceptingOffset = 16;
inline constexpr int kWorkerInRuntimeOffset = 17;
static_assert(__builtin_offsetof(Worker, running) == kWorkerRunningOffset);
static_assert(__builtin_offsetof(Worker, intercepting) == kWorkerInterceptingOffset);
static_assert(__builtin_offsetof(Worker, in_runtime) == kWorkerInRuntimeOffset);

// What GS points to on the runtime's kernel threads that run no fibers (watchdog, blocking pool):
// a worker of no scheduler, so that unpark() from there takes the foreign way.
Worker& foreign_worker();

// The worker whose kernel thread this is, or foreign_worker(). Undefined where GS was never set.
inline Worker* current_worker() {
  Worker* worker;
  // volatile: must be loaded again after every possible switch.
  asm volatile("mov %%gs:0, %0" : "=r"(worker));
  return worker;
}

inline Fiber* current_fiber() {
  Fiber* fiber;
  asm volatile("mov %%gs:8, %0" : "=r"(fiber));
  return fiber;
}

}  // namespace weft
