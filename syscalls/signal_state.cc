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

bool is_dropped(int number) {
  const uint64_t handler = action_of(number).handler;
  return handler == kActionIgnore || (handler == kActionDefault && ignored_by_default(number));
}

// A thread that takes the signal now. Linux's habit: the first thread if it does, then any
// (kernel/signal.c, complete_signal).
Thread* taker_of(uint64_t bit) {
  Thread* first = g_runtime.main_thread;
  if (first != nullptr && first->tid.load(std::memory_order_relaxed) != 0 && !blocks(*first, bit)) {
    return first;
  }
  return visit_threads(
      [](Thread& thread, void* wanted) { return !blocks(thread, *static_cast<uint64_t*>(wanted)); },
      &bit);
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

bool is_taken_over(int number) {
  // SIGURG: the runtime's own requests. SIGSEGV and SIGBUS: call bodies touch the program's memory.
  if (number == kSigUrg || number == kSigSegv || number == kSigBus) return true;
  const uint64_t handler = action_of(number).handler;
  if (handler == kActionIgnore) return false;
  // SIGPIPE: the kernel raises it for the thread that did an operation, which is not who asked.
  return handler != kActionDefault || number == kSigPipe ||
         (g_signals.claimed.load(std::memory_order_relaxed) & signal_bit(number)) != 0;
}

void apply_action(int number) {
  if (number == kSigSys && g_runtime.keeps_sigsys) return;
  const SignalAction action = action_of(number);
  KernelAction wanted = {};
  // SA_NOCLDWAIT and SA_NOCLDSTOP matter to the kernel's own bookkeeping of children.
  wanted.flags = action.flags & (kSaNoChildStop | kSaNoChildWait);
  if (is_taken_over(number)) {
    wanted.handler = reinterpret_cast<uintptr_t>(weft_signal_entry);
    wanted.flags |= kSaSigInfo | kSaRestorer | kSaRestart | kSaOnStack;
    wanted.restorer = reinterpret_cast<uintptr_t>(weft_signal_return);
    wanted.mask = ~uint64_t{0};
  } else {
    wanted.handler = action.handler;
  }
  set_kernel_action(number, wanted);
}

void set_default_in_kernel(int number) { set_kernel_action(number, KernelAction{}); }

void claim_signals(uint64_t bits) {
  bits &= ~kUncatchable;
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
  set_default_in_kernel(number);
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
  // One that waits in the kernel, on a kernel thread of the blocking pool or on its own: the recipe
  // of Thread::blocking_tid (kernel.cc), whose step 2 was interrupt_wait()'s barrier.
  if (const int tid = thread.blocking_tid.load(std::memory_order_relaxed); tid != 0) {
    poke_kernel_thread(tid);
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
  const uint64_t bit = signal_bit(number);
  const bool dropped = is_dropped(number);
  // Queued before a taker is looked for: one that unblocks it meanwhile sees it there.
  if (!dropped) g_signals.pending.add(info);
  Thread* target = taker_of(bit);
  if (dropped) {
    // An ignored signal is discarded unless it is blocked or waited for (signal(7)).
    const bool waited =
        target != nullptr && (target->wait_set.load(std::memory_order_relaxed) & bit) != 0;
    if (target != nullptr && !waited) return;
    g_signals.pending.add(info);
  }
  if (target != nullptr) {
    notify_thread(*target);
  } else if ((g_signals.watched.load(std::memory_order_relaxed) & bit) != 0) {
    decide_what_kernel_keeps();
    hand_to_kernel(g_signals.pending, bit);
  }
}

Result send_to_thread(Thread& thread, const SignalInfo& info) {
  const uint64_t bit = signal_bit(info.number);
  const uint64_t mask = thread.signal_mask.load(std::memory_order_seq_cst);
  if (is_dropped(info.number) && (mask & bit) == 0) return 0;
  if (!thread.pending.add(info)) {
    // A standard signal that waits already is the same one (signal(7)).
    return info.number < kFirstRealTimeSignal ? 0 : -EAGAIN;
  }
  // A signalfd of whoever reads it: Linux would give it to this thread's reads only.
  hand_to_kernel(thread.pending, bit);
  if (!blocks(thread, bit)) notify_thread(thread);
  return 0;
}

void set_signal_mask(Thread& thread, uint64_t mask) {
  mask &= ~kUncatchable;
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
  if (((old ^ mask) & g_signals.watched.load(std::memory_order_seq_cst)) != 0) {
    decide_what_kernel_keeps();
    apply_worker_mask();
  }
}

void leave_signals(Thread& thread) {
  thread.wait_set.store(0, std::memory_order_seq_cst);
  set_signal_mask(thread, ~uint64_t{0});
}

void take_over_signals(Thread& main_thread) {
  uint64_t mask = 0;
  system_call(SYS_rt_sigprocmask, 0, 0, address_of(&mask), 8);
  for (int number = 1; number <= kSignalCount; number++) {
    KernelAction current = {};
    system_call(SYS_rt_sigaction, number, 0, address_of(&current), 8);
    store_action(number, {current.handler, current.flags, current.restorer, current.mask});
    const bool handled = current.handler != kActionDefault && current.handler != kActionIgnore;
    if (handled || is_taken_over(number)) apply_action(number);
  }
  main_thread.signal_mask.store(mask & ~kUncatchable, std::memory_order_relaxed);
  AlternateStack& stack = main_thread.alternate_stack;
  system_call(SYS_sigaltstack, 0, address_of(&stack));
  stack.flags &= ~kStackOnIt;
  claim_signals(mask);
  find_signal_descriptors();
  decide_what_kernel_keeps();
  open_worker_for_signals(*current_worker());
}

void return_signals(Thread& thread) {
  for (int number = 1; number <= kSignalCount; number++) {
    const SignalAction action = action_of(number);
    if (number == kSigKill || number == kSigStop) continue;
    set_kernel_action(number, {action.handler, action.flags, action.restorer, action.mask});
  }
  g_signals.claimed.store(0, std::memory_order_relaxed);
  g_signals.kept_in_kernel.store(0, std::memory_order_relaxed);
  // fork(2): the child's set of pending signals is empty.
  g_signals.pending.forget();
  thread.pending.forget();
  thread.attention.store(0, std::memory_order_relaxed);
  system_call(SYS_sigaltstack, address_of(&thread.alternate_stack), 0);
  set_kernel_mask(thread.signal_mask.load(std::memory_order_relaxed));
}

void lock_signals_for_fork() WEFT_NO_ANALYSIS {
  g_signals.descriptors_lock.lock();
  g_signals.lock.lock();
}

void unlock_signals_after_fork() WEFT_NO_ANALYSIS {
  g_signals.lock.unlock();
  g_signals.descriptors_lock.unlock();
}

}  // namespace weft
