// freestanding.cc - the memory functions that compilers call on their own (GCC manual, "Standards":
// memcpy, memmove, memset, memcmp), local by the version script: libc's would be a call out of the guest code.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>

extern "C" {

void* memcpy(void* target, const void* source, size_t bytes) {
  void* result = target;
  // Fast for the sizes that structs have: ERMS microcode, no vector register.
  asm volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(bytes) : : "memory");
  return result;
}

void* memset(void* target, int value, size_t bytes) {
  void* result = target;
  asm volatile("rep stosb" : "+D"(target), "+c"(bytes) : "a"(value) : "memory");
  return result;
}

void* memmove(void* target, const void* source, size_t bytes) {
  auto* to = static_cast<volatile unsigned char*>(target);
  const auto* from = static_cast<const unsigned char*>(source);
  if (reinterpret_cast<uintptr_t>(target) - reinterpret_cast<uintptr_t>(source) >= bytes) {
    return memcpy(target, source, bytes);
  }
  while (bytes-- > 0) to[bytes] = from[bytes];
  return target;
}

int memcmp(const void* a, const void* b, size_t bytes) {
  const auto* left = static_cast<const volatile unsigned char*>(a);
  const auto* right = static_cast<const unsigned char*>(b);
  for (size_t i = 0; i < bytes; i++) {
    if (left[i] != right[i]) return left[i] - right[i];
  }
  return 0;
}

}  // extern "C"

// An abstract class names it in its table; no object of one exists.
extern "C" [[gnu::visibility("hidden")]] void __cxa_pure_virtual() { __builtin_trap(); }
