// signal_delivery.cc - the master handler, and running the program's handlers.
// SPDX-License-Identifier: Apache-2.0
#include <sys/syscall.h>

#include "scheduler/assert.h"
#include "scheduler/scheduler.h"
#include "syscalls/counters.h"
#include "syscalls/kernel.h"
#include "syscalls/process.h"
#include "syscalls/runtime.h"
#include "syscalls/signal_state.h"
#include "syscalls/signals.h"
#include "syscalls/user_memory.h"

namespace weft {
namespace {

// What distinguishes our own SIGURG from the program's.
constexpr uint64_t kPreempt = 0x7765667470726500;
constexpr uint64_t kLook = 0x776566746c6f6f00;
constexpr int kSiQueue = -1;

void send_request(int kernel_tid, uint64_t what) {
  SignalInfo info;
  info.number = kSigUrg;
  info.code = kSiQueue;
  info.rest[0] = static_cast<uint32_t>(g_runtime.process_id);
  info.rest[1] = what;  // si_value
  system_call(SYS_rt_tgsigqueueinfo, g_runtime.process_id, kernel_tid, kSigUrg, address_of(&info));
}

uint64_t own_request(const SignalInfo& info) {
  if (info.number != kSigUrg || info.code != kSiQueue) return 0;
  const bool ours = info.rest[1] == kPreempt || info.rest[1] == kLook;
  return ours ? info.rest[1] : 0;
}

// An operation of this kernel thread met a broken pipe. The fiber that asked for it is told by its
// call (send_broken_pipe_signal()); what the program sends itself does not come through the kernel.
bool is_own_broken_pipe(const SignalInfo& info) {
  constexpr int kSiUser = 0;
  return info.number == kSigPipe && info.code == kSiUser &&
         static_cast<int>(info.rest[0]) == g_runtime.process_id;
}

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
  post_notes(worker);
}

bool take_deliverable(Thread& thread, SignalInfo& info) {
  const uint64_t unblocked = ~thread.signal_mask.load(std::memory_order_relaxed);
  return thread.pending.take(unblocked, info) || g_signals.pending.take(unblocked, info);
}

// Calls the handler on the stack that the kernel would have chosen. We are on the interrupted stack,
// below context.rsp, or with a frame on the alternate one already.
void call_handler(Thread& thread, const SignalAction& action, SignalInfo& info,
                  UserContext& context) {
  const auto handler = reinterpret_cast<SignalHandler>(action.handler);
  const AlternateStack alternate = thread.alternate_stack;
  const uint64_t top = handler_stack_top(thread, action.flags, context.rsp);
  const bool is_on_alternate =
      stack_holds(alternate, reinterpret_cast<uint64_t>(__builtin_frame_address(0)));
  const bool was_on_alternate = stack_holds(alternate, context.rsp);
  const bool wants_alternate = stack_holds(alternate, top) || was_on_alternate;
  // SS_AUTODISARM: until the handler returns, the stack is nobody's, and it may leave for another.
  if ((alternate.flags & kStackAutoDisarm) != 0) thread.alternate_stack = AlternateStack{};
  current_worker()->in_runtime = 0;
  // A handler without SA_SIGINFO ignores the other arguments.
  if (wants_alternate == is_on_alternate) {
    handler(info.number, &info, &context);
  } else {
    weft_call_on_stack(handler, info.number, &info, &context, top & ~uint64_t{15});
  }
  // Another worker's, maybe.
  current_worker()->in_runtime = 1;
}

// A process that shares or copied our memory and is not live: its signals are the kernel's matter,
// but the handler is still ours until it execs or has returned_signals().
void pass_to_program(SignalInfo& info, UserContext& context) {
  const SignalAction action = action_of(info.number);
  const bool may_ignore = !is_fault(info);
  if (action.handler == kActionIgnore && may_ignore) return;
  if (action.handler == kActionDefault || action.handler == kActionIgnore) {
    if (may_ignore && ignored_by_default(info.number)) return;
    take_default_action(info.number);
    return;
  }
  reinterpret_cast<SignalHandler>(action.handler)(info.number, &info, &context);
}

// On a kernel thread of the blocking pool, which takes SIGURG alone.
void cut_pool_call(const SignalInfo& info, UserContext& context) {
  if (own_request(info) == 0) {
    // The program's: for a worker to look after.
    system_call(SYS_rt_tgsigqueueinfo, g_runtime.process_id,
                g_runtime.scheduler.worker(0).kernel_tid, info.number, address_of(&info));
    return;
  }
  if (const uintptr_t cut = after_cut(context.rip); cut != 0) context.rip = cut;
}

// From the handler's return on, this kernel thread blocks what the kernel is to keep
// (signal_descriptors.cc).
void block_what_kernel_keeps(Worker& worker, UserContext& context) {
  const uint64_t mask = worker_signal_mask();
  if ((mask & ~context.signal_mask) == 0) return;
  context.signal_mask |= mask;
  notes_of(worker).applied_mask = SignalNotes::kUnknownMask;  // not known: see apply_worker_mask()
}

// The worker ran the program's code and its fiber has something to look at: on the stack that a
// handler will want, so that the usual delivery needs no second move.
[[noreturn]] void deliver_in_place(Worker& worker, UserContext& context) {
  Thread& thread = *static_cast<Thread*>(worker.running);
  uint64_t flags = 0;
  const uint64_t deliverable = deliverable_bits(thread);
  if (deliverable != 0) {
    flags = action_of(__builtin_ctzll(deliverable) + 1).flags;
  } else {
    // To make room only: what needs an alternate stack for its handlers has little room elsewhere.
    flags = kSaOnStack;
  }
  deliver_on_stack(worker, context, handler_stack_top(thread, flags, context.rsp), false);
}

}  // namespace

