# user_dispatch_slots.S - where a dispatched call runs "at its site": the instruction with no frame of
# ours, in text that Syscall User Dispatch allows. One slot per address; the slot's word in
# weft_dispatch_resume says where the program goes on. The child of vfork (rax 0) goes on without
# interception, the parent switches it on again; flags stay as they are.
# SPDX-License-Identifier: Apache-2.0
#define SLOTS 64
  .text
  .globl weft_dispatch_slots
  .hidden weft_dispatch_slots
  .p2align 5
weft_dispatch_slots:
  .set slot, 0
  .rept SLOTS
  .p2align 5
  syscall
  mov %rax, %rcx
  jrcxz 1f
  movb $1, %gs:16
1:
  jmp *weft_dispatch_resume + slot * 8(%rip)
  .set slot, slot + 1
  .endr
  .bss
  .globl weft_dispatch_resume
  .hidden weft_dispatch_resume
  .p2align 3
weft_dispatch_resume:
  .skip SLOTS * 8
  .section .note.GNU-stack, "", @progbits
