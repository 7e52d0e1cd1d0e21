// futex_pi.cc - the owner protocol of PI futexes (futex(2), "Priority-inheritance futexes").
// A word holds the owner's id, or 0. A waiter sets FUTEX_WAITERS and waits under the word's key; the
// unlocker hands the word over empty and wakes one waiter, which takes it or waits again. A shared
// word (glibc's robust mutexes always use those) is waited for in the kernel, by plain waits, so that
// other processes that this runtime serves meet it there; their owners' ids cannot be looked up.
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/futex_pi.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "platform/os.h"
#include "scheduler/futex_table.h"
#include "syscalls/kernel.h"
#include "syscalls/thread.h"

namespace weft {
namespace {

uint32_t load(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

bool replace(uint32_t* word, uint32_t expected, uint32_t desired) {
  // Sequentially consistent: taking and giving a lock, as the kernel does it for the program.
  return __atomic_compare_exchange_n(word, &expected, desired, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST);
}

// 0: woken, or the word holds another value already. Else an error, or an interrupt's code.
Result wait_in_table(uint32_t* word, uint32_t expected, int64_t deadline_ns) {
  const FutexKey key = FutexKey::of(word, false);
  switch (futex_wait(key, word, expected, kFutexAnyBit, deadline_ns)) {
    case FutexOutcome::timed_out:
      return -ETIMEDOUT;
    case FutexOutcome::interrupted:
      return kRestartCall;
    case FutexOutcome::woken:
    case FutexOutcome::value_differs:
      return 0;
  }
  return 0;
}

Result wait_in_kernel(uint32_t* word, uint32_t expected, int64_t deadline_ns) {
  Result result;
  if (current_worker()->netpoller->supports(platform::OpKind::futex_wait)) {
    platform::Op op;
    op.kind = platform::OpKind::futex_wait;
    op.address = reinterpret_cast<uintptr_t>(word);
    op.second = expected;
    op.offset = kFutexAnyBit;
    op.op_flags = 2;  // FUTEX2_SIZE_U32
    result = complete(op, deadline_ns);
  } else {
    KernelTime until = from_ns(deadline_ns);
    CallFrame plain = {};
    plain.number = SYS_futex;
    plain.rdi = reinterpret_cast<uintptr_t>(word);
    plain.rsi = FUTEX_WAIT_BITSET;  // its time-out is absolute, on the monotonic clock
    plain.rdx = expected;
    plain.r10 = deadline_ns == platform::kForever ? 0 : reinterpret_cast<uintptr_t>(&until);
    plain.r9 = kFutexAnyBit;
    result = off_load(plain);
  }
  if (result == kRestartUnlessHandled) return kRestartCall;
  return result == -EAGAIN || result > 0 ? 0 : result;
}

Result lock(uint32_t* word, bool is_private, uint32_t tid, bool only_try, int64_t deadline_ns) {
  bool contended = false;
  for (;;) {
    const uint32_t value = load(word);
    const uint32_t owner = value & FUTEX_TID_MASK;
    if (owner == tid) return -EDEADLK;
    if (owner == 0) {
      // Free, or its owner died: ours. Others may still wait: keep their bit.
      const uint32_t keep = value & (FUTEX_WAITERS | FUTEX_OWNER_DIED);
      if (replace(word, value, tid | keep | (contended ? FUTEX_WAITERS : 0))) return 0;
      continue;
    }
    if (only_try) return -EAGAIN;
    // An owner of this process that no longer exists will never unlock (futex(2): ESRCH).
    if (is_private && owner >= kFirstVirtualTid &&
        find_thread(static_cast<int>(owner)) == nullptr) {
      return -ESRCH;
    }
    if ((value & FUTEX_WAITERS) == 0 && !replace(word, value, value | FUTEX_WAITERS)) continue;
    contended = true;
    const auto wait = is_private ? wait_in_table : wait_in_kernel;
    const Result result = wait(word, value | FUTEX_WAITERS, deadline_ns);
    if (result != 0) return result;
  }
}

Result unlock(uint32_t* word, bool is_private, uint32_t tid) {
  for (;;) {
    const uint32_t value = load(word);
    if ((value & FUTEX_TID_MASK) != tid) return -EPERM;
    if (replace(word, value, 0)) break;
  }
  if (is_private) {
    futex_wake(FutexKey::of(word, false), 1, kFutexAnyBit);
  } else {
    system_call(SYS_futex, address_of(word), FUTEX_WAKE, 1);
  }
  return 0;
}

}  // namespace

Result futex_pi(const CallFrame& frame, uint32_t command) {
  auto* word = pointer<uint32_t>(frame.rdi);
  const bool is_private = (frame.rsi & FUTEX_PRIVATE_FLAG) != 0;
  const auto tid = static_cast<uint32_t>(current_thread().tid.load(std::memory_order_relaxed));
  if (command == FUTEX_UNLOCK_PI) return unlock(word, is_private, tid);
  int64_t deadline = platform::kForever;
  const auto* timeout = pointer<const KernelTime>(frame.r10);
  if (timeout != nullptr && command != FUTEX_TRYLOCK_PI) {
    if (!is_valid(*timeout)) return -EINVAL;
    // FUTEX_LOCK_PI: absolute CLOCK_REALTIME; LOCK_PI2: monotonic unless the flag says otherwise.
    const bool realtime =
        command == FUTEX_LOCK_PI || (frame.rsi & FUTEX_CLOCK_REALTIME) != 0;
    const int64_t left =
        to_ns(*timeout) - platform::clock_ns(realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC);
    deadline = deadline_after(left > 0 ? left : 0);
  }
  return lock(word, is_private, tid, command == FUTEX_TRYLOCK_PI, deadline);
}

}  // namespace weft
