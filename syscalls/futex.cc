// futex.cc - futex(2) and its newer forms: private words in the table, shared ones in the kernel.
// A shared word in one of our own thread stacks (pthread_join waits so for the thread id) cannot be
// another process's: it stays in the table under the key for shared operations.
// SPDX-License-Identifier: Apache-2.0
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "platform/os.h"
#include "scheduler/fiber_stack.h"
#include "scheduler/futex_table.h"
#include "syscalls/call_table.h"
#include "syscalls/futex_pi.h"
#include "syscalls/kernel.h"

namespace weft {
namespace {

using platform::kForever;

constexpr uint32_t kFutex2Size32 = 2;      // FUTEX2_SIZE_U32
constexpr uint32_t kFutex2Private = 128;   // FUTEX2_PRIVATE
constexpr uint64_t kUserAddressEnd = uint64_t{1} << 47;

bool is_local(const volatile void* word, bool is_private) {
  return is_private || stack_contains(reinterpret_cast<uintptr_t>(word), sizeof(uint32_t));
}

// EFAULT is decided before the table's locks are taken: a fault under them could not be left.
void touch(const volatile uint32_t* word) { static_cast<void>(*word); }
void touch_writable(uint32_t* word) { __atomic_fetch_or(word, 0, __ATOMIC_RELAXED); }

Result wait_in_kernel(const CallFrame& frame, uint32_t* word, uint32_t expected, uint32_t bits,
                      int64_t deadline_ns) {
  if (!current_worker()->netpoller->supports(platform::OpKind::futex_wait)) return off_load(frame);
  platform::Op op;
  op.kind = platform::OpKind::futex_wait;
  op.address = reinterpret_cast<uintptr_t>(word);
  op.second = expected;
  op.offset = bits;
  op.op_flags = kFutex2Size32;
  return complete(op, deadline_ns);
}

Result wait(const CallFrame& frame, uint32_t* word, bool is_private, uint32_t expected,
            uint32_t bits, int64_t deadline_ns, bool timed) {
  if (bits == 0) return -EINVAL;
  if (!is_local(word, is_private)) {
    const Result result = wait_in_kernel(frame, word, expected, bits, deadline_ns);
    return result == kRestartCall && timed ? kRestartUnlessHandled : result;
  }
  touch(word);
  switch (futex_wait(FutexKey::of(word, !is_private), word, expected, bits, deadline_ns)) {
    case FutexOutcome::woken:
      return 0;
    case FutexOutcome::value_differs:
      return -EAGAIN;
    case FutexOutcome::timed_out:
      return -ETIMEDOUT;
    case FutexOutcome::interrupted:
      // signal(7): a wait without a time-out is restarted by SA_RESTART, one with is not.
      return timed ? kRestartUnlessHandled : kRestartCall;
  }
  return 0;
}

Result wake(const CallFrame& frame, uint32_t* word, bool is_private, uint32_t count,
            uint32_t bits) {
  if (bits == 0) return -EINVAL;
  if (!is_local(word, is_private)) return kernel(frame);
  return futex_wake(FutexKey::of(word, !is_private), count, bits);
}

// An absolute time-out of the given clock, on ours.
int64_t from_absolute(const KernelTime& time, int clock) {
  const int64_t target = to_ns(time);
  if (target == kForever || clock == CLOCK_MONOTONIC) return target;
  const int64_t left = target - platform::clock_ns(clock);
  return deadline_after(left > 0 ? left : 0);
}

// FUTEX_WAKE_OP's operation on the second word (futex(2)), encoded in val3.
struct WakeOperation {
  uint32_t* word;
  uint32_t encoded;
  bool unknown = false;
};

bool apply(void* argument) {
  auto& operation = *static_cast<WakeOperation*>(argument);
  const uint32_t encoded = operation.encoded;
  const uint32_t comparison = (encoded >> 24) & 15;
  // Both arguments are 12-bit signed numbers.
  auto operand = static_cast<int32_t>(encoded << 8) >> 20;
  const int32_t compared = static_cast<int32_t>(encoded << 20) >> 20;
  if (((encoded >> 28) & 8) != 0) operand = 1 << (operand & 31);  // FUTEX_OP_ARG_SHIFT
  auto* word = reinterpret_cast<int32_t*>(operation.word);
  int32_t old = 0;
  // Sequentially consistent: the kernel's operation is a full barrier for the program.
  switch ((encoded >> 28) & 7) {
    case FUTEX_OP_SET:
      old = __atomic_exchange_n(word, operand, __ATOMIC_SEQ_CST);
      break;
    case FUTEX_OP_ADD:
      old = __atomic_fetch_add(word, operand, __ATOMIC_SEQ_CST);
      break;
    case FUTEX_OP_OR:
      old = __atomic_fetch_or(word, operand, __ATOMIC_SEQ_CST);
      break;
    case FUTEX_OP_ANDN:
      old = __atomic_fetch_and(word, ~operand, __ATOMIC_SEQ_CST);
      break;
    case FUTEX_OP_XOR:
      old = __atomic_fetch_xor(word, operand, __ATOMIC_SEQ_CST);
      break;
    default:
      operation.unknown = true;
      return false;
  }
  switch (comparison) {
    case FUTEX_OP_CMP_EQ:
      return old == compared;
    case FUTEX_OP_CMP_NE:
      return old != compared;
    case FUTEX_OP_CMP_LT:
      return old < compared;
    case FUTEX_OP_CMP_GE:
      return old >= compared;
    case FUTEX_OP_CMP_LE:
      return old <= compared;
    case FUTEX_OP_CMP_GT:
      return old > compared;
    default:
      operation.unknown = true;
      return false;
  }
}

Result wake_op(const CallFrame& frame, uint32_t* word, uint32_t* second, bool is_private) {
  if (!is_local(word, is_private) || !is_local(second, is_private)) return kernel(frame);
  touch_writable(second);
  WakeOperation operation{second, static_cast<uint32_t>(frame.r9)};
  const uint32_t woken = futex_wake_op(
      FutexKey::of(word, !is_private), static_cast<uint32_t>(frame.rdx),
      FutexKey::of(second, !is_private), static_cast<uint32_t>(frame.r10), apply, &operation);
  return operation.unknown ? -ENOSYS : static_cast<Result>(woken);
}

Result requeue(const CallFrame& frame, uint32_t* word, uint32_t* target, bool is_private,
               bool compare) {
  if (!is_local(word, is_private) || !is_local(target, is_private)) return kernel(frame);
  if (static_cast<int32_t>(frame.rdx) < 0 || static_cast<int32_t>(frame.r10) < 0) return -EINVAL;
  const auto expected = static_cast<uint32_t>(frame.r9);
  if (compare) touch(word);
  const FutexRequeue result =
      futex_requeue(FutexKey::of(word, !is_private), FutexKey::of(target, !is_private),
                    static_cast<uint32_t>(frame.rdx), static_cast<uint32_t>(frame.r10), word,
                    compare ? &expected : nullptr);
  if (result.affected < 0) return -EAGAIN;
  // futex(2): FUTEX_REQUEUE tells the number woken, FUTEX_CMP_REQUEUE woken and requeued.
  return compare ? static_cast<Result>(result.affected) : static_cast<Result>(result.woken);
}

}  // namespace

Result sys_futex(CallFrame& frame) {
  auto* word = pointer<uint32_t>(frame.rdi);
  const auto operation = static_cast<uint32_t>(frame.rsi);
  const bool is_private = (operation & FUTEX_PRIVATE_FLAG) != 0;
  const bool realtime = (operation & FUTEX_CLOCK_REALTIME) != 0;
  const auto value = static_cast<uint32_t>(frame.rdx);
  const uint32_t command = operation & static_cast<uint32_t>(FUTEX_CMD_MASK);
  if ((frame.rdi & 3) != 0) return -EINVAL;
  if (frame.rdi >= kUserAddressEnd) return -EFAULT;
  switch (command) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET: {
      int64_t deadline = kForever;
      const auto* timeout = pointer<const KernelTime>(frame.r10);
      if (timeout != nullptr) {
        if (!is_valid(*timeout)) return -EINVAL;
        // futex(2): relative for FUTEX_WAIT, absolute for FUTEX_WAIT_BITSET.
        deadline = command == FUTEX_WAIT
                       ? call_deadline(to_ns(*timeout))
                       : from_absolute(*timeout, realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC);
      }
      const uint32_t bits =
          command == FUTEX_WAIT ? kFutexAnyBit : static_cast<uint32_t>(frame.r9);
      return wait(frame, word, is_private, value, bits, deadline, timeout != nullptr);
    }
    case FUTEX_WAKE:
      return wake(frame, word, is_private, value, kFutexAnyBit);
    case FUTEX_WAKE_BITSET:
      return wake(frame, word, is_private, value, static_cast<uint32_t>(frame.r9));
    case FUTEX_REQUEUE:
      return requeue(frame, word, pointer<uint32_t>(frame.r8), is_private, false);
    case FUTEX_CMP_REQUEUE:
      return requeue(frame, word, pointer<uint32_t>(frame.r8), is_private, true);
    case FUTEX_WAKE_OP:
      return wake_op(frame, word, pointer<uint32_t>(frame.r8), is_private);
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
    case FUTEX_UNLOCK_PI:
    case FUTEX_TRYLOCK_PI:
      return futex_pi(frame, command);
    default:
      return kernel(frame);
  }
}

