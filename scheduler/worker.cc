// worker.cc - the scheduling turn: find a ready fiber, run it, sleep when there is none.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/worker.h"

#include "scheduler/assert.h"
#include "scheduler/scheduler.h"

namespace weft {
namespace {

// Go's number: prime, so that it does not beat with the program's own rhythms; rare enough to cost
// nothing, often enough that the global queue cannot starve.
constexpr uint32_t kGlobalFirstTurns = 61;
// Fibers run between two polls when the queue never empties. Completions wait at most that long.
constexpr uint32_t kTurnsPerPoll = 64;
// Times in a row that the next slot goes before the queue: two fibers that wake each other must not
// starve the rest.
constexpr uint32_t kNextBudget = 16;

// The wait becomes claimable: the fiber's context is saved. Step numbers: the recipe in fiber.h.
void publish_wait(Worker& worker, Fiber& fiber) {
  const uint64_t word = fiber.wait_word.load(std::memory_order_relaxed);
  WEFT_ASSERT((word & kWaitStateMask) == static_cast<uint64_t>(WaitState::preparing));
  const Ticket ticket = word & ~kWaitStateMask;
  const WaitState kind = fiber.wait_kind;
  // 1. Release: the saved context is visible to whoever claims and resumes.
  fiber.wait_word.store(ticket | static_cast<uint64_t>(kind), std::memory_order_release);
  if (kind != WaitState::pending) return;
  full_barrier();  // 2
  // 3. Relaxed: ordered by the barrier.
  if ((fiber.attention.load(std::memory_order_relaxed) & kAttentionSignal) != 0 &&
      claim(fiber, ticket, WaitState::interrupted)) {
    worker.scheduler->unpark(fiber);
  }
}

}  // namespace

void Worker::finish_switch() {
  Worker& worker = *current_worker();
  if (Fiber* fiber = worker.to_publish_; fiber != nullptr) {
    worker.to_publish_ = nullptr;
    publish_wait(worker, *fiber);
  }
  if (auto* after = worker.after_; after != nullptr) {
    worker.after_ = nullptr;
    after(worker.after_argument_);
  }
}

void Worker::leave(Fiber& fiber, bool publish, void (*after)(void*), void* argument) {
  Worker& worker = *current_worker();
  WEFT_ASSERT(worker.to_publish_ == nullptr);
  WEFT_ASSERT(worker.after_ == nullptr);
  worker.to_publish_ = publish ? &fiber : nullptr;
  worker.after_ = after;
  worker.after_argument_ = argument;
  Fiber* next = worker.pick_local();
  worker.running = next;
  if (next != nullptr) {
    next->state = FiberState::running;
    next->home = &worker;
    weft_context_switch(&fiber.context, &next->context, next->thread_pointer);
  } else {
    weft_context_switch(&fiber.context, &worker.loop_context, worker.loop_thread_pointer);
  }
  // The fiber goes on here, maybe on another worker and much later.
  finish_switch();
}

void Worker::run(Fiber& fiber) {
  running = &fiber;
  fiber.state = FiberState::running;
  fiber.home = this;
  weft_context_switch(&loop_context, &fiber.context, fiber.thread_pointer);
  finish_switch();
}

Fiber* Worker::pick_local() {
  if (bound) {
    Fiber* fiber = bound_ready.load(std::memory_order_relaxed);
    // Acquire: pairs with unpark().
    return fiber == nullptr ? nullptr : bound_ready.exchange(nullptr, std::memory_order_acquire);
  }
  // A poll is due: the loop does it.
  if (++since_poll_ >= kTurnsPerPoll) return nullptr;
  Fiber* fiber = nullptr;
  // Relaxed: a hint; the exchange decides.
  if (next_slot.load(std::memory_order_relaxed) != nullptr) {
    // Acquire: a thief may have put nothing here, but it may have taken it: pairs with its exchange.
    fiber = next_slot.exchange(nullptr, std::memory_order_acq_rel);
    if (fiber != nullptr && ++next_budget_ > kNextBudget && ready.size() != 0) {
      push_ready(*fiber, false);
      fiber = nullptr;
    }
  }
  if (fiber == nullptr) {
    next_budget_ = 0;
    fiber = ready.pop();
    if (fiber == nullptr) return nullptr;
  }
  count(turn);
  count(stats.switches);
  if (stale.load(std::memory_order_relaxed)) stale.store(false, std::memory_order_relaxed);
  return fiber;
}

Fiber* Worker::pick_global() {
  if (bound) return nullptr;
  Fiber* fiber = scheduler->global.pop();
  if (fiber == nullptr) return nullptr;
  // Take a fair share with it, so that the lock is not taken for each.
  uint32_t share = scheduler->global.size() / scheduler->worker_count();
  if (share > ReadyQueue::kCapacity / 2) share = ReadyQueue::kCapacity / 2;
  for (; share > 0; share--) {
    Fiber* extra = scheduler->global.pop();
    if (extra == nullptr) break;
    push_ready(*extra, false);
  }
  count(turn);
  count(stats.switches);
  return fiber;
}

void Worker::push_ready(Fiber& fiber, bool as_next) {
  Fiber* pushed = &fiber;
  if (as_next) {
    // Acquire-release: publishes this fiber to a thief, takes back the one before.
    pushed = next_slot.exchange(&fiber, std::memory_order_acq_rel);
    if (pushed == nullptr) return;
  }
  if (!ready.push(pushed)) scheduler->global.push(*pushed);
}

void Worker::run_mailbox() {
  Message* message = mailbox.take_all();
  while (message != nullptr) {
    // run() may post the message again.
    Message* following = message->next;
    message->run(*message);
    message = following;
  }
}

void Worker::poll(int64_t deadline_ns) {
  count(stats.polls);
  since_poll_ = 0;
  netpoller->poll(deadline_ns);
  if (!timers.empty()) {
    Fiber* woken = timers.advance(netpoller->now_ns());
    if (woken != nullptr) scheduler->unpark_all(woken);
  }
  run_mailbox();
}

Fiber* Worker::steal() {
  const uint32_t workers = scheduler->worker_count();
  if (bound || workers < 2) return nullptr;
  // xorshift: where to start, so that thieves do not all meet at the same victim.
  random_ ^= random_ << 13;
  random_ ^= random_ >> 17;
  random_ ^= random_ << 5;
  for (uint32_t i = 0; i < workers; i++) {
    Worker& victim = scheduler->worker((random_ + i) % workers);
    if (&victim == this) continue;
    Fiber* fiber = victim.ready.steal_half(ready);
    if (fiber == nullptr && victim.stale.load(std::memory_order_relaxed)) {
      // Acquire: pairs with push_ready()'s exchange.
      fiber = victim.next_slot.exchange(nullptr, std::memory_order_acq_rel);
    }
    if (fiber != nullptr) {
      count(stats.steals);
      count(turn);
      count(stats.switches);
      return fiber;
    }
  }
  return nullptr;
}

void Worker::stop_spinning() {
  if (!spinning_) return;
  spinning_ = false;
  // Sequentially consistent, and before the look at the queues that follows (wake_one or the
  // sleeper's step 3): the last spinner hands the watch on.
  scheduler->spinning_count.fetch_sub(1, std::memory_order_seq_cst);
}

void Worker::sleep() {
  scheduler->join_sleepers(*this);  // 1
  full_barrier();                   // 2
  // What a bound worker could not run must not keep it awake.
  const bool found = (!bound && scheduler->any_ready()) || !mailbox.empty() ||
                     bound_ready.load(std::memory_order_relaxed) != nullptr;  // 3
  if (!found) {
    count(stats.sleeps);
    poll(timers.next_deadline_ns());  // 4
  }
  if (!scheduler->leave_sleepers(*this)) {
    // Somebody took our bit and counted us as spinning.
    spinning_ = true;
  }
}

bool Worker::take_turn() {
  run_mailbox();
  Fiber* fiber = nullptr;
  if (since_poll_ >= kTurnsPerPoll) poll(platform::kNow);
  // Relaxed: only we write it. Counted since the last time and not by the turn's number: fibers
  // that switch straight to each other let the loop see only some of the turns.
  const uint64_t this_turn = turn.load(std::memory_order_relaxed);
  if (this_turn - global_turn_ >= kGlobalFirstTurns) {
    global_turn_ = this_turn;
    fiber = pick_global();
  }
  if (fiber == nullptr) fiber = pick_local();
  if (fiber == nullptr) fiber = pick_global();
  if (fiber == nullptr && (scheduler->worker_count() > 1 || bound)) {
    // With others to steal from, completions that are there already come first.
    poll(platform::kNow);
    fiber = pick_local();
  }
  if (fiber == nullptr) fiber = steal();
  if (fiber == nullptr) {
    stop_spinning();
    sleep();
    fiber = pick_local();
    if (fiber == nullptr) fiber = pick_global();
    if (fiber == nullptr) fiber = steal();
    if (fiber == nullptr) {
      stop_spinning();
      return false;
    }
  }
  if (spinning_) {
    stop_spinning();
    // We were the one who looked: makers of work woke nobody meanwhile. If there is more, in
    // whichever queue, somebody else should.
    if (scheduler->any_ready()) scheduler->wake_one();
  }
  run(*fiber);
  return true;
}

Worker& foreign_worker() {
  static constinit Worker foreign;
  return foreign;
}

void Worker::loop() {
  for (;;) take_turn();
}

}  // namespace weft
