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
  uint64_t pending = thread.pending.bits() | g_signals.pending.bits();
  if (const uint64_t kept = g_signals.kept_in_kernel.load(std::memory_order_relaxed); kept != 0) {
    uint64_t in_kernel = 0;
    system_call(SYS_rt_sigpending, address_of(&in_kernel), 8);
    pending |= in_kernel & kept;
  }
  *set = pending & thread.signal_mask.load(std::memory_order_relaxed);
  return 0;
}

namespace {

// Announced before the queues are looked at: a sender queues first and then looks for a taker.
void wait_for_signals(Thread& thread, uint64_t set) {
  const uint64_t before = thread.wait_set.exchange(set, std::memory_order_seq_cst);
  if (((before | set) & g_signals.watched.load(std::memory_order_seq_cst)) == 0) return;
  // What a signalfd watches comes to us while somebody waits for it here.
  decide_what_kernel_keeps();
  apply_worker_mask();
  read_noted_signals();
}

}  // namespace

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
  wait_for_signals(thread, set);
  SignalInfo taken;
  Result result = 0;
  for (;;) {
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
  wait_for_signals(thread, 0);
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
  Thread& thread = current_thread();
  const auto* wanted = pointer<const AlternateStack>(frame.rdi);
  auto* old = pointer<AlternateStack>(frame.rsi);
  AlternateStack before = thread.alternate_stack;
  const bool on_it = on_alternate_stack(thread, frame.rsp);
  if (wanted != nullptr) {
    constexpr size_t kMinimum = 2048;  // MINSIGSTKSZ of the kernel
    const AlternateStack given = *wanted;
    const int mode = given.flags & ~kStackAutoDisarm;
    if (on_it) return -EPERM;
    if (mode != 0 && mode != kStackOnIt && mode != kStackDisable) return -EINVAL;
    if (mode != kStackDisable && given.bytes < kMinimum) return -ENOMEM;
    thread.alternate_stack = {given.pointer, given.flags & ~kStackOnIt, given.bytes};
    if (mode == kStackDisable) thread.alternate_stack = AlternateStack{};
  }
  if (on_it) before.flags |= kStackOnIt;
  if (old != nullptr) *old = before;
  return 0;
}

namespace {

// A signal that this process sends by kill(2) or sigqueue(3).
SignalInfo own_signal(int number, int code) {
  SignalInfo info;
  info.number = number;
  info.code = code;
  const auto user = static_cast<uint32_t>(system_call(SYS_getuid));
  // si_pid and si_uid share the first eight bytes of the union.
  info.rest[0] = static_cast<uint32_t>(g_runtime.process_id) | uint64_t{user} << 32;
  return info;
}

// To the own process, without a way through the kernel: what the caller does not block is handled
// before the call returns (POSIX kill), and real-time signals keep their order.
Result send_to_process(CallFrame& frame, uint64_t id, uint64_t number, const SignalInfo* given) {
  const bool ours = static_cast<int>(id) == g_runtime.process_id && is_signal(number) &&
                    is_taken_over(static_cast<int>(number));
  if (!ours) return kernel(frame);
  SignalInfo info = given != nullptr ? *given : own_signal(static_cast<int>(number), 0);  // SI_USER
  info.number = static_cast<int32_t>(number);
  dispatch_to_process(info);
  return 0;
}

Result send_by_id(CallFrame& frame, int group, int tid, uint64_t number, const SignalInfo* given) {
  if (group != 0 && group != g_runtime.process_id) return kernel(frame);
  Thread* thread = find_thread(tid);
  if (thread == nullptr) return kernel(frame);
  if (number > kSignalCount) return -EINVAL;
  if (number == 0) return 0;
  constexpr int kSiTkill = -6;
  SignalInfo info = given != nullptr ? *given : own_signal(static_cast<int>(number), kSiTkill);
  info.number = static_cast<int32_t>(number);
  if ((signal_bit(info.number) & kUncatchable) != 0) {
    return system_call(SYS_kill, g_runtime.process_id, static_cast<long>(number));
  }
  return send_to_thread(*thread, info);
}

}  // namespace

Result sys_kill(CallFrame& frame) {
  return send_to_process(frame, frame.rdi, frame.rsi, nullptr);
}

Result sys_rt_sigqueueinfo(CallFrame& frame) {
  const auto* info = pointer<const SignalInfo>(frame.rdx);
  if (info == nullptr) return -EFAULT;
  return send_to_process(frame, frame.rdi, frame.rsi, info);
}

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

Result sys_signalfd4(CallFrame& frame) {
  const auto* mask = pointer<const uint64_t>(frame.rsi);
  const Result result = kernel(frame);
  // signalfd(2): not made, or not changed, unless the mask could be read.
  if (result >= 0) watch_signals(*mask);
  return result;
}

Result sys_signalfd(CallFrame& frame) { return sys_signalfd4(frame); }

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
  constexpr int kSignal = 0, kThreadId = 4;
  int target = 0;
  SignalEvent changed;
  CallFrame call = frame;
  if (event != nullptr && event->notify == kThreadId &&
      is_signal(static_cast<uint64_t>(event->number)) && find_thread(event->tid) != nullptr) {
    changed = *event;
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
