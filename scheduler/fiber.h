// fiber.h - the unit the scheduler runs: a stack that is not on a CPU, and how it waits.
//
// States, and who owns the stack in each:
//   ready    its context is saved; exactly one ready queue (or next slot) holds it
//   running  a worker's kernel thread is on its stack; Worker::running points to it
//   parked   its context is saved; a waker will find it through what it waits for
//   dead     off its stack for ever; about to be recycled
//
// Waiting. A fiber that is about to wait takes a ticket: `wait_word` = (ticket, preparing). Once its
// context is saved, whoever runs next on its worker publishes the wait: (ticket, pending). Whoever
// moves that very word from pending to an outcome (claim) has won the right, and the duty, to
// unpark the fiber; everyone else loses and forgets it. A stale ticket never matches, and the
// memory of fibers is type-stable (recycled, never unmapped), so a late waker does no harm.
//
//   interrupter (a signal)                    waiter (on the stack that runs after it)
//   1 set bits in `attention`                 1 wait_word = (ticket, pending)
//   2 full barrier                            2 full barrier
//   3 read wait_word; if pending, claim it    3 read `attention`; if set, claim it as interrupted
//     as interrupted and unpark                 and unpark
// Each side's barrier stands between its own store and its load of the other's, so at least one of
// them sees the other; claim() decides if both do. A wait for completions (state io) is published
// at once instead, but handled on its own worker only, hence after the switch as well.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "platform/context.h"
#include "scheduler/mailbox.h"

namespace weft {

class Worker;
struct IoWait;

enum class FiberState : uint8_t { ready, running, parked, dead };

// Why a fiber is parked. Each reason has one meaning; a new kind of wait gets a new one.
enum class WaitReason : uint8_t {
  none,
  futex,
  sleep,
  yield,
  io,
  poll,
  blocking_pool,
  signal,
  exit,
  bind,
};

// The low bits of wait_word; the ticket counts above them.
enum class WaitState : uint64_t {
  idle = 0,             // not waiting
  preparing = 1,        // about to wait; nobody may claim it yet
  pending = 2,          // waiting; an interrupt may end it
  uninterruptible = 3,  // waiting; only what it waits for ends it
  io = 4,               // waiting for completions, all of which arrive: interrupts ask for cancel
  woken = 5,
  timed_out = 6,
  interrupted = 7,
};
inline constexpr uint64_t kWaitStateMask = 7;
inline constexpr uint64_t kTicketStep = 8;

// Bits of Fiber::attention: reasons to look up before going on or falling asleep.
inline constexpr uint32_t kAttentionSignal = 1;   // a signal may be deliverable
inline constexpr uint32_t kAttentionPreempt = 2;  // ran long enough: yield on the way out
inline constexpr uint32_t kAttentionKernelMask = 4;  // the kernel's signal mask was lent: restore

struct Fiber {
  // What the assembly and every switch touch comes first: one cache line.
  platform::Context context;
  uintptr_t thread_pointer = 0;  // FS base; zero: leave as it is (fibers without TLS, tests)
  Fiber* next = nullptr;         // link of whichever queue holds it
  // Relaxed and RMW accesses, paired by the recipe above; also read by the gate's assembly.
  std::atomic<uint32_t> attention{0};
  FiberState state = FiberState::dead;  // owner: whoever owns the stack
  WaitReason reason = WaitReason::none;
  bool bound = false;  // const while ready or parked: runs on `home` only
  // What publish_wait() makes of a preparing wait: pending or uninterruptible.
  WaitState wait_kind = WaitState::idle;
  // How the program sees it: a fiber with an interruptible wait may still block signals; the
  // interrupter checks that, the scheduler does not know what a signal is.
  std::atomic<uint64_t> wait_word{0};
  // The worker it runs on, or ran on last, or whose netpoller has its operations.
  Worker* home = nullptr;
  const volatile void* wait_object = nullptr;  // for dumps: the futex word, the descriptor, ...
  // Set by the home worker before the fiber parks and cleared by it when the last completion is
  // in. A worker that the fiber has left may look, but not follow it (io_wait.cc).
  IoWait* io_wait = nullptr;
  Message interrupt_message;  // posted to `home` when an io wait is to be cut short
  std::atomic<bool> interrupt_posted{false};
  // The wait (its ticket) that a futex waker came too early to claim (futex_table.cc). Here and not
  // beside the waiter: it is read once the wait is published, when that stack may be gone.
  std::atomic<uint64_t> missed_ticket{0};
};

using Ticket = uint64_t;

// Opens a wait that will be `kind`: pending, uninterruptible or io. Runs on the fiber itself.
inline Ticket begin_wait(Fiber& fiber, WaitState kind) {
  // Relaxed read: only the fiber itself opens waits, and it is running.
  const uint64_t old = fiber.wait_word.load(std::memory_order_relaxed);
  const Ticket ticket = (old & ~kWaitStateMask) + kTicketStep;
  fiber.wait_kind = kind;
  const WaitState state = kind == WaitState::io ? WaitState::io : WaitState::preparing;
  // Release: what the waiter wrote before is visible to whoever claims.
  fiber.wait_word.store(ticket | static_cast<uint64_t>(state), std::memory_order_release);
  return ticket;
}

// Closes a wait that the fiber decided not to enter. Runs on the fiber, before park().
inline void abandon_wait(Fiber& fiber) {
  const uint64_t old = fiber.wait_word.load(std::memory_order_relaxed);
  // Relaxed: a preparing wait is nobody else's yet.
  fiber.wait_word.store(old & ~kWaitStateMask, std::memory_order_relaxed);
}

// Ends the wait `ticket` with `outcome`, if nobody else has. True: the caller must unpark the fiber
// (or, if it is the fiber itself before it parked, go on).
inline bool claim(Fiber& fiber, Ticket ticket, WaitState outcome) {
  uint64_t expected = fiber.wait_word.load(std::memory_order_acquire);
  if ((expected & ~kWaitStateMask) != ticket) return false;
  const auto state = static_cast<WaitState>(expected & kWaitStateMask);
  if (state != WaitState::pending && state != WaitState::uninterruptible &&
      state != WaitState::io) {
    return false;
  }
  // Acquire-release: the waiter's stores before, the claimer's stores after.
  return fiber.wait_word.compare_exchange_strong(
      expected, ticket | static_cast<uint64_t>(outcome), std::memory_order_acq_rel,
      std::memory_order_relaxed);
}

// How the wait that just ended came out. Runs on the fiber, after it was resumed.
inline WaitState wait_outcome(const Fiber& fiber) {
  // Acquire: pairs with the claimer's release half.
  return static_cast<WaitState>(fiber.wait_word.load(std::memory_order_acquire) & kWaitStateMask);
}

}  // namespace weft
