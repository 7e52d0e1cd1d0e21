# user_memory.S - the few places where the runtime may fault, and where a system call may be cut short
# by a signal. The master handler (signal_fault.cc) knows them by their labels and moves the program
# counter. All are leaf functions that leave the stack as they found it.
# SPDX-License-Identifier: Apache-2.0
  .text
  .macro FUNCTION name
  .globl \name
  .hidden \name
  .type \name, @function
  .p2align 4
\name:
  .endm
  .macro LABEL name
  .globl \name
  .hidden \name
\name:
  .endm

LABEL weft_user_access_begin
# weft_user_load32(source, value)
FUNCTION weft_user_load32
  .cfi_startproc
  mov (%rdi), %eax
  mov %eax, (%rsi)
  xor %eax, %eax
  ret
  .cfi_endproc
  .size weft_user_load32, . - weft_user_load32

# weft_user_load64(source, value)
FUNCTION weft_user_load64
  .cfi_startproc
  mov (%rdi), %rax
  mov %rax, (%rsi)
  xor %eax, %eax
  ret
  .cfi_endproc
  .size weft_user_load64, . - weft_user_load64

# weft_user_compare_exchange32(word, expected, desired, found)
FUNCTION weft_user_compare_exchange32
  .cfi_startproc
  mov %esi, %eax
  lock cmpxchg %edx, (%rdi)
  mov %eax, (%rcx)
  xor %eax, %eax
  ret
  .cfi_endproc
  .size weft_user_compare_exchange32, . - weft_user_compare_exchange32

# weft_user_copy(target, source, bytes)
FUNCTION weft_user_copy
  .cfi_startproc
  mov %rdx, %rcx
  rep movsb
  xor %eax, %eax
  ret
  .cfi_endproc
  .size weft_user_copy, . - weft_user_copy
LABEL weft_user_access_end

# Where one of them goes on after a fault: -EFAULT.
FUNCTION weft_user_access_failed
  .cfi_startproc
  mov $-14, %rax
  ret
  .cfi_endproc
  .size weft_user_access_failed, . - weft_user_access_failed

# weft_interruptible_call(CallFrame* frame, uint32_t* attention): does the call of the frame, unless a
# signal waits (kAttentionSignal, bit 0). A signal that comes between the look and the end of the
# wait finds the program counter between begin and end (the kernel steps back to the instruction
# when a call is to be restarted) and moves it to `cut`: kRestartCall, nothing was done.
FUNCTION weft_interruptible_call
  .cfi_startproc
  mov %rdi, %r11
  mov %rsi, %rcx
  mov 0(%r11), %rdi
  mov 8(%r11), %rsi
  mov 16(%r11), %rdx
  mov 24(%r11), %r10
  mov 32(%r11), %r8
  mov 40(%r11), %r9
  mov 48(%r11), %rax
LABEL weft_interruptible_begin
  testl $1, (%rcx)
  jnz weft_interruptible_cut
  syscall
LABEL weft_interruptible_end
  ret
LABEL weft_interruptible_cut
  mov $-512, %rax
  ret
  .cfi_endproc
  .size weft_interruptible_call, . - weft_interruptible_call
  .section .note.GNU-stack, "", @progbits
