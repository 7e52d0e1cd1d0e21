// signal_calls.cc - the system calls about signals.
// SPDX-License-Identifier: Apache-2.0
#include <sys/syscall.h>

#include "scheduler/io_wait.h"
#include "syscalls/call_table.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"
#include "syscalls/signal_state.h"
#include "syscalls/signals.h"

namespace weft {
namespace {

constexpr uint64_t kUncatchable =
    (uint64_t{1} << (kSigKill - 1)) | (uint64_t{1} << (kSigStop - 1));

bool is_signal(uint64_t number) { return number >= 1 && number <= kSignalCount; }

// struct k_sigaction as the call takes it.
struct CallAction {
  uint64_t handler;
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
};

}  // namespace

Result sys_rt_sigaction(CallFrame& frame) {
  const auto* wanted = pointer<const CallAction>(frame.rsi);
  auto* old = pointer<CallAction>(frame.rdx);
  if (!is_signal(frame.rdi) || frame.r10 != 8) return -EINVAL;
  const auto number = static_cast<int>(frame.rdi);
  if (wanted != nullptr && (signal_bit(number) & kUncatchable) != 0) return -EINVAL;
  const SignalAction before = action_of(number);
  if (wanted != nullptr) {
    store_action(number,
                 {wanted->handler, wanted->flags, wanted->restorer, wanted->mask & ~kUncatchable});
    apply_action(number);
    // sigaction(2): setting "ignore" (or a default that ignores) discards what is pending.
    const bool ignored = wanted->handler == kActionIgnore ||
                         (wanted->handler == kActionDefault && ignored_by_default(number));
    if (ignored) {
      uint64_t bit = signal_bit(number);
      g_signals.pending.discard(bit);
      visit_threads(
          [](Thread& thread, void* argument) {
            thread.pending.discard(*static_cast<uint64_t*>(argument));
            return false;
          },
          &bit);
    }
  }
  if (old != nullptr) *old = {before.handler, before.flags, before.restorer, before.mask};
  return 0;
}

Result sys_rt_sigprocmask(CallFrame& frame) {
  const auto* set = pointer<const uint64_t>(frame.rsi);
  auto* old = pointer<uint64_t>(frame.rdx);
  if (frame.r10 != 8) return -EINVAL;
  Thread& thread = current_thread();
  const uint64_t before = thread.signal_mask.load(std::memory_order_relaxed);
  if (set != nullptr) {
    uint64_t mask = before;
    switch (frame.rdi) {
      case 0:  // SIG_BLOCK
        mask |= *set;
        break;
      case 1:  // SIG_UNBLOCK
        mask &= ~*set;
        break;
      case 2:  // SIG_SETMASK
        mask = *set;
        break;
      default:
        return -EINVAL;
    }
    // Every bit, those of libc's own signals too, is glibc keeping signals off around a clone or
    // at a thread's end, for a moment: no reason to take 60 signals over from the kernel.
    if (*set != ~uint64_t{0}) claim_signals(mask & ~before);
    set_signal_mask(thread, mask);
  }
  if (old != nullptr) *old = before;
  return 0;
}

Result sys_rt_sigreturn(CallFrame&) {
  // A restorer of the program's own: the frame lies at its stack pointer, so at the site.
  return kExecuteAtSite;
}

Result sys_rt_sigpending(CallFrame& frame) {
  auto* set = pointer<uint64_t>(frame.rdi);
  if (set == nullptr) return -EFAULT;
  if (frame.rsi > 8) return -EINVAL;
  Thread& thread = current_thread();
  *set = (thread.pending.bits() | g_signals.pending.bits()) &
         thread.signal_mask.load(std::memory_order_relaxed);
  return 0;
}

Result sys_rt_sigtimedwait(CallFrame& frame) {
  const auto* wanted = pointer<const uint64_t>(frame.rdi);
  auto* info = pointer<SignalInfo>(frame.rsi);
  const auto* timeout = pointer<const KernelTime>(frame.rdx);
  if (wanted == nullptr) return -EFAULT;
  if (frame.r10 != 8 || (timeout != nullptr && !is_valid(*timeout))) return -EINVAL;
  const uint64_t set = *wanted & ~kUncatchable;
  const int64_t deadline =
      timeout == nullptr ? platform::kForever : deadline_after(to_ns(*timeout));
  Thread& thread = current_thread();
  claim_signals(set);
  SignalInfo taken;
  Result result = 0;
  for (;;) {
    // Announced before the queues are looked at: a sender queues first and then looks for a taker.
    thread.wait_set.store(set, std::memory_order_seq_cst);
    thread.attention.fetch_and(~kAttentionSignal, std::memory_order_seq_cst);
    if (thread.pending.take(set, taken) || g_signals.pending.take(set, taken)) {
      result = taken.number;
      break;
    }
    // sigtimedwait(2): a handler for a signal outside the set means EINTR, never a restart.
    if (has_deliverable_signal(thread)) {
      result = -EINTR;
      break;
    }
    if (timeout != nullptr && deadline <= current_worker()->netpoller->now_ns()) {
      result = -EAGAIN;
      break;
    }
    sleep_until(deadline);
  }
  thread.wait_set.store(0, std::memory_order_seq_cst);
  if (has_deliverable_signal(thread)) {
    thread.attention.fetch_or(kAttentionSignal, std::memory_order_relaxed);
  }
  if (result > 0 && info != nullptr) *info = taken;
  return result;
}

namespace {

// Sleeps until a signal would be handled. The gate delivers it; a handler means EINTR.
Result sleep_until_signal() {
  Thread& thread = current_thread();
  for (;;) {
    thread.attention.fetch_and(~kAttentionSignal, std::memory_order_seq_cst);
    if (has_deliverable_signal(thread)) break;
    sleep_until(platform::kForever);
  }
  thread.attention.fetch_or(kAttentionSignal, std::memory_order_relaxed);
  return kRestartUnlessHandled;
}

}  // namespace

Result sys_rt_sigsuspend(CallFrame& frame) {
  const auto* mask = pointer<const uint64_t>(frame.rdi);
  if (mask == nullptr) return -EFAULT;
  if (frame.rsi != 8) return -EINVAL;
  replace_mask_for_wait(current_thread(), *mask);
  return sleep_until_signal();
}

Result sys_pause(CallFrame&) { return sleep_until_signal(); }

void replace_mask_for_wait(Thread& thread, uint64_t mask) {
  // Not twice: a call that is done again finds the mask replaced already.
  if (!thread.mask_to_restore) {
    thread.saved_mask = thread.signal_mask.load(std::memory_order_relaxed);
    thread.mask_to_restore = true;
  }
  claim_signals(mask & ~thread.saved_mask);
  set_signal_mask(thread, mask);
}

void restore_mask_after_wait(Thread& thread) {
  if (!thread.mask_to_restore) return;
  thread.mask_to_restore = false;
  set_signal_mask(thread, thread.saved_mask);
}

Result sys_sigaltstack(CallFrame& frame) {
  struct Stack {  // stack_t
    void* pointer;
    int flags;
    size_t bytes;
  };
  Thread& thread = current_thread();
  const auto* wanted = pointer<const Stack>(frame.rdi);
  auto* old = pointer<Stack>(frame.rsi);
  const AlternateStack before = thread.alternate_stack;
  if (wanted != nullptr) {
    constexpr int kDisable = 2;
    constexpr int kAutoDisarm = static_cast<int>(1u << 31);
    constexpr size_t kMinimum = 2048;  // MINSIGSTKSZ of the kernel
    const int mode = wanted->flags & ~kAutoDisarm;
    if (mode != 0 && mode != 1 && mode != kDisable) return -EINVAL;
    if (mode != kDisable && wanted->bytes < kMinimum) return -ENOMEM;
    thread.alternate_stack = {wanted->pointer, mode == kDisable ? kDisable : wanted->flags & ~1,
                              wanted->bytes};
    if (mode == kDisable) thread.alternate_stack = AlternateStack{};
  }
  if (old != nullptr) *old = {before.pointer, before.flags, before.bytes};
  return 0;
}

namespace {

Result send_by_id(CallFrame& frame, int group, int tid, uint64_t number, const SignalInfo* given) {
  if (group != 0 && group != g_runtime.process_id) return kernel(frame);
  Thread* thread = find_thread(tid);
  if (thread == nullptr) return kernel(frame);
  if (number > kSignalCount) return -EINVAL;
  if (number == 0) return 0;
  SignalInfo info;
  if (given != nullptr) {
    info = *given;
  } else {
    info.code = -6;  // SI_TKILL
    const auto user = static_cast<uint32_t>(system_call(SYS_getuid));
    // si_pid and si_uid share the first eight bytes of the union.
    info.rest[0] = static_cast<uint32_t>(g_runtime.process_id) | uint64_t{user} << 32;
  }
  info.number = static_cast<int32_t>(number);
  if ((signal_bit(info.number) & kUncatchable) != 0) {
    return system_call(SYS_kill, g_runtime.process_id, static_cast<long>(number));
  }
  return send_to_thread(*thread, info);
}

}  // namespace

Result sys_tgkill(CallFrame& frame) {
  return send_by_id(frame, static_cast<int>(frame.rdi), static_cast<int>(frame.rsi), frame.rdx,
                    nullptr);
}

Result sys_tkill(CallFrame& frame) {
  return send_by_id(frame, 0, static_cast<int>(frame.rdi), frame.rsi, nullptr);
}

Result sys_rt_tgsigqueueinfo(CallFrame& frame) {
  const auto* info = pointer<const SignalInfo>(frame.r10);
  if (info == nullptr) return -EFAULT;
  return send_by_id(frame, static_cast<int>(frame.rdi), static_cast<int>(frame.rsi), frame.rdx,
                    info);
}

Result sys_signalfd(CallFrame& frame) { return kernel(frame); }
Result sys_signalfd4(CallFrame& frame) { return kernel(frame); }

namespace {

// Timers whose signals go to one fiber. The kernel does not know its id, so it is told to signal
// the process, and the id of the timer, which it sends along, finds the fiber again.
struct TimerTargets {
  static constexpr uint32_t kMax = 1024;
  std::atomic<int> tid[kMax] = {};  // by timer id; ids are small numbers counted per process
};
constinit TimerTargets g_timer_targets;

struct SignalEvent {  // struct sigevent
  uint64_t value;
  int32_t number;
  int32_t notify;
  int32_t tid;
  int32_t rest[11];
};
static_assert(sizeof(SignalEvent) == 64);

}  // namespace

int timer_target(int timer_id) {
  if (timer_id < 0 || timer_id >= static_cast<int>(TimerTargets::kMax)) return 0;
  return g_timer_targets.tid[timer_id].load(std::memory_order_relaxed);
}

Result sys_timer_create(CallFrame& frame) {
  const auto* event = pointer<const SignalEvent>(frame.rsi);
  auto* timer_id = pointer<int32_t>(frame.rdx);
  constexpr int kSignal = 0, kNone = 1, kThreadId = 4;
  if (event == nullptr || event->notify == kNone || !is_signal(static_cast<uint64_t>(event->number))) {
    return kernel(frame);
  }
  int target = 0;
  SignalEvent changed = *event;
  CallFrame call = frame;
  if (event->notify == kThreadId && find_thread(event->tid) != nullptr) {
    target = event->tid;
    changed.notify = kSignal;
    claim_signals(signal_bit(event->number));
    call.rsi = reinterpret_cast<uintptr_t>(&changed);
  }
  const Result result = kernel(call);
  if (result == 0 && timer_id != nullptr && *timer_id >= 0 &&
      *timer_id < static_cast<int>(TimerTargets::kMax)) {
    g_timer_targets.tid[*timer_id].store(target, std::memory_order_relaxed);
  }
  return result;
}

}  // namespace weft
