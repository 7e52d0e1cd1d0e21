// thread_pointer.h - the two segment bases: FS is the fiber's thread-local storage, GS the worker.
// FS changes at every switch between fibers; GS is set once, when a kernel thread becomes a worker.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace weft::platform {

// Whether the kernel lets user code write the bases (AT_HWCAP2 bit 1, Linux 5.9).
bool has_fast_thread_pointer(uint64_t hwcap2);

inline uintptr_t read_thread_pointer() {
  uintptr_t value;
  asm volatile("rdfsbase %0" : "=r"(value));
  return value;
}

inline void write_thread_pointer(uintptr_t value) {
  asm volatile("wrfsbase %0" : : "r"(value) : "memory");
}

inline uintptr_t read_worker_pointer() {
  uintptr_t value;
  asm volatile("rdgsbase %0" : "=r"(value));
  return value;
}

inline void write_worker_pointer(uintptr_t value) {
  asm volatile("wrgsbase %0" : : "r"(value) : "memory");
}

}  // namespace weft::platform
