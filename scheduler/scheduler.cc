// scheduler.cc - readiness, waking and parking across workers (scheduler.h has the protocol).
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/scheduler.h"

#include "scheduler/assert.h"
#include "scheduler/watchdog.h"

namespace weft {

void Scheduler::add(Worker& worker) {
  WEFT_CHECK(worker_count_ < kMaxWorkers, worker_count_);
  worker.scheduler = this;
  worker.index = worker_count_;
  workers_[worker_count_] = &worker;
  worker_count_++;
}

void Scheduler::add_bound(Worker& worker) {
  worker.scheduler = this;
  worker.index = kMaxWorkers;
  worker.bound = true;
}

void Scheduler::join_sleepers(Worker& worker) {
  if (worker.bound) return;
  // Sequentially consistent: step 1 of the sleeper.
  sleepers_.fetch_or(uint64_t{1} << worker.index, std::memory_order_seq_cst);
}

bool Scheduler::leave_sleepers(Worker& worker) {
  if (worker.bound) return true;
  const uint64_t bit = uint64_t{1} << worker.index;
  // Relaxed: whose bit it was is decided by the modification order alone.
  const bool ours = (sleepers_.fetch_and(~bit, std::memory_order_relaxed) & bit) != 0;
  // Relaxed: a hint; a watchdog that falls asleep just now wakes by its own time-out.
  if (watchdog_asleep.load(std::memory_order_relaxed) != 0) wake_watchdog(*this);
  return ours;
}

bool Scheduler::any_ready() const {
  if (!global.empty()) return true;
  for (uint32_t i = 0; i < worker_count_; i++) {
    if (workers_[i]->ready.size() != 0) return true;
  }
  return false;
}

bool Scheduler::has_idle_worker() const {
  return sleepers_.load(std::memory_order_relaxed) != 0 &&
         spinning_count.load(std::memory_order_relaxed) == 0;
}

void Scheduler::wake_one() {
  full_barrier();  // 2
  // 3. Relaxed: ordered by the barrier.
  if (spinning_count.load(std::memory_order_relaxed) != 0) return;
  uint64_t sleepers = sleepers_.load(std::memory_order_relaxed);
  while (sleepers != 0) {
    const auto index = static_cast<uint32_t>(__builtin_ctzll(sleepers));
    const uint64_t bit = uint64_t{1} << index;
    // Before its bit goes, so that a second maker sees either the bit gone and the count up.
    spinning_count.fetch_add(1, std::memory_order_seq_cst);
    if ((sleepers_.fetch_and(~bit, std::memory_order_seq_cst) & bit) != 0) {
      workers_[index]->netpoller->wake();
      return;
    }
    spinning_count.fetch_sub(1, std::memory_order_seq_cst);
    sleepers = sleepers_.load(std::memory_order_relaxed);
  }
}

void Scheduler::post(Worker& worker, Message& message) {
  worker.mailbox.post(message);
  // Sticky: a worker that is awake reads its mailbox before it sleeps, the others return from
  // their poll and read it then.
  worker.netpoller->wake();
}

void Scheduler::unpark(Fiber& fiber) {
  fiber.state = FiberState::ready;
  fiber.reason = WaitReason::none;
  if (fiber.bound) {
    Worker& home = *fiber.home;
    // Release: pairs with pick_local().
    home.bound_ready.store(&fiber, std::memory_order_release);
    home.netpoller->wake();
    return;
  }
  Worker* worker = current_worker();
  if (worker->bound || worker->scheduler != this) {
    global.push(fiber);
    wake_one();
    return;
  }
  const bool inside_fiber = worker->running != nullptr;
  worker->push_ready(fiber, inside_fiber);
  if (worker_count_ == 1) return;
  // In the loop the worker itself is about to run one of them; from a fiber the next slot is for
  // after it. Only what is left over is worth waking another core.
  if (worker->ready.size() > (inside_fiber ? 0u : 1u)) wake_one();
}

void Scheduler::unpark_all(Fiber* list) {
  while (list != nullptr) {
    Fiber& fiber = *list;
    list = fiber.next;
    unpark(fiber);
  }
}

WaitState park(Fiber& fiber, WaitReason reason, const volatile void* object, void (*after)(void*),
               void* argument) {
  fiber.state = FiberState::parked;
  fiber.reason = reason;
  fiber.wait_object = object;
  Worker::leave(fiber, fiber.wait_kind != WaitState::io, after, argument);
  return wait_outcome(fiber);
}

void yield() {
  Fiber& fiber = *current_fiber();
  fiber.state = FiberState::ready;
  fiber.reason = WaitReason::yield;
  Worker::leave(
      fiber, false,
      [](void* argument) {
        auto& self = *static_cast<Fiber*>(argument);
        Worker& worker = *current_worker();
        if (worker.bound) {
          worker.bound_ready.store(&self, std::memory_order_release);
        } else {
          worker.push_ready(self, false);
        }
      },
      &fiber);
}

void end_fiber(void (*after)(void*), void* argument) {
  Fiber& fiber = *current_fiber();
  fiber.state = FiberState::dead;
  fiber.reason = WaitReason::exit;
  Worker::leave(fiber, false, after, argument);
  panic("a dead fiber ran again");
}

void interrupt_wait(Fiber& fiber) {
  full_barrier();  // 2: after the caller's store to attention
  const uint64_t word = fiber.wait_word.load(std::memory_order_acquire);  // 3
  const auto state = static_cast<WaitState>(word & kWaitStateMask);
  const Ticket ticket = word & ~kWaitStateMask;
  Worker* home = fiber.home;
  if (home == nullptr) return;
  if (state == WaitState::pending && claim(fiber, ticket, WaitState::interrupted)) {
    home->scheduler->unpark(fiber);
  } else if (state == WaitState::io &&
             // Acquire-release: one poster at a time owns the message.
             !fiber.interrupt_posted.exchange(true, std::memory_order_acq_rel)) {
    home->scheduler->post(*home, fiber.interrupt_message);
  }
}

}  // namespace weft
