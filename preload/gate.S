# gate.S - the one entry from a system call site into the call table, and the way back.
# A stub jumps here with r11 = the Site (patcher.h) and everything else as the program left it; rcx
# and r11 are free, because `syscall` clobbers them. The frame is a CallFrame (syscalls/call_frame.h),
# below the caller's red zone. Every register but rax, rcx and r11 is kept, as the kernel keeps them.
#
# Unwinding: the CFA is the caller's stack pointer, and the word below the red zone holds the pc
# after the syscall instruction. So unwinders, pthread_cancel and debuggers step from here straight
# into libc's frame, as if the call had been made there.
#
# %gs:16 Worker::intercepting, %gs:17 Worker::in_runtime, %gs:8 Worker::running; 24 is
# Fiber::attention. static_asserts stand in gate.cc.
# SPDX-License-Identifier: Apache-2.0
  .text
  .globl weft_gate_entry
  .hidden weft_gate_entry
  .type weft_gate_entry, @function
  .p2align 6
weft_gate_entry:
  .cfi_startproc simple
  .cfi_def_cfa rsp, 0
  .cfi_undefined rip
  lea -128(%rsp), %rsp
  .cfi_def_cfa_offset 128
  pushq (%r11)                    # Site::pc
  .cfi_def_cfa_offset 136
  .cfi_offset rip, -136
  push %rbp
  .cfi_def_cfa_offset 144
  .cfi_offset rbp, -144
  mov %rsp, %rbp
  .cfi_def_cfa_register rbp
  and $-16, %rsp
  sub $128, %rsp
  movb $1, %gs:17
  mov %rdi, 0(%rsp)
  mov %rsi, 8(%rsp)
  mov %rdx, 16(%rsp)
  mov %r10, 24(%rsp)
  mov %r8, 32(%rsp)
  mov %r9, 40(%rsp)
  mov %rax, 48(%rsp)
  mov (%rbp), %rcx
  mov %rbx, 56(%rsp)
  mov %rcx, 64(%rsp)
  mov %r12, 72(%rsp)
  mov %r13, 80(%rsp)
  mov %r14, 88(%rsp)
  mov %r15, 96(%rsp)
  lea 144(%rbp), %rcx
  mov %rcx, 104(%rsp)
  mov %r11, 112(%rsp)
  mov %rsp, %rdi
  cld
  call weft_gate
  # rax: the result; edx: not zero = execute the instruction at the site.
  test %edx, %edx
  jnz 4f
1:
  # First open for signals in place, then look for what came before: nothing falls in between.
  movb $0, %gs:17
  mov %gs:8, %rcx
  cmpl $0, 24(%rcx)
  jne 3f
2:
  mov 112(%rsp), %r11
  mov 0(%rsp), %rdi
  mov 8(%rsp), %rsi
  mov 16(%rsp), %rdx
  mov 24(%rsp), %r10
  mov 32(%rsp), %r8
  mov 40(%rsp), %r9
  .cfi_remember_state
  mov %rbp, %rsp
  pop %rbp
  .cfi_def_cfa rsp, 136
  .cfi_restore rbp
  lea 136(%rsp), %rsp
  .cfi_def_cfa_offset 0
  jmp *8(%r11)                    # Site::resume
  .cfi_restore_state
3:
  # Not in a vfork child, which shares the fiber's record with its parent.
  cmpb $0, %gs:16
  je 2b
  movb $1, %gs:17
  mov %rax, 120(%rsp)
  mov %rsp, %rdi
  call weft_gate_attention
  jmp 1b
4:
  movb $0, %gs:17
  mov 112(%rsp), %r11
  mov 0(%rsp), %rdi
  mov 8(%rsp), %rsi
  mov 16(%rsp), %rdx
  mov 24(%rsp), %r10
  mov 32(%rsp), %r8
  mov 40(%rsp), %r9
  mov 48(%rsp), %rax
  mov %rbp, %rsp
  pop %rbp
  .cfi_def_cfa rsp, 136
  .cfi_restore rbp
  lea 136(%rsp), %rsp
  .cfi_def_cfa_offset 0
  jmp *16(%r11)                   # Site::inline_call

# A fault on a pointer of the program's abandoned the body of the call: the handler for faults comes
# here with rsp and rbp as they were at the call of weft_gate (weft_abandon_call).
  .globl weft_gate_abandon
  .hidden weft_gate_abandon
weft_gate_abandon:
  .cfi_def_cfa rbp, 144
  .cfi_offset rbp, -144
  mov 56(%rsp), %rbx
  mov 72(%rsp), %r12
  mov 80(%rsp), %r13
  mov 88(%rsp), %r14
  mov 96(%rsp), %r15
  mov %rsp, %rdi
  call weft_gate_abandoned
  jmp 1b
  .cfi_endproc
  .size weft_gate_entry, . - weft_gate_entry

# weft_resume_frame(CallFrame*): continues at the frame's site with the frame's registers and result:
# the first return of a thread that clone made. The frame lies at the top of the new stack.
  .globl weft_resume_frame
  .hidden weft_resume_frame
  .type weft_resume_frame, @function
weft_resume_frame:
  .cfi_startproc
  .cfi_undefined rip
  mov %rdi, %rsp
1:
  movb $0, %gs:17
  mov %gs:8, %rcx
  cmpl $0, 24(%rcx)
  jne 3f
  mov 112(%rsp), %r11
  mov 0(%rsp), %rdi
  mov 8(%rsp), %rsi
  mov 16(%rsp), %rdx
  mov 24(%rsp), %r10
  mov 32(%rsp), %r8
  mov 40(%rsp), %r9
  mov 56(%rsp), %rbx
  mov 64(%rsp), %rbp
  mov 72(%rsp), %r12
  mov 80(%rsp), %r13
  mov 88(%rsp), %r14
  mov 96(%rsp), %r15
  mov 120(%rsp), %rax
  mov 104(%rsp), %rsp
  jmp *8(%r11)
3:
  movb $1, %gs:17
  mov %rsp, %rdi
  call weft_gate_attention
  mov %rax, 120(%rsp)
  jmp 1b
  .cfi_endproc
  .size weft_resume_frame, . - weft_resume_frame

# The return from the master signal handler. The bytes are the ones by which libgcc and gdb know a
# signal frame; the leading nop lets an unwinder that looks one byte back stay in this function.
  .globl weft_signal_return
  .hidden weft_signal_return
  .type weft_signal_return, @function
  nop
weft_signal_return:
  mov $15, %rax
  syscall
  .size weft_signal_return, . - weft_signal_return
  .section .note.GNU-stack, "", @progbits