Result sys_futex_waitv(CallFrame& frame) {
  struct Item {  // struct futex_waitv
    uint64_t value;
    uint64_t word;
    uint32_t flags;
    uint32_t reserved;
  };
  constexpr uint32_t kMax = 128;  // FUTEX_WAITV_MAX
  const auto* items = pointer<const Item>(frame.rdi);
  const auto count = static_cast<uint32_t>(frame.rsi);
  if (count == 0 || count > kMax || items == nullptr || frame.rdx != 0) return kernel(frame);
  int64_t deadline = kForever;
  if (const auto* timeout = pointer<const KernelTime>(frame.r10); timeout != nullptr) {
    const auto clock = static_cast<int>(frame.r8);
    if (!is_valid(*timeout) || (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME)) {
      return -EINVAL;
    }
    deadline = from_absolute(*timeout, clock);
  }
  FutexWaitItem local[kMax];
  for (uint32_t i = 0; i < count; i++) {
    auto* word = pointer<uint32_t>(items[i].word);
    const bool is_private = (items[i].flags & kFutex2Private) != 0;
    // A mixture with other processes' words: the pool waits in the kernel for all of them.
    if ((items[i].flags & 7) != kFutex2Size32 || !is_local(word, is_private)) {
      return off_load(frame);
    }
    touch(word);
    local[i] = {FutexKey::of(word, !is_private), word, static_cast<uint32_t>(items[i].value)};
  }
  uint32_t woken = 0;
  switch (futex_wait_any(local, count, deadline, woken)) {
    case FutexOutcome::woken:
      return woken;
    case FutexOutcome::value_differs:
      return -EAGAIN;
    case FutexOutcome::timed_out:
      return -ETIMEDOUT;
    case FutexOutcome::interrupted:
      return kRestartCall;
  }
  return 0;
}

