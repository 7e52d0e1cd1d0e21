// io_wait.cc - parking on completions, deadlines and interrupts (io_wait.h).
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/io_wait.h"

#include "scheduler/assert.h"
#include "scheduler/scheduler.h"
#include "scheduler/timer_wheel.h"

namespace weft {

struct IoWait {
  struct DeadlineTimer : Timer {
    IoWait* wait = nullptr;
  };

  Fiber* fiber = nullptr;
  IoCompletion* completions = nullptr;
  uint32_t count = 0;
  uint32_t remaining = 0;
  bool cancelled = false;
  IoOutcome outcome = IoOutcome::completed;
  Ticket ticket = 0;
  DeadlineTimer timer;

  // Owner worker. Asks each operation still in flight to end.
  void cancel_all(Worker& worker) {
    if (cancelled) return;
    cancelled = true;
    for (uint32_t i = 0; i < count; i++) {
      if (!completions[i].delivered) worker.netpoller->cancel(completions[i]);
    }
  }
};

namespace {

void on_completion(platform::Completion& completion) {
  auto& done = static_cast<IoCompletion&>(completion);
  IoWait& wait = *done.wait;
  done.delivered = true;
  wait.remaining--;
  Worker& worker = *current_worker();
  if (wait.remaining != 0) {
    wait.cancel_all(worker);
    return;
  }
  Fiber& fiber = *wait.fiber;
  // It runs after the rest of this batch: its registers and its TLS will be in the cache by then.
  __builtin_prefetch(fiber.context.stack_pointer);
  __builtin_prefetch(reinterpret_cast<const void*>(fiber.thread_pointer));
  wait.timer.cancel();
  fiber.io_wait = nullptr;
  // The wait state is io: only we, its owner, claim it.
  const bool won = claim(fiber, wait.ticket, WaitState::woken);
  WEFT_CHECK(won);
  worker.scheduler->unpark(fiber);
}

Fiber* on_deadline(Timer& timer) {
  IoWait& wait = *static_cast<IoWait::DeadlineTimer&>(timer).wait;
  if (!wait.cancelled) wait.outcome = IoOutcome::timed_out;
  wait.cancel_all(*current_worker());
  return nullptr;
}

void on_interrupt(Message& message) {
  auto* fiber = reinterpret_cast<Fiber*>(reinterpret_cast<char*>(&message) -
                                         __builtin_offsetof(Fiber, interrupt_message));
  // Release: from here the message may be posted again. Acquire: whoever found it posted and left
  // it at that has his `attention` seen below.
  fiber->interrupt_posted.exchange(false, std::memory_order_acq_rel);
  Worker& worker = *current_worker();
  // In this order: a wait on another worker is begun after `home` has changed.
  IoWait* wait = __atomic_load_n(&fiber->io_wait, __ATOMIC_ACQUIRE);
  if (__atomic_load_n(&fiber->home, __ATOMIC_ACQUIRE) != &worker) {
    // The poster was held up and the fiber has left this worker. An interrupter that came while
    // the message lay here relies on it: the fiber may wait elsewhere by now. Relaxed: as above.
    if ((fiber->attention.load(std::memory_order_relaxed) & kAttentionSignal) != 0) {
      interrupt_wait(*fiber);
    }
    return;
  }
  // The wait has ended: the fiber will see `attention` before it parks again.
  if (wait == nullptr) return;
  if (!wait->cancelled) wait->outcome = IoOutcome::interrupted;
  wait->cancel_all(worker);
}

struct SleepTimer : Timer {
  Fiber* fiber = nullptr;
  Ticket ticket = 0;
};

Fiber* on_sleep_over(Timer& timer) {
  auto& sleep = static_cast<SleepTimer&>(timer);
  return claim(*sleep.fiber, sleep.ticket, WaitState::timed_out) ? sleep.fiber : nullptr;
}

}  // namespace

IoOutcome park_on(IoCompletion* completions, uint32_t count, int64_t deadline_ns,
                  bool interruptible, WaitReason reason) {
  Worker& worker = *current_worker();
  Fiber& fiber = *worker.running;
  IoWait wait;
  wait.fiber = &fiber;
  wait.completions = completions;
  wait.count = count;
  wait.remaining = count;
  fiber.interrupt_message.run = on_interrupt;
  fiber.io_wait = interruptible ? &wait : nullptr;
  wait.ticket = begin_wait(fiber, WaitState::io);
  for (uint32_t i = 0; i < count; i++) {
    completions[i].wait = &wait;
    completions[i].done = on_completion;
    completions[i].delivered = false;
    worker.netpoller->submit(completions[i]);
  }
  if (deadline_ns != platform::kForever) {
    wait.timer.wait = &wait;
    wait.timer.fire = on_deadline;
    wait.timer.deadline_ns = deadline_ns;
    worker.timers.insert(wait.timer, worker.netpoller->now_ns());
  }
  full_barrier();
  // Relaxed: ordered by the barrier (the waiter's step 3 in fiber.h).
  if (interruptible && (fiber.attention.load(std::memory_order_relaxed) & kAttentionSignal) != 0) {
    wait.outcome = IoOutcome::interrupted;
    wait.cancel_all(worker);
  }
  park(fiber, reason, &completions[0].op);
  return wait.outcome;
}

IoOutcome sleep_until(int64_t deadline_ns) {
  Worker& worker = *current_worker();
  Fiber& fiber = *worker.running;
  SleepTimer timer;
  timer.fiber = &fiber;
  timer.ticket = begin_wait(fiber, WaitState::pending);
  if (deadline_ns != platform::kForever) {
    timer.fire = on_sleep_over;
    timer.deadline_ns = deadline_ns;
    worker.timers.insert(timer, worker.netpoller->now_ns());
  }
  const WaitState outcome = park(fiber, WaitReason::sleep, nullptr);
  timer.cancel();
  return outcome == WaitState::interrupted ? IoOutcome::interrupted : IoOutcome::timed_out;
}

}  // namespace weft