SignalNotes& notes_of(Worker& worker) { return *static_cast<SignalNotes*>(worker.signal_notes); }

void post_notes(Worker& worker) {
  SignalNotes& notes = notes_of(worker);
  // Acquire-release: one poster at a time owns the message.
  if (notes.posted.exchange(true, std::memory_order_acq_rel)) return;
  notes.message.run = [](Message&) {
    // Only here is the message out of the mailbox; posted anew while still in it, it would be
    // linked to itself. Before the reading, so that a signal noted after it posts again.
    notes_of(*current_worker()).posted.store(false, std::memory_order_seq_cst);
    apply_worker_mask();
    read_noted_signals();
  };
  worker.mailbox.post(notes.message);
  // A worker about to sleep in its ring must not: the message is for it.
  worker.netpoller->wake();
}

void open_worker_for_signals(Worker& worker) {
  const SignalNotes& notes = notes_of(worker);
  const AlternateStack own{notes.stack, 0, notes.stack_bytes};
  system_call(SYS_sigaltstack, address_of(&own), 0);
  apply_worker_mask();
}

uint64_t deliverable_bits(const Thread& thread) {
  return (thread.pending.bits() | g_signals.pending.bits()) &
         ~thread.signal_mask.load(std::memory_order_relaxed);
}

Delivered deliver_all(Thread& thread, UserContext& context) {
  Delivered delivered;
  SignalInfo info;
  thread.attention.fetch_and(~kAttentionSignal, std::memory_order_seq_cst);
  // The mask of a wait (sigsuspend, ppoll) holds until all that it lets through is handled; the
  // handlers see, and go back to, the one before.
  const bool lent = thread.mask_to_restore;
  const uint64_t lent_mask = thread.signal_mask.load(std::memory_order_relaxed);
  uint64_t back = thread.saved_mask;
  while (take_deliverable(thread, info)) {
    const SignalAction action = action_of(info.number);
    if (action.handler == kActionIgnore) continue;
    if (action.handler == kActionDefault) {
      if (!ignored_by_default(info.number) && !stops_by_default(info.number)) {
        release_robust_locks_of_all();
      }
      take_default_action(info.number);
      continue;
    }
    delivered.any = true;
    if ((action.flags & kSaRestart) == 0) delivered.without_restart = true;
    thread.mask_to_restore = false;
    run_handler(thread, action, info, context,
                lent ? back : thread.signal_mask.load(std::memory_order_relaxed));
    if (lent) {
      back = context.signal_mask;
      set_signal_mask(thread, lent_mask);
    }
  }
  if (lent && delivered.any) set_signal_mask(thread, back);
  return delivered;
}

void deliver_on_stack(Worker& worker, UserContext& context, uint64_t top, bool is_fault_frame) {
  auto* source = reinterpret_cast<SignalFrame*>(reinterpret_cast<char*>(&context) -
                                                offsetof(SignalFrame, context));
  const SignalNotes& notes = notes_of(worker);
  const AlternateStack own{notes.stack, 0, notes.stack_bytes};
  const AlternateStack& alternate = static_cast<Thread*>(worker.running)->alternate_stack;
  // SIGSYS of Syscall User Dispatch is handled where the program was: its frame is there already.
  const bool stays = !stack_holds(own, reinterpret_cast<uint64_t>(source)) &&
                     !stack_holds(alternate, top);
  worker.in_runtime = 1;
  weft_enter_signal_frame(stays ? source : copy_signal_frame(*source, top), is_fault_frame);
}

void run_handler(Thread& thread, const SignalAction& action, SignalInfo& info,
                 UserContext& context, uint64_t shown_mask) {
  uint64_t during = thread.signal_mask.load(std::memory_order_relaxed) | action.mask;
  if ((action.flags & kSaNoDefer) == 0) during |= signal_bit(info.number);
  set_signal_mask(thread, during);
  context.signal_mask = shown_mask;
  AlternateStack& stack = thread.alternate_stack;
  context.stack_pointer = stack.pointer;
  context.stack_flags = stack.flags;
  context.stack_bytes = stack.bytes;
  if ((action.flags & kSaResetHand) != 0) {
    store_action(info.number, SignalAction{});
    apply_action(info.number);
  }
  g_call_counters.signals_delivered.fetch_add(1, std::memory_order_relaxed);
  call_handler(thread, action, info, context);
  set_signal_mask(thread, context.signal_mask);
  // As sigreturn(2) does: what the frame says is the alternate stack, unless the code stands on it.
  if (!on_alternate_stack(thread, context.rsp)) {
    stack = {context.stack_pointer, context.stack_flags & ~kStackOnIt, context.stack_bytes};
  }
}