Result sys_futex_wait(CallFrame& frame) {
  auto* word = pointer<uint32_t>(frame.rdi);
  const auto flags = static_cast<uint32_t>(frame.r10);
  if ((flags & 7) != kFutex2Size32) return kernel(frame);
  int64_t deadline = kForever;
  const auto* timeout = pointer<const KernelTime>(frame.r8);
  if (timeout != nullptr) {
    if (!is_valid(*timeout)) return -EINVAL;
    deadline = from_absolute(*timeout, static_cast<int>(frame.r9));
  }
  return wait(frame, word, (flags & kFutex2Private) != 0, static_cast<uint32_t>(frame.rsi),
              static_cast<uint32_t>(frame.rdx), deadline, timeout != nullptr);
}

Result sys_futex_wake(CallFrame& frame) {
  const auto flags = static_cast<uint32_t>(frame.r10);
  if ((flags & 7) != kFutex2Size32) return kernel(frame);
  return wake(frame, pointer<uint32_t>(frame.rdi), (flags & kFutex2Private) != 0,
              static_cast<uint32_t>(frame.rdx), static_cast<uint32_t>(frame.rsi));
}

Result sys_futex_requeue(CallFrame& frame) {
  struct Item {
    uint64_t value;
    uint64_t word;
    uint32_t flags;
    uint32_t reserved;
  };
  const auto* items = pointer<const Item>(frame.rdi);
  if (items == nullptr || frame.rsi != 0) return kernel(frame);
  const bool private_source = (items[0].flags & kFutex2Private) != 0;
  const bool private_target = (items[1].flags & kFutex2Private) != 0;
  auto* source = pointer<uint32_t>(items[0].word);
  auto* target = pointer<uint32_t>(items[1].word);
  if (!is_local(source, private_source) || !is_local(target, private_target)) {
    return kernel(frame);
  }
  const auto expected = static_cast<uint32_t>(items[0].value);
  touch(source);
  const FutexRequeue result = futex_requeue(
      FutexKey::of(source, !private_source), FutexKey::of(target, !private_target),
      static_cast<uint32_t>(frame.rdx), static_cast<uint32_t>(frame.r10), source, &expected);
  return result.affected < 0 ? -EAGAIN : static_cast<Result>(result.affected);
}

}  // namespace weft
