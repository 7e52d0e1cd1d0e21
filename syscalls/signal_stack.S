# signal_stack.S - moves of a signal's delivery between stacks (signal_frame.h).
# SPDX-License-Identifier: Apache-2.0
  .text
# weft_call_on_stack(handler, number, info, context, top): calls the program's handler on another
# stack. rbp keeps the way back, so that unwinders (pthread_cancel, exceptions) find it.
  .globl weft_call_on_stack
  .hidden weft_call_on_stack
  .type weft_call_on_stack, @function
  .p2align 4
weft_call_on_stack:
  .cfi_startproc
  push %rbp
  .cfi_def_cfa_offset 16
  .cfi_offset rbp, -16
  mov %rsp, %rbp
  .cfi_def_cfa_register rbp
  mov %rdi, %rax
  mov %esi, %edi
  mov %rdx, %rsi
  mov %rcx, %rdx
  mov %r8, %rsp
  call *%rax
  mov %rbp, %rsp
  pop %rbp
  .cfi_def_cfa rsp, 8
  ret
  .cfi_endproc
  .size weft_call_on_stack, . - weft_call_on_stack

# weft_enter_signal_frame(SignalFrame* frame, bool is_fault): goes on as if the kernel had written the
# frame where it lies and called weft_deliver_frame; that one returns through the frame's restorer.
  .globl weft_enter_signal_frame
  .hidden weft_enter_signal_frame
  .type weft_enter_signal_frame, @function
weft_enter_signal_frame:
  .cfi_startproc
  .cfi_undefined rip
  mov %rdi, %rsp
  xor %ebp, %ebp
  jmp weft_deliver_frame
  .cfi_endproc
  .size weft_enter_signal_frame, . - weft_enter_signal_frame

# weft_leave_by_context(UserContext* context): rt_sigreturn(2) with a context that no kernel frame
# holds. The kernel finds it at the stack pointer.
  .globl weft_leave_by_context
  .hidden weft_leave_by_context
  .type weft_leave_by_context, @function
weft_leave_by_context:
  .cfi_startproc
  .cfi_undefined rip
  mov %rdi, %rsp
  jmp weft_signal_return
  .cfi_endproc
  .size weft_leave_by_context, . - weft_leave_by_context
  .section .note.GNU-stack, "", @progbits
