# sites.S - a shared object with one system call site for each kind of window, called by
# patch_test.cc before and after patching. Each function takes its arguments in the C way.
# SPDX-License-Identifier: Apache-2.0

  .macro function name
  .globl \name
  .type \name, @function
  .p2align 4
\name:
  .cfi_startproc
  .endm
  .macro end_function name
  .cfi_endproc
  .size \name, . - \name
  .endm

  .text
# The usual libc wrapper: the jump covers exactly the mov.
  function site_mov
  mov $39, %eax
  syscall
  ret
  end_function site_mov

# number(int): the syscall's own bytes are part of the window, two instructions move.
  function site_short_mov
  xor %esi, %esi
  mov %edi, %eax
  syscall
  ret
  end_function site_short_mov

# The moved instruction reads memory relative to rip.
  function site_rip_load
  mov getpid_number(%rip), %eax
  syscall
  ret
  end_function site_rip_load

# The same with an immediate after the displacement: writes 7 to a word, then asks.
  function site_rip_store
  xor %eax, %eax
  mov $39, %al
  movl $7, stored_word(%rip)
  syscall
  mov stored_word(%rip), %edx
  shl $32, %rdx
  or %rdx, %rax
  movl $0, stored_word(%rip)
  ret
  end_function site_rip_store

# A branch goes straight to the syscall: only instructions after it may move.
  function site_forward
  mov $39, %eax
  test %edi, %edi
  jz 1f
  mov $110, %eax
1:
  syscall
  cmp $-4096, %rax
  ja 2f
  ret
2:
  or $-1, %rax
  ret
  end_function site_forward

# The same, and a conditional branch has to move.
  function site_forward_branch
  mov %edi, %eax
  test %esi, %esi
  jz 1f
  nop
1:
  syscall
  test %eax, %eax
  js 2f
  ret
2:
  mov $-77, %rax
  ret
  end_function site_forward_branch

# The same, and the function ends; the window takes the padding.
  function site_forward_return
  mov %edi, %eax
  jmp 1f
  .p2align 4
1:
  syscall
  ret
  .p2align 4, 0x90
  end_function site_forward_return

# A conditional branch before the syscall moves: number(int), returns -5 for 0.
  function site_branch_before
  mov %edi, %eax
  test %eax, %eax
  jz 1f
  syscall
  ret
1:
  mov $-5, %rax
  ret
  end_function site_branch_before

# The switch's third case enters between two instructions that would make a window.
  function site_switch
  cmp $2, %edi
  ja switch_end
  mov %edi, %edi
  lea switch_table(%rip), %rdx
  movslq (%rdx,%rdi,4), %rax
  add %rdx, %rax
  jmp *%rax
switch_0:
  mov $39, %eax
  jmp switch_2
switch_1:
  mov $110, %ecx
  mov %ecx, %eax
switch_2:
  syscall
  cmp $-4096, %rax
switch_end:
  ret
  end_function site_switch

# The same through a table of pointers, which the loader relocates (a computed goto).
  function site_pointer_switch
  lea pointer_table(%rip), %rdx
  mov %edi, %edi
  jmp *(%rdx,%rdi,8)
pointer_0:
  mov $39, %eax
  syscall
  ret
pointer_1:
  mov $110, %ecx
  mov %ecx, %eax
pointer_2:
  syscall
  cmp $-4096, %rax
  ret
  end_function site_pointer_switch

# Red zone: what a leaf function keeps below its stack pointer. Returns 0 if it is kept.
  function site_red_zone
  movabs $0x1122334455667788, %rdx
  mov %rdx, -8(%rsp)
  mov %rdx, -128(%rsp)
  mov $39, %eax
  syscall
  xor %rdx, -8(%rsp)
  xor -128(%rsp), %rdx
  mov -8(%rsp), %rax
  or %rdx, %rax
  ret
  end_function site_red_zone

# Returns carry, sign and direction as they were: 0x481 of rflags.
  function site_flags
  mov $39, %eax
  mov $-1, %edx
  std
  add $-1, %edx               # carry and sign
  nopl 0(%rax)
  .byte 0x0f, 0x1f, 0x00
  syscall
  pushfq
  .cfi_adjust_cfa_offset 8
  cld
  pop %rax
  .cfi_adjust_cfa_offset -8
  and $0x481, %eax
  ret
  end_function site_flags

