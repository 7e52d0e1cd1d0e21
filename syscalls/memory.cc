// memory.cc - the mapping calls: thread stacks from slabs, new code to the patcher. None ever parks:
// malloc's, the loader's or the stack cache's lock may be held.
// SPDX-License-Identifier: Apache-2.0
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "scheduler/fiber_stack.h"
#include "syscalls/call_table.h"
#include "syscalls/kernel.h"
#include "syscalls/runtime.h"

namespace weft {

Result sys_mmap(CallFrame& frame) {
  const auto protection = static_cast<int>(frame.rdx);
  const auto flags = static_cast<int>(frame.r10);
  // The shape of glibc's allocate_stack (nptl/allocatestack.c), and of nothing else in use.
  constexpr int kStackShape = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK;
  if (frame.rdi == 0 && protection == PROT_NONE && flags == kStackShape) {
    void* stack = stack_map(frame.rsi);
    if (stack != nullptr) return static_cast<Result>(reinterpret_cast<uintptr_t>(stack));
  }
  const Result result = kernel(frame);
  const bool failed = result < 0 && result > -4096;
  if (!failed && (protection & PROT_EXEC) != 0 && (flags & MAP_ANONYMOUS) == 0 &&
      g_runtime.hooks.executable_mapped != nullptr) {
    g_runtime.hooks.executable_mapped(static_cast<uintptr_t>(result), frame.rsi,
                                      static_cast<int>(frame.r8), frame.r9);
  }
  return result;
}

Result sys_mprotect(CallFrame& frame) {
  if (frame.rsi != 0 && stack_contains(frame.rdi, frame.rsi)) {
    return stack_protect(frame.rdi, frame.rsi, frame.rdx != PROT_NONE);
  }
  return kernel(frame);
}

Result sys_munmap(CallFrame& frame) {
  if (frame.rsi != 0 && stack_contains(frame.rdi, frame.rsi)) {
    return stack_unmap(frame.rdi, frame.rsi);
  }
  return kernel(frame);
}

Result sys_madvise(CallFrame& frame) {
  if (frame.rdx == MADV_DONTNEED && frame.rsi != 0 && stack_contains(frame.rdi, frame.rsi)) {
    return stack_discard(frame.rdi, frame.rsi);
  }
  return kernel(frame);
}

}  // namespace weft
