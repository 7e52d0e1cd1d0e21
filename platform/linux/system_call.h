// system_call.h - the runtime's own way into the Linux kernel: raw system calls, never libc.
// Guarantee: the instruction stands in the runtime's own text, which is never patched and which
// Syscall User Dispatch allows; errno and TLS are untouched. Returns the value or -errno.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::platform {

// syscall(2), "Architecture calling conventions": the kernel preserves all but rax, rcx and r11.
[[gnu::always_inline]] inline long system_call(long number, long a = 0, long b = 0, long c = 0,
                                               long d = 0, long e = 0, long f = 0) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

// Lets pointers be passed without a cast at each call.
inline long address_of(const volatile void* pointer) {
  return static_cast<long>(reinterpret_cast<uintptr_t>(pointer));
}

}  // namespace weft::platform
