# bad_sites.S - a shared object with a system call that has no safe window: branches lead to the
# instruction itself and to the one after it.
# SPDX-License-Identifier: Apache-2.0
  .text
  .globl bad_site
  .type bad_site, @function
bad_site:
  .cfi_startproc
  mov $39, %eax
  test %edi, %edi
  jz 1f
  js 2f
  mov $110, %eax
1:
  syscall
2:
  ret
  .cfi_endproc
  .size bad_site, . - bad_site

# A good one, which must not be patched either when the call is refused.
  .globl good_site
  .type good_site, @function
good_site:
  .cfi_startproc
  mov $39, %eax
  syscall
  ret
  .cfi_endproc
  .size good_site, . - good_site
  .section .note.GNU-stack, "", @progbits
