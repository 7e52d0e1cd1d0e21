// signal_at_call.cc - handlers that run at a system call, on their way out of the gate. There is no
// frame of the kernel's: the handler sees a context that is built of the call's registers, and if it
// changes that, the program goes on where the context says.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/scheduler.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"
#include "syscalls/signal_state.h"

namespace weft {
namespace {

// What a handler sees of a call's caller. libc's ucontext_t is larger than the kernel's; the rest
// is room for an FPU state, which a handler may load again (setcontext(3)).
struct alignas(16) CallContext : UserContext {
  uint64_t libc_room[83];
  alignas(16) char fpu_image[512];
};

void fill_context(CallContext& context, const CallFrame& frame) {
  auto* words = reinterpret_cast<uint64_t*>(&context);
  for (size_t i = 0; i < sizeof context / sizeof(uint64_t); i++) words[i] = 0;
  constexpr uint64_t kStrictSegments = 2 | 4;  // UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
  context.flags = kStrictSegments;
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
  context.eflags = 0x202;                                   // IF, and the bit that is always set
  context.r11 = context.eflags;  // as syscall leaves them
  context.rcx = context.rip;
  context.segments = 0x33 | uint64_t{0x2b} << 48;           // user code and stack on x86-64 Linux
  asm volatile("fxsave64 %0" : "=m"(context.fpu_image));
  // The image's last bytes are software's: no more state follows.
  for (size_t i = 464; i < sizeof context.fpu_image; i++) context.fpu_image[i] = 0;
  context.fpu_state = reinterpret_cast<uint64_t>(context.fpu_image);
}

// The program's registers are r8 to rip of the context.
bool registers_differ(const UserContext& one, const UserContext& other) {
  const uint64_t* left = &one.r8;
  const uint64_t* right = &other.r8;
  for (size_t i = 0; i < 17; i++) {
    if (left[i] != right[i]) return true;
  }
  return false;
}

// A handler changed the context (to unwind, to run something else): it goes on there, not at the
// call's end.
[[noreturn]] void leave_by_context(CallContext& context) {
  set_kernel_mask(~uint64_t{0});
  Worker& worker = *current_worker();
  SignalNotes& notes = notes_of(worker);
  context.stack_pointer = notes.stack;
  context.stack_flags = 0;
  context.stack_bytes = notes.stack_bytes;
  context.signal_mask = notes.applied_mask = worker_signal_mask();
  worker.in_runtime = 0;
  weft_leave_by_context(&context);
}

// With a large frame, so not part of the usual way through the gate.
[[gnu::noinline]] Delivered deliver_at_call(Thread& thread, CallFrame& frame) {
  CallContext context;
  fill_context(context, frame);
  const UserContext before = context;
  const Delivered delivered = deliver_all(thread, context);
  if (delivered.any && registers_differ(before, context)) leave_by_context(context);
  return delivered;
}

}  // namespace

Delivered deliver_signals(CallFrame& frame) {
  Thread& thread = current_thread();
  read_noted_signals();
  if ((thread.attention.fetch_and(~(kAttentionPreempt | kAttentionKernelMask),
                                  std::memory_order_relaxed) &
       kAttentionKernelMask) != 0) {
    apply_worker_mask();
  }
  if (deliverable_bits(thread) == 0) {
    thread.attention.fetch_and(~kAttentionSignal, std::memory_order_seq_cst);
    // One that came between the two is not lost: its sender sets the bit again.
    if (deliverable_bits(thread) == 0) return {};
  }
  return deliver_at_call(thread, frame);
}

}  // namespace weft
