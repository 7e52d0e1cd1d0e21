// signal_delivery.cc - the master handler, and running the program's handlers.
// SPDX-License-Identifier: Apache-2.0
#include <sys/syscall.h>

#include "scheduler/assert.h"
#include "scheduler/scheduler.h"
#include "syscalls/counters.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"
#include "syscalls/signal_state.h"
#include "syscalls/signals.h"

namespace weft {
namespace {

// The kernel's struct ucontext on x86-64 (arch/x86/include/uapi/asm/sigcontext.h); the rest of
// libc's ucontext_t is room for the FPU state, which a handler finds through fpu_state.
struct UserContext {
  uint64_t flags;
  uint64_t link;
  uint64_t stack_pointer;
  uint64_t stack_flags;
  uint64_t stack_bytes;
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
  uint64_t eflags, segments, error, trap, old_mask, fault_address;
  uint64_t fpu_state;
  uint64_t reserved[8];
  uint64_t signal_mask;
  uint64_t libc_room[83];
};
static_assert(offsetof(UserContext, rip) == 168);
static_assert(offsetof(UserContext, signal_mask) == 296);
static_assert(sizeof(UserContext) == 968);

// What distinguishes our own SIGURG from the program's.
constexpr uint64_t kPreempt = 0x7765667470726500;
constexpr uint64_t kLook = 0x776566746c6f6f00;
constexpr int kSiQueue = -1;

void poke(Worker& worker, uint64_t what) {
  SignalInfo info;
  info.number = kSigUrg;
  info.code = kSiQueue;
  info.rest[0] = static_cast<uint32_t>(g_runtime.process_id);
  info.rest[1] = what;  // si_value
  system_call(SYS_rt_tgsigqueueinfo, g_runtime.process_id, worker.kernel_tid, kSigUrg,
              address_of(&info));
}

uint64_t own_request(const SignalInfo& info) {
  if (info.number != kSigUrg || info.code != kSiQueue) return 0;
  const bool ours = info.rest[1] == kPreempt || info.rest[1] == kLook;
  return ours ? info.rest[1] : 0;
}

bool is_fault(const SignalInfo& info) {
  if (info.code <= 0) return false;
  return info.number == kSigSegv || info.number == kSigBus || info.number == kSigFpe ||
         info.number == kSigIll || info.number == kSigTrap || info.number == kSigSys;
}

SignalNotes& notes_of(Worker& worker) { return *static_cast<SignalNotes*>(worker.signal_notes); }

// In the master handler, all signals blocked, the runtime interrupted: no lock may be taken.
void note_signal(Worker& worker, const SignalInfo& info) {
  SignalNotes& notes = notes_of(worker);
  const uint32_t written = notes.written.load(std::memory_order_relaxed);
  if (written - notes.read.load(std::memory_order_relaxed) < SignalNotes::kCapacity) {
    notes.ring[written % SignalNotes::kCapacity] = info;
    // Release: read_noted_signals() is this thread's, but the compiler must keep the order.
    notes.written.store(written + 1, std::memory_order_release);
  } else {
    notes.overflow.fetch_or(signal_bit(info.number), std::memory_order_relaxed);
  }
  if (Fiber* fiber = worker.running; fiber != nullptr) {
    fiber->attention.fetch_or(kAttentionSignal, std::memory_order_relaxed);
  }
  if (!notes.posted.exchange(true, std::memory_order_relaxed)) {
    notes.message.run = [](Message&) {
      // Only here is the message out of the mailbox; posted anew while still in it, it would be
      // linked to itself. Before the reading, so that a signal noted after it posts again.
      notes_of(*current_worker()).posted.store(false, std::memory_order_seq_cst);
      read_noted_signals();
    };
    worker.mailbox.post(notes.message);
    // A worker about to sleep in its ring must not: the message is for it.
    worker.netpoller->wake();
  }
}

uint64_t deliverable_bits(const Thread& thread) {
  return (thread.pending.bits() | g_signals.pending.bits()) &
         ~thread.signal_mask.load(std::memory_order_relaxed);
}

bool take_deliverable(Thread& thread, SignalInfo& info) {
  const uint64_t unblocked = ~thread.signal_mask.load(std::memory_order_relaxed);
  return thread.pending.take(unblocked, info) || g_signals.pending.take(unblocked, info);
}

using SimpleHandler = void (*)(int, SignalInfo*, void*);

// Runs one handler on the fiber's stack. `context` is what the handler sees as interrupted; its
// signal mask is the fiber's, and what the handler leaves there becomes it (sigreturn(2)).
void run_handler(Thread& thread, const SignalAction& action, SignalInfo& info,
                 UserContext& context) {
  const uint64_t bit = signal_bit(info.number);
  uint64_t back = thread.signal_mask.load(std::memory_order_relaxed);
  const uint64_t now = back;
  if (thread.mask_to_restore) {
    thread.mask_to_restore = false;
    back = thread.saved_mask;
  }
  uint64_t during = now | action.mask;
  if ((action.flags & kSaNoDefer) == 0) during |= bit;
  set_signal_mask(thread, during);
  context.signal_mask = back;
  if ((action.flags & kSaResetHand) != 0) {
    store_action(info.number, SignalAction{});
    apply_action(info.number);
  }
  g_call_counters.signals_delivered.fetch_add(1, std::memory_order_relaxed);
  current_worker()->in_runtime = 0;
  // A handler without SA_SIGINFO ignores the other arguments.
  reinterpret_cast<SimpleHandler>(action.handler)(info.number, &info, &context);
  // Another worker's, maybe.
  current_worker()->in_runtime = 1;
  set_signal_mask(thread, context.signal_mask);
}

// Delivers everything there is; on the fiber, in the runtime, signals open in the kernel.
Delivered deliver_all(Thread& thread, UserContext& context) {
  Delivered delivered;
  SignalInfo info;
  thread.attention.fetch_and(~kAttentionSignal, std::memory_order_seq_cst);
  while (take_deliverable(thread, info)) {
    const SignalAction action = action_of(info.number);
    if (action.handler == kActionIgnore) continue;
    if (action.handler == kActionDefault) {
      take_default_action(info.number);
      continue;
    }
    delivered.any = true;
    if ((action.flags & kSaRestart) == 0) delivered.without_restart = true;
    run_handler(thread, action, info, context);
  }
  return delivered;
}

// The program's handler for a fault, at once and in place; without one, or blocked, the kernel's
// default takes its course when the instruction faults again (signal(7)).
void deliver_fault(Worker& worker, SignalInfo& info, UserContext& context) {
  const SignalAction action = action_of(info.number);
  Thread* thread = static_cast<Thread*>(worker.running);
  const bool handled = action.handler != kActionDefault && action.handler != kActionIgnore;
  const bool blocked =
      thread == nullptr ||
      (thread->signal_mask.load(std::memory_order_relaxed) & signal_bit(info.number)) != 0;
  if (!handled || blocked || worker.in_runtime != 0) {
    store_action(info.number, SignalAction{});
    g_signals.claimed.fetch_and(~signal_bit(info.number), std::memory_order_relaxed);
    apply_action(info.number);
    return;
  }
  const uint64_t kernel_mask = context.signal_mask;
  worker.in_runtime = 1;
  set_kernel_mask(kWorkerSignalMask);
  run_handler(*thread, action, info, context);
  set_kernel_mask(~uint64_t{0});
  current_worker()->in_runtime = 0;
  context.signal_mask = kernel_mask;
}

// The worker ran program code: what is deliverable to its fiber is delivered now, on its stack.
void deliver_in_place(UserContext& context) {
  Worker& worker = *current_worker();
  Thread& thread = *static_cast<Thread*>(worker.running);
  const uint64_t kernel_mask = context.signal_mask;
  const uint64_t stack_flags = context.stack_flags;
  worker.in_runtime = 1;
  set_kernel_mask(kWorkerSignalMask);
  for (;;) {
    deliver_all(thread, context);
    if ((thread.attention.fetch_and(~kAttentionPreempt, std::memory_order_relaxed) &
         kAttentionPreempt) != 0) {
      yield();
    }
    // With signals blocked: what comes from here on arrives after the return.
    set_kernel_mask(~uint64_t{0});
    if ((thread.attention.load(std::memory_order_relaxed) & kAttentionSignal) == 0) break;
    set_kernel_mask(kWorkerSignalMask);
  }
  current_worker()->in_runtime = 0;
  context.signal_mask = kernel_mask;
  context.stack_flags = stack_flags;
}

// A process that shares or copied our memory and is not live: its signals are the kernel's matter,
// but the handler is still ours until it execs or has returned_signals().
void pass_to_program(SignalInfo& info, UserContext& context) {
  const SignalAction action = action_of(info.number);
  if (action.handler == kActionIgnore) return;
  if (action.handler == kActionDefault) {
    take_default_action(info.number);
    return;
  }
  reinterpret_cast<SimpleHandler>(action.handler)(info.number, &info, &context);
}

}  // namespace

extern "C" void weft_signal_entry(int number, SignalInfo* info, void* kernel_context) {
  (void)number;
  auto& context = *static_cast<UserContext*>(kernel_context);
  Worker& worker = *current_worker();
  if (worker.intercepting == 0) {
    pass_to_program(*info, context);
    return;
  }
  if (is_fault(*info)) {
    deliver_fault(worker, *info, context);
    return;
  }
  const uint64_t request = own_request(*info);
  Fiber* fiber = worker.running;
  if (request == kPreempt && fiber != nullptr) {
    count(worker.stats.preemptions);
    fiber->attention.fetch_or(kAttentionPreempt, std::memory_order_relaxed);
  }
  if (worker.in_runtime != 0) {
    if (request == 0) note_signal(worker, *info);
    return;
  }
  WEFT_ASSERT(fiber != nullptr);
  if (request == 0) {
    // In the runtime now: signals are blocked, so the flag only tells what unpark() may assume.
    worker.in_runtime = 1;
    dispatch_to_process(*info);
    worker.in_runtime = 0;
  }
  // Relaxed: on this thread, or set by whoever sent the request.
  if (fiber->attention.load(std::memory_order_relaxed) != 0) deliver_in_place(context);
}

void read_noted_signals() {
  SignalNotes& notes = notes_of(*current_worker());
  uint32_t read = notes.read.load(std::memory_order_relaxed);
  while (read != notes.written.load(std::memory_order_acquire)) {
    const SignalInfo info = notes.ring[read % SignalNotes::kCapacity];
    notes.read.store(++read, std::memory_order_release);
    dispatch_to_process(info);
  }
  uint64_t overflow = notes.overflow.exchange(0, std::memory_order_relaxed);
  for (int number = 1; overflow != 0; number++, overflow >>= 1) {
    if ((overflow & 1) == 0) continue;
    SignalInfo info;
    info.number = number;
    dispatch_to_process(info);
  }
}

bool has_deliverable_signal(Thread& thread) { return deliverable_bits(thread) != 0; }

Delivered deliver_signals(CallFrame& frame) {
  Worker& worker = *current_worker();
  Thread& thread = current_thread();
  SignalNotes& notes = notes_of(worker);
  if (notes.read.load(std::memory_order_relaxed) !=
          notes.written.load(std::memory_order_relaxed) ||
      notes.overflow.load(std::memory_order_relaxed) != 0) {
    read_noted_signals();
  }
  if ((thread.attention.fetch_and(~(kAttentionPreempt | kAttentionKernelMask),
                                  std::memory_order_relaxed) &
       kAttentionKernelMask) != 0) {
    set_kernel_mask(kWorkerSignalMask);
  }
  UserContext context;
  if (deliverable_bits(thread) == 0) {
    thread.attention.fetch_and(~kAttentionSignal, std::memory_order_seq_cst);
    // One that came between the two is not lost: its sender sets the bit again.
    if (deliverable_bits(thread) == 0) return {};
  }
  auto* words = reinterpret_cast<uint64_t*>(&context);
  for (size_t i = 0; i < sizeof context / sizeof(uint64_t); i++) words[i] = 0;
  context.stack_flags = 2;  // SS_DISABLE
  context.rdi = frame.rdi;
  context.rsi = frame.rsi;
  context.rdx = frame.rdx;
  context.r10 = frame.r10;
  context.r8 = frame.r8;
  context.r9 = frame.r9;
  context.rbx = frame.rbx;
  context.rbp = frame.rbp;
  context.r12 = frame.r12;
  context.r13 = frame.r13;
  context.r14 = frame.r14;
  context.r15 = frame.r15;
  context.rsp = frame.rsp;
  context.rax = frame.result;
  context.rip = *static_cast<const uint64_t*>(frame.site);  // Site::pc comes first
  return deliver_all(thread, context);
}

void send_broken_pipe_signal() {
  SignalInfo info;
  info.number = kSigPipe;
  info.code = 0;  // SI_USER, as send_sig() in the kernel leaves it
  info.rest[0] = static_cast<uint32_t>(g_runtime.process_id);
  send_to_thread(current_thread(), info);
}

void ask_to_preempt(Worker& worker) { poke(worker, kPreempt); }
void ask_to_look(Worker& worker) { poke(worker, kLook); }

}  // namespace weft
