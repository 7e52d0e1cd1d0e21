# test_gate.S - a gate for tests: counts, asks test_gate_decide() and executes or passes on.
# Entered from a stub with r11 = Site*. All registers but rax, rcx and r11 are kept, flags too, and
# the 128 bytes below the stack pointer.
# SPDX-License-Identifier: Apache-2.0
  .text
  .globl test_gate_entry
  .type test_gate_entry, @function
test_gate_entry:
  .cfi_startproc
  .cfi_undefined rip
  lea -128(%rsp), %rsp
  pushfq
  cld
  push %rbp
  mov %rsp, %rbp
  push %rax
  push %rdi
  push %rsi
  push %rdx
  push %r10
  push %r8
  push %r9
  push %r11
  push %rbx
  mov %rsp, %rdi              # test_gate_decide(GateFrame*)
  and $-64, %rsp
  sub $512, %rsp
  fxsave64 (%rsp)
  call test_gate_decide
  fxrstor64 (%rsp)
  lea -72(%rbp), %rsp
  mov %rax, %rcx
  pop %rbx
  pop %r11
  pop %r9
  pop %r8
  pop %r10
  pop %rdx
  pop %rsi
  pop %rdi
  pop %rax
  pop %rbp
  # rcx: 0 = rax is the result, 1 = execute the syscall inline.
  jrcxz 1f
  popfq
  lea 128(%rsp), %rsp
  jmp *16(%r11)
1:
  popfq
  lea 128(%rsp), %rsp
  jmp *8(%r11)
  .cfi_endproc
  .size test_gate_entry, . - test_gate_entry
  .section .note.GNU-stack, "", @progbits
