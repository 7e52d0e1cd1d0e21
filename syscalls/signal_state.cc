// signal_state.cc - actions, claims and the choice of a thread for a process's signal.
// SPDX-License-Identifier: Apache-2.0
#include "syscalls/signal_state.h"

#include <sys/syscall.h>

#include "scheduler/scheduler.h"
#include "syscalls/counters.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"

namespace weft {
namespace {

constexpr uint64_t kNeverBlocked = (uint64_t{1} << (kSigKill - 1)) | (uint64_t{1} << (kSigStop - 1));

// The kernel's struct sigaction on x86-64.
struct KernelAction {
  uint64_t handler;
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
};

void set_kernel_action(int number, const KernelAction& action) {
  system_call(SYS_rt_sigaction, number, address_of(&action), 0, 8);
}

bool blocks(const Thread& thread, uint64_t bit) {
  const uint64_t mask = thread.signal_mask.load(std::memory_order_seq_cst);
  const uint64_t waits_for = thread.wait_set.load(std::memory_order_seq_cst);
  return (mask & bit) != 0 && (waits_for & bit) == 0;
}

}  // namespace

constinit SignalState g_signals;

SignalAction action_of(int number) {
  LockGuard guard(g_signals.lock);
  return g_signals.actions[number];
}

void store_action(int number, const SignalAction& action) {
  LockGuard guard(g_signals.lock);
  g_signals.actions[number] = action;
}

bool ignored_by_default(int number) {
  return number == kSigChld || number == kSigCont || number == kSigUrg || number == kSigWinch;
}

bool stops_by_default(int number) {
  return number == kSigStop || number == kSigTstp || number == kSigTtin || number == kSigTtou;
}

void apply_action(int number) {
  if (number == kSigSys && g_runtime.keeps_sigsys) return;
  const SignalAction action = action_of(number);
  const bool claimed =
      (g_signals.claimed.load(std::memory_order_relaxed) & signal_bit(number)) != 0;
  KernelAction wanted = {};
  if (number != kSigUrg && action.handler == kActionIgnore) {
    wanted.handler = kActionIgnore;
    // SA_NOCLDWAIT and SA_NOCLDSTOP matter to the kernel's own bookkeeping of children.
    wanted.flags = action.flags & (kSaNoChildStop | kSaNoChildWait);
  } else if (number != kSigUrg && action.handler == kActionDefault && !claimed) {
    wanted.flags = action.flags & (kSaNoChildStop | kSaNoChildWait);
  } else {
    wanted.handler = reinterpret_cast<uintptr_t>(weft_signal_entry);
    wanted.flags = kSaSigInfo | kSaRestorer | kSaRestart |
                   (action.flags & (kSaNoChildStop | kSaNoChildWait));
    wanted.restorer = reinterpret_cast<uintptr_t>(weft_signal_return);
    wanted.mask = ~uint64_t{0};
  }
  set_kernel_action(number, wanted);
}

void claim_signals(uint64_t bits) {
  bits &= ~kNeverBlocked;
  const uint64_t fresh = bits & ~g_signals.claimed.load(std::memory_order_relaxed);
  if (fresh == 0) return;
  // Relaxed: apply_action() below is what makes it so, on this thread.
  g_signals.claimed.fetch_or(fresh, std::memory_order_relaxed);
  for (int number = 1; number <= kSignalCount; number++) {
    if ((fresh & signal_bit(number)) != 0 && action_of(number).handler == kActionDefault) {
      apply_action(number);
    }
  }
}

void take_default_action(int number) {
  if (ignored_by_default(number)) return;
  if (stops_by_default(number)) {
    system_call(SYS_kill, g_runtime.process_id, kSigStop);
    return;
  }
  set_kernel_action(number, KernelAction{});
  const uint64_t bit = signal_bit(number);
  system_call(SYS_rt_sigprocmask, 1 /* SIG_UNBLOCK */, address_of(&bit), 0, 8);
  system_call(SYS_tgkill, g_runtime.process_id, system_call(SYS_gettid), number);
}

void notify_thread(Thread& thread) {
  // 1 of the interrupter's recipe in fiber.h; interrupt_wait() has the barrier.
  thread.attention.fetch_or(kAttentionSignal, std::memory_order_seq_cst);
  interrupt_wait(thread);
  // A fiber that computes on another worker would not look for long: make its kernel thread look.
  // A racy read; a needless poke does no harm.
  Worker* home = thread.home;
  if (home != nullptr && home != current_worker() &&
      __atomic_load_n(&home->running, __ATOMIC_RELAXED) == &thread) {
    ask_to_look(*home);
  }
}

void dispatch_to_process(const SignalInfo& info) {
  const int number = info.number;
  if (info.code == -2 /* SI_TIMER */) {
    const int tid = timer_target(static_cast<int>(info.rest[0]));
    if (Thread* thread = tid == 0 ? nullptr : find_thread(tid); thread != nullptr) {
      send_to_thread(*thread, info);
      return;
    }
  }
  const SignalAction action = action_of(number);
  const uint64_t bit = signal_bit(number);
  const bool dropped = action.handler == kActionIgnore ||
                       (action.handler == kActionDefault && ignored_by_default(number));
  struct Search {
    uint64_t bit;
  } search{bit};
  auto takes = [](Thread& thread, void* argument) {
    return !blocks(thread, static_cast<Search*>(argument)->bit);
  };
  // An ignored signal is discarded unless it is blocked or waited for (signal(7)).
  if (!dropped) g_signals.pending.add(info);
  // Linux's habit: the first thread if it takes it, then any (kernel/signal.c, complete_signal).
  Thread* target = g_runtime.main_thread;
  if (target == nullptr || target->tid.load(std::memory_order_relaxed) == 0 ||
      blocks(*target, bit)) {
    target = visit_threads(takes, &search);
  }
  if (dropped) {
    const bool waited =
        target != nullptr &&
        (target->wait_set.load(std::memory_order_relaxed) & bit) != 0;
    if (target != nullptr && !waited) return;
    g_signals.pending.add(info);
  }
  if (target != nullptr) notify_thread(*target);
}

Result send_to_thread(Thread& thread, const SignalInfo& info) {
  const SignalAction action = action_of(info.number);
  const bool dropped = action.handler == kActionIgnore ||
                       (action.handler == kActionDefault && ignored_by_default(info.number));
  const uint64_t bit = signal_bit(info.number);
  const uint64_t mask = thread.signal_mask.load(std::memory_order_seq_cst);
  if (dropped && (mask & bit) == 0) return 0;
  if (!thread.pending.add(info)) {
    // A standard signal that waits already is the same one (signal(7)).
    return info.number < kFirstRealTimeSignal ? 0 : -EAGAIN;
  }
  if (!blocks(thread, bit)) notify_thread(thread);
  return 0;
}

void set_signal_mask(Thread& thread, uint64_t mask) {
  mask &= ~kNeverBlocked;
  const uint64_t old = thread.signal_mask.load(std::memory_order_relaxed);
  if (mask == old) return;
  // Sequentially consistent: a sender that queues a signal for the process and then looks for a
  // taker sees the new mask, or we see its signal below.
  thread.signal_mask.store(mask, std::memory_order_seq_cst);
  const uint64_t waiting = g_signals.pending.bits();
  if (((waiting | thread.pending.bits()) & ~mask) != 0) {
    thread.attention.fetch_or(kAttentionSignal, std::memory_order_relaxed);
  }
  if (const uint64_t kept = waiting & mask & ~old; kept != 0) {
    struct Search {
      uint64_t bits;
      Thread* self;
    } search{kept, &thread};
    Thread* other = visit_threads(
        [](Thread& candidate, void* argument) {
          const auto& wanted = *static_cast<Search*>(argument);
          const uint64_t blocked = candidate.signal_mask.load(std::memory_order_seq_cst);
          return &candidate != wanted.self && (wanted.bits & ~blocked) != 0;
        },
        &search);
    if (other != nullptr) notify_thread(*other);
  }
}

void take_over_signals(Thread& main_thread) {
  uint64_t mask = 0;
  system_call(SYS_rt_sigprocmask, 0, 0, address_of(&mask), 8);
  for (int number = 1; number <= kSignalCount; number++) {
    SignalAction action;
    KernelAction current = {};
    system_call(SYS_rt_sigaction, number, 0, address_of(&current), 8);
    action = {current.handler, current.flags, current.restorer, current.mask};
    store_action(number, action);
    const bool handled = action.handler != kActionDefault && action.handler != kActionIgnore;
    if (handled || number == kSigUrg) apply_action(number);
  }
  main_thread.signal_mask.store(mask & ~kNeverBlocked, std::memory_order_relaxed);
  claim_signals(mask);
  set_kernel_mask(kWorkerSignalMask);
}

void return_signals(Thread& thread) {
  for (int number = 1; number <= kSignalCount; number++) {
    const SignalAction action = action_of(number);
    if (number == kSigKill || number == kSigStop) continue;
    set_kernel_action(number, {action.handler, action.flags, action.restorer, action.mask});
  }
  g_signals.claimed.store(0, std::memory_order_relaxed);
  // fork(2): the child's set of pending signals is empty.
  g_signals.pending.clear();
  thread.pending.clear();
  thread.attention.store(0, std::memory_order_relaxed);
  set_kernel_mask(thread.signal_mask.load(std::memory_order_relaxed));
}

}  // namespace weft
