// signal_frame.h - the kernel's signal frame, and on which stack a handler runs.
// The master handler runs on its worker's own signal stack, whatever the fiber's stack is like. A
// delivery then moves: the frame is copied to where the kernel would have put it for the program
// (the fiber's stack, or its alternate one) and goes on there, so that the handler may park, jump
// out, be unwound through, or change its context. sigreturn(2) of the copy ends it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "syscalls/signal_queue.h"
#include "syscalls/thread.h"

namespace weft {

// The kernel's struct ucontext on x86-64 (arch/x86/include/uapi/asm/sigcontext.h).
struct UserContext {
  uint64_t flags;
  uint64_t link;
  void* stack_pointer;  // stack_t: the thread's alternate stack
  int32_t stack_flags;
  int32_t padding;
  uint64_t stack_bytes;
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
  uint64_t eflags, segments, error, trap, old_mask, fault_address;
  uint64_t fpu_state;
  uint64_t reserved[8];
  uint64_t signal_mask;
};
static_assert(offsetof(UserContext, rip) == 168);
static_assert(offsetof(UserContext, signal_mask) == 296);
static_assert(sizeof(UserContext) == 304);

// struct rt_sigframe: what lies at the handler's stack pointer.
struct SignalFrame {
  void (*restorer)();
  UserContext context;
  SignalInfo info;
};
static_assert(offsetof(SignalFrame, context) == 8);
static_assert(sizeof(SignalFrame) == 440);

inline constexpr int kStackOnIt = 1;     // SS_ONSTACK
inline constexpr int kStackDisable = 2;  // SS_DISABLE
inline constexpr int kStackAutoDisarm = static_cast<int>(1u << 31);  // SS_AUTODISARM

// Whether sp lies in the alternate stack, armed or not.
bool stack_holds(const AlternateStack& stack, uint64_t sp);
// sigaltstack(2): a handler runs there that was not disarmed on entry.
bool on_alternate_stack(const Thread& thread, uint64_t sp);
// The top of the stack for a handler of these sa_flags that interrupts code at sp.
uint64_t handler_stack_top(const Thread& thread, uint64_t action_flags, uint64_t sp);

// Copies the frame with its FPU state below `top`. The memory is the program's and may fault.
SignalFrame* copy_signal_frame(const SignalFrame& source, uint64_t top);

using SignalHandler = void (*)(int, SignalInfo*, void*);

extern "C" void weft_call_on_stack(SignalHandler handler, int number, SignalInfo* info,
                                   void* context, uint64_t top);
extern "C" [[noreturn]] void weft_enter_signal_frame(SignalFrame* frame, bool is_fault);
extern "C" [[noreturn]] void weft_leave_by_context(UserContext* context);

}  // namespace weft
