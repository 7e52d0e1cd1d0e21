// futex_table.h - futex(2) for fibers of this process: a parking lot hashed by address.
// The operations have the kernel's meaning and order: waiters of a word queue first in, first out;
// a wait that finds another value does not sleep; a wake that comes after the value check finds the
// waiter. Keys: a private word's address; a shared word in the runtime's own stacks uses address | 1
// (futex(2): private and shared operations on one word do not meet).
//
//   waiter                                    waker
//   1 lock the bucket                         1 change the word (program)
//   2 read the word; another value: -EAGAIN   2 lock the bucket
//   3 enqueue                                 3 dequeue and claim waiters of the word
//   4 switch away; the wait is published      4 unlock, unpark them
//   5 unlock the bucket
// The bucket's lock orders 2 against 2: either the waiter sees the new value, or the waker sees the
// waiter. The lock is held across the switch so that nobody claims a fiber that still runs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "scheduler/fiber.h"
#include "scheduler/lock.h"

namespace weft {

enum class FutexOutcome : uint8_t { woken, value_differs, timed_out, interrupted };

inline constexpr uint32_t kFutexAnyBit = ~uint32_t{0};

// A word by its key: the address, and whether private or shared operations mean it.
struct FutexKey {
  uintptr_t value = 0;
  static FutexKey of(const volatile void* word, bool shared) {
    return {reinterpret_cast<uintptr_t>(word) | (shared ? uintptr_t{1} : 0)};
  }
};

// Parks the running fiber while *word == expected. deadline_ns on the netpoller's clock.
FutexOutcome futex_wait(FutexKey key, const volatile uint32_t* word, uint32_t expected,
                        uint32_t bits, int64_t deadline_ns);

// Several words (futex_waitv): index of a woken one goes to `woken_index`.
struct FutexWaitItem {
  FutexKey key;
  const volatile uint32_t* word;
  uint32_t expected;
};
FutexOutcome futex_wait_any(const FutexWaitItem* items, uint32_t count, int64_t deadline_ns,
                            uint32_t& woken_index);

// Wakes up to `count` waiters whose bits meet `bits`. Returns how many. Any kernel thread.
uint32_t futex_wake(FutexKey key, uint32_t count, uint32_t bits);

// Wakes up to wake_count waiters of `source`, moves up to requeue_count others to `target`. With
// `expected`, only if *word holds it. Returns woken + moved, or -1 if the value differs.
struct FutexRequeue {
  int64_t affected;
  uint32_t woken;
};
FutexRequeue futex_requeue(FutexKey source, FutexKey target, uint32_t wake_count,
                           uint32_t requeue_count, const volatile uint32_t* word,
                           const uint32_t* expected);

// FUTEX_WAKE_OP: with both buckets locked calls change(argument) (which updates the second word and
// says whether its waiters are to be woken), then wakes. Returns the number woken.
uint32_t futex_wake_op(FutexKey first, uint32_t first_count, FutexKey second,
                       uint32_t second_count, bool (*change)(void*), void* argument);

// For the child of a fork: nobody waits here any more, whatever the lists say.
void futex_table_forget();

}  // namespace weft