# registers(uint64_t block[16]): loads every register but rsp from the block, calls getpid, stores
# them back. Order: rax rcx rdx rbx rbp rsi rdi r8..r15; the last word of the block is scratch.
  function site_registers
  push %rbx
  .cfi_adjust_cfa_offset 8
  push %rbp
  .cfi_adjust_cfa_offset 8
  push %r12
  .cfi_adjust_cfa_offset 8
  push %r13
  .cfi_adjust_cfa_offset 8
  push %r14
  .cfi_adjust_cfa_offset 8
  push %r15
  .cfi_adjust_cfa_offset 8
  push %rdi
  .cfi_adjust_cfa_offset 8
  mov 16(%rdi), %rdx
  mov 24(%rdi), %rbx
  mov 32(%rdi), %rbp
  mov 40(%rdi), %rsi
  mov 56(%rdi), %r8
  mov 64(%rdi), %r9
  mov 72(%rdi), %r10
  mov 88(%rdi), %r12
  mov 96(%rdi), %r13
  mov 104(%rdi), %r14
  mov 112(%rdi), %r15
  mov 48(%rdi), %rdi
  mov $39, %eax
  syscall
  xchg (%rsp), %rdi
  mov %rax, 0(%rdi)
  mov %rdx, 16(%rdi)
  mov %rbx, 24(%rdi)
  mov %rbp, 32(%rdi)
  mov %rsi, 40(%rdi)
  mov %r8, 56(%rdi)
  mov %r9, 64(%rdi)
  mov %r10, 72(%rdi)
  mov %r12, 88(%rdi)
  mov %r13, 96(%rdi)
  mov %r14, 104(%rdi)
  mov %r15, 112(%rdi)
  pop %rax
  .cfi_adjust_cfa_offset -8
  mov %rax, 48(%rdi)
  pop %r15
  .cfi_adjust_cfa_offset -8
  pop %r14
  .cfi_adjust_cfa_offset -8
  pop %r13
  .cfi_adjust_cfa_offset -8
  pop %r12
  .cfi_adjust_cfa_offset -8
  pop %rbp
  .cfi_adjust_cfa_offset -8
  pop %rbx
  .cfi_adjust_cfa_offset -8
  ret
  end_function site_registers

# As glibc's: the return address waits in rdi, because the child uses the stack first.
  function site_vfork
  pop %rdi
  .cfi_adjust_cfa_offset -8
  .cfi_register rip, rdi
  mov $58, %eax
  syscall
  push %rdi
  .cfi_adjust_cfa_offset 8
  ret
  end_function site_vfork

# child(stack_top): a process of its own on another stack, as posix_spawn does it; exits with 9.
# The described range ends before the syscall, as in glibc's clone.
  function site_clone
  mov %rdi, %rsi
  mov $0x4111, %edi           # CLONE_VM | CLONE_VFORK | SIGCHLD
  xor %edx, %edx
  xor %r10d, %r10d
  xor %r8d, %r8d
  mov $56, %eax
  .cfi_endproc
  syscall
  test %rax, %rax
  jz 1f
  ret
1:
  mov $9, %edi
  mov $60, %eax
  syscall
  hlt
  .size site_clone, . - site_clone

# The bytes of a syscall inside another instruction.
  function site_none
  mov $0x0000050f, %eax
  ret
  end_function site_none

# What libgcc and gdb look for. Never called.
  function site_signal_return
  mov $15, %rax
  syscall
  end_function site_signal_return

# Data between functions that looks like a syscall. Nothing leads there.
  .byte 0x06, 0x06, 0x0f, 0x05, 0x06, 0x06

# A vector register lives over the call: what the liveness pass must find. Returns its argument.
  function site_vector
  movq %rdi, %xmm9
  mov $39, %eax
  syscall
  movq %xmm9, %rax
  ret
  end_function site_vector

  .section .rodata
  .p2align 2
getpid_number:
  .long 39
switch_table:
  .long switch_0 - switch_table, switch_1 - switch_table, switch_2 - switch_table

  .section .data.rel.ro, "aw"
  .p2align 3
pointer_table:
  .quad pointer_0, pointer_1, pointer_2

  .bss
  .p2align 2
stored_word:
  .zero 4
  .section .note.GNU-stack, "", @progbits