extern "C" void weft_signal_entry(int number, SignalInfo* info, void* kernel_context) {
  (void)number;
  auto& context = *static_cast<UserContext*>(kernel_context);
  Worker& worker = *current_worker();
  if (&worker == &foreign_worker()) {
    cut_pool_call(*info, context);
    return;
  }
  if (worker.intercepting == 0) {
    pass_to_program(*info, context);
    return;
  }
  block_what_kernel_keeps(worker, context);
  if (is_fault(*info)) {
    on_fault(worker, *info, context);
    return;
  }
  if (is_own_broken_pipe(*info)) return;
  const uint64_t request = own_request(*info);
  Fiber* fiber = worker.running;
  if (request == kPreempt && fiber != nullptr) {
    count(worker.stats.preemptions);
    fiber->attention.fetch_or(kAttentionPreempt, std::memory_order_relaxed);
  }
  if (worker.in_runtime != 0) {
    if (request == 0) note_signal(worker, *info);
    // A bound fiber waits in the kernel itself.
    const uintptr_t cut = worker.bound ? after_cut(context.rip) : 0;
    if (cut != 0) context.rip = cut;
    return;
  }
  WEFT_ASSERT(fiber != nullptr);
  if (request == 0) {
    // In the runtime now: signals are blocked, so the flag only tells what unpark() may assume.
    worker.in_runtime = 1;
    dispatch_to_process(*info);
    worker.in_runtime = 0;
    block_what_kernel_keeps(worker, context);
  }
  // Relaxed: on this thread, or set by whoever sent the request.
  if (fiber->attention.load(std::memory_order_relaxed) != 0) deliver_in_place(worker, context);
}

extern "C" void weft_deliver_frame(SignalFrame* frame, bool is_fault_frame) {
  Thread& thread = current_thread();
  UserContext& context = frame->context;
  notes_of(*current_worker()).applied_mask = SignalNotes::kUnknownMask;  // all signals are blocked
  apply_worker_mask();
  if (is_fault_frame) {
    // Read anew; if another thread took the handler away, the instruction faults once more.
    const SignalAction action = action_of(frame->info.number);
    if (action.handler != kActionDefault && action.handler != kActionIgnore) {
      run_handler(thread, action, frame->info, context,
                  thread.signal_mask.load(std::memory_order_relaxed));
    }
  }
  for (;;) {
    read_noted_signals();
    deliver_all(thread, context);
    if ((thread.attention.fetch_and(~(kAttentionPreempt | kAttentionKernelMask),
                                    std::memory_order_relaxed) &
         kAttentionPreempt) != 0) {
      yield();
    }
    // With signals blocked: what comes from here on arrives after the return.
    set_kernel_mask(~uint64_t{0});
    if ((thread.attention.load(std::memory_order_relaxed) & kAttentionSignal) == 0) break;
    notes_of(*current_worker()).applied_mask = SignalNotes::kUnknownMask;
    apply_worker_mask();
  }
  // Back to the program, through sigreturn(2): with what is the kernel's on this worker, which may
  // be another than the frame was made on.
  Worker& worker = *current_worker();
  SignalNotes& notes = notes_of(worker);
  context.stack_pointer = notes.stack;
  context.stack_flags = 0;
  context.stack_bytes = notes.stack_bytes;
  context.signal_mask = notes.applied_mask = worker_signal_mask();
  worker.in_runtime = 0;
}

void read_noted_signals() {
  SignalNotes& notes = notes_of(*current_worker());
  uint32_t read = notes.read.load(std::memory_order_relaxed);
  while (read != notes.written.load(std::memory_order_acquire)) {
    const SignalInfo info = notes.ring[read % SignalNotes::kCapacity];
    notes.read.store(++read, std::memory_order_release);
    dispatch_to_process(info);
  }
  if (notes.overflow.load(std::memory_order_relaxed) == 0) return;
  uint64_t overflow = notes.overflow.exchange(0, std::memory_order_relaxed);
  for (int number = 1; overflow != 0; number++, overflow >>= 1) {
    if ((overflow & 1) == 0) continue;
    SignalInfo info;
    info.number = number;
    dispatch_to_process(info);
  }
}

bool has_deliverable_signal(Thread& thread) { return deliverable_bits(thread) != 0; }

void send_broken_pipe_signal() {
  SignalInfo info;
  info.number = kSigPipe;
  info.code = 0;  // SI_USER, as send_sig() in the kernel leaves it
  info.rest[0] = static_cast<uint32_t>(g_runtime.process_id);
  send_to_thread(current_thread(), info);
}

void poke_kernel_thread(int kernel_tid) { send_request(kernel_tid, kLook); }
void ask_to_preempt(Worker& worker) { send_request(worker.kernel_tid, kPreempt); }
void ask_to_look(Worker& worker) { send_request(worker.kernel_tid, kLook); }

}  // namespace weft
