# context_switch.S - the register switch of platform/context.h, and the first step of a new context.
# weft_context_switch(from, to, thread_pointer): rdi, rsi, rdx.
# SPDX-License-Identifier: Apache-2.0
  .text
  .globl weft_context_switch
  .hidden weft_context_switch
  .type weft_context_switch, @function
  .p2align 5
weft_context_switch:
  .cfi_startproc
  push %rbp
  .cfi_adjust_cfa_offset 8
  push %rbx
  .cfi_adjust_cfa_offset 8
  push %r12
  .cfi_adjust_cfa_offset 8
  push %r13
  .cfi_adjust_cfa_offset 8
  push %r14
  .cfi_adjust_cfa_offset 8
  push %r15
  .cfi_adjust_cfa_offset 8
  sub $8, %rsp
  .cfi_adjust_cfa_offset 8
  stmxcsr (%rsp)
  fnstcw 4(%rsp)
  # What this context has. Each load takes what one store wrote: a wider one would wait for both.
  mov (%rsp), %ecx
  movzwl 4(%rsp), %r8d
  mov %rsp, (%rdi)
  mov (%rsi), %rsp
  # From here on the other stack.
  test %rdx, %rdx
  jz 1f
  wrfsbase %rdx
1:
  # Loading the control words costs more than comparing them, and they rarely differ.
  cmp (%rsp), %ecx
  jne 3f
  cmp 4(%rsp), %r8w
  jne 3f
2:
  add $8, %rsp
  .cfi_adjust_cfa_offset -8
  pop %r15
  .cfi_adjust_cfa_offset -8
  pop %r14
  .cfi_adjust_cfa_offset -8
  pop %r13
  .cfi_adjust_cfa_offset -8
  pop %r12
  .cfi_adjust_cfa_offset -8
  pop %rbx
  .cfi_adjust_cfa_offset -8
  pop %rbp
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_adjust_cfa_offset 56
3:
  ldmxcsr (%rsp)
  fldcw 4(%rsp)
  jmp 2b
  .cfi_endproc
  .size weft_context_switch, . - weft_context_switch

# The first return address of a made context. r12 = entry, r13 = argument.
  .globl weft_context_start
  .hidden weft_context_start
  .type weft_context_start, @function
weft_context_start:
  .cfi_startproc
  .cfi_undefined rip
  mov %r13, %rdi
  xor %ebp, %ebp
  call *%r12
  ud2
  .cfi_endproc
  .size weft_context_start, . - weft_context_start

# weft_clone_thread(flags, stack_top, exit_word, thread_pointer, entry, argument)
# clone(2) for a kernel thread of the runtime. The child starts on an empty stack, so it is written
# here: it takes entry and argument from registers, which the kernel copies.
  .globl weft_clone_thread
  .hidden weft_clone_thread
  .type weft_clone_thread, @function
weft_clone_thread:
  .cfi_startproc
  push %r12
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r12, 0
  push %r13
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r13, 0
  mov %r8, %r12               # entry
  mov %r9, %r13               # argument
  mov %rcx, %r8               # tls
  mov %rdx, %r10              # child_tid
  xor %edx, %edx              # parent_tid
  mov $56, %eax               # clone
  syscall
  test %rax, %rax
  jz weft_context_start
  pop %r13
  .cfi_adjust_cfa_offset -8
  .cfi_restore r13
  pop %r12
  .cfi_adjust_cfa_offset -8
  .cfi_restore r12
  ret
  .cfi_endproc
  .size weft_clone_thread, . - weft_clone_thread
  .section .note.GNU-stack, "", @progbits
