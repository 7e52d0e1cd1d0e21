# user_dispatch_slots.S - where a dispatched call runs "at its site": the instruction with no frame of
# ours, in text that Syscall User Dispatch allows. One slot per address; the slot's word in
# weft_dispatch_resume says where the program goes on. The child of vfork (rax 0) goes on without
# interception. The parent lent its mask to the kernel for the child to inherit; SIGSYS may be
# blocked in it, and then the next dispatched call would kill the process: the workers' mask first,
# interception after it. Flags and every register but rcx and r11 stay as they are.
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
  lea weft_dispatch_resume + slot * 8(%rip), %rcx
  jmp weft_dispatch_parent
1:
  jmp *weft_dispatch_resume + slot * 8(%rip)
  .set slot, slot + 1
  .endr

weft_dispatch_parent:
  lea -128(%rsp), %rsp            # the red zone
  push %rax
  push %rdi
  push %rsi
  push %rdx
  push %r10
  push %rcx
  mov $14, %eax                   # rt_sigprocmask(SIG_SETMASK, ..., NULL, 8)
  mov $2, %edi
  lea weft_dispatch_mask(%rip), %rsi
  mov $0, %edx
  mov $8, %r10d
  syscall
  pop %rcx
  pop %r10
  pop %rdx
  pop %rsi
  pop %rdi
  pop %rax
  lea 128(%rsp), %rsp
  movb $1, %gs:16
  jmp *(%rcx)

  .bss
  .globl weft_dispatch_resume
  .hidden weft_dispatch_resume
  .p2align 3
weft_dispatch_resume:
  .skip SLOTS * 8
  .section .note.GNU-stack, "", @progbits
