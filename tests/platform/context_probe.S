# context_probe.S - what no compiler lets a test say: all registers set, a call, all registers read.
# SPDX-License-Identifier: Apache-2.0
  .text

# weft_test_registers_kept(from, to, in[6], out[6]): loads rbx rbp r12-r15 from `in`, switches away
# with weft_context_switch(from, to, 0), and once continued stores them to `out`.
  .globl weft_test_registers_kept
  .type weft_test_registers_kept, @function
weft_test_registers_kept:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  push %rcx
  mov 0(%rdx), %rbx
  mov 8(%rdx), %rbp
  mov 16(%rdx), %r12
  mov 24(%rdx), %r13
  mov 32(%rdx), %r14
  mov 40(%rdx), %r15
  xor %edx, %edx
  call weft_context_switch
  pop %rcx
  mov %rbx, 0(%rcx)
  mov %rbp, 8(%rcx)
  mov %r12, 16(%rcx)
  mov %r13, 24(%rcx)
  mov %r14, 32(%rcx)
  mov %r15, 40(%rcx)
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
  .size weft_test_registers_kept, . - weft_test_registers_kept

# weft_test_vectors_{sse,avx}(in, out, area, save, load): loads the sixteen registers from `in`,
# calls save(area), clears them, calls load(area), stores them to `out`.
  .macro each_register operation
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  \operation \n
  .endr
  .endm
  .macro load_sse n
  movups 16*\n(%rdi), %xmm\n
  .endm
  .macro clear_sse n
  xorps %xmm\n, %xmm\n
  .endm
  .macro store_sse n
  movups %xmm\n, 16*\n(%rbx)
  .endm
  .macro load_avx n
  vmovups 32*\n(%rdi), %ymm\n
  .endm
  .macro clear_avx n
  vxorps %ymm\n, %ymm\n, %ymm\n
  .endm
  .macro store_avx n
  vmovups %ymm\n, 32*\n(%rbx)
  .endm

  .macro round_trip name
  .globl weft_test_vectors_\name
  .type weft_test_vectors_\name, @function
weft_test_vectors_\name:
  push %rbx
  push %r12
  push %r13
  mov %rsi, %rbx
  mov %rdx, %r12
  mov %r8, %r13
  each_register load_\name
  mov %r12, %rdi
  call *%rcx
  each_register clear_\name
  mov %r12, %rdi
  call *%r13
  each_register store_\name
  pop %r13
  pop %r12
  pop %rbx
  ret
  .size weft_test_vectors_\name, . - weft_test_vectors_\name
  .endm
  round_trip sse
  round_trip avx
  .section .note.GNU-stack, "", @progbits
